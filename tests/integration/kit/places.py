"""Where orders are kept in these tests, and what is there, read without orderkit."""

from __future__ import annotations

import atexit
import itertools
import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from threading import Barrier
from typing import Any, Protocol, TypeVar, Unpack
from uuid import uuid4

import attrs
import psycopg
import pymysql
import pytest
from psycopg.rows import dict_row
from pymysql.cursors import DictCursor
from sqlalchemy import URL

from orderkit import AsyncOrderKit, Line, Money, OrderKit
from orderkit.domain.decisions import decide
from orderkit.kit.assembly import KitOptions, assemble
from orderkit.messaging.outbox import OUTBOX
from orderkit.orders.tables import EVENTS, LABELS, LINES, ORDERS, PERSONAL
from orderkit.storage.memory import AsyncMemoryBackend, MemoryBackend
from orderkit.unit_of_work.changes import KEYS, Table
from tests.conftest import connected_mariadb

T = TypeVar("T")

DRIVERS = {
    "sqlite": "sqlite",
    "sqlite-async": "sqlite",
    "psycopg": "postgresql+psycopg",
    "psycopg-async": "postgresql+psycopg",
    "asyncpg": "postgresql+asyncpg",
    "pymysql": "mariadb+pymysql",
    "aiomysql": "mariadb+aiomysql",
}
SHELLS = ("memory", "memory-async", *DRIVERS)
DURABLE = tuple(DRIVERS)
POSTGRESQL = ("psycopg", "psycopg-async", "asyncpg")
MARIADB = ("pymysql", "aiomysql")
SERVERS = (*POSTGRESQL, *MARIADB)

SYNCHRONOUS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}
"""The driver by which a test looks at a database from the side."""

TABLES: Mapping[str, Table] = {table.name: table for table in (ORDERS, LINES, EVENTS, PERSONAL, LABELS, OUTBOX, KEYS)}

Record = dict[str, Any]

TEA = (Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR")),)


class OpenKit(Protocol):
    """Open a front door over the test's storage; it is closed with the test."""

    def __call__(self, **options: Unpack[KitOptions]) -> OrderKit: ...


class OpenAt(Protocol):
    """Open a front door over any place; it is closed with the test."""

    def __call__(self, place: Place, **options: Unpack[KitOptions]) -> OrderKit: ...


def new_tenant() -> str:
    return f"tenant-{uuid4().hex}"


@attrs.frozen
class Place:
    """A storage and the front door it is reached through.

    Attributes:
        shell: One of `SHELLS`.
        url: With the driver of the shell.
        memory: What keeps the orders of the memory shells.
    """

    shell: str
    url: URL
    memory: MemoryBackend

    @property
    def asynchronous(self) -> bool:
        return self.shell.endswith("async") or self.shell in {"asyncpg", "aiomysql"}

    @property
    def is_postgresql(self) -> bool:
        return self.url.get_backend_name() == "postgresql"

    @property
    def is_mariadb(self) -> bool:
        return self.url.get_backend_name() == "mariadb"

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @property
    def placeholder(self) -> str:
        """What stands for a parameter in `query`."""
        return "?" if self.is_sqlite else "%s"

    @property
    def address(self) -> str:
        """The URL as kits take it."""
        return self.url.render_as_string(hide_password=False)

    def kit(self, **options: Unpack[KitOptions]) -> OrderKit:
        """Return a synchronous kit over the same orders, whatever the shell."""
        if self.shell.startswith("memory"):
            return OrderKit(self.memory, assemble("memory://", options))
        url = self.url.set(drivername=SYNCHRONOUS[self.url.get_backend_name()])
        return OrderKit.from_url(url.render_as_string(hide_password=False), **options)

    def async_kit(self, **options: Unpack[KitOptions]) -> AsyncOrderKit:
        """Return an asynchronous kit over the same orders."""
        if self.shell.startswith("memory"):
            return AsyncOrderKit(AsyncMemoryBackend(self.memory), assemble("memory://", options))
        return AsyncOrderKit.from_url(self.address, **options)

    def rows(self, table: str, tenant: str) -> list[Record]:
        """Return a tenant's rows, past orderkit."""
        if self.shell.startswith("memory"):
            described = TABLES[table]
            return [dict(zip(described.columns, row, strict=True)) for row in self.memory.rows(described, tenant)]
        key = ", ".join(f"t.{column}" for column in TABLES[table].key)
        return self.query(
            f"SELECT * FROM orderkit_{table} AS t WHERE t.tenant = {self.placeholder} ORDER BY {key}", tenant
        )

    def query(self, sql: str, *parameters: object) -> list[Record]:
        """Run a statement past orderkit, commit it and return its rows."""
        if self.is_postgresql:
            with kept(self.url, raw_postgresql) as session:
                done = session.execute(sql.encode(), parameters or None)
                return done.fetchall() if done.description else []
        if self.is_mariadb:
            with kept(self.url, connected_mariadb) as theirs, theirs.cursor(DictCursor) as cursor:
                cursor.execute(sql, parameters or None)
                return list(cursor.fetchall())
        with closing(sqlite3.connect(str(self.url.database), isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, parameters)]

    @contextmanager
    def holder(self) -> Generator[Callable[[str, Sequence[object]], object]]:
        """Run statements on a server in a transaction that is taken back at the end."""
        if self.is_mariadb:
            with closing(connected_mariadb(self.url)) as connection, connection.cursor() as cursor:
                connection.begin()
                yield cursor.execute
        else:
            with raw_postgresql(self.url) as session, session.transaction(force_rollback=True):
                yield lambda sql, parameters: session.execute(sql.encode(), parameters)

    def count(self, table: str, tenant: str) -> int:
        return len(self.rows(table, tenant))

    def counts(self, tenant: str) -> dict[str, int]:
        return {table: self.count(table, tenant) for table in TABLES}


def raw_postgresql(url: URL) -> psycopg.Connection[Record]:
    """Connect to PostgreSQL past orderkit, each statement a commit of its own."""
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.Connection[Record].connect(address, autocommit=True, row_factory=dict_row)


ConnectionT = TypeVar("ConnectionT", "psycopg.Connection[Record]", pymysql.Connection)

_idle: dict[URL, list[Any]] = {}


@contextmanager
def kept(url: URL, connect: Callable[[URL], ConnectionT]) -> Generator[ConnectionT]:
    """Use a connection that is kept for the next look, since tests look often; a new one if it was ended meanwhile."""
    idle = _idle.setdefault(url, [])
    try:
        connection: ConnectionT = idle.pop()
    except IndexError:
        connection = connect(url)
    if not is_alive(connection):
        connection.close()
        connection = connect(url)
    try:
        yield connection
    except BaseException:
        connection.close()
        raise
    idle.append(connection)


def is_alive(connection: psycopg.Connection[Record] | pymysql.Connection) -> bool:
    try:
        connection.cursor().execute("SELECT 1")
    except (psycopg.Error, pymysql.Error):
        return False
    return True


@atexit.register
def close_idle() -> None:
    for connection in itertools.chain.from_iterable(_idle.values()):
        connection.close()


def race(contenders: int, attempt: Callable[[int], T]) -> list[T]:
    """Let clients attempt something at the same time; return what each of them got."""
    start = Barrier(contenders)

    def run(contender: int) -> T:
        start.wait()
        return attempt(contender)

    with ThreadPoolExecutor(contenders) as pool:
        return list(pool.map(run, range(contenders)))


@contextmanager
def meanwhile(act: Callable[[], object]) -> Generator[None]:
    """Let somebody else act once, between the reading and the deciding of the next command."""
    with pytest.MonkeyPatch.context() as patch:

        def late(*arguments: Any, **options: Any) -> object:
            patch.undo()
            act()
            return decide(*arguments, **options)

        patch.setattr("orderkit.orders.scripts.decide", late)
        yield


def each(*attempts: Callable[[], object]) -> tuple[Callable[[], object], ...]:
    """Return attempts to go through one after the other."""
    return attempts


def outcome(attempt: Callable[[], T]) -> T | Exception:
    """Return what an attempt gives or raises."""
    try:
        return attempt()
    except Exception as error:  # noqa: BLE001 - the caller looks at it
        return error


def assert_whole(place: Place, tenant: str) -> dict[str, int]:
    """Insist that everything a tenant has kept fits together, to the last row; return the numbers of rows."""
    kept = {table: place.rows(table, tenant) for table in TABLES}
    versions = {row["id"]: row["version"] for row in kept["orders"]}
    expected = {order: list(range(1, version + 1)) for order, version in versions.items()}
    assert _versions(kept["events"], "order_id", "version") == expected, "events"
    assert _versions(kept["outbox"], "aggregateid", "aggregate_version") == expected, "outbox"
    assert _payloads(kept["events"], "data") == _payloads(kept["outbox"], "payload")
    assert sorted(_pairs(kept["order_lines"], "order_id", "line_id")) == sorted(_documented_lines(kept["orders"]))
    for table in ("personal", "order_labels", "idempotency_keys"):
        assert {row["order_id"] for row in kept[table]} <= versions.keys(), table
    for key in kept["idempotency_keys"]:
        assert 1 <= key["order_version"] <= versions[key["order_id"]]
    assert {row["id"] for row in kept["personal"]} >= set(_references(kept["orders"]))
    return {table: len(rows) for table, rows in kept.items()}


def _versions(rows: Sequence[Record], order: str, version: str) -> dict[str, list[int]]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows:
        found[row[order]].append(row[version])
    return {order: sorted(versions) for order, versions in found.items()}


def _payloads(rows: Sequence[Record], column: str) -> dict[str, str]:
    return {row["id"]: row[column] for row in rows}


def _pairs(rows: Sequence[Record], *columns: str) -> list[tuple[object, ...]]:
    return [tuple(row[column] for column in columns) for row in rows]


def _documented_lines(orders: Sequence[Record]) -> Iterator[tuple[object, ...]]:
    for row in orders:
        for line in json.loads(row["document"])["lines"]:
            yield row["id"], line["id"]


def _references(orders: Sequence[Record]) -> Iterator[str]:
    for row in orders:
        yield from json.loads(row["document"])["personal"].values()
