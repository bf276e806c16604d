"""The conditions of a test, and the faults in it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from orderkit.resilience import (
    AttemptTimeout,
    Backoff,
    CircuitBreaker,
    CircuitOpen,
    CircuitState,
    ConsecutiveFailures,
    Deadline,
    DeadlineExceeded,
    InvalidPolicy,
    Operation,
    Policy,
    Retry,
    RetryScheduled,
    conditions,
)
from orderkit.testing.clock import ManualClock
from orderkit.testing.faults import Answer, Delay, Faults, LoseResult, Succeed
from orderkit.testing.resilience import assert_policy, resilience
from tests.unit.resilience.worlds import World, failing

SLOW = Retry(on=ConnectionError, attempts=4, backoff=Backoff(base=500, cap=1000, throttled_base=500))
POLICY = Policy(SLOW, CircuitBreaker("psp", ConsecutiveFailures(100)), operation=Operation.SAFE)


def test_nothing_waits(world: World) -> None:
    begun = time.monotonic()
    with resilience() as observed:
        world.call(POLICY, failing(*[ConnectionError] * 3))
    assert len(observed.waits) == 3
    assert sum(observed.waits) > 60 > time.monotonic() - begun


def test_waiting_lets_the_clock_go_on(world: World, clock: ManualClock) -> None:
    begun = clock.now()
    with resilience(clock=clock) as observed:
        before = conditions.present.monotonic()
        world.call(POLICY, failing(ConnectionError))
        assert conditions.present.monotonic() - before == pytest.approx(observed.waits[0])
    assert (clock.now() - begun).total_seconds() == pytest.approx(observed.waits[0])


def test_a_seed_repeats_chance() -> None:
    def waits(seed: int) -> list[float]:
        with resilience(seed=seed) as observed:
            POLICY.call(failing(*[ConnectionError] * 3))
        return observed.waits

    assert waits(7) == waits(7) != waits(8)


@pytest.mark.parametrize(("cap", "attempts"), [(1, 1), (2, 2), (4, 4), (100, 4)])
def test_a_cap_lowers_attempts_and_never_raises_them(world: World, cap: int, attempts: int) -> None:
    with resilience(attempts_cap=cap) as observed, pytest.raises(ConnectionError):
        world.call(POLICY, failing(*[ConnectionError] * 10))
    assert len(observed.waits) == attempts - 1


def test_blocks_nest_and_add_up(clock: ManualClock) -> None:
    with resilience(Faults(ConnectionError), attempts_cap=3, clock=clock, seed=7) as outer:
        with resilience(Faults(ConnectionError), attempts_cap=9) as inner, pytest.raises(ConnectionError):
            POLICY.call(failing(*[ConnectionError] * 9))
        assert inner.waits == outer.waits
        assert len(inner.waits) == 2
        assert inner.events == outer.events
        with resilience(no_waits=False), pytest.raises(ConnectionError):
            POLICY.call(failing(*[ConnectionError] * 9))
        assert len(outer.waits) == 4
        assert clock.now().timestamp() == pytest.approx(ManualClock().now().timestamp() + sum(outer.waits))


def test_all_is_as_before_after_an_error() -> None:
    before = conditions.present
    with pytest.raises(ZeroDivisionError), resilience(Faults(ConnectionError), attempts_cap=1):
        raise ZeroDivisionError
    assert conditions.present is before


def test_threads_that_were_there_before_see_it() -> None:
    begin, results = threading.Event(), []

    def worker() -> None:
        assert begin.wait(20)
        results.append(POLICY.call(failing(*[ConnectionError] * 3)))

    thread = threading.Thread(target=worker)
    thread.start()
    with resilience() as observed:
        begin.set()
        thread.join(20)
    assert results == ["done"]
    assert len(observed.of(RetryScheduled)) == 3


def test_a_circuit_that_was_opened_in_a_block_does_not_stay_open_for_ever(clock: ManualClock) -> None:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(1), open_for=30)
    clock.advance(10**8)
    with resilience(clock=clock):
        breaker.failed(breaker.acquire(), ConnectionError())
        clock.advance(10)
        with pytest.raises(CircuitOpen):
            breaker.acquire()
    assert 0 < breaker.seconds_left <= 30


@pytest.mark.parametrize("cap", [0, -1, True, "3"], ids=repr)
def test_a_cap_that_cannot_be(cap: Any) -> None:
    with pytest.raises(InvalidPolicy), resilience(attempts_cap=cap):
        pytest.fail("entered")


# --- faults ---------------------------------------------------------------------------------


def counted() -> tuple[list[int], Callable[[], str]]:
    calls: list[int] = []

    def work() -> str:
        calls.append(1)
        return "done"

    return calls, work


def test_a_script_is_met_call_by_call(world: World) -> None:
    calls, work = counted()
    faults = Faults(ConnectionError, ConnectionError("again"), Succeed(), Answer("wrong"))
    with resilience(faults):
        assert [world.call(POLICY, work) for _ in range(3)] == ["done", "wrong", "done"]
    assert len(calls) == 2
    assert (faults.met, faults.left) == (4, 0)


def test_a_result_that_is_lost_was_made_nevertheless(world: World) -> None:
    """What an idempotency key is for: the retry does the work a second time."""
    calls, work = counted()
    policy = Policy(Retry(on=TimeoutError), operation=Operation.KEYED)
    with resilience(Faults(LoseResult())):
        assert world.call(policy, work) == "done"
    assert len(calls) == 2
    with resilience(Faults(LoseResult())), pytest.raises(TimeoutError):
        world.call(policy.declared(Operation.UNSAFE), work)
    assert len(calls) == 3


def test_faults_are_for_the_policy_they_name(world: World) -> None:
    faults = Faults(ConnectionError, policy="psp")
    with resilience(faults):
        assert world.call(Policy(name="rates"), failing()) == "done"
        with pytest.raises(ConnectionError):
            world.call(Policy(name="psp"), failing())
    assert faults.left == 0


def test_a_rate_repeats_the_script_by_chance() -> None:
    faults = Faults(ConnectionError, Succeed(), rate=0.5)
    failed = 0
    with resilience(faults, seed=7):
        for _ in range(200):
            try:
                Policy().call(int)
            except ConnectionError:
                failed += 1
    assert 80 < faults.met < 120
    assert failed == (faults.met + 1) // 2


def test_a_delay_lets_the_clock_go_on(world: World, clock: ManualClock) -> None:
    with resilience(Faults(Delay(3)), clock=clock) as observed:
        assert world.call(Policy(Deadline(5)), failing()) == "done"
    assert observed.waits == [3]


@pytest.mark.parametrize("outer", [Policy(), Policy(Deadline(60))], ids=["alone", "in another"])
def test_a_delay_beyond_the_deadline_fails_as_a_hanging_call_does(
    world: World, clock: ManualClock, outer: Policy
) -> None:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(1))
    with resilience(Faults(Delay(6), policy="psp"), clock=clock) as observed, pytest.raises(DeadlineExceeded) as caught:
        world.call(outer, lambda: Policy(Deadline(5), breaker).call(int))
    assert caught.value.sent
    assert observed.waits == [5]
    assert breaker.state is CircuitState.OPEN


def test_faults_are_seen_by_every_layer(world: World) -> None:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(2))
    with resilience(Faults(ConnectionError, ConnectionError)):
        for _ in range(2):
            with pytest.raises(ConnectionError):
                world.call(Policy(breaker), failing())
    assert breaker.state is CircuitState.OPEN


def test_a_cancellation_may_be_a_fault(world: World) -> None:
    with resilience(Faults(asyncio.CancelledError)), pytest.raises(asyncio.CancelledError):
        world.call(POLICY, failing())


@pytest.mark.parametrize(
    "build",
    [
        Faults,
        lambda: Faults(ConnectionError, rate=1.1),
        lambda: Faults(ConnectionError, rate=0),
        lambda: Delay(-1),
        lambda: Delay(float("nan")),
    ],
)
def test_faults_that_cannot_be(build: Callable[[], object]) -> None:
    with pytest.raises(InvalidPolicy):
        build()


# --- what a policy is made of ---------------------------------------------------------------


def test_a_policy_is_as_expected() -> None:
    policy = Policy(Deadline(10), SLOW, CircuitBreaker("psp"), AttemptTimeout(2), operation=Operation.KEYED)
    assert_policy(
        policy,
        operation=Operation.KEYED,
        retry={"attempts": 4, "on": "ConnectionError"},
        deadline={"seconds": 10},
        fallback=None,
        order=["deadline", "retry", "circuit_breaker", "attempt_timeout"],
    )


def test_every_difference_is_told() -> None:
    with pytest.raises(AssertionError) as caught:
        assert_policy(
            POLICY,
            operation=Operation.UNSAFE,
            order=["circuit_breaker", "retry"],
            retry={"attempts": 3, "colour": "red"},
            circuit_breaker=None,
            deadline={"seconds": 10},
        )
    assert str(caught.value).splitlines()[1:] == [
        "- retry.attempts is 4, not 3",
        "- retry has no colour",
        "- circuit_breaker is there",
        "- deadline is missing",
        "- operation is safe, not unsafe",
        "- order is retry > circuit_breaker, not circuit_breaker > retry",
    ]
