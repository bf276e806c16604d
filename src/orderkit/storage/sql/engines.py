"""Make engines from URLs: pools and connections set up as the storages want them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from orderkit.errors import ConfigurationError
from orderkit.storage.sql.backend import SqlBackend

if TYPE_CHECKING:
    import sqlite3

    from sqlalchemy import URL


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


DEFAULTS: SqlOptions = {
    "pool_size": 5,
    "max_overflow": 10,
    "pool_timeout": 10.0,
    "connect_timeout": 5.0,
    "lock_timeout": 5.0,
    "statement_timeout": None,
    "busy_timeout": 5.0,
    "sqlite_synchronous": "full",
    "schema": None,
}


def open_backend(url: str, **options: Unpack[SqlOptions]) -> SqlBackend:
    """Open the storage behind a SQLAlchemy URL. Nothing is connected before the first use.

    Args:
        url: Such as `sqlite:///shop.db` or `postgresql+psycopg://user@host/shop`.
        options: See `SqlOptions`.

    Raises:
        ConfigurationError: The URL, its driver or an option cannot be used.

    Example:
        >>> backend = open_backend("sqlite://")
        >>> backend.create_schema()
    """
    chosen: SqlOptions = {**DEFAULTS, **options}
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = _sqlite_engine(parsed, chosen)
    else:
        engine = _postgresql_engine(parsed, chosen)
    return SqlBackend(engine, schema=chosen["schema"], busy_timeout=chosen["busy_timeout"], owned=True)


def parse_url(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError:
        raise ConfigurationError("The database URL cannot be read.") from None


def _sqlite_engine(url: URL, options: SqlOptions) -> Engine:
    in_memory = url.database in {None, "", ":memory:"}
    engine = create_engine(
        url,
        connect_args={"isolation_level": None, "check_same_thread": False},
        pool_reset_on_return=None,
        **({"poolclass": StaticPool} if in_memory else pool_options(options)),
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA busy_timeout = {int(options['busy_timeout'] * 1000)}")
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {options['sqlite_synchronous']}")
        connection.execute("PRAGMA foreign_keys = ON")

    return engine


def pool_options(options: SqlOptions) -> dict[str, Any]:
    return {
        "pool_size": options["pool_size"],
        "max_overflow": options["max_overflow"],
        "pool_timeout": options["pool_timeout"],
        "pool_use_lifo": True,
    }


def _postgresql_engine(url: URL, options: SqlOptions) -> Engine:
    return create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_reset_on_return=None,
        connect_args={"connect_timeout": int(options["connect_timeout"])},
        **pool_options(options),
    )
