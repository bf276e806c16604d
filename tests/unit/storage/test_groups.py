"""Groups of threads that commit together, without a database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from sqlalchemy.util import await_only, greenlet_spawn

from orderkit.errors import StorageUnavailable
from orderkit.storage.sql import groups
from orderkit.storage.sql.groups import GreenletGroup, Settled, ThreadGroup
from orderkit.testing.conformance.base import order_row, placing
from orderkit.unit_of_work.batches import WRITTEN
from orderkit.unit_of_work.changes import ChangeSet
from orderkit.unit_of_work.storage import Outcome


class Gate:
    """Settle groups, the first of them only when it is let through; fail all others where that is wanted."""

    def __init__(self, error: Exception | None = None) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self.groups: list[int] = []
        self._error = error

    def settle(self, changes: Sequence[ChangeSet]) -> list[Settled]:
        self.groups.append(len(changes))
        if len(self.groups) == 1:
            self.entered.set()
            assert self.open.wait(20)
        elif self._error is not None:
            raise self._error
        return [WRITTEN] * len(changes)


def changes() -> ChangeSet:
    return placing(order_row("t"))


def await_members(group: ThreadGroup, count: int) -> None:
    while len(group._waiting) < count:
        threading.Event().wait(0.001)


def test_while_one_group_is_written_the_next_one_gathers() -> None:
    gate = Gate()
    group = ThreadGroup(gate.settle)
    with ThreadPoolExecutor(11) as pool:
        first = pool.submit(group.commit, changes())
        assert gate.entered.wait(20)
        others = [pool.submit(group.commit, changes()) for _ in range(10)]
        await_members(group, 10)
        gate.open.set()
        assert [future.result(20) for future in (first, *others)] == [WRITTEN] * 11
    assert gate.groups == [1, 10]


def test_what_fails_as_a_whole_is_told_to_all() -> None:
    gate = Gate(StorageUnavailable("gone"))
    group = ThreadGroup(gate.settle)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(group.commit, changes())
        assert gate.entered.wait(20)
        others = [pool.submit(group.commit, changes()) for _ in range(3)]
        gate.open.set()
        assert first.result(20) == WRITTEN
        assert {type(future.exception(20)) for future in others} == {StorageUnavailable}


def test_whoever_is_interrupted_while_waiting_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    group = ThreadGroup(gate.settle)

    class Interrupted(Future[Settled]):
        def result(self, timeout: float | None = None) -> Settled:
            raise KeyboardInterrupt

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(group.commit, changes())
        assert gate.entered.wait(20)
        other = pool.submit(group.commit, changes())
        await_members(group, 1)
        monkeypatch.setattr(groups, "Future", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            group.commit(changes())
        monkeypatch.undo()
        gate.open.set()
        assert first.result(20) == other.result(20) == WRITTEN
    assert gate.groups == [1, 1]


def test_a_group_that_was_closed_is_used_again() -> None:
    gate = Gate()
    gate.open.set()
    group = ThreadGroup(gate.settle)
    for _ in range(3):
        assert group.commit(changes()) == WRITTEN
        group.close()
        group.close()


@pytest.mark.parametrize("members", [1, 64, 65, 200])
def test_a_group_has_a_bound(members: int) -> None:
    gate = Gate()
    group = ThreadGroup(gate.settle)
    with ThreadPoolExecutor(members + 1) as pool:
        first = pool.submit(group.commit, changes())
        assert gate.entered.wait(20)
        others = [pool.submit(group.commit, changes()) for _ in range(members)]
        await_members(group, members)
        gate.open.set()
        assert [future.result(20) for future in (first, *others)] == [WRITTEN] * (members + 1)
    assert max(gate.groups) <= 64
    assert sum(gate.groups) == members + 1


def test_a_loop_that_was_closed_in_the_middle_leaves_the_next_one_alone() -> None:
    begun = 0

    def settle(changes: Sequence[ChangeSet]) -> list[Settled]:
        nonlocal begun
        begun += 1
        if begun == 1:
            await_only(asyncio.sleep(3600))
        return [WRITTEN] * len(changes)

    group = GreenletGroup(settle)
    abandoned = asyncio.new_event_loop()
    tasks = [abandoned.create_task(greenlet_spawn(group.commit, changes())) for _ in range(3)]
    abandoned.run_until_complete(asyncio.sleep(0.01))
    assert begun == 1

    async def later() -> Outcome:
        async with asyncio.timeout(20):
            return await greenlet_spawn(group.commit, changes())

    assert asyncio.run(later()) == WRITTEN
    for task in asyncio.all_tasks(abandoned):
        task.cancel()
    abandoned.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    abandoned.close()
