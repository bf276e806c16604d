"""Where a migration runs: a connection nobody else migrates on, and what each database needs for that.

A site opens a connection in one of two ways. In a *transaction* everything is kept or nothing. In a *session*
each statement is a commit of its own: for what must not lock a table while it runs, and for databases whose
statements about tables cannot be taken back.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Final, Protocol

from orderkit.errors import StorageBusy
from orderkit.storage.sql.brackets import held
from orderkit.storage.sql.locks import write_lock_of
from orderkit.storage.sql.statistics import assume

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

OTHER_MIGRATION: Final = "Another migration was running for too long; this one changed nothing. Repeat it."

_PATIENCE: Final = 600.0
"""Seconds a statement that locks nobody out waits for old transactions to end."""


class Site(Protocol):
    """Open connections for one database at a time."""

    @property
    def transactional(self) -> bool:
        """Whether a transaction holds for statements about tables."""
        ...

    def looking(self) -> AbstractContextManager[Connection]:
        """Open a connection to look at the tables, whoever migrates."""
        ...

    def transaction(self) -> AbstractContextManager[Connection]:
        """Open a connection in a transaction, which is committed at the end of the block."""
        ...

    def session(self) -> AbstractContextManager[Connection]:
        """Open a connection on which each statement is a commit of its own."""
        ...


class SqliteSite:
    """A SQLite file, under the lock of its writers: other processes read on meanwhile, and write afterwards."""

    transactional = True

    def __init__(self, engine: Engine, lock_timeout: float) -> None:
        self._engine = engine
        self._lock = write_lock_of(engine)
        self._timeout = lock_timeout

    def looking(self) -> AbstractContextManager[Connection]:
        """Open a connection that reads."""
        return self._engine.connect()

    @contextmanager
    def transaction(self) -> Generator[Connection]:
        """Open a connection in a transaction that nobody else writes beside."""
        lock = nullcontext() if self._lock is None else held(self._lock, self._timeout)
        # The connection first, as everywhere: whoever holds the lock must not wait for one.
        with self._engine.connect() as connection, lock:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
                assume(connection)
                connection.commit()
            except BaseException:
                connection.rollback()
                raise

    def session(self) -> AbstractContextManager[Connection]:
        """Open a transaction: a writer of SQLite is alone anyway."""
        return self.transaction()


_ADVISORY_LOCK: Final = 7_210_554_107_334_012
"""Of PostgreSQL, so that two processes do not migrate at once."""


class PostgresqlSite:
    """A PostgreSQL database, under an advisory lock that ends with its transaction, or with its connection."""

    transactional = True

    def __init__(self, engine: Engine, schema: str | None, lock_timeout: float) -> None:
        self._engine = engine
        self._schema = schema
        self._timeout = lock_timeout

    @contextmanager
    def looking(self) -> Generator[Connection]:
        """Open a connection in a transaction that changes nothing."""
        with self._engine.execution_options(isolation_level="READ COMMITTED").connect() as connection:
            self._enter_schema(connection, "SET LOCAL")
            yield connection

    @contextmanager
    def transaction(self) -> Generator[Connection]:
        """Open a connection in a transaction, alone among migrations."""
        with self._engine.execution_options(isolation_level="READ COMMITTED").connect() as connection:
            self._lock(connection)
            self._set(connection, "SET LOCAL", self._timeout)
            self._create_schema(connection)
            self._enter_schema(connection, "SET LOCAL")
            yield connection
            connection.commit()

    @contextmanager
    def session(self) -> Generator[Connection]:
        """Open a connection in autocommit mode, while another one holds the lock.

        A lock of the session itself would stay behind on a connection that a pooler shares.
        """
        with self.transaction() as holder:
            holder.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            with self._engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                self._set(connection, "SET", _PATIENCE)
                self._enter_schema(connection, "SET")
                try:
                    yield connection
                finally:
                    self._reset(connection)

    def _lock(self, connection: Connection) -> None:
        """Take the lock, asking for it again and again.

        Whoever waits for it inside a statement has a snapshot, and an index that is built concurrently by the one who
        holds the lock would wait for that snapshot to go.
        """
        deadline = time.monotonic() + self._timeout
        while not connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({_ADVISORY_LOCK})").scalar():
            connection.rollback()
            if time.monotonic() > deadline:
                raise StorageBusy(OTHER_MIGRATION)
            # The database sleeps, so that an event loop need not know of it.
            connection.exec_driver_sql("SELECT pg_sleep(0.05)")
            connection.rollback()

    def _set(self, connection: Connection, command: str, lock_timeout: float) -> None:
        connection.exec_driver_sql(f"{command} lock_timeout = {int(lock_timeout * 1000)}")
        connection.exec_driver_sql(f"{command} statement_timeout = 0")

    def _create_schema(self, connection: Connection) -> None:
        """Make the schema if it is not there; one who may not make any is not asked to."""
        if self._schema is None:
            return
        if connection.exec_driver_sql(f"SELECT to_regnamespace('\"{self._schema}\"') IS NULL").scalar():
            connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{self._schema}"')

    def _enter_schema(self, connection: Connection, command: str) -> None:
        """Have names mean those of the schema."""
        if self._schema is not None:
            connection.exec_driver_sql(f'{command} search_path TO "{self._schema}"')

    def _reset(self, connection: Connection) -> None:
        """Give the connection back as it was, or not at all."""
        try:
            for setting in ("lock_timeout", "statement_timeout", "search_path"):
                connection.exec_driver_sql(f"RESET {setting}")
        except Exception:  # noqa: BLE001 - what led here is the error to tell
            with suppress(Exception):
                connection.invalidate()


class MariadbSite:
    """A MariaDB or MySQL database, under a lock by name that ends with its connection."""

    transactional = False

    def __init__(self, engine: Engine, lock_timeout: float) -> None:
        self._engine = engine
        self._timeout = lock_timeout

    def looking(self) -> AbstractContextManager[Connection]:
        """Open a connection that reads."""
        return self._engine.connect()

    def transaction(self) -> AbstractContextManager[Connection]:
        """Open a session: a statement about tables commits here, whatever surrounds it."""
        return self.session()

    @contextmanager
    def session(self) -> Generator[Connection]:
        """Open a connection in autocommit mode that holds the lock."""
        with self._engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            seconds = max(1, int(self._timeout))
            # The lock's name is of the whole server.
            name = "CONCAT('orderkit_schema_', MD5(DATABASE()))"
            if connection.exec_driver_sql(f"SELECT GET_LOCK({name}, {seconds})").scalar() != 1:
                raise StorageBusy(OTHER_MIGRATION)
            try:
                with self._patient(connection, seconds):
                    yield connection
            finally:
                with suppress(Exception):
                    connection.exec_driver_sql(f"SELECT RELEASE_LOCK({name})")

    @contextmanager
    def _patient(self, connection: Connection, seconds: int) -> Generator[None]:
        """Have statements run as long as they take, but not wait for a table; afterwards all is as it was."""
        settings = {"lock_wait_timeout": seconds}
        if getattr(connection.dialect, "is_mariadb", False):
            settings["max_statement_time"] = 0
        old = connection.exec_driver_sql(f"SELECT {', '.join(f'@@SESSION.{name}' for name in settings)}").one()
        _set_session(connection, settings)
        try:
            yield
        finally:
            with suppress(Exception):
                _set_session(connection, dict(zip(settings, old, strict=True)))


def _set_session(connection: Connection, settings: Mapping[str, object]) -> None:
    for name, value in settings.items():
        connection.exec_driver_sql(f"SET SESSION {name} = {value}")


def site_for(engine: Engine, schema: str | None, lock_timeout: float) -> Site:
    """Return the site of an engine, whose database is one that orderkit knows."""
    if engine.dialect.name == "sqlite":
        return SqliteSite(engine, lock_timeout)
    if engine.dialect.name == "postgresql":
        return PostgresqlSite(engine, schema, lock_timeout)
    return MariadbSite(engine, lock_timeout)
