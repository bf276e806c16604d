"""Open SQL storages over the connections of a SQLAlchemy engine."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

from sqlalchemy import Engine
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import PoolProxiedConnection, StaticPool

from orderkit.errors import ConfigurationError, OrderKitError, SchemaMissing
from orderkit.forking import keep_for_good, renew_after_fork
from orderkit.storage.sql.brackets import Autocommit, Savepoint, Transaction, held
from orderkit.storage.sql.databases import dialect_for
from orderkit.storage.sql.failures import Phase, failure
from orderkit.storage.sql.liveness import is_stale
from orderkit.storage.sql.locks import WriteLock, write_lock_of
from orderkit.storage.sql.migrations import Migrations, refuse_unusable
from orderkit.storage.sql.pools import exhausted, figures_of
from orderkit.storage.sql.storage import SqlStorage
from orderkit.unit_of_work.storage import PoolFigures

_PLAN_AGAIN = frozenset({64, 512, 4096, 32_768})
"""At which uses of a connection its plans are made anew."""


class SqlBackend:
    """Open storages over an engine. Safe to share between threads, and usable in a child after a fork.

    Args:
        engine: A synchronous SQLAlchemy engine for SQLite, PostgreSQL, MariaDB or MySQL.
        schema: The schema of the tables, PostgreSQL only.
        busy_timeout: Seconds a writer waits for other writers of a SQLite file.
        owned: Whether `close` disposes of the engine.

    Attributes:
        alone: There is one connection, to a database in memory, and blocks wait for each other.
    """

    def __init__(
        self, engine: Engine, *, schema: str | None = None, busy_timeout: float = 5.0, owned: bool = False
    ) -> None:
        if not isinstance(engine, Engine):
            raise ConfigurationError("OrderKit takes a synchronous engine; an asynchronous one is for AsyncOrderKit.")
        self._engine = engine
        self._schema = schema
        self._dialect = dialect_for(engine.dialect.name, engine.dialect.driver, schema)
        self._busy_timeout = busy_timeout
        self._owned = owned
        self.alone = isinstance(engine.pool, StaticPool)
        self._write_lock = write_lock_of(engine)
        self._turns = WriteLock()
        self._is_usable = False
        renew_after_fork(self)

    @property
    def engine(self) -> Engine:
        """The engine, for what looks after the database and not after orders: migrations, diagnosis."""
        return self._engine

    def renew(self) -> None:
        """Leave the connections of the parent to the parent, in a child after a fork."""
        keep_for_good(self._engine.pool)
        self._engine.dispose(close=False)

    @contextmanager
    def connect(self, *, transaction: bool = False) -> Generator[SqlStorage]:
        """Open a storage for the length of a block; with `transaction`, of one transaction."""
        with self._turn():
            connection = self._checkout()
            executor = self._dialect.executor(connection)
            around = Transaction(executor, self._dialect.begin, self._write_lock, self._busy_timeout)
            inner = Savepoint(executor) if transaction else Autocommit() if self._dialect.one_statement else around
            storage = SqlStorage(
                executor,
                self._dialect,
                inner,
                in_transaction=transaction,
                transaction=inner if transaction else around,
            )
            try:
                if not self._is_usable:
                    self._refuse_unusable(connection, storage)
                with storage.inside(around) if transaction else nullcontext():
                    yield storage
            except SchemaMissing:
                # If the tables have changed since they were looked at, that says more than what is missing.
                self._refuse_unusable(connection, storage)
                raise
            finally:
                storage.ended = True
                self._checkin(connection, storage)

    def create_schema(self) -> None:
        """Bring the tables to the newest revision; see `orderkit.storage.sql.migrations.Migrations`."""
        with self._turn():
            Migrations(self._engine, schema=self._schema, lock_timeout=self._busy_timeout).upgrade()

    def close(self) -> None:
        """Release every connection, if the engine is this backend's own. Closing twice is harmless."""
        if self._owned:
            self._engine.dispose()

    def pool(self) -> PoolFigures | None:
        """Return the figures of the engine's pool; None where it keeps no count."""
        return figures_of(self._engine.pool)

    def _turn(self) -> AbstractContextManager[None]:
        """Wait for one's turn on the single connection of a database in memory."""
        return held(self._turns, self._busy_timeout) if self.alone else nullcontext()

    def _checkout(self) -> PoolProxiedConnection:
        try:
            connection = self._engine.raw_connection()
            while is_stale(connection):
                connection.invalidate()
                connection = self._engine.raw_connection()
        except Exception as error:
            raise self._unreached(error) from error
        try:
            if not self._owned:
                self._dialect.borrow(self._engine.dialect, connection)
            self._plan_again(connection)
        except BaseException as error:
            connection.invalidate()
            if isinstance(error, OrderKitError) or not isinstance(error, Exception):
                raise
            raise self._unreached(error) from error
        return connection

    def _refuse_unusable(self, connection: PoolProxiedConnection, storage: SqlStorage) -> None:
        """Refuse tables that this release cannot use."""
        try:
            refuse_unusable(self._dialect.executor(connection).execute, self._engine.dialect.name, self._schema)
        except OrderKitError:
            raise
        except BaseException as error:
            storage.damaged = True
            if not isinstance(error, Exception):
                raise
            raise self._unreached(error) from error
        self._is_usable = True

    def _plan_again(self, connection: PoolProxiedConnection) -> None:
        """Have PostgreSQL forget its plans now and then while a connection is young.

        A plan made while a table was empty or never analysed takes any index for as good as another, and is
        kept although the table has grown since.
        """
        uses = connection.info["orderkit_uses"] = connection.info.get("orderkit_uses", 0) + 1
        if uses in _PLAN_AGAIN and self._dialect.fresh_plans:
            self._dialect.executor(connection).execute(self._dialect.fresh_plans)

    def _checkin(self, connection: PoolProxiedConnection, storage: SqlStorage) -> None:
        """Return a connection as it was, or have it replaced if it cannot be trusted any more."""
        if storage.is_foreign:
            keep_for_good(connection)
        elif storage.damaged or not self._given_back(connection):
            connection.invalidate()
        else:
            connection.close()

    def _given_back(self, connection: PoolProxiedConnection) -> bool:
        """Set a connection of the application's own engine up as it was; tell whether that was possible."""
        with suppress(Exception):  # it is replaced by another
            if not self._owned:
                self._dialect.give_back(self._engine.dialect, connection)
            return True
        return False

    def _unreached(self, error: BaseException) -> OrderKitError:
        if isinstance(error, PoolTimeout):
            return exhausted(self._engine.pool)
        if isinstance(error, OrderKitError):
            return error
        return failure(self._dialect.fault(error), Phase.CONNECTING)
