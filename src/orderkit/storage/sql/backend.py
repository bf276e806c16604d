"""Open SQL storages over the connections of a SQLAlchemy engine."""

from __future__ import annotations

import select
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import PoolProxiedConnection, StaticPool

from orderkit.errors import ConfigurationError, OrderKitError, StorageBusy
from orderkit.storage.sql.brackets import Autocommit, Savepoint, Transaction, take
from orderkit.storage.sql.databases import dialect_for
from orderkit.storage.sql.failures import Phase, failure
from orderkit.storage.sql.forking import keep_for_good, renew_after_fork
from orderkit.storage.sql.locks import WriteLock, write_lock
from orderkit.storage.sql.storage import SqlStorage
from orderkit.storage.sql.tables import metadata

_PLAN_AGAIN = frozenset({64, 512, 4096, 32_768})
"""At which uses of a connection its plans are made anew."""

_SCHEMA_LOCK = 7_210_554_107_334_012
"""An advisory lock of PostgreSQL, so that two processes do not create the same tables at once."""


class SqlBackend:
    """Open storages over an engine. Safe to share between threads, and usable in a child after a fork.

    Args:
        engine: A synchronous SQLAlchemy engine for SQLite or PostgreSQL.
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
        self._write_lock = _write_lock_of(engine)
        self._turns = WriteLock()
        renew_after_fork(self)

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
                with storage.inside(around) if transaction else nullcontext():
                    yield storage
            finally:
                storage.ended = True
                self._checkin(connection, storage)

    def create_schema(self) -> None:
        """Create the tables and indexes that are not there yet."""
        try:
            if self._dialect.one_statement:
                self._create_on_postgresql()
            else:
                self._create_on_sqlite()
        except (SQLAlchemyError, OSError) as error:
            raise self._unreached(getattr(error, "orig", None) or error) from error

    def _create_on_postgresql(self) -> None:
        engine = self._engine.execution_options(
            isolation_level="READ COMMITTED", schema_translate_map={None: self._schema}
        )
        with engine.begin() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})")
            if self._schema is not None:
                connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{self._schema}"')
            metadata.create_all(connection)

    def _create_on_sqlite(self) -> None:
        lock = self._write_lock or self._turns
        # The connection first, as everywhere: whoever holds the lock must not wait for one.
        with self._engine.connect() as connection, _held(lock, self._busy_timeout):
            connection.exec_driver_sql(self._dialect.begin)
            metadata.create_all(connection)
            connection.commit()

    def close(self) -> None:
        """Release every connection, if the engine is this backend's own. Closing twice is harmless."""
        if self._owned:
            self._engine.dispose()

    def _turn(self) -> AbstractContextManager[None]:
        """Wait for one's turn on the single connection of a database in memory."""
        return _held(self._turns, self._busy_timeout) if self.alone else nullcontext()

    def _checkout(self) -> PoolProxiedConnection:
        try:
            connection = self._engine.raw_connection()
            while self._dialect.one_statement and _is_stale(connection):
                connection.invalidate()
                connection = self._engine.raw_connection()
            self._set_autocommit(connection)
            self._plan_again(connection)
        except Exception as error:
            raise self._unreached(error) from error
        return connection

    def _plan_again(self, connection: PoolProxiedConnection) -> None:
        """Have PostgreSQL forget its plans now and then while a connection is young.

        A plan made while a table was empty or never analysed takes any index for as good as another, and is
        kept although the table has grown since.
        """
        uses = connection.info["orderkit_uses"] = connection.info.get("orderkit_uses", 0) + 1
        if uses in _PLAN_AGAIN and self._dialect.one_statement:
            self._dialect.executor(connection).execute("DISCARD PLANS")

    def _set_autocommit(self, connection: PoolProxiedConnection) -> None:
        """Have a connection of the application's own engine commit each statement; ours do already."""
        driver = connection.dbapi_connection
        if driver is not None and self._dialect.one_statement and not getattr(driver, "autocommit", True):
            self._engine.dialect.set_isolation_level(driver, "AUTOCOMMIT")

    def _checkin(self, connection: PoolProxiedConnection, storage: SqlStorage) -> None:
        """Return a connection as it was, or have it replaced if it cannot be trusted any more."""
        if storage.is_foreign:
            keep_for_good(connection)
        elif storage.damaged:
            connection.invalidate()
        else:
            self._reset_autocommit(connection)
            connection.close()

    def _reset_autocommit(self, connection: PoolProxiedConnection) -> None:
        """Give a connection of the application's own engine back as it was."""
        driver = connection.dbapi_connection
        if driver is not None and self._dialect.one_statement and not self._owned:
            self._engine.dialect.reset_isolation_level(driver)

    def _unreached(self, error: BaseException) -> OrderKitError:
        if isinstance(error, PoolTimeout):
            return StorageBusy("Every connection of the pool was in use for too long; nothing was written. Repeat it.")
        return failure(self._dialect.fault(error), Phase.CONNECTING)


def _write_lock_of(engine: Engine) -> WriteLock | None:
    """Return the lock of the engine's database file; None where the database's own locks are all there is."""
    database = engine.url.database
    if engine.dialect.name != "sqlite" or not database or database == ":memory:" or database.startswith("file:"):
        return None
    return write_lock(database)


@contextmanager
def _held(lock: WriteLock, timeout: float) -> Generator[None]:
    take(lock, timeout)
    try:
        yield
    finally:
        lock.release()


def _is_stale(connection: PoolProxiedConnection) -> bool:
    """Tell, without a round trip, whether an idle connection of PostgreSQL has been closed by the server.

    A server that goes away says so, which makes the socket readable; as it might be for another reason,
    the connection is then asked.
    """
    driver = connection.driver_connection
    is_closed = getattr(driver, "is_closed", None)
    if is_closed is not None:
        return bool(is_closed())
    if getattr(driver, "closed", False):
        return True
    fileno = getattr(driver, "fileno", None)
    return fileno is not None and _is_readable(fileno()) and not _answers(connection)


def _is_readable(descriptor: int) -> bool:
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([descriptor], [], [], 0)[0])


def _answers(connection: PoolProxiedConnection) -> bool:
    try:
        connection.cursor().execute("SELECT 1")
    except Exception:  # noqa: BLE001 - whatever it is, the connection is of no use
        return False
    return True
