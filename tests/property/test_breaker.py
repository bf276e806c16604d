"""What policies decide, against plain models of it: breakers, budgets, waits, and what others say of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule
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


@contextmanager
def opened_block(clock: ManualClock) -> Iterator[None]:
    with resilience(clock=clock):
        yield


class Ignored(Exception):
    """Says nothing of the other side."""


def classify(error: Exception) -> Verdict:
    return Verdict.IGNORED if isinstance(error, Ignored) else Verdict.FAILURE


@attrs.define
class Call:
    """A call under way, with what the model knows of it: in which era it began, and whether it is a probe."""

    permit: Permit
    era: int
    is_probe: bool


class BreakerMachine(RuleBasedStateMachine):
    """Calls that overlap in every way, beside a model that is nothing but counters."""

    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.block = opened_block(self.clock)
        self.block.__enter__()
        self.breaker = CircuitBreaker(
            "psp", ConsecutiveFailures(ROW), open_for=OPEN_FOR, probes=PROBES, classify=classify
        )
        self.now = self.since = self.era = self.row = self.probing = self.successes = 0
        self.state = CircuitState.CLOSED
        self.mode = BreakerMode.ENFORCED

    def teardown(self) -> None:
        self.block.__exit__(None, None, None)

    # --- the model ------------------------------------------------------------------------------

    def goes(self, state: CircuitState) -> None:
        self.state = state
        self.since = self.now
        self.era += 1
        self.row = self.probing = self.successes = 0

    def lets_through(self) -> bool:
        """Tell whether the next call is to pass, and be counted."""
        if self.mode is BreakerMode.FORCED_OPEN:
            return False
        is_full = self.state is CircuitState.HALF_OPEN and self.probing == PROBES
        if (self.state is CircuitState.OPEN or is_full) and self.now - self.since >= OPEN_FOR:
            self.goes(CircuitState.HALF_OPEN)
            return True
        return self.state is not CircuitState.OPEN and not is_full

    def ends(self, call: Call, verdict: Verdict) -> None:
        if call.era != self.era:
            return
        self.probing -= call.is_probe
        if verdict is Verdict.IGNORED or self.mode is BreakerMode.DISABLED:
            return
        if call.is_probe:
            self.successes += verdict is Verdict.SUCCESS
            if verdict is Verdict.FAILURE:
                self.goes(CircuitState.OPEN)
            elif self.successes == PROBES:
                self.goes(CircuitState.CLOSED)
            return
        self.row = self.row + 1 if verdict is Verdict.FAILURE else 0
        if self.row == ROW:
            self.goes(CircuitState.OPEN)

    # --- what happens ---------------------------------------------------------------------------

    @rule(target=calls)
    def begin(self) -> Call:
        if self.mode is BreakerMode.DISABLED:
            return Call(self.breaker.acquire(), self.era if self.state is CircuitState.CLOSED else -1, is_probe=False)
        passes = self.lets_through()
        if passes or self.mode is BreakerMode.SHADOW:
            is_probe = passes and self.state is CircuitState.HALF_OPEN
            self.probing += is_probe
            return Call(self.breaker.acquire(), self.era if passes else -1, is_probe)
        with pytest.raises(CircuitOpen) as caught:
            self.breaker.acquire()
        assert 0 < caught.value.retry_after <= OPEN_FOR
        if self.state is CircuitState.OPEN and self.mode is not BreakerMode.FORCED_OPEN:
            assert caught.value.retry_after == pytest.approx(self.since + OPEN_FOR - self.now)
        return Call(Permit(-1), -1, is_probe=False)

    @rule(call=consumes(calls))
    def succeed(self, call: Call) -> None:
        # As the layer does it: while all is clean, a success is not told.
        if not self.breaker.is_clean or call.permit.probe:
            self.breaker.succeeded(call.permit)
        self.ends(call, Verdict.SUCCESS)

    @rule(call=consumes(calls))
    def fail(self, call: Call) -> None:
        self.breaker.failed(call.permit, ConnectionError())
        self.ends(call, Verdict.FAILURE)

    @rule(call=consumes(calls), error=st.sampled_from([Ignored(), KeyboardInterrupt(), GeneratorExit()]))
    def be_ignored(self, call: Call, error: BaseException) -> None:
        self.breaker.failed(call.permit, error)
        self.ends(call, Verdict.IGNORED)

    @rule(call=consumes(calls))
    def run_out_of_time(self, call: Call) -> None:
        self.breaker.failed(call.permit, KeyboardInterrupt(), is_over=True)
        self.ends(call, Verdict.FAILURE)

    @rule(seconds=st.sampled_from([1, OPEN_FOR - 1, OPEN_FOR, 3 * OPEN_FOR]))
    def pass_time(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.now += seconds

    @precondition(lambda self: self.state is not CircuitState.OPEN)
    @rule()
    def break_down(self) -> None:
        """Fail as often as it takes, since chance seldom does."""
        for _ in range(ROW):
            if self.state is not CircuitState.OPEN and self.mode is BreakerMode.ENFORCED and self.lets_through():
                is_probe = self.state is CircuitState.HALF_OPEN
                self.probing += is_probe
                self.fail(Call(self.breaker.acquire(), self.era, is_probe))

    @rule(mode=st.sampled_from(BreakerMode))
    def switch(self, mode: BreakerMode) -> None:
        self.breaker.switch(mode)
        self.mode = mode

    @rule()
    def reset(self) -> None:
        self.breaker.reset()
        self.mode = BreakerMode.ENFORCED
        self.goes(CircuitState.CLOSED)

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    def it_is_as_the_model_says(self) -> None:
        assert self.breaker.state is self.state
        assert self.breaker.mode is self.mode
        assert self.breaker._probing == self.probing <= PROBES

    @invariant()
    def the_door_is_open_only_while_all_is_well(self) -> None:
        passes = self.state is CircuitState.CLOSED and self.mode is not BreakerMode.FORCED_OPEN
        assert (self.breaker.open_door is not None) == (passes or self.mode is BreakerMode.DISABLED)

    @invariant()
    def clean_is_what_remembers_no_failure(self) -> None:
        if self.state is CircuitState.CLOSED:
            assert self.breaker.is_clean == (self.row == 0)


@pytest.mark.parametrize("histories", [60, pytest.param(500, marks=pytest.mark.slow)])
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
