"""Every kind of connection an application may have a transaction on, driven alike.

An application has a table of notes beside the tables of orderkit. It writes, sets savepoints and ends its
transaction by itself; orderkit is only a guest.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import count
from typing import Any, Protocol

import attrs
import psycopg
import pymysql.cursors
import pytest
from psycopg.rows import dict_row
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from tests.conftest import text_of
from tests.integration.joining import django_setup
from tests.integration.kit.facade import Loop

Rows = list[tuple[Any, ...]]


class Theirs(Protocol):
    """The application's side of a transaction.

    Attributes:
        joined: What is given to `within`.
    """

    joined: Any

    def execute(self, sql: str, *parameters: object) -> Rows:
        """Run a statement of theirs, its parameters marked by `?`."""
        ...

    def commit(self) -> None: ...

    def rollback(self) -> None: ...


@attrs.define
class OnDriver:
    """A plain connection."""

    joined: Any
    marker: str = "?"
    cursor: Any = None

    def execute(self, sql: str, *parameters: object) -> Rows:
        cursor = self.cursor or self.joined.cursor()
        cursor.execute(sql.replace("?", self.marker), parameters)
        return (
            [tuple(row.values()) if isinstance(row, dict) else tuple(row) for row in cursor.fetchall()]
            if (cursor.description)
            else []
        )

    def commit(self) -> None:
        self.joined.commit()

    def rollback(self) -> None:
        self.joined.rollback()


@attrs.define
class OnStatements(OnDriver):
    """A plain connection on which the application begins and ends its transactions by statements."""

    def commit(self) -> None:
        self.execute("COMMIT")

    def rollback(self) -> None:
        self.execute("ROLLBACK")


@attrs.define
class OnSqlalchemy:
    """A session or a connection of SQLAlchemy."""

    joined: Any

    def execute(self, sql: str, *parameters: object) -> Rows:
        result = self.joined.execute(*named(sql, parameters))
        return [tuple(row) for row in result] if result.returns_rows else []

    def commit(self) -> None:
        self.joined.commit()

    def rollback(self) -> None:
        self.joined.rollback()


@attrs.define
class OnAsyncSqlalchemy:
    """An asynchronous session or connection of SQLAlchemy."""

    joined: Any
    loop: Loop

    def execute(self, sql: str, *parameters: object) -> Rows:
        result = self.loop.run(self.joined.execute(*named(sql, parameters)))
        return [tuple(row) for row in result] if result.returns_rows else []

    def commit(self) -> None:
        self.loop.run(self.joined.commit())

    def rollback(self) -> None:
        self.loop.run(self.joined.rollback())


@attrs.define
class OnAsyncPsycopg:
    """An asynchronous connection of psycopg."""

    joined: Any
    loop: Loop

    def execute(self, sql: str, *parameters: object) -> Rows:
        return self.loop.run(self._execute(sql.replace("?", "%s"), parameters))

    async def _execute(self, sql: str, parameters: tuple[object, ...]) -> Rows:
        cursor = await self.joined.execute(sql, parameters)
        return list(await cursor.fetchall()) if cursor.description else []

    def commit(self) -> None:
        self.loop.run(self.joined.commit())

    def rollback(self) -> None:
        self.loop.run(self.joined.rollback())


class OnDjango:
    """Django's connection, inside `atomic`."""

    def __init__(self, alias: str) -> None:
        self.joined = django_setup.connection(alias)
        self._atomic = django_setup.atomic(alias)
        self._atomic.__enter__()

    def execute(self, sql: str, *parameters: object) -> Rows:
        with self.joined.cursor() as cursor:
            cursor.execute(sql.replace("?", "%s"), parameters)
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    def commit(self) -> None:
        self._atomic.__exit__(None, None, None)

    def rollback(self) -> None:
        self.joined.set_rollback(True)
        self._atomic.__exit__(None, None, None)


def named(sql: str, parameters: tuple[object, ...]) -> tuple[Any, dict[str, object]]:
    """Return a statement as SQLAlchemy takes it."""
    numbers = count()
    parts = sql.split("?")
    marked = parts[0] + "".join(f":p{next(numbers)}{part}" for part in parts[1:])
    return text(marked), {f"p{number}": value for number, value in enumerate(parameters)}


Open = Callable[[URL, Loop], Any]
"""Open a connection to a database, as a context manager of `Theirs`."""


@contextmanager
def engine_of(url: URL) -> Iterator[Engine]:
    engine = create_engine(url, poolclass=NullPool)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def on_session(url: URL, _loop: Loop) -> Generator[Theirs]:
    with engine_of(url) as engine, Session(engine) as session:
        yield OnSqlalchemy(session)


@contextmanager
def on_scoped_session(url: URL, _loop: Loop) -> Generator[Theirs]:
    with engine_of(url) as engine:
        session = scoped_session(sessionmaker(engine))
        try:
            yield OnSqlalchemy(session)
        finally:
            session.remove()


@contextmanager
def on_connection(url: URL, _loop: Loop) -> Generator[Theirs]:
    with engine_of(url) as engine, engine.connect() as connection:
        yield OnSqlalchemy(connection)


@contextmanager
def on_raw_connection(url: URL, _loop: Loop) -> Generator[Theirs]:
    """The connection of a driver in the wrapper of SQLAlchemy's pool."""
    with engine_of(url) as engine, closing(engine.raw_connection()) as connection:
        yield OnDriver(connection, "?" if url.get_backend_name() == "sqlite" else "%s")


@contextmanager
def on_async_engine(url: URL, loop: Loop, make: Callable[[AsyncEngine], Any]) -> Generator[Theirs]:
    engine = create_async_engine(url, poolclass=NullPool)
    joined = make(engine)
    if hasattr(joined, "start"):
        loop.run(joined.start())
    try:
        yield OnAsyncSqlalchemy(joined, loop)
    finally:
        loop.run(joined.close())
        loop.run(engine.dispose())


def scoped(engine: AsyncEngine) -> Any:
    # As with one session for each request: the loop of the test makes a task of each call.
    return async_scoped_session(async_sessionmaker(engine), scopefunc=lambda: None)


on_async_session = partial(on_async_engine, make=AsyncSession)
on_async_scoped_session = partial(on_async_engine, make=scoped)
on_async_connection = partial(on_async_engine, make=AsyncEngine.connect)


@contextmanager
def on_sqlite3(url: URL, _loop: Loop, **options: Any) -> Generator[Theirs]:
    with closing(sqlite3.connect(str(url.database), **options)) as connection:
        yield OnDriver(connection)


@contextmanager
def on_begun_sqlite3(url: URL, _loop: Loop) -> Generator[Theirs]:
    """The application begins by itself."""
    with closing(sqlite3.connect(str(url.database), isolation_level=None)) as connection:
        connection.execute("BEGIN")
        yield OnStatements(connection)


@contextmanager
def on_odd_sqlite3(url: URL, _loop: Loop) -> Generator[Theirs]:
    """Rows, texts and types are not what sqlite3 gives by itself."""
    types = sqlite3.PARSE_DECLTYPES | sqlite3.PARSE_COLNAMES
    with closing(sqlite3.connect(str(url.database), detect_types=types)) as connection:
        connection.row_factory = sqlite3.Row
        connection.text_factory = odd = lambda value: "<" + value.decode()[::-1] + ">"
        yield _ReadingBack(connection)
        assert (connection.row_factory, connection.text_factory) == (sqlite3.Row, odd)


class _ReadingBack(OnDriver):
    """What the odd texts were before."""

    def execute(self, sql: str, *parameters: object) -> Rows:
        rows = super().execute(sql, *parameters)
        return [tuple(v[1:-1][::-1] if isinstance(v, str) else v for v in row) for row in rows]


@contextmanager
def on_psycopg(url: URL, _loop: Loop, **options: Any) -> Generator[Theirs]:
    with psycopg.connect(text_of(url.set(drivername="postgresql")), **options) as connection:
        try:
            yield OnDriver(connection, "%s")
        finally:
            connection.rollback()


on_odd_psycopg = partial(on_psycopg, row_factory=dict_row, cursor_factory=psycopg.ClientCursor, prepare_threshold=None)


@contextmanager
def on_begun_psycopg(url: URL, _loop: Loop) -> Generator[Theirs]:
    """The connection commits by itself, but for the block that is open."""
    with psycopg.connect(text_of(url.set(drivername="postgresql")), autocommit=True) as connection:
        connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        yield OnStatements(connection, "%s")


@contextmanager
def on_async_psycopg(url: URL, loop: Loop) -> Generator[Theirs]:
    connection = loop.run(psycopg.AsyncConnection.connect(text_of(url.set(drivername="postgresql"))))
    try:
        yield OnAsyncPsycopg(connection, loop)
    finally:
        loop.run(connection.close())


def pymysql_connection(url: URL, **options: Any) -> Any:
    return pymysql.connect(
        host=url.host,
        port=url.port or 3306,
        user=url.username,
        password=url.password or "",
        database=url.database,
        **{"charset": "utf8mb4", **options},
    )


@contextmanager
def on_pymysql(url: URL, _loop: Loop, **options: Any) -> Generator[Theirs]:
    with closing(pymysql_connection(url, **options)) as connection:
        yield OnDriver(connection, "%s")


@contextmanager
def on_begun_pymysql(url: URL, _loop: Loop) -> Generator[Theirs]:
    """The connection commits by itself, but for the transaction that was begun."""
    with closing(pymysql_connection(url, autocommit=True)) as connection:
        connection.begin()
        yield OnStatements(connection, "%s")


@contextmanager
def on_django(url: URL, _loop: Loop) -> Generator[Theirs]:
    alias = django_setup.alias_of(url)
    try:
        yield OnDjango(alias)
    finally:
        django_setup.forget(alias)


KINDS: dict[str, dict[str, Open]] = {
    "sqlite": {
        "session": on_session,
        "scoped session": on_scoped_session,
        "connection": on_connection,
        "raw connection": on_raw_connection,
        "sqlite3": on_sqlite3,
        "sqlite3 immediate": partial(on_sqlite3, isolation_level="IMMEDIATE"),
        "sqlite3 begun": on_begun_sqlite3,
        "sqlite3 odd": on_odd_sqlite3,
        "django": on_django,
    },
    "postgresql": {
        "session": on_session,
        "scoped session": on_scoped_session,
        "connection": on_connection,
        "raw connection": on_raw_connection,
        "psycopg": on_psycopg,
        "psycopg begun": on_begun_psycopg,
        "psycopg odd": on_odd_psycopg,
        "psycopg async": on_async_psycopg,
        "django": on_django,
        "async session": on_async_session,
        "async scoped session": on_async_scoped_session,
        "async connection": on_async_connection,
        "asyncpg session": lambda url, loop: on_async_session(url.set(drivername="postgresql+asyncpg"), loop),
        "asyncpg connection": lambda url, loop: on_async_connection(url.set(drivername="postgresql+asyncpg"), loop),
    },
    "mariadb": {
        "session": on_session,
        "scoped session": on_scoped_session,
        "connection": on_connection,
        "raw connection": on_raw_connection,
        "pymysql": on_pymysql,
        "pymysql begun": on_begun_pymysql,
        "pymysql serializable": partial(
            on_pymysql, init_command="SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"
        ),
        "pymysql odd": partial(on_pymysql, cursorclass=pymysql.cursors.SSDictCursor),
        "django": on_django,
        "async session": lambda url, loop: on_async_session(url.set(drivername="mariadb+aiomysql"), loop),
        "async connection": lambda url, loop: on_async_connection(url.set(drivername="mariadb+aiomysql"), loop),
    },
}

if sys.version_info >= (3, 12):
    KINDS["sqlite"]["sqlite3 autocommit off"] = partial(on_sqlite3, autocommit=False)

EVERYDAY = {"session", "sqlite3", "psycopg", "asyncpg session", "pymysql", "django"}
"""The kinds that differ most; the others are variations of theirs, and left to the slow tests."""

EVERY_KIND = [
    pytest.param((database, kind), id=f"{database} {kind}", marks=[] if kind in EVERYDAY else [pytest.mark.slow])
    for database, kinds in KINDS.items()
    for kind in kinds
]


def is_async(kind: str) -> bool:
    return "async" in kind
