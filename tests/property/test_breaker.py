"""What policies decide, against plain models of it: breakers, budgets, waits, and what others say of them."""

from __future__ import annotations

import itertools
import math
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, consumes, invariant, multiple, rule
from hypothesis.stateful import run_state_machine_as_test as run

from orderkit.resilience import (
    Backoff,
    BreakerMode,
    CircuitBreaker,
    CircuitOpen,
    CircuitState,
    ConsecutiveFailures,
    FailureRate,
    RetryBudget,
    Verdict,
    read_retry_after,
)
from orderkit.resilience.breaker import Permit
from orderkit.testing.clock import ManualClock
from orderkit.testing.resilience import resilience
from tests.effort import examples

OPEN_FOR = 8
ROW = 3
PROBES = 2
MOST = 3
THREADS = ThreadPoolExecutor(MOST)


@contextmanager
def opened_block(clock: ManualClock) -> Iterator[None]:
    with resilience(clock=clock):
        yield


@contextmanager
def switching_often() -> Iterator[None]:
    """Have threads take turns in the middle of what they do, which is too short for it otherwise."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


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
        barrier = threading.Barrier(len(things))

        def do(thing: Thing) -> float | None:
            barrier.wait()
            return self.do(thing)

        with switching_often():
            answers = [self.do(things[0])] if len(things) == 1 else list(THREADS.map(do, things))
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


@pytest.mark.parametrize("histories", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_a_breaker_is_as_its_model_says(histories: int) -> None:
    run(BreakerMachine, settings=settings(max_examples=examples(histories), stateful_step_count=40, deadline=None))


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


class BudgetMachine(RuleBasedStateMachine):
    """A budget beside a number."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = RetryBudget(40, transient=14, throttled=5)
        self.tokens = 40

    @rule(throttled=st.booleans())
    def take(self, *, throttled: bool) -> None:
        cost = 5 if throttled else 14
        taken = self.budget.take(throttled=throttled)
        assert taken == (cost if self.tokens >= cost else 0)
        self.tokens -= taken

    @rule(tokens=st.sampled_from([0, 1, 5, 14]))
    def give_back(self, tokens: int) -> None:
        self.budget.give_back(tokens)
        self.tokens = min(40, self.tokens + tokens)

    @invariant()
    def it_is_as_the_model_says(self) -> None:
        assert self.budget.tokens == self.tokens
        assert 0 <= self.tokens <= 40


def test_a_budget_is_as_its_model_says() -> None:
    run(BudgetMachine, settings=settings(max_examples=examples(50), stateful_step_count=30, deadline=None))


SECONDS = st.floats(0, 100)


@given(
    base=SECONDS,
    throttled_base=SECONDS,
    cap=st.floats(100, 1000),
    attempt=st.integers(1, 10**9),
    asked=st.none() | st.floats() | st.integers(),
    throttled=st.booleans(),
)
def test_a_wait_is_within_its_bounds(
    base: float, throttled_base: float, cap: float, attempt: int, asked: float | None, *, throttled: bool
) -> None:
    wait = Backoff(base, cap, throttled_base).wait(attempt, asked, throttled=throttled)
    assert math.isfinite(wait)
    if asked is None:
        bound = (throttled_base if throttled else base) * 2.0 ** min(attempt - 1, 64)
        assert 0 <= wait <= min(cap, bound)
    elif asked >= 0:
        assert min(cap, asked) <= wait <= min(cap, asked) + base
    else:
        assert 0 <= wait <= cap + base


MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds have none


@given(st.integers(0, 10**14))
def test_seconds_are_read(seconds: int) -> None:
    for form in (str(seconds), f" {seconds} ", seconds, float(seconds)):
        assert read_retry_after(form) == seconds


@given(when=MOMENTS, now=MOMENTS)
def test_dates_are_read_and_those_of_the_past_are_now(when: datetime, now: datetime) -> None:
    when = when.replace(microsecond=0)
    expected = max(0.0, (when - now).total_seconds())
    assert read_retry_after(format_datetime(when, usegmt=True), now) == expected
    # Neither without a zone, nor with that of somebody else.
    assert read_retry_after(when.strftime("%d %b %Y %H:%M:%S"), now.replace(tzinfo=None)) == pytest.approx(expected)
    assert read_retry_after(when.strftime("%d %b %Y %H:%M:%S +0100"), now) == pytest.approx(
        max(0.0, (when - timedelta(hours=1) - now).total_seconds())
    )


@given(st.text() | st.floats() | st.integers() | st.none() | st.booleans() | st.binary())
@example("-5")
@example("1e5")
@example("9" * 5000)
@example("١٢")
@example("Sat, 99 Nov 2026 99:99:99 GMT")
@example("Sat, 28 Nov 0000 12:00:00 GMT")
@example("Sat, 28 Nov 2026 12:00:00 +9999")
@example("Fri, 31 Dec 9999 23:59:59 -2359")
@example(10**400)
@example(float("nan"))
def test_garbage_is_never_a_reason_to_fail(value: object) -> None:
    seconds = read_retry_after(value)  # type: ignore[arg-type]
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)
