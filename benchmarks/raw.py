"""The ordinary way without orderkit: a driver and one statement for each kind of row, in a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol, cast

import psycopg

from benchmarks.samples import TENANT, Placed
from orderkit.domain.composition import Totals
from orderkit.domain.lines import OrderLine
from orderkit.domain.order import Order
from orderkit.domain.pricing import PricingRules
from orderkit.domain.status import OrderStatus
from orderkit.messaging.outbox import OUTBOX
from orderkit.orders.tables import EVENTS, LINES, ORDERS
from orderkit.storage.sql.databases import dialect_for
from orderkit.storage.sql.execution import Rows
from orderkit.unit_of_work.changes import KEYS, ChangeSet, Row, Table, Value

if TYPE_CHECKING:
    import pymysql


class Cursor(Protocol):
    """The part of a DB-API 2.0 cursor that is used (PEP 249)."""

    def execute(self, operation: str, parameters: Sequence[object] = ..., /) -> object: ...
    def executemany(self, operation: str, parameters: Sequence[Sequence[object]], /) -> object: ...
    def fetchone(self) -> Sequence[object] | None: ...
    def fetchall(self) -> Sequence[Sequence[object]]: ...


class Raw:
    """Write and read orders on one connection of a driver.

    Args:
        cursor: The connection's cursor.
        placeholder: How the driver marks a parameter.
        begin: Begin a transaction.
        commit: End it.
        encode: Make parameters of a row.
        quote: What stands around the name of a column.
    """

    def __init__(
        self,
        cursor: Cursor,
        placeholder: str,
        begin: Callable[[], object],
        commit: Callable[[], object],
        encode: Callable[[Iterable[Value]], Sequence[Value]] = tuple,
        *,
        quote: str = '"',
    ) -> None:
        self._cursor = cursor
        self._begin = begin
        self._commit = commit
        self._encode = encode
        self._inserts = {table: _insert(table, placeholder, quote) for table in (KEYS, ORDERS, LINES, EVENTS, OUTBOX)}
        self._insert_lines = _insert(LINES, placeholder, quote, rows=3)
        p = placeholder
        self._select_order = f"SELECT {_ORDER} FROM orderkit_orders WHERE tenant = {p} AND id = {p}"
        self._select_lines = (
            f"SELECT {_LINE} FROM orderkit_order_lines WHERE tenant = {p} AND order_id = {p} ORDER BY position"
        )
        self._update = (
            f"UPDATE orderkit_orders SET status = {p}, updated_at = {p}, version = {p}, document = {p} "
            f"WHERE tenant = {p} AND id = {p} AND version = {p}"
        )

    def place(self, rows: Placed) -> None:
        """Write an order: begin, key, order, lines, event, outbox, commit are seven round trips."""
        self._begin()
        self._cursor.execute(self._inserts[KEYS], self._encode(rows.key))
        self._insert(rows)
        self._commit()

    def insert(self, rows: Placed) -> None:
        """Write an order without a key: six round trips."""
        self._begin()
        self._insert(rows)
        self._commit()

    def _insert(self, rows: Placed) -> None:
        self._cursor.execute(self._inserts[ORDERS], self._encode(rows.order))
        self._cursor.execute(self._insert_lines, [value for line in rows.lines for value in line])
        self._cursor.execute(self._inserts[EVENTS], self._encode(rows.event))
        self._cursor.execute(self._inserts[OUTBOX], self._encode(rows.message))

    def load(self, order_id: str) -> Order:
        """Read an order and its lines in two statements and build the objects by hand."""
        self._cursor.execute(self._select_order, (TENANT, order_id))
        order = self._cursor.fetchone()
        self._cursor.execute(self._select_lines, (TENANT, order_id))
        return _order(cast("Sequence[object]", order), self._cursor.fetchall())

    def confirm(self, rows: Placed) -> None:
        """Move an order on: begin, two selects, order, event, outbox, commit are seven round trips."""
        old, new = rows.order, rows.confirmed
        self._begin()
        self._cursor.execute(self._select_order, (TENANT, old.id))
        self._cursor.fetchone()
        self._cursor.execute(self._select_lines, (TENANT, old.id))
        self._cursor.fetchall()
        values = (new.status, new.updated_at, new.version, new.document, TENANT, old.id, old.version)
        self._cursor.execute(self._update, self._encode(values))
        self._cursor.execute(self._inserts[EVENTS], self._encode(rows.confirmed_event))
        self._cursor.execute(self._inserts[OUTBOX], self._encode(rows.confirmed_message))
        self._commit()

    def fill(self, orders: Sequence[Placed]) -> None:
        """Write many orders in one transaction, before anything is measured."""
        self._begin()
        self._write_all(KEYS, (rows.key for rows in orders))
        self._write_all(ORDERS, (rows.order for rows in orders))
        self._write_all(LINES, (line for rows in orders for line in rows.lines))
        self._write_all(EVENTS, (rows.event for rows in orders))
        self._write_all(OUTBOX, (rows.message for rows in orders))
        self._commit()

    def _write_all(self, table: Table, rows: Iterable[Row]) -> None:
        self._cursor.executemany(self._inserts[table], [self._encode(row) for row in rows])


_ORDER = (
    "id, version, status, currency, created_at, updated_at, total, current_total, number, customer, placed_at, "
    "expires_at, substate, document"
)
_LINE = "line_id, sku, units, precision, unit_price, total, cancelled"


def _insert(table: Table, placeholder: str, quote: str, rows: int = 1) -> str:
    row = f"({', '.join([placeholder] * len(table.columns))})"
    columns = ", ".join(f"{quote}{column}{quote}" for column in table.columns)
    return f"INSERT INTO orderkit_{table.name} ({columns}) VALUES {', '.join([row] * rows)}"


def _order(row: Sequence[object], lines: Iterable[Sequence[object]]) -> Order:
    """Build an order of columns, which hold no more than most applications have."""
    order_id, version, status, currency, created, updated, total, current, number, customer, placed, expires, sub, _ = (
        cast("tuple[str, int, str, str, datetime, datetime, int, int, str, str, datetime, None, None, str]", row)
    )
    return Order(
        order_id,
        version,
        OrderStatus(status),
        currency,
        _time(created),
        _time(updated),
        lines=tuple(map(_line, lines)),
        charges=(),
        discounts=(),
        adjustments=(),
        taxes=(),
        totals=Totals(total, 0, 0, total, total - current),
        rules=PricingRules(),
        number=number,
        customer=customer,
        placed_at=_time(placed),
        expires_at=expires,
        substate=sub,
    )


def _time(value: datetime | str) -> datetime:
    """Return a time, which SQLite keeps as text."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _line(row: Sequence[object]) -> OrderLine:
    line_id, sku, units, precision, unit_price, total, cancelled = cast("tuple[str, str, int, int, str, int, int]", row)
    return OrderLine(
        line_id,
        sku,
        units,
        precision,
        Decimal(unit_price),
        gross=total,
        discount=0,
        taxes=(),
        tax=0,
        total=total,
        cancelled=cancelled,
    )


def on_psycopg(connection: psycopg.Connection) -> Raw:
    """Return the raw way on psycopg, which begins a transaction by itself unless the connection autocommits."""
    return Raw(cast("Cursor", connection.cursor()), "%s", lambda: None, connection.commit)


def on_pymysql(connection: pymysql.Connection) -> Raw:
    """Return the raw way on PyMySQL, on a connection that leaves transactions alone."""
    cursor = connection.cursor()
    begin, commit = (lambda: cursor.execute("START TRANSACTION")), (lambda: cursor.execute("COMMIT"))
    return Raw(cast("Cursor", cursor), "%s", begin, commit, quote="`")


def on_sqlite(connection: sqlite3.Connection) -> Raw:
    """Return the raw way on sqlite3, on a connection that leaves transactions alone."""
    cursor = connection.cursor()
    begin, commit = (lambda: cursor.execute("BEGIN IMMEDIATE")), (lambda: cursor.execute("COMMIT"))
    return Raw(cast("Cursor", cursor), "?", begin, commit, _with_times_as_text)


def _with_times_as_text(row: Iterable[Value]) -> Sequence[Value]:
    """Return a row as SQLite keeps it."""
    return [value.isoformat(timespec="microseconds") if isinstance(value, datetime) else value for value in row]


class _Overheard:
    """Take the statements that are to be run, and run none."""

    def __init__(self) -> None:
        self.statement = ""
        self.parameters: Sequence[object] = ()

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> Rows:
        self.statement, self.parameters = sql, parameters
        return [(True, True)]

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        raise AssertionError(f"{len(rows)} rows were to be written beside the one statement: {sql}")


def one_statement(rows: Placed) -> tuple[bytes, Sequence[object]]:
    """Return the statement in which the kit writes an order, for a raw cursor of psycopg, and its parameters."""
    changes = ChangeSet(claim=rows.key)
    changes.insert(ORDERS, [rows.order])
    changes.insert(LINES, rows.lines)
    changes.insert(EVENTS, [rows.event])
    changes.insert(OUTBOX, [rows.message])
    overheard = _Overheard()
    dialect_for("postgresql", "psycopg", None).write(overheard, changes)
    return overheard.statement.encode(), overheard.parameters
