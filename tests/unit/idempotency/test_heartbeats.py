"""Signs of life: a lease is renewed for as long as its operation is at work, and not a moment longer."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from orderkit import AsyncOperationRun, AsyncOrderKit, IdempotentOperation, OrderKit
from orderkit.errors import IdempotencyInFlight, StorageUnavailable
from orderkit.idempotency.heartbeats import LoopHeart, ThreadHeart
from orderkit.idempotency.keeping import Keeper
from orderkit.idempotency.operations import Json
from orderkit.resilience.runtimes import drive
from orderkit.testing.clock import ManualClock

SOON = 0.01
PATIENCE = 20.0
LEASE = timedelta(seconds=0.3)


class Lease:
    """A lease whose renewals are counted, each with an outcome that was told before; held where none was."""

    def __init__(self, *outcomes: bool | Exception) -> None:
        self._outcomes = list(outcomes)
        self._renewed = threading.Semaphore(0)
        self.count = 0

    async def renew(self) -> bool:
        outcome = self._outcomes.pop(0) if self._outcomes else True
        self.count += 1
        self._renewed.release()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def wait(self, times: int) -> None:
        """Return once it was renewed so many more times."""
        for _ in range(times):
            assert self._renewed.acquire(timeout=PATIENCE)


def heartbeats() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "orderkit-heartbeats"]


def test_leases_are_renewed_until_they_end() -> None:
    heart, first, second = ThreadHeart(idle=0.0), Lease(), Lease()
    beats = [heart.begin(lease.renew, SOON) for lease in (first, second)]
    first.wait(3)
    second.wait(3)
    drive(beats[0].end())
    ended = first.count
    second.wait(3)
    assert first.count == ended
    drive(beats[1].end())


@pytest.mark.parametrize("heart", [ThreadHeart, LoopHeart])
def test_a_lease_that_is_lost_is_renewed_no_more(heart: Callable[[], Any]) -> None:
    lost, held = Lease(True, False), Lease()

    async def scenario() -> None:
        beating = heart()
        beats = [beating.begin(lease.renew, SOON) for lease in (lost, held)]
        await asyncio.to_thread(lost.wait, 2)
        await asyncio.to_thread(held.wait, 6)
        assert lost.count == 2
        for beat in beats:
            await beat.end()

    asyncio.run(scenario())


@pytest.mark.parametrize("heart", [ThreadHeart, LoopHeart])
def test_a_storage_that_fails_does_not_end_the_renewals(
    heart: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    lease = Lease(StorageUnavailable("gone"), ValueError("odd"))

    async def scenario() -> None:
        beat = heart().begin(lease.renew, SOON)
        await asyncio.to_thread(lease.wait, 4)
        await beat.end()

    with caplog.at_level(logging.ERROR, "orderkit.idempotency"):
        asyncio.run(scenario())
    assert [record.message for record in caplog.records] == ["A lease could not be renewed; it is tried again."] * 2


def test_the_thread_ends_when_it_is_idle_and_begins_anew() -> None:
    heart, lease = ThreadHeart(idle=0.0), Lease()
    others = heartbeats()
    for _ in range(2):
        beat = heart.begin(lease.renew, SOON)
        lease.wait(1)
        (thread,) = set(heartbeats()) - set(others)
        drive(beat.end())
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_renewal_that_is_under_way_is_waited_for() -> None:
    """What follows the end, such as giving the lease up, is not undone by a renewal that comes late."""
    heart, inside, go_on, order = ThreadHeart(idle=0.0), threading.Event(), threading.Event(), list[str]()

    async def renew() -> bool:
        inside.set()
        assert go_on.wait(PATIENCE)
        order.append("renewed")
        return True

    def end() -> None:
        drive(beat.end())
        order.append("ended")

    beat = heart.begin(renew, SOON)
    assert inside.wait(PATIENCE)
    ending = threading.Thread(target=end)
    ending.start()
    go_on.set()
    ending.join()
    assert order == ["renewed", "ended"]


def test_a_task_is_cancelled_and_awaited() -> None:
    cancelled = list[str]()

    async def renew() -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cancelled.append("over")
        return True

    async def scenario() -> None:
        beat = LoopHeart().begin(renew, 0.0)
        for _ in range(5):
            await asyncio.sleep(0)
        await beat.end()
        assert cancelled == ["over"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_of_a_fork_has_a_heart_of_its_own() -> None:
    heart, lease = ThreadHeart(), Lease()
    beat = heart.begin(lease.renew, SOON)
    lease.wait(1)
    with heart._changed, beat.renewing:  # as a thread of the parent may hold them in that moment
        child = os.fork()
        if not child:
            own = Lease()
            drive(beat.end())
            beat = heart.begin(own.renew, SOON)
            own.wait(2)
            drive(beat.end())
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    lease.wait(2)
    drive(beat.end())


class Watched:
    """Counts the renewals of every lease, and lets less than a lease go by between two of them."""

    def __init__(self, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
        self._clock = clock
        self._renewed = threading.Semaphore(0)
        renew = Keeper.beat

        async def beat(keeper: Keeper) -> bool:
            held = await renew(keeper)
            self._renewed.release()
            return held

        monkeypatch.setattr(Keeper, "beat", beat)

    def let_time_go_by(self) -> None:
        """Return after a renewal that has begun after two thirds of a lease had gone by."""
        self._clock.advance(LEASE * 2 / 3)
        for _ in range(2):  # the first may have been under way
            assert self._renewed.acquire(timeout=PATIENCE)


@pytest.fixture
def watched(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(clock, monkeypatch)


def test_a_call_that_is_longer_than_its_lease_keeps_it(watched: Watched, clock: ManualClock) -> None:
    def slow(_key: str) -> str:
        for _ in range(6):
            watched.let_time_go_by()
            with pytest.raises(IdempotencyInFlight):
                kit.operations.run(operation, key="k")
        return "done"

    with OrderKit.from_url("memory://", clock=clock) as kit:
        operation = IdempotentOperation("work", lambda run: run.call("slow", slow), lease=LEASE)
        assert kit.operations.run(operation, key="k") == "done"
        report = kit.operations.report(operation, key="k")
        assert report is not None
        assert report.attempts == 1


def test_an_awaited_call_that_is_longer_than_its_lease_keeps_it(watched: Watched, clock: ManualClock) -> None:
    async def slow(_key: str) -> str:
        for _ in range(6):
            await asyncio.to_thread(watched.let_time_go_by)
            with pytest.raises(IdempotencyInFlight):
                await kit.operations.run(operation, key="k")
        return "done"

    async def work(run: AsyncOperationRun) -> Json:
        return await run.call("slow", slow)

    async def scenario() -> None:
        async with kit:
            assert await kit.operations.run(operation, key="k") == "done"
            report = await kit.operations.report(operation, key="k")
            assert report is not None
            assert report.attempts == 1
        assert asyncio.all_tasks() == {asyncio.current_task()}

    kit = AsyncOrderKit.from_url("memory://", clock=clock)
    operation = IdempotentOperation("work", work, lease=LEASE)
    asyncio.run(scenario())


def test_a_heart_whose_thread_could_not_be_started_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    start, fails, renewed = threading.Thread.start, [RuntimeError("can't start new thread")], threading.Event()

    def failing_once(thread: threading.Thread) -> None:
        if thread.name == "orderkit-heartbeats" and fails:
            raise fails.pop()
        start(thread)

    async def renew() -> bool:
        renewed.set()
        return False

    monkeypatch.setattr(threading.Thread, "start", failing_once)
    heart = ThreadHeart(idle=0.0)
    with pytest.raises(RuntimeError):
        heart.begin(renew, 0.01)
    heart.begin(renew, 0.01)
    assert renewed.wait(10)
