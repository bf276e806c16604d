"""Open storages over rows in memory, from threads and from an event loop."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from functools import partial
from typing import TypeVar

from orderkit.errors import StorageFailed, TransactionEnded
from orderkit.forking import Guarded
from orderkit.orders.ports import Found, Search
from orderkit.orders.tables import EVENTS, PERSONAL, EventRow, PersonalRow
from orderkit.storage.memory.layer import Layer
from orderkit.storage.memory.leases import MemoryOperations
from orderkit.storage.memory.operations import (
    find_key,
    find_many,
    find_order,
    find_page,
    forget_expired_keys,
    forget_key,
    insist,
    take_number,
    write,
    write_again,
    write_each,
)
from orderkit.unit_of_work.changes import ChangeSet, KeyReference, Row, Table
from orderkit.unit_of_work.storage import Caller, Outcome, Reading, Readings, StoredKey

T = TypeVar("T")


class MemoryStorage:
    """One attempt of one unit of work, opened by `MemoryBackend.connect`."""

    def __init__(self, view: Layer, lock: Callable[[], threading.Lock], *, in_transaction: bool) -> None:
        self._view = view
        self._lock = lock
        self._in_transaction = in_transaction
        self._steps: list[Callable[[Layer], None]] = []
        self.ended = False

    @property
    def in_transaction(self) -> bool:
        """Whether writes become durable only with the end of a surrounding transaction."""
        return self._in_transaction

    @property
    def operations(self) -> MemoryOperations:
        """The leased operations, written with everything else the storage writes."""
        return MemoryOperations(self._run, self._change)

    @contextmanager
    def savepoint(self) -> Generator[None]:
        """Surround a block inside a transaction: if it raises, what it wrote and counted is undone."""
        if not self._in_transaction:
            yield
            return
        outer, steps = self._view, len(self._steps)
        self._view = Layer(outer)
        try:
            yield
            self._view.merge_into(outer)
        except BaseException:
            del self._steps[steps:]
            raise
        finally:
            self._view = outer

    def read(self, tenant: str, order_id: str, *, key: KeyReference | None = None, lock: bool = False) -> Reading:
        """Read an order and the record of an idempotency key.

        A locked order makes nobody wait: a transaction that locked it is refused at its end if it changed.
        """
        look = partial(find_order, tenant=tenant, order_id=order_id)
        found = self._run(lambda layer: Reading(look(layer), None if key is None else find_key(layer, key)))
        if lock:
            self._remember(insist(look, found.order))
        return found

    def read_key(self, key: KeyReference) -> StoredKey | None:
        """Read the record of an idempotency key, expired or not."""
        return self._run(lambda layer: find_key(layer, key))

    def commit(self, changes: ChangeSet) -> Outcome:
        """Write a change set: all of it, or nothing.

        Raises:
            AlreadyExists: An inserted order's id or number is taken.
            StorageFailed: Another unique value is taken, or a row to be updated is not there.
        """
        kept = _copy(changes)
        outcome = self._run(partial(write, changes=kept))
        if outcome.committed:
            self._remember(partial(write_again, changes=kept))
        return outcome

    def read_many(self, tenant: str, order_ids: Sequence[str], keys: Sequence[KeyReference] = ()) -> Readings:
        """Read several orders of a tenant, and the records of several keys, expired or not."""
        return self._run(partial(find_many, tenant=tenant, order_ids=order_ids, keys=keys))

    def commit_each(self, changes: Sequence[ChangeSet]) -> list[Outcome]:
        """Write several change sets, each of them wholly or, if its guards or key fail, not at all."""
        kept = [_copy(part) for part in changes]
        outcomes = self._run(partial(write_each, changes=kept))
        for part, outcome in zip(kept, outcomes, strict=True):
            if outcome.committed:
                self._remember(partial(write_again, changes=part))
        return outcomes

    def search(self, search: Search) -> list[Found]:
        """Return the orders of a page."""
        return self._run(partial(find_page, search=search))

    def history(
        self, tenant: str, order_id: str, *, version: int | None = None, time: datetime | None = None
    ) -> list[EventRow]:
        """Return the events of an order by version, up to and including a version or a time."""
        rows = self._run(lambda layer: layer.all(EVENTS, tenant, order_id))
        events = sorted((EventRow._make(row) for row in rows), key=lambda event: event.version)
        return [
            event
            for event in events
            if (version is None or event.version <= version) and (time is None or event.occurred_at <= time)
        ]

    def personal(self, tenant: str, order_id: str) -> list[PersonalRow]:
        """Return the personal rows of an order, erased ones as tombstones with empty data."""
        rows = self._run(lambda layer: layer.all(PERSONAL, tenant, order_id))
        return [PersonalRow._make(row) for row in rows]

    def next_number(self, tenant: str) -> int:
        """Take the tenant's next order number: 1, 2, 3, … without gaps.

        Raises:
            StorageFailed: There is no surrounding transaction.
        """
        if not self._in_transaction:
            raise StorageFailed("Numbers are taken inside a transaction; nothing was changed. Open one first.")
        take = partial(take_number, tenant=tenant)
        number = self._run(take)
        self._remember(insist(take, number))
        return number

    def forget_key(self, key: KeyReference, now: datetime) -> None:
        """Remove this record if it has expired by `now`, so that its key can be claimed again."""
        forget = partial(forget_key, key=key, now=now)
        self._run(forget)
        self._remember(forget)

    def forget_expired_keys(self, now: datetime, limit: int) -> int:
        """Remove at most `limit` records of any tenant that have expired by `now`; return how many."""
        forgotten = self._run(partial(forget_expired_keys, now=now, limit=limit))
        for key in forgotten:
            self._remember(partial(forget_key, key=key, now=now))
        return len(forgotten)

    def settle(self, root: Layer) -> None:
        """Take every step of the transaction again over what others have committed meanwhile.

        Raises:
            VersionConflict: A guarded order has moved on.
            StorageBusy: A key, a number or a locked order is no longer what the transaction found.
            AlreadyExists: An inserted order's id or number has been taken.
        """
        with self._lock():
            layer = Layer(root)
            for step in self._steps:
                step(layer)
            layer.merge_into(root)

    def _run(self, operation: Callable[[Layer], T]) -> T:
        """Run an operation in a layer of its own, so that one that raises leaves nothing behind."""
        if self.ended:
            raise TransactionEnded
        with self._lock():
            layer = Layer(self._view)
            result = operation(layer)
            layer.merge_into(self._view)
        return result

    def _change(self, operation: Callable[[Layer], bool]) -> bool:
        """Run an operation that writes if it returns true, and must do so again when the transaction ends."""
        changed = self._run(operation)
        if changed:
            self._remember(insist(operation, seen=True))
        return changed

    def _remember(self, step: Callable[[Layer], None]) -> None:
        if self._in_transaction:
            self._steps.append(step)


class MemoryBackend(Guarded):
    """Keep orders in memory. Safe to share between threads; a fork in the middle of a commit of another thread is not.

    A transaction sees its own writes over what is committed, holds no lock while its block runs, and is
    checked again as a whole when the block ends.

    Example:
        >>> backend = MemoryBackend()
        >>> with backend.connect() as storage:
        ...     storage.read("acme", "order_1").order is None
        True
    """

    def __init__(self) -> None:
        self._root = Layer()
        super().__init__()

    @contextmanager
    def connect(self, *, transaction: bool = False) -> Generator[MemoryStorage, None, None]:
        """Open a storage for the length of a block.

        Args:
            transaction: Write at the end of the block, all of it or nothing, instead of at each `commit`.

        Raises:
            VersionConflict: A guard of the transaction no longer held when the block ended.
            StorageBusy: Something else the transaction built on had changed when the block ended.
            AlreadyExists: An order id or number had been taken when the block ended.
        """
        view = Layer(self._root) if transaction else self._root
        storage = MemoryStorage(view, lambda: self._lock, in_transaction=transaction)
        try:
            yield storage
        finally:
            storage.ended = True
        if transaction:
            storage.settle(self._root)

    def rows(self, table: Table, tenant: str) -> list[Row]:
        """Return a tenant's rows of any table, for a test to look at."""
        tenant_at = table.columns.index("tenant")
        with self._lock:
            return [row for row in self._root.all(table) if row[tenant_at] == tenant]

    def create_schema(self) -> None:
        """Do nothing: memory needs no tables."""

    def close(self) -> None:
        """Do nothing: what is kept goes with the backend itself."""


class AsyncMemoryBackend:
    """Keep orders in memory, for the asynchronous front door.

    Args:
        backend: What to keep them in, when it is to be shared or looked at; a new one by default.
    """

    def __init__(self, backend: MemoryBackend | None = None) -> None:
        self._backend = backend or MemoryBackend()

    @asynccontextmanager
    async def connect(self, *, transaction: bool = False) -> AsyncGenerator[Caller[MemoryStorage], None]:
        """Open a storage for the length of a block; see `MemoryBackend.connect`."""
        with self._backend.connect(transaction=transaction) as storage:

            async def call(work: Callable[[MemoryStorage], T], /) -> T:
                return work(storage)

            yield call

    async def create_schema(self) -> None:
        """Do nothing: memory needs no tables."""

    async def close(self) -> None:
        """Do nothing: what is kept goes with the backend itself."""


def _copy(changes: ChangeSet) -> ChangeSet:
    """Keep what a transaction writes again at its end from whatever its caller does meanwhile."""
    copied = ChangeSet(guards=list(changes.guards), claim=changes.claim, advance=changes.advance)
    copied.inserts = {table: list(rows) for table, rows in changes.inserts.items()}
    copied.updates = {table: list(rows) for table, rows in changes.updates.items()}
    copied.upserts = {table: list(rows) for table, rows in changes.upserts.items()}
    copied.deletes = {table: list(keys) for table, keys in changes.deletes.items()}
    return copied
