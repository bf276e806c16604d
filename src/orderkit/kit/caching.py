"""Orders that are looked up often, kept until a commit changes them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs
import msgspec

from orderkit.domain.codec import decode_order
from orderkit.orders.forwarding import ForwardingStorage
from orderkit.orders.tables import ORDERS
from orderkit.resilience.cache import ReadThrough
from orderkit.resilience.runtimes import LOOP, THREAD, Runtime, drive
from orderkit.resilience.stores import LocalStore, RedisStore
from orderkit.unit_of_work.storage import AsyncBackend, Backend, Caller, OrderRecord, Pooled, PoolFigures

if TYPE_CHECKING:
    from orderkit.domain.order import Order
    from orderkit.idempotency.ports import KeepsOperations, OperationStorage
    from orderkit.orders.ports import OrderStorage
    from orderkit.resilience.events import Listener
    from orderkit.resilience.redis import RedisConnection
    from orderkit.storage.sql.joining import AsyncJoinable, Joinable
    from orderkit.unit_of_work.changes import ChangeSet
    from orderkit.unit_of_work.storage import Outcome

T = TypeVar("T")

Written = set[tuple[str, str]]
"""Tenants and ids of orders that were written, or may have been."""


class OrderCache:
    """Keep orders that `kit.orders.get` has read, until a commit through a kit with this cache changes them.

    A look-up that begins after a command has returned never gives what was before it. Without `shared` that holds
    within the process: what others write is seen after `ttl` seconds at the latest, and so it is of one that does not
    reach Redis, or dies, between a commit and saying so. Commands, searches and whatever is read inside a transaction
    go to the database. Of a transaction of the application's own, joined by `within`, the cache learns of the commit
    where SQLAlchemy's `Session` or `AsyncSession`, or Django, tells of it; after any other, call `kit.orders.forget`.
    A session that is itself inside a transaction of a connection tells too early: call it there as well. A commit
    whose outcome was unknown (`CommitUnknown`) and that the database makes only later is seen after `ttl` seconds.

    One cache is for the kits of one database.

    Args:
        ttl: Seconds for which an order is kept.
        max_entries: How many are kept in this process.
        shared: The Redis in which all processes keep them; none, by default.
        prefix: What the keys in Redis begin with; another one for each database.
        listeners: Who is told of hits, misses and that Redis is not reached.

    Example:
        >>> from orderkit import OrderCache, OrderKit
        >>> kit = OrderKit.from_url("memory://", cache=OrderCache(ttl=30))
    """

    def __init__(
        self,
        *,
        ttl: float = 60.0,
        max_entries: int = 10_000,
        shared: RedisConnection | None = None,
        prefix: str = "orderkit:orders",
        listeners: Sequence[Listener] = (),
    ) -> None:
        store = LocalStore(max_entries=max_entries) if shared is None else _in_redis(shared, prefix)
        self._cache = ReadThrough(store, ttl=ttl, name="orders", listeners=listeners)

    async def get(
        self, runtime: Runtime, tenant: str, order_id: str, load: Callable[[], Awaitable[OrderRecord]]
    ) -> Order:
        """Return an order, kept or loaded now. Kept as text: each caller gets an object of its own."""
        record = await self._cache.get(runtime, _key(tenant, order_id), load)
        return decode_order(record.document, record.metadata, record.schema_version)

    async def forget(self, runtime: Runtime, orders: Written) -> None:
        """Forget orders."""
        if orders:
            await self._cache.invalidate(runtime, keys=[_key(*order) for order in sorted(orders)])

    def watching(self, joined: Callable[[], OrderStorage], theirs: Joinable) -> Callable[[], OrderStorage]:
        """Return what opens storages inside somebody else's transaction, whose end is waited for where it is told.

        Args:
            joined: Opens them.
            theirs: What was joined.
        """
        from orderkit.storage.sql import on_commit

        written: Written = set()

        def forget() -> None:
            drive(self.forget(THREAD, written))
            written.clear()

        def open_storage() -> OrderStorage:
            storage = joined()
            on_commit(theirs, forget)
            return watching_storage(storage, written)

        return open_storage

    def async_watching(self, joined: Caller[OrderStorage], theirs: AsyncJoinable) -> Caller[OrderStorage]:
        """Return what runs work inside somebody else's transaction; see `watching`.

        Args:
            joined: Runs it.
            theirs: What was joined.
        """
        from orderkit.storage.sql import on_async_commit

        written: Written = set()
        noting = watching(joined, written)

        async def forget() -> None:
            await _done(self.forget(LOOP, written))
            written.clear()

        async def call(work: Callable[[OrderStorage], T], /) -> T:
            on_async_commit(theirs, forget)
            return await noting(work)

        return call

    def of(self, tenant: str) -> CachedOrders:
        """Return the same cache for the orders of a tenant."""
        return CachedOrders(self, tenant)


@attrs.frozen
class CachedOrders:
    """The cached orders of one tenant."""

    cache: OrderCache
    tenant: str

    async def get(self, runtime: Runtime, order_id: str, load: Callable[[], Awaitable[OrderRecord]]) -> Order:
        """Return an order, kept or loaded now."""
        return await self.cache.get(runtime, self.tenant, order_id, load)

    async def forget(self, runtime: Runtime, order_id: str) -> None:
        """Forget an order."""
        await self.cache.forget(runtime, {(self.tenant, order_id)})


def _key(tenant: str, order_id: str) -> str:
    # No id of an order has an @ in it.
    return f"{order_id}@{tenant}"


def _in_redis(connection: RedisConnection, prefix: str) -> RedisStore:
    decode = msgspec.json.Decoder(OrderRecord).decode
    return RedisStore(connection, dumps=msgspec.json.encode, loads=decode, prefix=prefix)


# --- who learns of commits ------------------------------------------------------------------------


class WatchingStorage(ForwardingStorage):
    """A storage that notes which orders are written through it, before they are: a commit may be lost sight of."""

    def __init__(self, storage: OrderStorage, written: Written) -> None:
        self._storage = storage
        self._written = written

    @property
    def storage(self) -> OrderStorage:
        """The storage that does everything."""
        return self._storage

    def commit(self, changes: ChangeSet) -> Outcome:
        """Write a change set: all of it, or nothing."""
        self._note(changes)
        return self._storage.commit(changes)

    def commit_each(self, changes: Sequence[ChangeSet]) -> list[Outcome]:
        """Write several change sets by one commit, each of them wholly or not at all."""
        for part in changes:
            self._note(part)
        return self._storage.commit_each(changes)

    def _note(self, changes: ChangeSet) -> None:
        for rows in (changes.updates, changes.upserts, changes.inserts):
            self._written.update((str(row[0]), str(row[1])) for row in rows.get(ORDERS, ()))


class _KeepingOperations(WatchingStorage):
    """A storage that keeps leased operations too, which are no orders."""

    @property
    def operations(self) -> OperationStorage:
        """Its leased operations."""
        return cast("KeepsOperations", self._storage).operations


def watching_storage(storage: OrderStorage, written: Written) -> WatchingStorage:
    """Return a storage that notes which orders are written through it, and can do what the other can."""
    # By the class: the property itself may take a connection, which not every block needs.
    keeps = hasattr(type(storage), "operations")
    return _KeepingOperations(storage, written) if keeps else WatchingStorage(storage, written)


@attrs.frozen
class WatchedBackend:
    """A backend whose commits are made known to a cache."""

    backend: Backend[OrderStorage]
    cache: OrderCache

    @contextmanager
    def connect(self, *, transaction: bool = False) -> Generator[WatchingStorage]:
        """Open a storage for the length of a block; see `Backend.connect`."""
        written: Written = set()
        try:
            with self.backend.connect(transaction=transaction) as storage:
                yield watching_storage(storage, written)
        finally:
            drive(self.cache.forget(THREAD, written))

    def create_schema(self) -> None:
        """Create the tables and indexes that are not there yet."""
        self.backend.create_schema()

    def pool(self) -> PoolFigures | None:
        """Return the figures of the pool."""
        return self.backend.pool() if isinstance(self.backend, Pooled) else None

    def close(self) -> None:
        """Release every connection."""
        self.backend.close()


@attrs.frozen
class AsyncWatchedBackend:
    """An asynchronous backend whose commits are made known to a cache."""

    backend: AsyncBackend[OrderStorage]
    cache: OrderCache

    @asynccontextmanager
    async def connect(self, *, transaction: bool = False) -> AsyncGenerator[Caller[OrderStorage]]:
        """Open a storage for the length of a block; see `AsyncBackend.connect`."""
        written: Written = set()
        try:
            async with self.backend.connect(transaction=transaction) as call:
                yield watching(call, written)
        finally:
            if written:
                await _done(self.cache.forget(LOOP, written))

    async def create_schema(self) -> None:
        """Create the tables and indexes that are not there yet."""
        await self.backend.create_schema()

    def pool(self) -> PoolFigures | None:
        """Return the figures of the pool."""
        return self.backend.pool() if isinstance(self.backend, Pooled) else None

    async def close(self) -> None:
        """Release every connection."""
        await self.backend.close()


async def _done(work: Coroutine[Any, Any, None]) -> None:
    """Await something to its end, also if the caller is cancelled: what was committed must be told."""
    import asyncio

    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def watched(backend: Backend[OrderStorage], cache: OrderCache | None) -> Backend[OrderStorage]:
    """Return a backend of whose commits a cache learns, if there is one."""
    if cache is None or isinstance(backend, WatchedBackend):
        return backend
    return WatchedBackend(backend, cache)


def async_watched(backend: AsyncBackend[OrderStorage], cache: OrderCache | None) -> AsyncBackend[OrderStorage]:
    """Return an asynchronous backend of whose commits a cache learns, if there is one."""
    if cache is None or isinstance(backend, AsyncWatchedBackend):
        return backend
    return AsyncWatchedBackend(backend, cache)


def watching(call: Caller[OrderStorage], written: Written) -> Caller[OrderStorage]:
    """Return a caller that notes which orders are written through it."""

    async def watched(work: Callable[[OrderStorage], T], /) -> T:
        return await call(lambda storage: work(watching_storage(storage, written)))

    return watched
