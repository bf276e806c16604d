"""Databases for the length of a benchmark, and connections to them."""

from __future__ import annotations

import os
import secrets
import sqlite3
import tempfile
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import psycopg
from sqlalchemy import URL, make_url

from orderkit import OrderKit

if TYPE_CHECKING:
    import pymysql

SERVER = os.environ.get("ORDERKIT_TEST_POSTGRESQL_URL", "postgresql://root@127.0.0.1:5432/postgres")

MARIADB_SERVER = os.environ.get("ORDERKIT_TEST_MARIADB_URL", "mariadb://root@127.0.0.1:3306/")

PLACED = {"orders": 1, "order_lines": 3, "events": 1, "outbox": 1, "idempotency_keys": 1}
"""How many rows each placed order has in each table."""


class Unavailable(Exception):
    """Something a benchmark needs is not there."""


class Wrong(Exception):
    """What was measured did not do its work."""


def text_of(url: URL, driver: str = "postgresql") -> str:
    """Return a URL with its password, for a driver."""
    return url.set(drivername=driver).render_as_string(hide_password=False)


@contextmanager
def server() -> Generator[tuple[URL, psycopg.Connection], None, None]:
    """Connect to the PostgreSQL server for the length of a block.

    Raises:
        Unavailable: It does not answer.
    """
    url = make_url(SERVER)
    try:
        connection = psycopg.connect(text_of(url), autocommit=True, connect_timeout=3)
    except psycopg.OperationalError as error:
        raise Unavailable(f"no PostgreSQL at {url.host}:{url.port or 5432}") from error
    with connection:
        yield url, connection


@contextmanager
def postgresql_database() -> Generator[URL, None, None]:
    """Return the URL of a new database with the kit's tables, dropped at the end of the block."""
    name = f"orderkit_bench_{secrets.token_hex(6)}"
    with server() as (url, connection):
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
        try:
            database = url.set(database=name)
            create_tables(database)
            yield database
        finally:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


def create_tables(url: URL) -> None:
    """Create the kit's tables in a database of PostgreSQL."""
    with OrderKit.from_url(text_of(url, "postgresql+psycopg")) as kit:
        kit.create_schema()


@contextmanager
def mariadb_database() -> Generator[URL, None, None]:
    """Return the URL of a new database of MariaDB with the kit's tables, dropped at the end of the block.

    Raises:
        Unavailable: The server does not answer, or PyMySQL is not installed.
    """
    name = f"orderkit_bench_{secrets.token_hex(6)}"
    server = make_url(MARIADB_SERVER).set(database=None)
    with mariadb_connection(server) as connection:
        connection.cursor().execute(f"CREATE DATABASE {name}")
        try:
            database = server.set(database=name)
            with OrderKit.from_url(text_of(database, "mariadb+pymysql")) as kit:
                kit.create_schema()
            yield database
        finally:
            connection.cursor().execute(f"DROP DATABASE {name}")


@contextmanager
def mariadb_connection(url: URL) -> Generator[pymysql.Connection, None, None]:
    """Open a connection of PyMySQL that commits each statement, as the kit does.

    Raises:
        Unavailable: The server does not answer, or PyMySQL is not installed.
    """
    try:
        import pymysql

        connection = pymysql.connect(
            host=url.host,
            port=url.port or 3306,
            user=url.username,
            password=str(url.password or ""),
            database=url.database,
            charset="utf8mb4",
            autocommit=True,
            init_command="SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        )
    except (ImportError, OSError, RuntimeError) as error:
        raise Unavailable(f"no MariaDB at {url.host}:{url.port or 3306}, or no PyMySQL") from error
    with closing(connection):
        yield connection


@contextmanager
def sqlite_database() -> Generator[Path, None, None]:
    """Return the path of a new file with the kit's tables, removed at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="orderkit-bench-") as directory:
        path = Path(directory) / "orders.db"
        with OrderKit.from_url(f"sqlite:///{path}") as kit:
            kit.create_schema()
        yield path


@contextmanager
def sqlite_connection(path: Path, synchronous: str = "full") -> Generator[sqlite3.Connection, None, None]:
    """Open a file as the kit does: write-ahead log, and as durable as asked."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA busy_timeout = 30000")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        yield connection


def expect(database: URL | Path, counts: Mapping[str, int]) -> None:
    """Check how many rows each table has.

    Raises:
        Wrong: Rows are missing, or there are too many.
    """
    found = {table: count(database, f"SELECT count(*) FROM orderkit_{table}") for table in counts}
    if found != dict(counts):
        raise Wrong(f"the tables hold {found} and not {dict(counts)}")


def expect_placed(database: URL | Path, orders: int) -> None:
    """Check that so many orders were placed: keys = orders = events = outbox rows, three lines for each."""
    expect(database, {table: each * orders for table, each in PLACED.items()})


def count(database: URL | Path, query: str) -> int:
    """Return the one number a query gives."""
    if isinstance(database, Path):
        with closing(sqlite3.connect(database)) as file:
            return int(file.execute(query).fetchone()[0])
    if database.get_backend_name() == "mariadb":
        with mariadb_connection(database) as mariadb, mariadb.cursor() as cursor:
            cursor.execute(query)
            return int(cast("tuple[int]", cursor.fetchone())[0])
    with psycopg.connect(text_of(database)) as connection:
        row = connection.execute(query.encode()).fetchone()
    return int(row[0]) if row else 0
