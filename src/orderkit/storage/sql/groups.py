"""Group commit: those who commit at the same time share one commit, and each waits for its own outcome.

While one group is being written the next one gathers, so that nobody waits for company. A group that fails as
a whole is written again one by one: a change set that cannot be written is the affair of its own caller.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from typing import Protocol

from sqlalchemy.util import await_only, greenlet_spawn

from orderkit.errors import StorageBusy, TransactionEnded
from orderkit.forking import renew_after_fork
from orderkit.orders.forwarding import ForwardingStorage
from orderkit.storage.sql.backend import SqlBackend
from orderkit.storage.sql.failures import Phase
from orderkit.storage.sql.operations import SqlOperations
from orderkit.storage.sql.storage import PhasedStorage, SqlStorage
from orderkit.unit_of_work.batches import STALE, WRITTEN, write_apart
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

    def close(self) -> None:
        """Release what it holds; it can be used again."""
        ...


class GroupedStorage(ForwardingStorage):
    """A storage that takes a connection only to read, and none while it waits for its commit.

    Attributes:
        ended: The block is over.
    """

    def __init__(self, backend: SqlBackend, group: Group) -> None:
        self._backend = backend
        self._group = group
        self._block = ExitStack()
        self._opened: SqlStorage | None = None
        self._committing = False
        self.ended = False

    @property
    def phase(self) -> Phase:
        """What is being done; while it is `COMMITTING` the outcome is unknown."""
        if self._committing:
            return Phase.COMMITTING
        return Phase.READING if self._opened is None else self._opened.phase

    @property
    def operations(self) -> SqlOperations:
        """The leased operations, each written by a commit of its own."""
        return self.storage.operations

    @property
    def storage(self) -> SqlStorage:
        """A storage over a connection, taken from the pool when it is first needed."""
        if self.ended:
            raise TransactionEnded
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
        if self.ended:
            raise TransactionEnded
        if changes.advance is not None:
            return self.storage.commit(changes)
        self.release()
        self._committing = True
        try:
            return self._group.commit(changes)
        finally:
            self._committing = False

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
            grouped.ended = True
            grouped.release()

    def create_schema(self) -> None:
        """Create the tables and indexes that are not there yet."""
        self._backend.create_schema()

    def close(self) -> None:
        """Release every connection. Closing twice is harmless."""
        self._group.close()
        self._backend.close()

    def pool(self) -> PoolFigures | None:
        """Return the figures of the engine's pool; None where it keeps no count."""
        return self._backend.pool()

    def _settle(self, changes: Sequence[ChangeSet]) -> Sequence[Settled]:
        """Write a group by one commit, or by as few as leave out what cannot be written."""
        return write_apart(self._together, self._alone, changes)

    def _together(self, changes: Sequence[ChangeSet]) -> list[Settled]:
        """Write several; one that was passed over for a lock or for another of the group is to be tried again."""
        with self._backend.connect() as storage:
            outcomes = storage.commit_each(changes)
        return [StorageBusy(_PASSED_OVER) if outcome == STALE else outcome for outcome in outcomes]

    def _alone(self, changes: ChangeSet) -> Settled:
        try:
            with self._backend.connect() as storage:
                return storage.commit(changes)
        except Exception as error:  # noqa: BLE001 - it is raised where the change set came from
            return error


_PASSED_OVER = "The order was being changed by somebody else; nothing was written. Repeat it."


def grouped(backend: SqlBackend, wanted: bool, *, asynchronous: bool = False) -> SqlBackend | GroupedBackend:
    """Return a backend that writes commits in groups, if that is wanted and there is more than one connection."""
    return GroupedBackend(backend, asynchronous=asynchronous) if wanted and not backend.alone else backend


class ThreadGroup:
    """Gather the change sets of threads; a thread of its own writes them."""

    def __init__(self, settle: Settle) -> None:
        self._settle = settle
        renew_after_fork(self)
        self.renew()

    def renew(self) -> None:
        """Begin anew, in a child after a fork, where those who waited are not."""
        self._lock = threading.Lock()
        self._waiting: deque[tuple[ChangeSet, Future[Settled]]] = deque()
        self._writer: ThreadPoolExecutor | None = None
        self._writing = False

    def commit(self, changes: ChangeSet) -> Outcome:
        """Write a change set together with others, and wait until it is durable."""
        future: Future[Settled] = Future()
        with self._lock:
            self._waiting.append((changes, future))
            if not self._writing:
                self._writer = self._writer or ThreadPoolExecutor(1, "orderkit-group")
                self._writer.submit(self._write)
                self._writing = True
        try:
            settled = future.result()
        except BaseException:
            # Interrupted: what is not being written yet is not written at all, and all else is waited for.
            if not future.cancel():
                wait((future,))
            raise
        return _outcome(settled)

    def close(self) -> None:
        """Let the thread go once it has nothing left to do; it comes again when it is needed."""
        with self._lock:
            writer, self._writer = self._writer, None
        if writer is not None:
            writer.shutdown(wait=False)

    def _write(self) -> None:
        while group := self._next_group():
            try:
                settled = self._settle([changes for changes, _ in group])
            except Exception as error:  # noqa: BLE001 - it is everybody's
                settled = [error] * len(group)
            for (_, future), outcome in zip(group, settled, strict=True):
                future.set_result(outcome)

    def _next_group(self) -> list[tuple[ChangeSet, Future[Settled]]]:
        """Return those who wait, some at a time; none if there are none, and then the next one begins anew."""
        with self._lock:
            group: list[tuple[ChangeSet, Future[Settled]]] = []
            while self._waiting and len(group) < MOST:
                member = self._waiting.popleft()
                if member[1].set_running_or_notify_cancel():
                    group.append(member)
            self._writing = bool(group)
        return group


class GreenletGroup:
    """Gather the change sets of an event loop's tasks; a task of its own writes them."""

    def __init__(self, settle: Settle) -> None:
        self._settle = settle
        self._waiting: deque[tuple[ChangeSet, asyncio.Future[Settled]]] = deque()
        self._writer: asyncio.Task[None] | None = None

    def commit(self, changes: ChangeSet) -> Outcome:
        """Write a change set together with others, and wait until it is durable."""
        return _outcome(await_only(self._join(changes)))

    def close(self) -> None:
        """Do nothing: its task ends by itself."""

    async def _join(self, changes: ChangeSet) -> Settled:
        loop = asyncio.get_running_loop()
        if self._writer is not None and self._writer.get_loop() is not loop:
            # A loop that was closed in the middle takes those who waited there with it.
            self._waiting.clear()
            self._writer = None
        future: asyncio.Future[Settled] = loop.create_future()
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


def _outcome(settled: Settled) -> Outcome:
    """Return what has become of a change set, or raise it: an error that others are told too as one of its own."""
    if isinstance(settled, Outcome):
        return settled
    own = settled.__class__.__new__(settled.__class__)
    own.__dict__.update(settled.__dict__)
    own.args = settled.args
    raise own from settled
