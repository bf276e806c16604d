"""Open SQL storages from an event loop: the same blocks, run in greenlets or, for SQLite, in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Engine

from orderkit.errors import ConfigurationError, TransactionEnded
from orderkit.storage.sql.backend import SqlBackend
from orderkit.storage.sql.bridges import Bridge, Greenlets, Threads, WorkState
from orderkit.storage.sql.failures import Phase
from orderkit.storage.sql.groups import GroupedBackend, grouped
from orderkit.storage.sql.storage import PhasedStorage
from orderkit.unit_of_work.storage import Caller, PoolFigures

if TYPE_CHECKING:
    # It needs greenlet, which those who only use SQLite do not.
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")


class AsyncSqlBackend:
    """Open storages over an engine from a running event loop.

    Args:
        engine: An asynchronous engine for a server, or a synchronous one, of which every block runs in a
            thread: for SQLite, that is the faster way by far.
        schema: The schema of the tables, PostgreSQL only.
        busy_timeout: Seconds a writer waits for other writers of a SQLite file.
        group_commit: Whether commits that come at the same time share one.
        owned: Whether `close` disposes of the engine.

    Raises:
        ConfigurationError: The engine is an asynchronous one for SQLite, or for another database.
    """

    def __init__(
        self,
        engine: AsyncEngine | Engine,
        *,
        schema: str | None = None,
        busy_timeout: float = 5.0,
        group_commit: bool = False,
        owned: bool = False,
    ) -> None:
        synchronous = engine if isinstance(engine, Engine) else engine.sync_engine
        if synchronous is not engine and synchronous.dialect.name == "sqlite":
            raise ConfigurationError("For SQLite give a synchronous engine, or a URL that begins with sqlite://.")
        threads = synchronous is engine
        backend = SqlBackend(synchronous, schema=schema, busy_timeout=busy_timeout, owned=owned)
        self._backend = grouped(backend, group_commit, asynchronous=not threads)
        self._bridge: Bridge = Threads() if threads else Greenlets()

    @asynccontextmanager
    async def connect(self, *, transaction: bool = False) -> AsyncGenerator[Caller[PhasedStorage]]:
        """Open a storage for the length of a block; with `transaction`, of one transaction.

        Without one nothing is kept between two calls: each of them takes a connection and returns it.
        """
        if not transaction:
            yield self._call
            return
        with self._bridge.dedicated() as bridge:
            block = _Block(self._backend, bridge)
            await block.enter()
            try:
                yield block.call
            except BaseException as error:
                await block.leave(error)
                raise
            await block.leave(None)

    async def _call(self, work: Callable[[PhasedStorage], T], /) -> T:
        """Run work over a storage of its own."""
        current: list[PhasedStorage] = []

        def run() -> T:
            with self._backend.connect() as storage:
                current.append(storage)
                return work(storage)

        with self._bridge.dedicated() if self._backend.alone else nullcontext(self._bridge) as bridge:
            return await bridge.run(
                run, WorkState(lambda: any(storage.phase is Phase.COMMITTING for storage in current))
            )

    async def create_schema(self) -> None:
        """Create the tables and indexes that are not there yet."""
        await self._bridge.run(self._backend.create_schema)

    def pool(self) -> PoolFigures | None:
        """Return the figures of the engine's pool; None where it keeps no count."""
        return self._backend.pool()

    async def close(self) -> None:
        """Release every connection, if the engine is this backend's own. Closing twice is harmless."""
        await self._bridge.run(self._backend.close, WorkState(must_finish=True))
        self._bridge.close()


class _Block:
    """One transaction, whose parts run one at a time on one bridge."""

    def __init__(self, backend: SqlBackend | GroupedBackend, bridge: Bridge) -> None:
        self._block = backend.connect(transaction=True)
        self._bridge = bridge
        self._turn = asyncio.Lock()
        self._storage: PhasedStorage | None = None

    async def enter(self) -> None:
        """Begin; if that is cancelled it has either not happened or is taken back."""
        try:
            await self._bridge.run(self._enter)
        except BaseException as error:
            if self._storage is not None:
                await self.leave(error)
            raise

    def _enter(self) -> None:
        self._storage = self._block.__enter__()

    async def call(self, work: Callable[[PhasedStorage], T], /) -> T:
        """Run work inside the transaction."""
        storage = self._storage
        if storage is None:
            raise TransactionEnded
        async with self._turn:
            return await self._bridge.run(lambda: work(storage))

    async def leave(self, error: BaseException | None) -> None:
        """Commit, or roll back if there is an error; a cancellation waits until that is done."""
        storage, self._storage = self._storage, None
        state = WorkState(lambda: storage is not None and storage.phase is Phase.COMMITTING, must_finish=True)
        kind, traceback = (None, None) if error is None else (type(error), error.__traceback__)
        await self._bridge.run(lambda: self._block.__exit__(kind, error, traceback), state)
