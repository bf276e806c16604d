"""Make engines of URLs: pools and connections set up as the storages want them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, Unpack

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, InvalidRequestError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from orderkit.errors import ConfigurationError
from orderkit.storage.sql.asynchronous import AsyncSqlBackend
from orderkit.storage.sql.backend import SqlBackend

if TYPE_CHECKING:
    import sqlite3

    from psycopg import Connection as PsycopgConnection
    from sqlalchemy import URL
    from sqlalchemy.ext.asyncio import AsyncEngine

EngineT = TypeVar("EngineT")


class SqlOptions(TypedDict, total=False):
    """How connections are made and pooled; every time is in seconds.

    Attributes:
        pool_size: Connections kept open; 5 by default.
        max_overflow: Connections opened beyond that under load; 10 by default.
        pool_timeout: How long a block waits for a connection; 10 by default.
        connect_timeout: How long PostgreSQL may take to answer; 5 by default.
        lock_timeout: How long a statement of PostgreSQL waits for a lock; 5 by default.
        statement_timeout: How long a statement of PostgreSQL may run; None, the default, is for ever.
        busy_timeout: How long a writer waits for other writers of a SQLite file; 5 by default.
        sqlite_synchronous: `full`, the default, survives a loss of power with all that was committed;
            `normal` may lose the latest commits, but never leaves half of one.
        schema: The schema of the tables on PostgreSQL; None, the default, is the first of the search path.
    """

    pool_size: int
    max_overflow: int
    pool_timeout: float
    connect_timeout: float
    lock_timeout: float
    statement_timeout: float | None
    busy_timeout: float
    sqlite_synchronous: Literal["full", "normal"]
    schema: str | None


def open_backend(url: str, **options: Unpack[SqlOptions]) -> SqlBackend:
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
    parsed = _parsed(url)
    create: Callable[..., Engine] = create_engine
    engine = _sqlite_engine(parsed, options) if _is_sqlite(parsed) else _postgresql_engine(create, parsed, options)
    if engine.dialect.is_async:
        raise ConfigurationError(f"{parsed.drivername!r} is for AsyncOrderKit; OrderKit takes 'postgresql+psycopg'.")
    return SqlBackend(engine, schema=options.get("schema"), busy_timeout=_busy_timeout(options), owned=True)


def open_async_backend(url: str, **options: Unpack[SqlOptions]) -> AsyncSqlBackend:
    """Open the storage behind a SQLAlchemy URL for an event loop; see `open_backend`.

    Args:
        url: Such as `sqlite:///shop.db`, `postgresql+asyncpg://user@host/shop` or `postgresql+psycopg://…`.
        **options: See `SqlOptions`.

    Raises:
        ConfigurationError: The URL, its driver or an option cannot be used.
    """
    parsed = _parsed(url)
    create: Callable[..., AsyncEngine] = _create_async_engine
    engine = _sqlite_engine(parsed, options) if _is_sqlite(parsed) else _postgresql_engine(create, parsed, options)
    return AsyncSqlBackend(engine, schema=options.get("schema"), busy_timeout=_busy_timeout(options), owned=True)


def _create_async_engine(url: URL, **arguments: Any) -> AsyncEngine:
    """Make an asynchronous engine; the library it needs is not one that every installation has."""
    from sqlalchemy.ext.asyncio import create_async_engine

    return create_async_engine(url, **arguments)


def _busy_timeout(options: SqlOptions) -> float:
    return options.get("busy_timeout", 5.0)


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        # Without its cause, which repeats the URL and with it the password.
        raise ConfigurationError("The database URL cannot be read.") from None
    if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
        raise ConfigurationError(
            f"There is no storage for {parsed.get_backend_name()!r}. Use 'sqlite:///…' or 'postgresql+psycopg://…'."
        )
    return parsed


def _is_sqlite(url: URL) -> bool:
    """Tell whether SQLite is meant, whatever driver is named: it is always the one of the standard library."""
    if url.get_backend_name() == "sqlite" and url.drivername not in {"sqlite", "sqlite+pysqlite"}:
        raise ConfigurationError("For SQLite the URL begins with 'sqlite://', for an event loop too.")
    return url.get_backend_name() == "sqlite"


def _sqlite_engine(url: URL, options: SqlOptions) -> Engine:
    pool = {"poolclass": StaticPool} if url.database in {None, "", ":memory:"} else _pool(options)
    connect_args = {"isolation_level": None, "check_same_thread": False}
    engine = create_engine(url, connect_args=connect_args, pool_reset_on_return=None, **pool)
    event.listen(engine, "connect", functools.partial(_set_up_sqlite, options))
    return engine


def _set_up_sqlite(options: SqlOptions, connection: sqlite3.Connection, _record: object) -> None:
    """Set up a new connection: a log instead of a journal lets readers and the writer alone."""
    connection.execute(f"PRAGMA busy_timeout = {int(_busy_timeout(options) * 1000)}")
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {options.get('sqlite_synchronous', 'full')}")
    connection.execute("PRAGMA foreign_keys = ON")


def _postgresql_engine(create: Callable[..., EngineT], url: URL, options: SqlOptions) -> EngineT:
    """Make an engine whose connections commit each statement; transactions are begun by hand.

    Raises:
        ConfigurationError: The database or driver does not exist, is not installed or is for the other kit.
    """
    asynchronous = url.get_driver_name() == "asyncpg"
    connect = _asyncpg_arguments(options) if asynchronous else _psycopg_arguments(url, options)
    try:
        engine = create(
            url, isolation_level="AUTOCOMMIT", pool_reset_on_return=None, connect_args=connect, **_pool(options)
        )
    except NoSuchModuleError:
        raise ConfigurationError(f"There is no database or driver named {url.drivername!r}.") from None
    except InvalidRequestError:
        raise ConfigurationError(f"{url.drivername!r} has no asynchronous face; use 'postgresql+asyncpg'.") from None
    except ImportError as error:
        raise ConfigurationError(_missing(url, error)) from error
    if url.get_driver_name() in {"psycopg", "psycopg_async"}:
        event.listen(getattr(engine, "sync_engine", engine), "connect", _set_up_psycopg)
    return engine


def _missing(url: URL, error: ImportError) -> str:
    """Say what to install."""
    extra = "async" if url.get_driver_name() == "asyncpg" or error.name == "greenlet" else "postgresql"
    return f"{url.drivername!r} needs a library that is not installed: pip install 'orderkit[{extra}]'."


def _psycopg_arguments(url: URL, options: SqlOptions) -> dict[str, object]:
    settings = " ".join(f"-c {name}={value}" for name, value in _settings(options).items())
    given = url.query.get("options", ())
    parts = [settings, *((given,) if isinstance(given, str) else given)]
    return {"connect_timeout": max(1, math.ceil(_connect_timeout(options))), "options": " ".join(parts)}


def _asyncpg_arguments(options: SqlOptions) -> dict[str, object]:
    return {"timeout": _connect_timeout(options), "server_settings": _settings(options)}


def _connect_timeout(options: SqlOptions) -> float:
    return options.get("connect_timeout", 5.0)


def _settings(options: SqlOptions) -> dict[str, str]:
    """Return the settings of a session, in milliseconds as PostgreSQL wants them."""
    timeouts = {
        "lock_timeout": options.get("lock_timeout", 5.0),
        "statement_timeout": options.get("statement_timeout"),
    }
    return {name: str(int(seconds * 1000)) for name, seconds in timeouts.items() if seconds is not None}


def _set_up_psycopg(connection: PsycopgConnection, _record: object) -> None:
    """Have integers always travel as 64 bits: by their size, psycopg would prepare a statement for each."""
    from psycopg.types.numeric import Int8Dumper

    connection.adapters.register_dumper(int, Int8Dumper)


def _pool(options: SqlOptions) -> dict[str, Any]:
    return {
        "pool_size": options.get("pool_size", 5),
        "max_overflow": options.get("max_overflow", 10),
        "pool_timeout": options.get("pool_timeout", 10.0),
        "pool_use_lifo": True,
    }
