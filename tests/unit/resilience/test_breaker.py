from __future__ import annotations

import abc
import asyncio
import gc
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from itertools import islice

import pybreaker
import pytest

from orderkit.resilience import (
    AttemptTimeout,
    BreakerMode,
    Bulkhead,
    BulkheadFull,
    CallRejected,
    CircuitBreaker,
    CircuitChanged,
    CircuitOpen,
    CircuitState,
    ConsecutiveFailures,
    Deadline,
    DeadlineExceeded,
    EventCounter,
    FailureRate,
    Operation,
    Policy,
    PolicyEvent,
    Retry,
    SlowCalls,
    Verdict,
)
from orderkit.resilience.layers import Layer
from orderkit.testing.clock import ManualClock
from orderkit.testing.faults import Delay, Faults
from orderkit.testing.resilience import resilience
from tests.unit.resilience.worlds import World, failing


@pytest.fixture(autouse=True)
def standing_time(clock: ManualClock) -> Iterator[None]:
    with resilience(clock=clock):
        yield


def retried(breaker: CircuitBreaker) -> Policy:
    return Policy(Retry(on=ValueError, attempts=1), breaker, operation=Operation.SAFE)


POLICIES: list[Callable[[CircuitBreaker], Policy]] = [Policy, retried]


@pytest.fixture(params=POLICIES, ids=["alone", "behind a retry"])
def policy_of(request: pytest.FixtureRequest) -> Callable[[CircuitBreaker], Policy]:
    made: Callable[[CircuitBreaker], Policy] = request.param
    return made


def opened(breaker: CircuitBreaker) -> CircuitBreaker:
    """Open a breaker by failures in a row."""
    while breaker.state is CircuitState.CLOSED:
        breaker.failed(breaker.acquire(), ConnectionError())
    return breaker


# --- its states -----------------------------------------------------------------------------


def test_it_opens_rejects_probes_and_closes(
    world: World, clock: ManualClock, policy_of: Callable[[CircuitBreaker], Policy]
) -> None:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(2), open_for=30)
    policy = policy_of(breaker)
    for _ in range(2):
        with pytest.raises(ConnectionError, match="down"):
            world.call(policy, failing(ConnectionError("down")))
    assert breaker.state is CircuitState.OPEN
    clock.advance(29)
    with pytest.raises(CircuitOpen) as caught:
        world.call(policy, failing(AssertionError("called")))
    assert caught.value.retry_after == pytest.approx(1)
    clock.advance(1)
    assert world.call(policy, failing()) == "done"
    assert breaker.state is CircuitState.CLOSED


def test_a_probe_that_fails_opens_it_again(world: World, clock: ManualClock) -> None:
    breaker = opened(CircuitBreaker("psp", open_for=30))
    clock.advance(30)
    with pytest.raises(ConnectionError):
        world.call(Policy(breaker), failing(ConnectionError()))
    assert breaker.state is CircuitState.OPEN
    assert breaker.seconds_left == pytest.approx(30)


def test_a_success_ends_a_row_of_failures(world: World, policy_of: Callable[[CircuitBreaker], Policy]) -> None:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(2))
    policy = policy_of(breaker)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            world.call(policy, failing(ConnectionError()))
        assert world.call(policy, failing()) == "done"
    assert breaker.state is CircuitState.CLOSED
    assert breaker.is_clean


def test_it_closes_after_as_many_successes_as_there_are_probes(clock: ManualClock) -> None:
    breaker = opened(CircuitBreaker("psp", open_for=1, probes=3))
    clock.advance(1)
    for expected in (CircuitState.HALF_OPEN, CircuitState.HALF_OPEN, CircuitState.CLOSED):
        Policy(breaker).call(int)
        assert breaker.state is expected


def test_every_change_is_told_with_its_reason(clock: ManualClock) -> None:
    told: list[PolicyEvent] = []
    breaker = CircuitBreaker("psp", ConsecutiveFailures(1), open_for=1, listeners=[told.append])
    policy = Policy(breaker)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            policy.call(failing(ConnectionError()))
        clock.advance(1)
    policy.call(failing())
    changes = [(e.before, e.after, e.reason) for e in told if isinstance(e, CircuitChanged)]
    assert changes == [
        ("closed", "open", "consecutive failures"),
        ("open", "half-open", "time to try again"),
        ("half-open", "open", "a probe failed"),
        ("open", "half-open", "time to try again"),
        ("half-open", "closed", "probes succeeded"),
    ]


def test_a_result_of_an_earlier_state_counts_no_more(clock: ManualClock) -> None:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(1), open_for=10)
    late = breaker.acquire()
    opened(breaker)
    clock.advance(10)
    probe = breaker.acquire()
    breaker.succeeded(late)
    breaker.failed(late, ConnectionError())
    assert breaker.state is CircuitState.HALF_OPEN
    breaker.succeeded(probe)
    breaker.failed(late, ConnectionError())
    assert breaker.state is CircuitState.CLOSED


# --- what others were complained of ---------------------------------------------------------


def test_pybreaker_3_threads_go_through_one_breaker_at_the_same_time(
    policy_of: Callable[[CircuitBreaker], Policy],
) -> None:
    """danielfm/pybreaker#3: it holds a lock over the whole call. Were it so here, nobody would ever meet."""
    all_inside = threading.Barrier(8)
    policy = policy_of(CircuitBreaker("psp"))
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda _: policy.call(all_inside.wait, 20), range(8)))) == 8


@pytest.mark.parametrize("switch", [CircuitBreaker.reset, CircuitBreaker.force_open])
def test_a_shadow_that_is_switched_meanwhile_lets_the_call_through(
    switch: Callable[[CircuitBreaker], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    breaker = opened(CircuitBreaker("psp", mode=BreakerMode.SHADOW))

    def meanwhile(*_told: object) -> None:
        monkeypatch.undo()
        switch(breaker)

    # What is told first comes right after the decision.
    monkeypatch.setattr(breaker, "_announce", meanwhile)
    assert breaker.acquire()


def test_pybreaker_7_a_coroutine_function_that_fails_opens_it(policy_of: Callable[[CircuitBreaker], Policy]) -> None:
    """danielfm/pybreaker#7: what is decorated returns a coroutine, which is a success whatever comes of it."""
    breaker = CircuitBreaker("psp", ConsecutiveFailures(2))

    @policy_of(breaker)
    async def bookings() -> str:
        await asyncio.sleep(0)
        raise ConnectionError

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await bookings()
        with pytest.raises(CircuitOpen):
            await bookings()

    asyncio.run(main())


def test_tasks_go_through_one_breaker_at_the_same_time() -> None:
    async def main() -> None:
        all_inside = asyncio.Barrier(100)
        policy = Policy(CircuitBreaker("psp"))
        async with asyncio.timeout(20):
            await asyncio.gather(*(policy.call(all_inside.wait) for _ in range(100)))

    asyncio.run(main())


@pytest.mark.parametrize("probes", [1, 3])
def test_a_half_open_circuit_lets_only_so_many_probes_through(clock: ManualClock, probes: int) -> None:
    """Pybreaker's `calling()` lets any number through."""
    breaker = opened(CircuitBreaker("psp", open_for=10, probes=probes))
    clock.advance(10)
    inside, leave = threading.Semaphore(0), threading.Event()

    def probe() -> bool:
        inside.release()
        return leave.wait(20)

    with ThreadPoolExecutor(20) as pool:
        calls = [pool.submit(Policy(breaker).call, probe) for _ in range(20)]
        for _ in range(probes):
            assert inside.acquire(timeout=20)
        # Those who are not let through are the first to be done.
        rejected = [call.exception(20) for call in islice(as_completed(calls, 20), 20 - probes)]
        leave.set()
    assert {type(error) for error in rejected} == {CircuitOpen}
    assert breaker.state is CircuitState.CLOSED


def test_resilience4j_544_a_probe_that_is_ignored_makes_room_for_another(world: World, clock: ManualClock) -> None:
    """resilience4j#544: a circuit is stuck half-open when the last probe ends with an ignored error."""
    breaker = opened(CircuitBreaker("psp", open_for=10, classify=ignoring_value_errors))
    clock.advance(10)
    with pytest.raises(ValueError, match="declined"):
        world.call(Policy(breaker), failing(ValueError("declined")))
    assert breaker.state is CircuitState.HALF_OPEN
    assert world.call(Policy(breaker), failing()) == "done"
    assert breaker.state is CircuitState.CLOSED


def test_resilience4j_903_the_minimum_of_a_window_keeps_nothing_half_open(world: World, clock: ManualClock) -> None:
    """resilience4j#903: where a window waits for more calls than there are probes, it stays half-open."""
    breaker = CircuitBreaker("psp", FailureRate(0.5, calls=100, minimum=100), open_for=10, probes=2)
    for _ in range(100):
        breaker.failed(breaker.acquire(), ConnectionError())
    assert breaker.state is CircuitState.OPEN
    clock.advance(10)
    for _ in range(2):
        world.call(Policy(breaker), failing())
    assert breaker.state is CircuitState.CLOSED


def test_probes_that_never_come_back_are_replaced(clock: ManualClock) -> None:
    breaker = opened(CircuitBreaker("psp", open_for=10))
    clock.advance(10)
    lost = breaker.acquire()
    clock.advance(9)
    with pytest.raises(CircuitOpen):
        breaker.acquire()
    clock.advance(1)
    other = breaker.acquire()
    breaker.failed(lost, ConnectionError())
    breaker.succeeded(other)
    assert breaker.state is CircuitState.CLOSED


def ignoring_value_errors(error: Exception) -> Verdict:
    return Verdict.IGNORED if isinstance(error, ValueError) else Verdict.FAILURE


def test_an_ignored_error_neither_closes_nor_ends_a_row(world: World) -> None:
    """Pybreaker counts an excluded error as a success."""
    breaker = CircuitBreaker("psp", ConsecutiveFailures(2), classify=ignoring_value_errors)
    for error in (ConnectionError(), ValueError(), ConnectionError()):
        with pytest.raises(type(error)):
            world.call(Policy(breaker), failing(error))
    assert breaker.state is CircuitState.OPEN


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(3), GeneratorExit()], ids=repr
)
def test_an_end_that_is_no_failure_passes_as_it_is_and_counts_for_nothing(
    error: BaseException, clock: ManualClock, policy_of: Callable[[CircuitBreaker], Policy]
) -> None:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(1), open_for=1)
    policy = policy_of(breaker)
    with pytest.raises(type(error)) as caught:
        policy.call(failing(error))
    assert caught.value is error
    assert breaker.state is CircuitState.CLOSED
    opened(breaker)
    clock.advance(1)
    with pytest.raises(type(error)):
        policy.call(failing(error))
    assert breaker.state is CircuitState.HALF_OPEN
    policy.call(int)
    assert breaker.state is CircuitState.CLOSED


def test_a_cancellation_is_no_failure(policy_of: Callable[[CircuitBreaker], Policy]) -> None:
    """Pybreaker counts it, and puts an error of its own in its place; jd/tenacity#529 repeats it."""
    breaker = CircuitBreaker("psp", ConsecutiveFailures(1))

    async def main() -> None:
        task = asyncio.create_task(policy_of(breaker).call(asyncio.sleep, 60))
        await asyncio.sleep(0)
        task.cancel("by the caller")
        with pytest.raises(asyncio.CancelledError, match="by the caller"):
            await task

    asyncio.run(main())
    assert breaker.state is CircuitState.CLOSED


class AbstractError(ValueError, metaclass=abc.ABCMeta):
    """Pybreaker takes a class with such a metaclass for a function, which excludes everything."""


def test_a_class_with_a_metaclass_is_but_a_class(world: World) -> None:
    breaker = CircuitBreaker(
        "psp",
        ConsecutiveFailures(1),
        classify=lambda error: Verdict.IGNORED if isinstance(error, AbstractError) else Verdict.FAILURE,
    )
    with pytest.raises(AbstractError):
        world.call(Policy(breaker), failing(AbstractError()))
    assert breaker.state is CircuitState.CLOSED
    with pytest.raises(ValueError, match="other"):
        world.call(Policy(breaker), failing(ValueError("other")))
    assert breaker.state is CircuitState.OPEN


def test_half_of_the_calls_failing_opens_it_which_pybreaker_never_does() -> None:
    plain, ours = pybreaker.CircuitBreaker(), CircuitBreaker("psp", FailureRate(0.5, calls=20, minimum=10))
    for number in range(200):
        for call in (plain.call, Policy(ours).call):
            with suppress(ConnectionError, CircuitOpen):
                call(failing(ConnectionError()) if number % 2 else failing())
    assert plain.current_state == pybreaker.STATE_CLOSED
    assert ours.state is CircuitState.OPEN


def test_the_error_of_a_call_is_left_as_it_was(world: World, policy_of: Callable[[CircuitBreaker], Policy]) -> None:
    cause, context = KeyError("cause"), RuntimeError("context")
    error = ConnectionError("down")
    error.__cause__, error.__context__ = cause, context
    error.__suppress_context__ = False

    def innermost() -> None:
        raise error

    with pytest.raises(ConnectionError) as caught:
        world.call(policy_of(CircuitBreaker("psp", ConsecutiveFailures(1))), innermost)
    assert caught.value is error
    assert (error.__cause__, error.__context__, error.__suppress_context__) == (cause, context, False)
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert frames[-1] == "innermost"
    assert "_record" not in frames
    assert not getattr(error, "__notes__", [])


# --- what counts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        CircuitOpen("other", 1),
        BulkheadFull("psp", 1),
        DeadlineExceeded("psp", 1, sent=False),
    ],
    ids=repr,
)
def test_what_was_never_sent_says_nothing_of_the_other_side(world: World, error: Exception) -> None:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(1))
    with pytest.raises(type(error)):
        world.call(Policy(breaker), failing(error))
    assert breaker.state is CircuitState.CLOSED


def test_a_call_that_was_cut_off_is_a_failure(world: World) -> None:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(1))
    with pytest.raises(DeadlineExceeded):
        world.call(Policy(breaker), failing(DeadlineExceeded("psp", 1, sent=True)))
    assert breaker.state is CircuitState.OPEN


def test_slow_calls_open_it(world: World) -> None:
    breaker = CircuitBreaker("psp", SlowCalls(over=2, rate=0.5, calls=4, minimum=4))
    policy = Policy(breaker)
    with resilience(Faults(Delay(1), Delay(2), Delay(1), Delay(3))):
        for _ in range(4):
            assert breaker.state is CircuitState.CLOSED
            world.call(policy, failing())
    assert breaker.state is CircuitState.OPEN


def test_rules_are_looked_at_together() -> None:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(3), FailureRate(0.5, calls=10, minimum=4))
    for is_failure in (True, False, True, True):
        permit = breaker.acquire()
        breaker.failed(permit, ConnectionError()) if is_failure else breaker.succeeded(permit)
    assert breaker.state is CircuitState.OPEN


def broken(_error: Exception) -> Verdict:
    raise ZeroDivisionError


@pytest.mark.parametrize("classify", [broken, lambda _error: True, lambda _error: None])
def test_a_classifier_that_is_broken_hides_no_error_and_keeps_no_probe(
    world: World, clock: ManualClock, classify: Callable[[Exception], Verdict], caplog: pytest.LogCaptureFixture
) -> None:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(1), open_for=1, classify=classify)
    for _ in range(2):
        with pytest.raises(ConnectionError, match="down"):
            world.call(Policy(breaker), failing(ConnectionError("down")))
        assert breaker.state is CircuitState.OPEN
        clock.advance(1)
    assert "classifier" in caplog.text


def test_a_listener_that_raises_changes_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    counter = EventCounter()

    def bad(_event: PolicyEvent) -> None:
        raise ZeroDivisionError

    breaker = CircuitBreaker("psp", ConsecutiveFailures(1), listeners=[bad, counter])
    policy = Policy(breaker, listeners=[bad])
    with pytest.raises(ConnectionError, match="down"):
        world.call(policy, failing(ConnectionError("down")))
    with pytest.raises(CircuitOpen):
        world.call(policy, failing())
    assert counter.counts == {("CircuitChanged", "psp"): 1, ("CallRejected", "psp"): 1}
    assert "A listener failed" in caplog.text


# --- modes ----------------------------------------------------------------------------------


def test_shadow_only_says_that_it_would_reject(world: World, clock: ManualClock) -> None:
    told: list[PolicyEvent] = []
    breaker = opened(CircuitBreaker("psp", open_for=10, mode=BreakerMode.SHADOW, listeners=[told.append]))
    assert world.call(Policy(breaker), failing()) == "done"
    rejections = [event for event in told if isinstance(event, CallRejected)]
    assert [(event.shadow, event.retry_after) for event in rejections] == [(True, pytest.approx(10))]
    assert breaker.state is CircuitState.OPEN
    clock.advance(10)
    world.call(Policy(breaker), failing())
    assert breaker.state is CircuitState.CLOSED


def test_disabled_does_nothing(world: World) -> None:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(1), mode=BreakerMode.DISABLED)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            world.call(Policy(breaker), failing(ConnectionError()))
    assert breaker.state is CircuitState.CLOSED


def test_a_probe_that_ends_while_it_is_disabled_makes_room(clock: ManualClock) -> None:
    breaker = opened(CircuitBreaker("psp", open_for=10))
    clock.advance(10)
    probe = breaker.acquire()
    breaker.switch(BreakerMode.DISABLED)
    breaker.succeeded(probe)
    breaker.switch(BreakerMode.ENFORCED)
    breaker.succeeded(breaker.acquire())
    assert breaker.state is CircuitState.CLOSED


def test_forced_open_rejects_until_reset(world: World, clock: ManualClock) -> None:
    breaker = CircuitBreaker("psp", open_for=10)
    breaker.force_open()
    clock.advance(1000)
    with pytest.raises(CircuitOpen):
        world.call(Policy(breaker), failing())
    breaker.reset()
    assert world.call(Policy(breaker), failing()) == "done"
    assert breaker.mode is BreakerMode.ENFORCED


def test_reset_forgets(world: World) -> None:
    breaker = opened(CircuitBreaker("psp"))
    breaker.reset()
    assert breaker.state is CircuitState.CLOSED
    assert world.call(Policy(breaker), failing()) == "done"


def test_another_process_can_open_it_for_what_is_left(clock: ManualClock) -> None:
    breaker = CircuitBreaker("psp", open_for=30)
    breaker.opened_by_others(5)
    assert breaker.seconds_left == pytest.approx(5)
    clock.advance(5)
    breaker.succeeded(breaker.acquire())
    assert breaker.state is CircuitState.CLOSED


def test_it_tells_what_it_was_built_with() -> None:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(3), FailureRate(0.4, calls=50, minimum=5), SlowCalls(over=2))
    settings = breaker.for_target("eu").settings()
    assert settings["name"] == "psp:eu"
    assert {name: settings[name] for name in settings if name != "name"} == {
        name: value for name, value in breaker.settings().items() if name != "name"
    }
    assert settings["consecutive_failures"] == 3
    assert "psp" in repr(breaker)


# --- many at once ---------------------------------------------------------------------------


def test_threads_that_succeed_fail_and_are_rejected_leave_it_as_a_new_one(clock: ManualClock) -> None:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(2), open_for=0.001, probes=2)
    policy = Policy(breaker)

    def hammer(seed: int) -> None:
        for number in range(300):
            with suppress(ConnectionError, CircuitOpen):
                policy.call(failing(ConnectionError()) if (number * seed) % 3 else failing())
            clock.advance(0.0005)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hammer, range(1, 9)))
    clock.advance(1)
    while breaker.state is not CircuitState.CLOSED:
        policy.call(int)
    assert breaker._probing == 0


def test_listeners_of_a_policy_are_told_of_what_its_calls_change_and_each_once() -> None:
    told: list[object] = []
    breaker = CircuitBreaker("psp", ConsecutiveFailures(1), listeners=[told.append])
    policy = Policy(breaker, listeners=[told.append])
    seen = []
    watching = Policy(breaker, listeners=[seen.append])
    with pytest.raises(OSError, match="down"):
        policy.call(_down)
    assert [type(event).__name__ for event in told] == ["CircuitChanged"]
    assert seen == []
    with pytest.raises(CircuitOpen):
        watching.call(_down)
    assert [type(event).__name__ for event in seen] == ["CallRejected"]


def _down() -> None:
    raise OSError("down")


@pytest.mark.parametrize("outer", [[], [Deadline(5)], [Deadline(5), Bulkhead(1)]], ids=["one", "two", "three"])
def test_a_trip_is_told_to_the_listeners_of_the_policy_however_many_layers_there_are(
    world: World, outer: list[Layer]
) -> None:
    told: list[PolicyEvent] = []
    breaker = CircuitBreaker("psp", ConsecutiveFailures(1))
    layers = sorted([*outer, breaker], key=lambda layer: layer.rank)
    with pytest.raises(OSError, match="down"):
        world.call(Policy(*layers, listeners=[told.append]), _down)
    assert [event.after for event in told if isinstance(event, CircuitChanged)] == ["open"]


# --- targets --------------------------------------------------------------------------------


def test_what_a_breaker_is_switched_to_reaches_its_targets_before_and_after() -> None:
    parent = CircuitBreaker("psp")
    early = parent.for_target("early")
    parent.force_open()
    late = parent.for_target("late")
    for target in (early, late):
        with pytest.raises(CircuitOpen):
            target.acquire()
    parent.reset()
    for target in (early, late):
        assert target.mode is BreakerMode.ENFORCED
        target.acquire()


def test_resetting_a_breaker_closes_its_targets() -> None:
    parent = CircuitBreaker("psp")
    target = opened(parent.for_target("eu"))
    parent.reset()
    assert target.state is CircuitState.CLOSED


def test_a_target_that_nobody_uses_is_not_kept_by_its_breaker() -> None:
    parent = CircuitBreaker("psp")
    target = weakref.ref(parent.for_target("eu"))
    gc.collect()
    assert target() is None


@pytest.mark.parametrize("mode", BreakerMode)
def test_reset_goes_back_to_the_mode_it_was_built_with(mode: BreakerMode) -> None:
    breaker = CircuitBreaker("psp", mode=mode)
    target = breaker.for_target("eu")
    breaker.switch(BreakerMode.DISABLED)
    breaker.reset()
    assert breaker.mode is target.mode is mode


# --- slow probes ----------------------------------------------------------------------------


def test_a_circuit_closes_also_where_every_call_takes_longer_than_it_stays_open(clock: ManualClock) -> None:
    breaker = opened(CircuitBreaker("psp", open_for=10))
    clock.advance(10)
    slow = breaker.acquire()
    clock.advance(12)
    breaker.acquire()
    breaker.succeeded(slow)
    assert breaker.state is CircuitState.CLOSED


def test_a_probe_as_slow_as_what_opened_the_circuit_does_not_close_it(clock: ManualClock) -> None:
    breaker = CircuitBreaker("psp", SlowCalls(over=2, calls=2, minimum=2), open_for=10)
    policy = Policy(breaker)
    with resilience(Faults(Delay(3), Delay(3), Delay(3), Delay(1)), clock=clock):
        for expected in (CircuitState.CLOSED, CircuitState.OPEN, CircuitState.OPEN, CircuitState.CLOSED):
            policy.call(int)
            assert breaker.state is expected
            clock.advance(10 if expected is CircuitState.OPEN else 0)


def test_an_attempt_that_overran_in_a_thread_is_told_and_a_failure_and_its_result_is_returned(
    clock: ManualClock,
) -> None:
    told: list[PolicyEvent] = []
    breaker = CircuitBreaker("psp", ConsecutiveFailures(1))
    policy = Policy(breaker, AttemptTimeout(2), listeners=[told.append])

    def slow() -> str:
        clock.advance(3)
        return "late"

    assert policy.call(slow) == "late"
    assert breaker.state is CircuitState.OPEN
    assert [type(event).__name__ for event in told] == ["TimedOut", "CircuitChanged"]
