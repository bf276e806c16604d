"""`OrderKit`: the front door for synchronous applications."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

# Everything else is imported where it is used: the name alone is light to import, the first kit loads the rest.
if TYPE_CHECKING:
    from sqlalchemy import Engine

    from orderkit.domain.order import Order
    from orderkit.kit.assembly import Assembly, Binding, KitChoices, KitOptions
    from orderkit.kit.operations import Operations
    from orderkit.kit.runners import KitUnit, Runner
    from orderkit.kit.settings import Settings
    from orderkit.orders.ports import OrderStorage
    from orderkit.storage.sql.joining import Joinable
    from orderkit.unit_of_work.storage import Backend, PoolFigures
    from orderkit.worker import Progress

T = TypeVar("T")


class Transaction:
    """Orders inside one transaction: everything done through it becomes durable together, or not at all.

    Attributes:
        orders: The orders, as of a kit.
        customers: What is kept about a customer, as of a kit.
    """

    def __init__(self, runner: Runner, assembly: Assembly) -> None:
        from orderkit.kit.customers import Customers
        from orderkit.kit.orders import Orders

        self._runner = runner
        self.orders = Orders(runner, assembly.policy, assembly.cursors)
        self.customers = Customers(runner, assembly.policy)

    def guard(self, order: Order) -> None:
        """Pin an order that was only read: nothing becomes durable if it has moved on by then.

        Raises:
            VersionConflict: It has moved on; inside `run` the function is run again instead.
        """
        self._runner.run(lambda unit: unit.guard(order))


class OrderKit:
    """Take orders, keep them, and let everyone know: the front door of the library.

    Safe to share between threads. Make one per process and database.

    Attributes:
        orders: The orders of the bound tenant.
        customers: What is kept about one of its customers, to be exported or erased.

    Example:
        >>> from orderkit import Line, Money, OrderKit
        >>> kit = OrderKit.from_url("memory://")
        >>> order = kit.orders.place(lines=[Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR"))])
        >>> str(order.total)
        '9.00 EUR'
    """

    def __init__(self, backend: Backend[OrderStorage], assembly: Assembly) -> None:
        from orderkit.kit.caching import watched
        from orderkit.kit.customers import Customers
        from orderkit.kit.orders import Orders
        from orderkit.kit.runners import BackendRunner

        self._backend = watched(backend, assembly.cache)
        self._assembly = assembly
        self._runner = BackendRunner(self._backend, assembly.surroundings, create_tables=assembly.create_tables)
        self.orders = Orders(self._runner, assembly.policy, assembly.cursors, assembly.cached)
        self.customers = Customers(self._runner, assembly.policy)

    @functools.cached_property
    def operations(self) -> Operations:
        """What calls something foreign and yet is done once."""
        from orderkit.kit.operations import Operations

        return Operations(self._runner, self._assembly)

    @classmethod
    def from_url(cls, url: str, **options: Unpack[KitOptions]) -> Self:
        """Return a kit over a database.

        Args:
            url: `sqlite:///shop.db`, `postgresql+psycopg://user@host/database` or `memory://`. The tables
                of a SQLite file are created when they are first missed, those of a server by
                `create_schema`.
            **options: See `KitOptions`.

        Raises:
            ConfigurationError: The URL, its driver or an option cannot work.
        """
        from orderkit.kit.assembly import MEMORY_URL, assemble

        assembly = assemble(url, options)
        if url == MEMORY_URL:
            from orderkit.storage.memory import MemoryBackend

            return cls(MemoryBackend(), assembly)
        from orderkit.kit.engines import open_from
        from orderkit.storage.sql import open_backend

        return cls(open_from(open_backend, url, options), assembly)

    @classmethod
    def from_backend(cls, backend: Backend[OrderStorage], **options: Unpack[KitOptions]) -> Self:
        """Return a kit over a storage of the application's own; see `orderkit.testing.conformance`."""
        from orderkit.kit.assembly import assemble

        return cls(backend, assemble("", options))

    @classmethod
    def from_engine(cls, engine: Engine, **options: Unpack[KitOptions]) -> Self:
        """Return a kit over an engine the application owns: closing the kit leaves it open.

        Raises:
            ConfigurationError: The engine's database or driver is not one the kit works with.
        """
        from orderkit.kit.assembly import assemble
        from orderkit.storage.sql import SqlBackend, grouped

        assembly = assemble(engine.url.render_as_string(hide_password=False), options)
        backend = SqlBackend(engine, schema=assembly.schema, busy_timeout=assembly.busy_timeout)
        return cls(grouped(backend, assembly.group_commit), assembly)

    @classmethod
    def from_settings(cls, settings: Settings | None = None, **options: Unpack[KitChoices]) -> Self:
        """Return a kit as settings say; without any they are read from the environment.

        Raises:
            ConfigurationError: A setting is missing or cannot work.
        """
        from orderkit.kit.settings import Settings

        settings = settings or Settings()
        return cls.from_url(settings.url, settings=settings, **options)

    def for_tenant(self, tenant: str) -> OrderKit:
        """Return the same front door, bound to a tenant: it sees and writes no other tenant's data.

        Raises:
            InvalidKey: The tenant is not 1 to 100 characters on one line.
        """
        return OrderKit(self._backend, self._assembly.for_tenant(tenant))

    def bound(self, **binding: Unpack[Binding]) -> OrderKit:
        """Return the same front door, with an actor, a correlation or a causation id kept on every event."""
        return OrderKit(self._backend, self._assembly.bound(**binding))

    def run(self, work: Callable[[Transaction], T]) -> T:
        """Run a function whose commands are written by one commit, again from its start where a race is lost.

        The function may run more than once: it does nothing outside but through what it is given.
        """
        from orderkit.kit.runners import UnitRunner, finished

        def script(unit: KitUnit) -> T:
            return finished(work(Transaction(UnitRunner(unit), self._assembly)))

        return self._runner.gathering().run(script)

    @contextmanager
    def transaction(self) -> Generator[Transaction]:
        """Open a transaction for the length of a block; it is never retried, `run` is for that.

        Raises:
            VersionConflict: An order moved on meanwhile; the block may be entered again.
            CommitUnknown: The connection went while the transaction was being committed.
        """
        from orderkit.kit.runners import JoinedRunner, look

        if self._assembly.create_tables:
            self._runner.run(look)
        with self._backend.connect(transaction=True) as storage:
            yield Transaction(JoinedRunner(lambda: storage, self._assembly.surroundings), self._assembly)

    def within(self, theirs: Joinable) -> Transaction:
        """Join the application's own transaction: theirs to commit and to roll back.

        A savepoint surrounds each command, so that a refusal or a conflict leaves their transaction usable.
        Nothing is retried. A session is flushed before each command.

        Args:
            theirs: A `Session` or `Connection` of SQLAlchemy, a connection of psycopg 3, sqlite3 or PyMySQL, or
                Django's `connection`.

        Raises:
            ConfigurationError: It is something else. Each command raises it too, where there is no transaction
                to join.
        """
        from orderkit.kit.runners import JoinedRunner
        from orderkit.storage.sql import join

        joined, cache = join(theirs, schema=self._assembly.schema), self._assembly.cache
        opened = joined if cache is None else cache.watching(joined, theirs)
        return Transaction(JoinedRunner(opened, self._assembly.surroundings), self._assembly)

    def sweep(self) -> dict[str, Progress]:
        """Run each step of background work once, and return what each did."""
        from orderkit.worker import STEPS

        runner, policy = self._runner.gathering(), self._assembly.policy
        return {name: runner.run(partial(step, policy)) for name, step in STEPS.items()}

    def create_schema(self) -> None:
        """Bring the tables to the newest revision, from none at all or from wherever they are; or do nothing."""
        self._backend.create_schema()

    def pool(self) -> PoolFigures | None:
        """Return how many connections are open, idle and in use; None where orders are kept without a pool."""
        from orderkit.unit_of_work.storage import Pooled

        return self._backend.pool() if isinstance(self._backend, Pooled) else None

    def close(self) -> None:
        """Release every connection. Closing twice is harmless."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()
