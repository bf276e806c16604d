"""The storage contract: what a unit of work needs of the place that keeps orders.

A storage is synchronous and lives as long as one attempt of one unit of work, on one connection. The
asynchronous shell runs the same scripts over it. The conformance suite that every implementation passes
is `orderkit.testing.conformance`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import attrs

from orderkit.unit_of_work.changes import ChangeSet, KeyReference

T = TypeVar("T")
StorageT_co = TypeVar("StorageT_co", bound="Storage", covariant=True)


class OrderRecord(NamedTuple):
    """An order as it is kept.

    Attributes:
        document: The aggregate as JSON text, without its metadata.
        metadata: The application's metadata as JSON text.
        version: The number of events so far.
        schema_version: The version of the document's shape.
    """

    document: str
    metadata: str
    version: int
    schema_version: int


class StoredKey(NamedTuple):
    """An idempotency record as it is kept, with the order it speaks of as that is now."""

    fingerprint: str
    order_id: str
    order_version: int
    expires_at: datetime
    order: OrderRecord | None


class Reading(NamedTuple):
    """What one statement found: the order, and the record of a key if one was asked for."""

    order: OrderRecord | None
    stored: StoredKey | None


class Readings(NamedTuple):
    """What one look at several orders and keys found; what is not there is left out."""

    orders: Mapping[str, OrderRecord]
    keys: Mapping[KeyReference, StoredKey]


class Outcome(NamedTuple):
    """What became of a change set.

    Attributes:
        committed: Everything was written. If false, nothing was.
        guards_held: Every guarded order was at its version.
        stored: The record of the claimed key, where it was taken and its owner is already visible. The
            loser of a race may have to look in a further statement: it is None then.
        lease_held: The leased operation was held by its claim, where one was to move on.
    """

    committed: bool
    guards_held: bool
    stored: StoredKey | None = None
    lease_held: bool = True


class Storage(Protocol):
    """Read and write within one attempt of one unit of work.

    Whatever fails raises one of the storage errors or conflicts of `orderkit.errors`, and then nothing
    was written; `CommitUnknown` is the one exception, and says so. Every method is confined to the
    tenant it is given. Once its block has ended every method raises `TransactionEnded`.
    """

    @property
    def in_transaction(self) -> bool:
        """Whether writes become durable only with the end of a surrounding transaction."""
        ...

    def savepoint(self) -> AbstractContextManager[None]:
        """Surround a block inside a transaction: if it raises, what it wrote and counted is undone.

        The transaction stays usable, whatever the block ran into. Outside a transaction it does nothing.
        """
        ...

    def read(self, tenant: str, order_id: str, *, key: KeyReference | None = None, lock: bool = False) -> Reading:
        """Read an order and, in the same statement, the record of an idempotency key.

        Args:
            tenant: Whose order.
            order_id: Which order.
            key: The key whose record is wanted as well, expired or not.
            lock: Keep the order locked until the surrounding transaction ends.
        """
        ...

    def read_key(self, key: KeyReference) -> StoredKey | None:
        """Read the record of an idempotency key, expired or not, in a statement of its own."""
        ...

    def read_many(self, tenant: str, order_ids: Sequence[str], keys: Sequence[KeyReference] = ()) -> Readings:
        """Read several orders of a tenant, and the records of several keys, expired or not.

        Args:
            tenant: Whose orders and keys.
            order_ids: Which orders.
            keys: The keys whose records are wanted as well, all of this tenant.
        """
        ...

    def commit(self, changes: ChangeSet) -> Outcome:
        """Write a change set: all of it, or nothing.

        Outside a transaction the write is durable when this returns. Inside one it is surrounded by a
        savepoint, so that an error leaves the transaction usable and what went before it in place.

        The guards are checked first, then the key is claimed or the leased operation moved on, then the rest is
        written: a stale version never burns a key, a taken key or a lost lease never changes an order.

        Raises:
            AlreadyExists: An inserted order's id or number is taken.
            StorageError: See the families.
        """
        ...

    def commit_each(self, changes: Sequence[ChangeSet]) -> list[Outcome]:
        """Write several change sets by one commit, each of them wholly or, if its guards or key fail, not at all.

        One that shares a guarded order or a key with an earlier one of the sequence is not written: what it
        was decided on is about to change. Its outcome says that a guard did not hold, or that the key is taken.
        None of them moves a leased operation on.

        Returns:
            The outcome of each change set. `stored` is always None: whoever finds its key taken looks it up.

        Raises:
            OrderKitError: Something else failed, such as a taken id, and nothing at all was written. Which
                change set it was is found out by writing fewer at a time.
        """
        ...


class Backend(Protocol[StorageT_co]):
    """Open storages: one per attempt. Safe to share between threads."""

    def connect(self, *, transaction: bool = False) -> AbstractContextManager[StorageT_co]:
        """Open a storage for the length of a block.

        Args:
            transaction: Surround the block with one transaction, committed at its end and rolled back if
                the block raises. Otherwise each `commit` is durable by itself.

        Raises:
            StorageUnavailable: The database was not reached.
            CommitUnknown: The connection went while the surrounding transaction was being committed.
        """
        ...

    def create_schema(self) -> None:
        """Create the tables and indexes that are not there yet."""
        ...

    def close(self) -> None:
        """Release every connection. Closing twice is harmless."""
        ...


@attrs.frozen
class PoolFigures:
    """How many connections to the database a backend has at this moment.

    Attributes:
        size: How many it keeps open once they have been needed.
        limit: How many it opens at most; None for no limit.
        idle: How many are open and wait for work.
        in_use: How many are lent to a block.
        overflow: How many of the open ones are beyond `size`; they are closed when they come back.
    """

    size: int
    limit: int | None
    idle: int
    in_use: int
    overflow: int


@runtime_checkable
class Pooled(Protocol):
    """A backend, of either kind, that lends connections of a pool."""

    def pool(self) -> PoolFigures | None:
        """Return the figures of the pool; None where there is none that counts."""
        ...


class Caller(Protocol[StorageT_co]):
    """Run synchronous work over an open storage without blocking the event loop."""

    async def __call__(self, work: Callable[[StorageT_co], T], /) -> T:
        """Run the work and return what it returns."""
        ...


class AsyncBackend(Protocol[StorageT_co]):
    """Open storages from a running event loop."""

    def connect(self, *, transaction: bool = False) -> AbstractAsyncContextManager[Caller[StorageT_co]]:
        """Open a storage for the length of a block; see `Backend.connect`.

        Yields:
            A caller: `await call(work)` runs `work(storage)`, one at a time.
        """
        ...

    async def create_schema(self) -> None:
        """Create the tables and indexes that are not there yet."""
        ...

    async def close(self) -> None:
        """Release every connection. Closing twice is harmless."""
        ...
