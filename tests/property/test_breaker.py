"""What a breaker decides, against plain models of it, by calls that overlap and threads that come together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, consumes, multiple, rule
from hypothesis.stateful import run_state_machine_as_test as run

from orderkit.resilience import (
    BreakerMode,
    CircuitBreaker,
    CircuitOpen,
    CircuitState,
    ConsecutiveFailures,
    FailureRate,
    Verdict,
)
from orderkit.resilience.breaker import Permit
from orderkit.testing.clock import ManualClock
from orderkit.testing.resilience import resilience
from tests.effort import examples
from tests.property.together import MOST, together

OPEN_FOR = 8
ROW = 3
PROBES = 2


@contextmanager
def opened_block(clock: ManualClock) -> Iterator[None]:
    with resilience(clock=clock):
        yield


class Ignored(Exception):
    """Says nothing of the other side."""


def classify(error: Exception) -> Verdict:
    return Verdict.IGNORED if isinstance(error, Ignored) else Verdict.FAILURE


@attrs.define
class Model:
    """A breaker that is nothing but counters: what each thing that happens to it is answered with, and leaves it like.

    Attributes:
        calls: For each call under way that counts, in which era it began, and of which round of probes it is, from 1.
    """

    now: int = 0
    since: int = 0
    era: int = 0
    round: int = 0
    row: int = 0
    probing: int = 0
    successes: int = 0
    state: CircuitState = CircuitState.CLOSED
    mode: BreakerMode = BreakerMode.ENFORCED
    calls: dict[int, tuple[int, int]] = attrs.Factory(dict)

    def goes(self, state: CircuitState) -> None:
        self.state = state
        self.since = self.now
        self.era += 1
        self.row = self.round = self.probing = self.successes = 0

    def begin(self, call: int) -> float | None:
        """Let a call pass, or return how long it is to wait."""
        if self.mode is BreakerMode.DISABLED:
            if self.state is CircuitState.CLOSED:
                self.calls[call] = self.era, 0
            return None
        if self.lets_through():
            self.calls[call] = self.era, self.round
            self.probing += self.state is CircuitState.HALF_OPEN
            return None
        if self.mode is BreakerMode.SHADOW:
            return None
        if self.state is CircuitState.OPEN and self.mode is not BreakerMode.FORCED_OPEN:
            return self.since + OPEN_FOR - self.now
        return OPEN_FOR if self.mode is BreakerMode.FORCED_OPEN else 1

    def lets_through(self) -> bool:
        """Tell whether the next call is to pass, and be counted."""
        if self.mode is BreakerMode.FORCED_OPEN:
            return False
        is_full = self.state is CircuitState.HALF_OPEN and self.probing == PROBES
        if self.state is CircuitState.CLOSED or not (is_full or self.state is CircuitState.OPEN):
            return True
        if self.now - self.since < OPEN_FOR:
            return False
        if self.state is CircuitState.OPEN:
            self.goes(CircuitState.HALF_OPEN)
        self.since, self.probing = self.now, 0
        self.round += 1
        return True

    def end(self, call: int, verdict: Verdict) -> None:
        era, its_round = self.calls.pop(call, (None, 0))
        if era != self.era:
            return
        is_replaced = its_round < self.round
        self.probing -= its_round > 0 and not is_replaced
        is_late = is_replaced and verdict is Verdict.FAILURE
        if verdict is Verdict.IGNORED or self.mode is BreakerMode.DISABLED or is_late:
            return
        if its_round:
            self.successes += verdict is Verdict.SUCCESS
            if verdict is Verdict.FAILURE:
                self.goes(CircuitState.OPEN)
            elif self.successes == PROBES:
                self.goes(CircuitState.CLOSED)
            return
        self.row = self.row + 1 if verdict is Verdict.FAILURE else 0
        if self.row == ROW:
            self.goes(CircuitState.OPEN)

    def switch(self, mode: BreakerMode) -> None:
        self.mode = mode

    def reset(self) -> None:
        self.mode = BreakerMode.ENFORCED
        self.goes(CircuitState.CLOSED)

    def copy(self) -> Model:
        return attrs.evolve(self, calls=dict(self.calls))


ENDINGS = st.sampled_from(
    [
        (Verdict.SUCCESS, None),
        (Verdict.FAILURE, ConnectionError()),
        (Verdict.FAILURE, None),
        *((Verdict.IGNORED, error) for error in (Ignored(), KeyboardInterrupt(), GeneratorExit())),
    ]
)
"""What a call says of the other side, and its error; one that fails without any has run out of its time."""

Thing = tuple[str, tuple[Any, ...]]
"""What happens, as the name of a method of the model and its arguments."""


class BreakerMachine(RuleBasedStateMachine):
    """Calls that overlap in every way, in one thread and in several, beside models.

    What happens in several threads at once must be as if it had happened in some order. There is a model for each
    order that agrees with all that was seen.
    """

    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.block = opened_block(self.clock)
        self.block.__enter__()
        self.breaker = CircuitBreaker(
            "psp", ConsecutiveFailures(ROW), open_for=OPEN_FOR, probes=PROBES, classify=classify
        )
        self.models = [Model()]
        self.permits: list[Permit] = []

    def teardown(self) -> None:
        self.block.__exit__(None, None, None)

    # --- what is done ---------------------------------------------------------------------------

    def begin(self, call: int) -> float | None:
        try:
            self.permits[call] = self.breaker.acquire()
        except CircuitOpen as error:
            return error.retry_after
        return None

    def end(self, call: int, verdict: Verdict, error: BaseException | None) -> None:
        permit = self.permits[call]
        if error is not None:
            self.breaker.failed(permit, error)
        elif verdict is Verdict.FAILURE:
            self.breaker.failed(permit, KeyboardInterrupt(), is_over=True)
        elif not self.breaker.is_clean or permit.probe:
            # As the layer does it: while all is clean, a success is not told.
            self.breaker.succeeded(permit)

    def do(self, thing: Thing) -> float | None:
        name, arguments = thing
        if name in {"begin", "end"}:
            answer: float | None = getattr(self, name)(*arguments)
            return answer
        getattr(self.breaker, name)(*arguments)
        return None

    def happens(self, *things: Thing) -> None:
        """Have things happen at once, and keep the models that agree with what is seen of them."""
        answers = [self.do(things[0])] if len(things) == 1 else together([partial(self.do, thing) for thing in things])
        self.models = [
            after for model in self.models for after in _orders(model, things, answers) if self.looks_like(after)
        ]
        self.models = [model for at, model in enumerate(self.models) if model not in self.models[:at]]
        assert self.models, (things, answers, self.breaker.state)

    def looks_like(self, model: Model) -> bool:
        breaker = self.breaker
        is_open = model.state is CircuitState.CLOSED and model.mode is not BreakerMode.FORCED_OPEN
        return (
            breaker.state is model.state
            and breaker.mode is model.mode
            and breaker._probing == model.probing <= PROBES
            and (breaker.open_door is not None) == (is_open or model.mode is BreakerMode.DISABLED)
            and (model.state is not CircuitState.CLOSED or breaker.is_clean == (model.row == 0))
        )

    def new_call(self) -> int:
        self.permits.append(Permit(-1))
        return len(self.permits) - 1

    # --- what happens ---------------------------------------------------------------------------

    @rule(target=calls)
    def one_begins(self) -> int:
        call = self.new_call()
        self.happens(("begin", (call,)))
        return call

    @rule(call=consumes(calls), ending=ENDINGS)
    def one_ends(self, call: int, ending: tuple[Verdict, BaseException | None]) -> None:
        self.happens(("end", (call, *ending)))

    @rule(mode=st.sampled_from(BreakerMode))
    def is_switched(self, mode: BreakerMode) -> None:
        self.happens(("switch", (mode,)))

    @rule()
    def is_reset(self) -> None:
        self.happens(("reset", ()))

    @rule(seconds=st.sampled_from([1, OPEN_FOR - 1, OPEN_FOR, 3 * OPEN_FOR]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)
        for model in self.models:
            model.now += seconds

    @rule()
    def it_breaks_down(self) -> None:
        """Fail as often as it takes, since chance seldom does."""
        for _ in range(ROW):
            call = self.new_call()
            self.happens(("begin", (call,)))
            self.happens(("end", (call, Verdict.FAILURE, ConnectionError())))

    @rule(
        target=calls,
        begin=st.integers(0, MOST),
        ends=st.lists(st.tuples(consumes(calls), ENDINGS), max_size=MOST),
        other=st.sampled_from([(), (("reset", ()),), (("switch", (BreakerMode.FORCED_OPEN,)),)]),
    )
    def threads_come_together(
        self, begin: int, ends: list[tuple[int, tuple[Verdict, BaseException | None]]], other: tuple[Thing, ...]
    ) -> MultipleResults[int]:
        begun = [self.new_call() for _ in range(begin)]
        things: list[Thing] = [("begin", (call,)) for call in begun]
        things += [("end", (call, *ending)) for call, ending in ends]
        things += other
        for at in range(0, len(things), MOST):
            self.happens(*things[at : at + MOST])
        return multiple(*begun)


def _orders(model: Model, things: Sequence[Thing], answers: Sequence[float | None]) -> Iterator[Model]:
    """Yield what becomes of a model in every order of things in which it answers as was seen."""
    for order in itertools.permutations(range(len(things))):
        after = model.copy()
        for at in order:
            name, arguments = things[at]
            answer = getattr(after, name)(*arguments[:2])
            if answers[at] != pytest.approx(answer):
                break
        else:
            yield after


def test_a_breaker_is_as_its_model_says() -> None:
    run(BreakerMachine, settings=settings(max_examples=examples(300), stateful_step_count=40, deadline=None))


@given(
    ends=st.lists(st.booleans(), max_size=60),
    rate=st.sampled_from([0.25, 0.5, 1.0]),
    size=st.integers(2, 10),
    data=st.data(),
)
@settings(deadline=None)
def test_a_rate_opens_with_the_first_call_that_reaches_it(
    ends: list[bool], rate: float, size: int, data: st.DataObject
) -> None:
    minimum = data.draw(st.integers(1, size))
    breaker = CircuitBreaker("psp", FailureRate(rate, calls=size, minimum=minimum))
    for number, is_failure in enumerate(ends, 1):
        permit = breaker.acquire()
        breaker.failed(permit, ConnectionError()) if is_failure else breaker.succeeded(permit)
        seen = ends[max(0, number - size) : number]
        is_reached = len(seen) >= minimum and sum(seen) >= rate * len(seen)
        assert (breaker.state is CircuitState.OPEN) == is_reached
        if is_reached:
            return
