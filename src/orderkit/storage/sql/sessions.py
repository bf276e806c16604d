"""Sessions of PostgreSQL: what a driver is told about a new connection, and what is checked before its first use.

Behind a pooler in transaction mode there is no session: the next statement may run on another connection of the
server. Nothing is prepared there, and nothing is set; how long a statement waits for a lock is then a setting of the
role or the database.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, cast

from sqlalchemy import event

from orderkit.errors import ConfigurationError
from orderkit.storage.options import Connecting

if TYPE_CHECKING:
    from psycopg import Connection as PsycopgConnection
    from sqlalchemy import URL, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection

SESSIONLESS = (
    "A pooler between orderkit and PostgreSQL, such as PgBouncer, keeps no session; nothing was read or written. "
    "Open the kit with the setting pooler='transaction'."
)
"""What is said where statements or settings that belong to a session were lost."""

_UNBOUNDED = (
    "Behind a pooler how long a statement waits for a lock must be set for the role or the database, and it is not; "
    "nothing was read or written. Run once: ALTER ROLE … SET lock_timeout = '{seconds:g}s'. Then have the pooler "
    "RECONNECT."
)


_MARK = {"orderkit.session": "kept"}
"""A setting that nobody else makes: where it is missing, a pooler has dropped all of them without a word."""


def check_pooled(options: Connecting) -> None:
    """Refuse what cannot be kept behind a pooler.

    Raises:
        ConfigurationError: A statement's time is bounded by the session, of which there is none.
    """
    if options.pooler is not None and options.statement_timeout is not None:
        raise ConfigurationError(
            "Behind a pooler a statement_timeout cannot be set for a session. Leave it out here and run "
            "ALTER ROLE … SET statement_timeout instead."
        )


def psycopg_arguments(url: URL, options: Connecting) -> dict[str, object]:
    """Return what psycopg is told about each connection."""
    connect_timeout = max(1, math.ceil(options.connect_timeout))
    if options.pooler is not None:
        return {"connect_timeout": connect_timeout, "prepare_threshold": None}
    settings = " ".join(f"-c {name}={value}" for name, value in _settings(options).items())
    given = url.query.get("options", ())
    parts = [settings, *((given,) if isinstance(given, str) else given)]
    return {"connect_timeout": connect_timeout, "options": " ".join(parts)}


def asyncpg_arguments(options: Connecting) -> dict[str, object]:
    """Return what asyncpg, and SQLAlchemy over it, is told about each connection."""
    if options.pooler is None:
        return {"timeout": options.connect_timeout, "server_settings": _settings(options)}
    return {
        "timeout": options.connect_timeout,
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": str,  # the empty name, of which every statement is the next
    }


def _settings(options: Connecting) -> dict[str, str]:
    """Return the settings of a session, in milliseconds as PostgreSQL wants them."""
    timeouts = {"lock_timeout": options.lock_timeout, "statement_timeout": options.statement_timeout}
    return _MARK | {name: str(int(seconds * 1000)) for name, seconds in timeouts.items() if seconds is not None}


def listen(engine: object, options: Connecting) -> None:
    """Have every new connection of an engine, synchronous or not, set up and checked."""
    listened = cast("Engine", getattr(engine, "sync_engine", engine))
    if listened.dialect.driver == "psycopg":
        event.listen(listened, "connect", _set_up_psycopg)
    event.listen(listened, "connect", functools.partial(_check, options))


def _set_up_psycopg(connection: PsycopgConnection, _record: object) -> None:
    """Have integers always travel as 64 bits: by their size, psycopg would prepare a statement for each."""
    from psycopg.types.numeric import Int8Dumper

    connection.adapters.register_dumper(int, Int8Dumper)


def _check(options: Connecting, connection: DBAPIConnection, _record: object) -> None:
    """Refuse a connection whose statements would wait for locks for ever, or find other statements prepared.

    Raises:
        ConfigurationError: There is a pooler that nobody spoke of, or the server bounds no wait behind one.
    """
    cursor = connection.cursor()
    cursor.execute("SELECT current_setting('orderkit.session', true), current_setting('lock_timeout')", ())
    mark, lock_timeout = cast("tuple[str | None, str]", cursor.fetchone())
    cursor.close()
    connection.rollback()
    if options.pooler is None and mark not in _MARK.values():
        connection.close()
        raise ConfigurationError(SESSIONLESS)
    if lock_timeout == "0":
        connection.close()
        raise ConfigurationError(_UNBOUNDED.format(seconds=options.lock_timeout))
