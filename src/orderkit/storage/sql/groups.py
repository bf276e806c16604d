"""Group commit: those who commit at the same time share one commit, and each waits for its own outcome.

While one group is being written the next one gathers, so that nobody waits for company. A group that fails as
a whole is written again one by one: a change set that cannot be written is the affair of its own caller.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

import attrs
from sqlalchemy.util import await_only, greenlet_spawn

from orderkit.errors import CommitUnknown, Conflict, StorageBusy, StorageFailed
from orderkit.orders.forwarding import ForwardingStorage
from orderkit.orders.ports import OrderStorage
from orderkit.storage.sql.backend import SqlBackend
from orderkit.storage.sql.failures import Phase
from orderkit.storage.sql.forking import renew_after_fork
from orderkit.storage.sql.storage import PhasedStorage
from orderkit.unit_of_work.batches import WRITTEN
from orderkit.unit_of_work.changes import ChangeSet
from orderkit.unit_of_work.storage import Outcome, PoolFigures

MOST = 64
"""How many change sets one commit writes at most."""

Settled = Outcome | Exception
"""What has become of one change set of a group."""

Settle = Callable[[Sequence[ChangeSet]], Sequence[Settled]]
"""Write a group."""


class Group(Protocol):
    """Gather change sets while another group is being written."""

    def commit(self, changes: ChangeSet) -> Outcome:
        """Write a change set together with others, and wait until it is durable."""
        ...


class GroupedStorage(ForwardingStorage):
    """A storage that takes a connection only to read, and none while it waits for its commit.

    Attributes:
        phase: What is being done; while it is `COMMITTING` the outcome is unknown.
    """

    def __init__(self, backend: SqlBackend, group: Group) -> None:
        self._backend = backend
        self._group = group
        self._block = ExitStack()
        self._opened: OrderStorage | None = None
        self.phase = Phase.READING

    @property
    def storage(self) -> OrderStorage:
        """A storage over a connection, taken from the pool when it is first needed."""
        if self._opened is None:
            self._opened = self._block.enter_context(self._backend.connect())
        return self._opened

    @property
    def in_transaction(self) -> bool:
        """Whether writes become durable only with the end of a surrounding transaction: there is none."""
        return False

    def commit(self, changes: ChangeSet) -> Outcome:
        """Write a change set together with others, and wait until it is durable."""
        if not changes:
            return WRITTEN
        self.release()
        self.phase = Phase.COMMITTING
        try:
            return self._group.commit(changes)
        finally:
            self.phase = Phase.READING

    def release(self) -> None:
        """Return the connection, if there is one."""
        self._opened = None
        self._block.close()


class GroupedBackend:
    """Open storages whose commits are written in groups; a transaction is what it is without them.

    Attributes:
        alone: There is one connection, to a database in memory, and blocks wait for each other.
    """

    def __init__(self, backend: SqlBackend, *, asynchronous: bool) -> None:
        self._backend = backend
        self._group: Group = GreenletGroup(self._settle) if asynchronous else ThreadGroup(self._settle)
        self.alone = backend.alone

    @contextmanager
    def connect(self, *, transaction: bool = False) -> Generator[PhasedStorage]:
        """Open a storage for the length of a block; with `transaction`, of one transaction."""
        if transaction:
            with self._backend.connect(transaction=True) as storage:
                yield storage
            return
        grouped = GroupedStorage(self._backend, self._group)
        try:
            yield grouped
        finally:
            grouped.release()

    def create_schema(self) -> None:
        """Create the tables and indexes that are not there yet."""
        self._backend.create_schema()

    def close(self) -> None:
        """Release every connection. Closing twice is harmless."""
        self._backend.close()

    def pool(self) -> PoolFigures | None:
        """Return the figures of the engine's pool; None where it keeps no count."""
        return self._backend.pool()

    def _settle(self, changes: Sequence[ChangeSet]) -> Sequence[Settled]:
        """Write a group by one commit or, if that fails as a whole, one by one."""
        if len(changes) > 1:
            try:
                with self._backend.connect() as storage:
                    return storage.commit_each(changes)
            except (Conflict, StorageBusy, StorageFailed):
                pass
        return [self._settled(part) for part in changes]

    def _settled(self, changes: ChangeSet) -> Settled:
        try:
            with self._backend.connect() as storage:
                return storage.commit(changes)
        except Exception as error:  # noqa: BLE001 - it is raised where the change set came from
            return error


def grouped(backend: SqlBackend, wanted: bool, *, asynchronous: bool = False) -> SqlBackend | GroupedBackend:
    """Return a backend that writes commits in groups, if that is wanted and there is more than one connection."""
    return GroupedBackend(backend, asynchronous=asynchronous) if wanted and not backend.alone else backend


@attrs.define(eq=False)
class _Member:
    """A thread that waits for its commit, or until it is its turn to write a group."""

    changes: ChangeSet
    leads: bool = False
    settled: Settled | None = None
    woken: threading.Event = attrs.Factory(threading.Event)

    def wake(self) -> None:
        self.woken.set()


class ThreadGroup:
    """Gather the change sets of threads; the first that comes writes, and hands on to the first that waits."""

    def __init__(self, settle: Settle) -> None:
        self._settle = settle
        renew_after_fork(self)
        self.renew()

    def renew(self) -> None:
        """Begin anew, in a child after a fork, where those who waited are not."""
        self._lock = threading.Lock()
        self._waiting: deque[_Member] = deque()
        self._led = False

    def commit(self, changes: ChangeSet) -> Outcome:
        """Write a change set together with others, and wait until it is durable."""
        member = _Member(changes)
        with self._lock:
            self._waiting.append(member)
        self._hand_on(only_if_free=True)
        try:
            member.woken.wait()
        except BaseException:
            self._leave(member)
            raise
        if member.leads:
            self._lead()
        return _outcome(member.settled)

    def _hand_on(self, *, only_if_free: bool = False) -> None:
        """Let the first that waits lead the next group, if there is one."""
        with self._lock:
            if only_if_free and self._led:
                return
            self._led = bool(self._waiting)
            if self._led:
                self._waiting[0].leads = True
                self._waiting[0].wake()

    def _lead(self) -> None:
        with self._lock:
            group = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
        settled: Sequence[Settled] = [CommitUnknown(Phase.COMMITTING.value)] * len(group)
        try:
            settled = self._settle([member.changes for member in group])
        except Exception as error:  # noqa: BLE001 - it is everybody's
            settled = [error] * len(group)
        finally:
            for member, outcome in zip(group, settled, strict=True):
                member.settled = outcome
                member.wake()
            self._hand_on()

    def _leave(self, member: _Member) -> None:
        """Give up waiting: nothing is written if the change set is not being written already."""
        with self._lock:
            waits = member in self._waiting
            if waits:
                self._waiting.remove(member)
        if waits and member.leads:
            self._hand_on()
        elif not waits:
            member.woken.wait()


class GreenletGroup:
    """Gather the change sets of an event loop's tasks; a task of its own writes them."""

    def __init__(self, settle: Settle) -> None:
        self._settle = settle
        self._waiting: deque[tuple[ChangeSet, asyncio.Future[Settled]]] = deque()
        self._writer: asyncio.Task[None] | None = None

    def commit(self, changes: ChangeSet) -> Outcome:
        """Write a change set together with others, and wait until it is durable."""
        return _outcome(await_only(self._join(changes)))

    async def _join(self, changes: ChangeSet) -> Settled:
        future: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
        self._waiting.append((changes, future))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        return await future

    async def _write(self) -> None:
        while self._waiting:
            portion = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
            group = [(changes, future) for changes, future in portion if not future.done()]
            try:
                settled = await greenlet_spawn(self._settle, [changes for changes, _ in group])
            except Exception as error:  # noqa: BLE001 - it is everybody's
                settled = [error] * len(group)
            for (_, future), outcome in zip(group, settled, strict=True):
                if not future.done():
                    future.set_result(outcome)


def _outcome(settled: Settled | None) -> Outcome:
    if isinstance(settled, Outcome):
        return settled
    raise settled or CommitUnknown(Phase.COMMITTING.value)
