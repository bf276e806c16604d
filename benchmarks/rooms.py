"""Where contenders of a benchmark meet: a database, fresh input for it, and all that stays open meanwhile."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import attrs
import psycopg
from sqlalchemy import URL

from benchmarks import raw
from benchmarks.databases import (
    mariadb_connection,
    mariadb_database,
    postgresql_database,
    sqlite_connection,
    sqlite_database,
    text_of,
)
from benchmarks.samples import Supply
from orderkit import OrderKit, Settings

Synchronous = Literal["full", "normal"]

DRIVERS = {"postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}
"""The driver of the kit, by database."""


@attrs.frozen
class Room:
    """A database with the kit's tables, and what its contenders share.

    Attributes:
        database: The URL of a database of PostgreSQL or MariaDB, or the path of a SQLite file.
        stack: What is closed at the end.
        synchronous: How safe SQLite is.
        supply: Fresh input, which counts what was taken.
    """

    database: URL | Path
    stack: ExitStack
    synchronous: Synchronous = "full"
    supply: Supply = attrs.Factory(Supply)

    def kit(self, *, pool_size: int = 5, group_commit: bool = False) -> OrderKit:
        """Return a kit over the database."""
        path = self.database
        url = f"sqlite:///{path}" if isinstance(path, Path) else text_of(path, DRIVERS[path.get_backend_name()])
        settings = Settings(durable=self.synchronous == "full", pool_size=pool_size, group_commit=group_commit)
        return self.stack.enter_context(OrderKit.from_url(url, settings=settings))

    def raw(self, *, autocommit: bool = False) -> raw.Raw:
        """Return the ordinary way without the kit, on a connection of its own."""
        if isinstance(self.database, Path):
            return raw.on_sqlite(self.stack.enter_context(sqlite_connection(self.database, self.synchronous)))
        if self.database.get_backend_name() == "mariadb":
            return raw.on_pymysql(self.stack.enter_context(mariadb_connection(self.database)))
        return raw.on_psycopg(self.psycopg(autocommit=autocommit))

    def psycopg(self, *, autocommit: bool = False) -> psycopg.Connection:
        """Return a connection of psycopg."""
        return self.stack.enter_context(psycopg.connect(self.postgresql_url(), autocommit=autocommit))

    def postgresql_url(self, driver: str = "postgresql") -> str:
        """Return the URL of the database, for a driver."""
        if isinstance(self.database, Path):
            raise TypeError("this is no database of PostgreSQL")
        return text_of(self.database, driver)

    def threads(self, number: int) -> ThreadPoolExecutor:
        """Return a pool of threads."""
        return self.stack.enter_context(ThreadPoolExecutor(number))


@contextmanager
def on_postgresql() -> Generator[Room, None, None]:
    """Return a room in a new database of PostgreSQL."""
    with postgresql_database() as database, ExitStack() as stack:
        yield Room(database, stack)


@contextmanager
def on_mariadb() -> Generator[Room, None, None]:
    """Return a room in a new database of MariaDB."""
    with mariadb_database() as database, ExitStack() as stack:
        yield Room(database, stack)


@contextmanager
def on_sqlite(synchronous: Synchronous = "full") -> Generator[Room, None, None]:
    """Return a room in a new SQLite file."""
    with sqlite_database() as path, ExitStack() as stack:
        yield Room(path, stack, synchronous)
