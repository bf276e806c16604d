"""Make engines of URLs: pools and connections set up as the storages want them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, InvalidRequestError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from orderkit.errors import ConfigurationError
from orderkit.storage.options import Connecting, SqlOptions
from orderkit.storage.sql import sessions
from orderkit.storage.sql.asynchronous import AsyncSqlBackend
from orderkit.storage.sql.backend import SqlBackend
from orderkit.storage.sql.databases import dialect_for
from orderkit.storage.sql.execution import MULTI_STATEMENTS
from orderkit.storage.sql.groups import GroupedBackend, grouped

if TYPE_CHECKING:
    import sqlite3

    from sqlalchemy import URL
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.ext.asyncio import AsyncEngine

EngineT = TypeVar("EngineT")


def open_backend(url: str, **options: Unpack[SqlOptions]) -> SqlBackend | GroupedBackend:
    """Open the storage behind a SQLAlchemy URL. Nothing is connected before the first use.

    Args:
        url: Such as `sqlite:///shop.db` or `postgresql+psycopg://user@host/shop`.
        **options: See `SqlOptions`.

    Raises:
        ConfigurationError: The URL, its driver or an option cannot be used.

    Example:
        >>> backend = open_backend("sqlite://")
        >>> backend.create_schema()
    """
    parsed, connecting = _parsed(url, mariadb_driver="pymysql"), Connecting(**options)
    create: Callable[..., Engine] = create_engine
    engine = _engine(create, parsed, connecting)
    if engine.dialect.is_async:
        usable = "mariadb+pymysql" if _is_mariadb(parsed) else "postgresql+psycopg"
        raise ConfigurationError(f"{parsed.drivername!r} is for AsyncOrderKit; OrderKit takes {usable!r}.")
    backend = SqlBackend(engine, schema=connecting.schema, busy_timeout=connecting.busy_timeout, owned=True)
    return grouped(backend, connecting.group_commit)


def open_async_backend(url: str, **options: Unpack[SqlOptions]) -> AsyncSqlBackend:
    """Open the storage behind a SQLAlchemy URL for an event loop; see `open_backend`.

    Args:
        url: Such as `sqlite:///shop.db`, `postgresql+asyncpg://user@host/shop` or `postgresql+psycopg://…`.
        **options: See `SqlOptions`.

    Raises:
        ConfigurationError: The URL, its driver or an option cannot be used.
    """
    parsed, connecting = _parsed(url, mariadb_driver="aiomysql"), Connecting(**options)
    create: Callable[..., AsyncEngine] = _create_async_engine
    engine = _engine(create, parsed, connecting)
    return AsyncSqlBackend(
        engine,
        schema=connecting.schema,
        busy_timeout=connecting.busy_timeout,
        group_commit=connecting.group_commit,
        owned=True,
    )


def _create_async_engine(url: URL, **arguments: Any) -> AsyncEngine:
    """Make an asynchronous engine; the library it needs is not one that every installation has."""
    from sqlalchemy.ext.asyncio import create_async_engine

    return create_async_engine(url, **arguments)


def _engine(create: Callable[..., EngineT], url: URL, options: Connecting) -> EngineT | Engine:
    if options.pooler is not None and url.get_backend_name() != "postgresql":
        raise ConfigurationError("A pooler is for PostgreSQL alone; leave it out.")
    if _is_sqlite(url):
        return _sqlite_engine(url, options)
    if _is_mariadb(url):
        return _mariadb_engine(create, url, options)
    return _postgresql_engine(create, url, options)


def _parsed(url: str, *, mariadb_driver: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        # Without its cause, which repeats the URL and with it the password.
        raise ConfigurationError("The database URL cannot be read.") from None
    if parsed.get_backend_name() not in {"sqlite", "postgresql", "mariadb", "mysql"}:
        raise ConfigurationError(
            f"There is no storage for {parsed.get_backend_name()!r}. Use 'sqlite:///…', 'postgresql+psycopg://…' or "
            "'mariadb+pymysql://…'."
        )
    if parsed.drivername in {"mariadb", "mysql"}:
        return parsed.set(drivername=f"{parsed.drivername}+{mariadb_driver}")
    return parsed


def _is_sqlite(url: URL) -> bool:
    """Tell whether SQLite is meant, whatever driver is named: it is always the one of the standard library."""
    if url.get_backend_name() == "sqlite" and url.drivername not in {"sqlite", "sqlite+pysqlite"}:
        raise ConfigurationError("For SQLite the URL begins with 'sqlite://', for an event loop too.")
    return url.get_backend_name() == "sqlite"


def _is_mariadb(url: URL) -> bool:
    """Tell whether MariaDB or MySQL is meant."""
    return url.get_backend_name() in {"mariadb", "mysql"}


def _sqlite_engine(url: URL, options: Connecting) -> Engine:
    in_memory = url.database in {None, "", ":memory:"} or url.query.get("mode") == "memory"
    pool = {"poolclass": StaticPool} if in_memory else _pool(options)
    connect_args = {"isolation_level": None, "check_same_thread": False}
    engine = create_engine(url, connect_args=connect_args, pool_reset_on_return=None, **pool)
    event.listen(engine, "connect", functools.partial(_set_up_sqlite, options))
    return engine


def _set_up_sqlite(options: Connecting, connection: sqlite3.Connection, _record: object) -> None:
    """Set up a new connection: a log instead of a journal lets readers and the writer alone."""
    connection.execute(f"PRAGMA busy_timeout = {int(options.busy_timeout * 1000)}")
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {options.sqlite_synchronous}")
    connection.execute("PRAGMA foreign_keys = ON")


def _postgresql_engine(create: Callable[..., EngineT], url: URL, options: Connecting) -> EngineT:
    """Make an engine for PostgreSQL; see `_server_engine`."""
    sessions.check_pooled(options)
    asynchronous = url.get_driver_name() == "asyncpg"
    connect = sessions.asyncpg_arguments(options) if asynchronous else sessions.psycopg_arguments(url, options)
    engine = _server_engine(create, url, options, connect)
    sessions.listen(engine, options)
    return engine


def _mariadb_engine(create: Callable[..., EngineT], url: URL, options: Connecting) -> EngineT:
    """Make an engine for MariaDB or MySQL; see `_server_engine`."""
    dialect_for(url.get_backend_name(), url.get_driver_name(), None)
    connect: dict[str, object] = {"charset": "utf8mb4", "connect_timeout": options.connect_timeout}
    if url.get_driver_name() == "pymysql":
        connect["client_flag"] = MULTI_STATEMENTS | _FOUND_ROWS
    engine = _server_engine(create, url, options, connect)
    event.listen(
        getattr(engine, "sync_engine", engine), "connect", functools.partial(_set_up_mariadb, _in_seconds(options))
    )
    return engine


def _server_engine(
    create: Callable[..., EngineT], url: URL, options: Connecting, connect: dict[str, object]
) -> EngineT:
    """Make an engine whose connections commit each statement; transactions are begun by hand.

    Raises:
        ConfigurationError: The database or driver does not exist, is not installed or is for the other kit.
    """
    try:
        return create(
            url, isolation_level="AUTOCOMMIT", pool_reset_on_return=None, connect_args=connect, **_pool(options)
        )
    except NoSuchModuleError:
        raise ConfigurationError(f"There is no database or driver named {url.drivername!r}.") from None
    except InvalidRequestError:
        usable = "mariadb+aiomysql" if _is_mariadb(url) else "postgresql+asyncpg"
        raise ConfigurationError(f"{url.drivername!r} has no asynchronous face; use {usable!r}.") from None
    except ImportError as error:
        raise ConfigurationError(_missing(url, error)) from error


def _missing(url: URL, error: ImportError) -> str:
    """Say what to install."""
    asynchronous = url.get_driver_name() in {"asyncpg", "aiomysql"} or error.name == "greenlet"
    if _is_mariadb(url):
        extra = "async-mariadb" if asynchronous else "mariadb"
    else:
        extra = "async" if asynchronous else "postgresql"
    return f"{url.drivername!r} needs a library that is not installed: pip install 'orderkit[{extra}]'."


_FOUND_ROWS = 1 << 1
"""The flag that SQLAlchemy sets, and relies on: an update counts the rows it met, changed or not."""

_STRICT = "STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
"""The modes in which MariaDB and MySQL refuse what a column cannot hold, whatever the server's default is."""


def _in_seconds(options: Connecting) -> dict[str, float | None]:
    """Return how long a statement of MariaDB waits for a row, for a table, and may run."""
    lock_timeout = max(1, math.ceil(options.lock_timeout))
    return {
        "innodb_lock_wait_timeout": lock_timeout,
        "lock_wait_timeout": lock_timeout,
        "max_statement_time": options.statement_timeout,
    }


def _set_up_mariadb(settings: dict[str, float | None], connection: DBAPIConnection, _record: object) -> None:
    """Set up a new connection: strict, and seeing at each statement what others have committed."""
    cursor = connection.cursor()
    cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", ())
    chosen = {name: value for name, value in settings.items() if value is not None}
    if "max_statement_time" in chosen:
        cursor.execute("SELECT VERSION()", ())
        if "MariaDB" not in str(cursor.fetchone()):
            # MySQL counts in milliseconds, and has it for SELECT alone.
            chosen["max_execution_time"] = int(chosen.pop("max_statement_time") * 1000)
    assigned = "".join(f", {name} = {value}" for name, value in chosen.items())
    cursor.execute(f"SET SESSION sql_mode = '{_STRICT}'{assigned}", ())
    cursor.close()


def _pool(options: Connecting) -> dict[str, Any]:
    return {
        "pool_size": options.pool_size,
        "max_overflow": options.max_overflow,
        "pool_timeout": options.pool_timeout,
        "pool_use_lifo": True,
    }
