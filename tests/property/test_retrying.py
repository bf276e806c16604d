"""What retries decide: what a budget allows, how long a wait is, and what others ask for."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run

from orderkit.resilience import Backoff, RetryBudget, read_retry_after
from tests.effort import examples


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
    seconds = read_retry_after(value)  # type: ignore[arg-type]  # that is what is tried
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)
