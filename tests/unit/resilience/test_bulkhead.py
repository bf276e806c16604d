from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from orderkit.resilience import Bulkhead, BulkheadFull, CallRejected, Deadline, DeadlineExceeded, InvalidPolicy, Policy
from orderkit.resilience.runtimes import drive
from orderkit.testing.resilience import resilience
from tests.unit.resilience.worlds import World, failing


def test_no_more_than_the_limit_pass(world: World) -> None:
    bulkhead = Bulkhead(1)
    policy = Policy(bulkhead, name="psp")
    with resilience() as observed, policy:
        assert bulkhead.under_way == 1
        with pytest.raises(BulkheadFull) as caught, ThreadPoolExecutor(1) as pool:
            pool.submit(world.call, policy, failing()).result(20)
        assert caught.value.policy == "psp"
    assert [event.layer for event in observed.of(CallRejected)] == ["bulkhead"]
    assert bulkhead.under_way == 0
    assert world.call(policy, failing()) == "done"


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), GeneratorExit(), StopIteration()], ids=repr)
def test_a_place_is_free_however_a_call_ends(error: BaseException) -> None:
    bulkhead = Bulkhead(1)
    with pytest.raises(type(error)):
        Policy(bulkhead).call(failing(error))
    assert bulkhead.under_way == 0


def test_who_waits_longest_is_served_first() -> None:
    bulkhead = Bulkhead(1, waiting=50, max_wait=60)
    policy, served = Policy(bulkhead), []

    async def work(number: int) -> None:
        served.append(number)
        await asyncio.sleep(0)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(policy.call(work, number))
                await asyncio.sleep(0)

    asyncio.run(main())
    assert served == sorted(served)
    assert bulkhead.under_way == 0


def test_a_wait_ends_without_a_place(world: World) -> None:
    bulkhead = Bulkhead(1, waiting=1, max_wait=0.01)
    with Policy(bulkhead), ThreadPoolExecutor(1) as pool:
        with pytest.raises(BulkheadFull):
            pool.submit(world.call, Policy(bulkhead), failing()).result(20)
        assert not bulkhead._queue


def test_a_deadline_bounds_the_wait(world: World) -> None:
    bulkhead = Bulkhead(1, waiting=1, max_wait=1000)
    with Policy(bulkhead), ThreadPoolExecutor(1) as pool:
        with pytest.raises((BulkheadFull, DeadlineExceeded)):
            pool.submit(world.call, Policy(Deadline(0.01), bulkhead), failing()).result(20)
        assert not bulkhead._queue
    assert bulkhead.under_way == 0


def test_a_place_that_came_too_late_is_handed_on() -> None:
    """Cancelled in the very moment in which the place was handed over."""
    bulkhead = Bulkhead(1, waiting=2, max_wait=60)
    policy = Policy(bulkhead)

    async def work() -> str:
        return "done"

    async def main() -> None:
        async with policy:
            first, second = (asyncio.create_task(policy.call(work)) for _ in range(2))
            await asyncio.sleep(0)
        # The place is the first one's now, which has not run yet.
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        async with asyncio.timeout(20):
            assert await second == "done"

    asyncio.run(main())
    assert bulkhead.under_way == 0


class TooLate:
    """A signal whose wait ends in vain in the very moment in which it is announced."""

    def __init__(self, bulkhead: Bulkhead) -> None:
        self._bulkhead = bulkhead

    def set(self) -> None: ...

    async def wait(self, _seconds: float | None) -> bool:
        self._bulkhead._leave(0)
        return False


def test_a_place_handed_over_as_a_wait_ends_is_taken() -> None:
    bulkhead = Bulkhead(1, waiting=1)
    with Policy(bulkhead):
        signal = TooLate(bulkhead)
        bulkhead._queue.append(signal)
        assert drive(bulkhead._wait(signal, 0))
        assert bulkhead.under_way == 1
    assert bulkhead.under_way == 0


class Crowd:
    """Goes through a bulkhead in threads and tasks, and knows how many have ever been inside at once."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._lock = threading.Lock()
        self.inside = 0
        self.most = 0

    def step(self, by: int) -> None:
        with self._lock:
            self.inside += by
            self.most = max(self.most, self.inside)

    def work(self, number: int) -> None:
        self.step(+1)
        self.step(-1)
        if number % 5 == 0:
            raise ValueError(number)

    async def work_asynchronously(self, number: int) -> None:
        self.step(+1)
        try:
            await asyncio.sleep(0)
        finally:
            self.step(-1)
        if number % 5 == 0:
            raise ValueError(number)

    def in_a_thread(self) -> None:
        for number in range(1000):
            with suppress(ValueError):
                self._policy.call(self.work, number)

    async def in_tasks(self, seed: int) -> None:
        calls = [asyncio.create_task(self._policy.call(self.work_asynchronously, number)) for number in range(400)]
        for task in random.Random(seed).sample(calls, 100):
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


def test_threads_and_tasks_share_the_places() -> None:
    """Thousands of short calls, cancelled and failing: never more than the limit, and in the end none."""
    bulkhead = Bulkhead(3, waiting=10_000, max_wait=60)
    crowd = Crowd(Policy(bulkhead))
    with ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(crowd.in_a_thread) for _ in range(4)]
        runs += [pool.submit(asyncio.run, crowd.in_tasks(seed)) for seed in range(4)]
        for each in runs:
            each.result(60)
    assert crowd.most == 3
    assert (crowd.inside, bulkhead.under_way, len(bulkhead._queue)) == (0, 0, 0)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Bulkhead(0),
        lambda: Bulkhead(True),
        lambda: Bulkhead(1.5),
        lambda: Bulkhead(10**400),
        lambda: Bulkhead(1, waiting=-1),
        lambda: Bulkhead(1, max_wait=0),
        lambda: Bulkhead(1, max_wait=float("nan")),
    ],
)
def test_a_bulkhead_that_cannot_be(build: Callable[[], object]) -> None:
    with pytest.raises(InvalidPolicy):
        build()
