from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from orderkit.resilience import (
    AttemptTimeout,
    Backoff,
    CircuitBreaker,
    CircuitState,
    ConsecutiveFailures,
    Deadline,
    DeadlineExceeded,
    InvalidPolicy,
    Operation,
    Policy,
    PolicyEvent,
    Retry,
    TimedOut,
    no_deadline,
    time_left,
)
from orderkit.testing.clock import ManualClock
from orderkit.testing.faults import Delay, Faults
from orderkit.testing.resilience import resilience
from tests.unit.resilience.worlds import World, failing

# Real time, and little of it: what hangs here would hang for ever.
SHORT = 0.02


async def hanging() -> None:
    await asyncio.Event().wait()


class Hanging:
    """Hangs the first times it is called."""

    def __init__(self, times: int = 1) -> None:
        self.times = times
        self.cancelled = 0

    async def __call__(self) -> str:
        if self.times:
            self.times -= 1
            try:
                await hanging()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return "done"


@pytest.mark.parametrize("layer", [Deadline(SHORT), AttemptTimeout(SHORT)], ids=lambda layer: layer.kind)
def test_what_hangs_in_an_event_loop_is_cancelled(layer: Deadline | AttemptTimeout) -> None:
    told: list[PolicyEvent] = []
    work = Hanging()
    with pytest.raises(DeadlineExceeded) as caught:
        asyncio.run(Policy(layer, name="psp", listeners=[told.append]).call(work))
    assert work.cancelled == 1
    assert (caught.value.policy, caught.value.seconds, caught.value.sent) == ("psp", SHORT, True)
    assert isinstance(caught.value, TimeoutError)
    assert told == [TimedOut(policy="psp", layer=layer.kind, seconds=SHORT)]


def test_an_attempt_that_hangs_is_repeated() -> None:
    work = Hanging()
    policy = Policy(
        Deadline(60), Retry(on=TimeoutError, backoff=Backoff(base=0)), AttemptTimeout(SHORT), operation=Operation.SAFE
    )
    assert asyncio.run(policy.call(work)) == "done"
    assert work.cancelled == 1


@pytest.mark.parametrize(
    "layers",
    [[Deadline(SHORT)], [Deadline(SHORT), Retry(on=OSError)], [AttemptTimeout(SHORT)]],
    ids=lambda layers: " > ".join(layer.kind for layer in layers),
)
def test_what_hangs_until_its_time_is_over_has_failed(layers: list[Any]) -> None:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(1))
    around = sorted([*layers, breaker], key=lambda layer: layer.rank)
    with pytest.raises(DeadlineExceeded):
        asyncio.run(Policy(*around, operation=Operation.SAFE).call(hanging))
    assert breaker.state is CircuitState.OPEN


def test_what_its_caller_cancels_before_has_not() -> None:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(1))

    async def main() -> None:
        task = asyncio.create_task(Policy(Deadline(60), breaker, AttemptTimeout(60)).call(hanging))
        await asyncio.sleep(0)
        task.cancel("by the caller")
        with pytest.raises(asyncio.CancelledError, match="by the caller"):
            await task

    asyncio.run(main())
    assert breaker.state is CircuitState.CLOSED


def test_a_time_out_around_the_policy_stays_one_of_its_own() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(SHORT):
                await Policy(Deadline(60), CircuitBreaker("psp")).call(hanging)
        assert not isinstance(caught.value, DeadlineExceeded)
        # It is over: nothing of it may cancel what comes later.
        await asyncio.sleep(SHORT)

    asyncio.run(main())


def test_a_time_out_of_the_function_itself_is_not_mistaken_for_ours(world: World) -> None:
    error = TimeoutError("its own")
    with pytest.raises(TimeoutError) as caught:
        world.call(Policy(Deadline(60), AttemptTimeout(60)), failing(error))
    assert caught.value is error


def test_a_time_out_inside_of_the_function_is_its_own() -> None:
    async def work() -> None:
        async with asyncio.timeout(SHORT):
            await hanging()

    with pytest.raises(TimeoutError) as caught:
        asyncio.run(Policy(Deadline(60)).call(work))
    assert not isinstance(caught.value, DeadlineExceeded)


def test_who_swallows_the_cancellation_still_returns() -> None:
    async def stubborn() -> str:
        try:
            await hanging()
        except asyncio.CancelledError:
            return "late"
        return "never"

    assert asyncio.run(Policy(Deadline(SHORT)).call(stubborn)) == "late"


# --- what is left ---------------------------------------------------------------------------


@pytest.fixture
def standing_time(clock: ManualClock) -> Iterator[ManualClock]:
    with resilience(clock=clock):
        yield clock


@pytest.mark.usefixtures("standing_time")
def test_the_time_left_is_that_of_the_tightest_bound(world: World) -> None:
    outer, inner = Policy(Deadline(10)), Policy(Deadline(30), AttemptTimeout(20))
    assert world.call(Policy(Deadline(30), AttemptTimeout(20)), time_left) == 20
    assert outer.call(inner.call, time_left) == 10
    assert world.block(outer, time_left) == 10
    assert time_left() is None


def test_a_call_that_nothing_is_left_for_is_not_begun(world: World, standing_time: ManualClock) -> None:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(1))
    inner = Policy(Deadline(5), breaker, AttemptTimeout(2))

    def work() -> None:
        standing_time.advance(10)
        with pytest.raises(DeadlineExceeded) as caught:
            inner.call(failing(AssertionError("called")))
        assert not caught.value.sent

    world.call(Policy(Deadline(10)), work)
    assert breaker.state is CircuitState.CLOSED


@pytest.mark.usefixtures("standing_time")
def test_a_slow_call_is_cut_off_at_what_is_left(world: World) -> None:
    bounded = Policy(
        Deadline(10), Retry(on=TimeoutError, backoff=Backoff(base=0)), AttemptTimeout(4), operation=Operation.SAFE
    )
    with resilience(Faults(Delay(5), Delay(3))) as observed:
        assert world.call(bounded, failing()) == "done"
    assert observed.waits == [4, 0, 3]
    assert [event.layer for event in observed.of(TimedOut)] == ["attempt_timeout"]
    with resilience(Faults(Delay(11), Delay(11), Delay(11))) as observed, pytest.raises(DeadlineExceeded):
        world.call(bounded, failing())
    assert sum(observed.waits) == 10


def test_context_variables_of_a_call_are_restored(world: World) -> None:
    with pytest.raises(KeyError):
        world.call(Policy(Deadline(10)), failing(KeyError))
    assert time_left() is None


# --- building -------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [Deadline, AttemptTimeout], ids=lambda layer: layer.kind)
@pytest.mark.parametrize("bad", [0, -1, True, float("nan"), float("inf"), "1", None, 1e300, 10**400], ids=repr)
def test_a_time_that_cannot_be(layer: Callable[[Any], Any], bad: Any) -> None:
    with pytest.raises(InvalidPolicy):
        layer(bad)


def test_an_attempt_cannot_outlast_the_whole() -> None:
    with pytest.raises(InvalidPolicy, match="deadline longer"):
        Policy(Deadline(1), AttemptTimeout(2))


def test_a_deadline_that_is_over_has_the_error_of_the_last_attempt_as_its_cause() -> None:
    failed = ConnectionError("down")
    attempts = [failed]

    async def work() -> None:
        if attempts:
            raise attempts.pop()
        await asyncio.Event().wait()

    policy = Policy(Deadline(0.02), Retry(on=ConnectionError, backoff=Backoff(base=0)), operation=Operation.SAFE)
    with pytest.raises(DeadlineExceeded) as caught:
        asyncio.run(policy.call(work))
    assert caught.value.__cause__ is failed


def test_the_error_names_the_deadline_that_is_over() -> None:
    outer, inner = Policy(Deadline(0.02), name="outer"), Policy(Deadline(5), name="inner")

    async def hang() -> None:
        await asyncio.Event().wait()

    async def work() -> None:
        with pytest.raises(DeadlineExceeded) as caught:
            await inner.call(hang)
        assert (caught.value.policy, caught.value.seconds) == ("outer", 0.02)

    with suppress(DeadlineExceeded):
        asyncio.run(outer.call(work))


def test_what_is_begun_without_a_deadline_outlives_the_call(world: World) -> None:
    def work() -> list[float | None]:
        with no_deadline():
            inside = time_left()
            world_of_its_own = Policy(Deadline(60)).call(time_left)
        return [inside, world_of_its_own, time_left()]

    inside, own, after = world.call(Policy(Deadline(5)), work)
    assert inside is None
    assert own is not None
    assert own > 5
    assert after is not None
    assert after <= 5
