"""`AsyncOrderKit`: the front door for asynchronous applications."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

# Everything else is imported where it is used: the name alone is light to import, the first kit loads the rest.
if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from orderkit.domain.order import Order
    from orderkit.kit.assembly import Assembly, Binding, KitChoices, KitOptions
    from orderkit.kit.async_operations import AsyncOperations
    from orderkit.kit.front import Transaction
    from orderkit.kit.runners import AsyncRunner, KitUnit
    from orderkit.kit.settings import Settings
    from orderkit.orders.ports import OrderStorage
    from orderkit.storage.sql.joining import AsyncJoinable
    from orderkit.unit_of_work.storage import AsyncBackend, PoolFigures
    from orderkit.worker import Progress

T = TypeVar("T")


class AsyncTransaction:
    """Orders inside one transaction: everything done through it becomes durable together, or not at all.

    Attributes:
        orders: The orders, as of a kit.
        customers: What is kept about a customer, as of a kit.
    """

    def __init__(self, runner: AsyncRunner, assembly: Assembly) -> None:
        from orderkit.kit.async_customers import AsyncCustomers
        from orderkit.kit.async_orders import AsyncOrders

        self._runner = runner
        self.orders = AsyncOrders(runner, assembly.policy, assembly.cursors)
        self.customers = AsyncCustomers(runner, assembly.policy)

    async def guard(self, order: Order) -> None:
        """Pin an order that was only read: nothing becomes durable if it has moved on by then.

        Raises:
            VersionConflict: It has moved on.
        """
        await self._runner.run(lambda unit: unit.guard(order))


class AsyncOrderKit:
    """Take orders, keep them, and let everyone know: `OrderKit` with `await`.

    Safe to share between tasks of one event loop. A cancellation that arrives during a commit is let
    through once the outcome is settled; repeating with the same idempotency key tells what it was.

    Attributes:
        orders: The orders of the bound tenant.
        customers: What is kept about one of its customers, to be exported or erased.
    """

    def __init__(self, backend: AsyncBackend[OrderStorage], assembly: Assembly) -> None:
        from orderkit.kit.async_customers import AsyncCustomers
        from orderkit.kit.async_orders import AsyncOrders
        from orderkit.kit.caching import async_watched
        from orderkit.kit.runners import AsyncBackendRunner

        self._backend = async_watched(backend, assembly.cache)
        self._assembly = assembly
        self._runner = AsyncBackendRunner(self._backend, assembly.surroundings, create_tables=assembly.create_tables)
        self.orders = AsyncOrders(self._runner, assembly.policy, assembly.cursors, assembly.cached)
        self.customers = AsyncCustomers(self._runner, assembly.policy)

    @functools.cached_property
    def operations(self) -> AsyncOperations:
        """What calls something foreign and yet is done once."""
        from orderkit.kit.async_operations import AsyncOperations

        return AsyncOperations(self._runner, self._assembly)

    @classmethod
    def from_url(cls, url: str, **options: Unpack[KitOptions]) -> Self:
        """Return a kit over a database.

        Args:
            url: `sqlite:///shop.db`, `postgresql+asyncpg://user@host/database`, `postgresql+psycopg://…`
                or `memory://`. The tables of a SQLite file are created when they are first missed, those
                of a server by `create_schema`.
            **options: See `KitOptions`.

        Raises:
            ConfigurationError: The URL, its driver or an option cannot work.
        """
        from orderkit.kit.assembly import MEMORY_URL, assemble

        assembly = assemble(url, options)
        if url == MEMORY_URL:
            from orderkit.storage.memory import AsyncMemoryBackend

            return cls(AsyncMemoryBackend(), assembly)
        from orderkit.kit.engines import open_from
        from orderkit.storage.sql import open_async_backend

        return cls(open_from(open_async_backend, url, options), assembly)

    @classmethod
    def from_backend(cls, backend: AsyncBackend[OrderStorage], **options: Unpack[KitOptions]) -> Self:
        """Return a kit over a storage of the application's own; see `orderkit.testing.conformance`."""
        from orderkit.kit.assembly import assemble

        return cls(backend, assemble("", options))

    @classmethod
    def from_engine(cls, engine: AsyncEngine, **options: Unpack[KitOptions]) -> Self:
        """Return a kit over an engine the application owns: closing the kit leaves it open.

        Raises:
            ConfigurationError: The engine's database or driver is not one the kit works with.
        """
        from orderkit.kit.assembly import assemble
        from orderkit.storage.sql import AsyncSqlBackend

        assembly = assemble(engine.url.render_as_string(hide_password=False), options)
        backend = AsyncSqlBackend(
            engine,
            schema=assembly.schema,
            busy_timeout=assembly.busy_timeout,
            group_commit=assembly.group_commit,
        )
        return cls(backend, assembly)

    @classmethod
    def from_settings(cls, settings: Settings | None = None, **options: Unpack[KitChoices]) -> Self:
        """Return a kit as settings say; without any they are read from the environment.

        Raises:
            ConfigurationError: A setting is missing or cannot work.
        """
        from orderkit.kit.settings import Settings

        settings = settings or Settings()
        return cls.from_url(settings.url, settings=settings, **options)

    def for_tenant(self, tenant: str) -> AsyncOrderKit:
        """Return the same front door, bound to a tenant: it sees and writes no other tenant's data.

        Raises:
            InvalidKey: The tenant is not 1 to 100 characters on one line.
        """
        return AsyncOrderKit(self._backend, self._assembly.for_tenant(tenant))

    def bound(self, **binding: Unpack[Binding]) -> AsyncOrderKit:
        """Return the same front door, with an actor, a correlation or a causation id kept on every event."""
        return AsyncOrderKit(self._backend, self._assembly.bound(**binding))

    async def run(self, work: Callable[[Transaction], T]) -> T:
        """Run a plain function whose commands are written by one commit, again where a race is lost.

        The function is synchronous, as every script is, and its calls wait for the database without blocking
        the event loop. It may run more than once: it does nothing outside but through what it is given.
        """
        from orderkit.kit.front import Transaction
        from orderkit.kit.runners import UnitRunner, finished

        def script(unit: KitUnit) -> T:
            return finished(work(Transaction(UnitRunner(unit), self._assembly)))

        return await self._runner.gathering().run(script)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncTransaction]:
        """Open a transaction for the length of a block; it is never retried, `run` is for that.

        Raises:
            VersionConflict: An order moved on meanwhile; the block may be entered again.
            CommitUnknown: The connection went while the transaction was being committed.
        """
        from orderkit.kit.runners import AsyncJoinedRunner, look

        if self._assembly.create_tables:
            await self._runner.run(look)
        async with self._backend.connect(transaction=True) as call:
            yield AsyncTransaction(AsyncJoinedRunner(call, self._assembly.surroundings), self._assembly)

    def within(self, theirs: AsyncJoinable) -> AsyncTransaction:
        """Join the application's own transaction: theirs to commit and to roll back.

        A savepoint surrounds each command, so that a refusal or a conflict leaves their transaction usable.
        Nothing is retried. A session is flushed before each command.

        Args:
            theirs: An `AsyncSession` or `AsyncConnection` of SQLAlchemy, or an `AsyncConnection` of psycopg 3.

        Raises:
            ConfigurationError: It is something else. Each command raises it too, where there is no transaction
                to join.
        """
        from orderkit.kit.runners import AsyncJoinedRunner
        from orderkit.storage.sql import async_join

        joined, cache = async_join(theirs, schema=self._assembly.schema), self._assembly.cache
        call = joined if cache is None else cache.async_watching(joined, theirs)
        return AsyncTransaction(AsyncJoinedRunner(call, self._assembly.surroundings), self._assembly)

    async def sweep(self) -> dict[str, Progress]:
        """Run each step of background work once, and return what each did."""
        from orderkit.worker import STEPS

        runner, policy = self._runner.gathering(), self._assembly.policy
        return {name: await runner.run(partial(step, policy)) for name, step in STEPS.items()}

    async def create_schema(self) -> None:
        """Bring the tables to the newest revision, from none at all or from wherever they are; or do nothing."""
        await self._backend.create_schema()

    def pool(self) -> PoolFigures | None:
        """Return how many connections are open, idle and in use; None where orders are kept without a pool."""
        from orderkit.unit_of_work.storage import Pooled

        return self._backend.pool() if isinstance(self._backend, Pooled) else None

    async def close(self) -> None:
        """Release every connection. Closing twice is harmless."""
        await self._backend.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        await self.close()
