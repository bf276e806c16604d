"""Statements that read, shared by every dialect, and the records made of their rows."""

# ruff: noqa: S608 - statements are made of the names of tables and columns, never of values

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, cast

from orderkit.orders.tables import EVENTS, PERSONAL, EventRow, PersonalRow
from orderkit.storage.sql.dialect import Dialect
from orderkit.unit_of_work.storage import OrderRecord, StoredKey

Row = Sequence[object]


def record_columns(alias: str) -> str:
    """Return the columns of an order record; metadata is text whatever the database keeps it as."""
    return f"{alias}.document, CAST({alias}.metadata AS text), {alias}.version, {alias}.schema_version"


_KEY_COLUMNS = "k.fingerprint, k.order_id, k.order_version, k.expires_at, " + record_columns("ko")

# As a bare column, the tenant given for the key would be pushed into the search for the order, and a plan made
# while the tables were empty would then read every order of the tenant.
_KEY_ORDER = "LEFT JOIN {orders} AS ko ON ko.tenant = k.tenant || '' AND ko.id = k.order_id"
_KEY_MATCH = "k.tenant = :text AND k.scope = :text AND k.key = :text"

READ_KEY = f"SELECT {_KEY_COLUMNS} FROM {{idempotency_keys}} AS k {_KEY_ORDER} WHERE {_KEY_MATCH}"

_ORDER = "SELECT * FROM {orders} WHERE tenant = :text AND id = :text"


def read_order(row_lock: str) -> str:
    """Return the statement that reads an order alone."""
    return f"SELECT {record_columns('o')} FROM ({_ORDER}{row_lock}) AS o"


def read_order_and_key(row_lock: str) -> str:
    """Return the statement that reads an order and a key: one row, whichever of them is there."""
    return (
        f"SELECT {record_columns('o')}, {_KEY_COLUMNS} FROM (SELECT 1 AS always) AS one "
        f"LEFT JOIN ({_ORDER}{row_lock}) AS o ON 1 = 1 "
        f"LEFT JOIN {{idempotency_keys}} AS k ON {_KEY_MATCH} {_KEY_ORDER}"
    )


@functools.cache
def read_orders(count: int) -> str:
    """Return the statement that reads several orders of a tenant, each behind its id."""
    wanted = ", ".join([":text"] * count)
    return f"SELECT o.id, {record_columns('o')} FROM {{orders}} AS o WHERE o.tenant = :text AND o.id IN ({wanted})"


@functools.cache
def read_keys(count: int) -> str:
    """Return the statement that reads several keys of a tenant and a scope, each behind its name."""
    wanted = ", ".join([":text"] * count)
    return (
        f"SELECT k.key, {_KEY_COLUMNS} FROM {{idempotency_keys}} AS k {_KEY_ORDER} "
        f"WHERE k.tenant = :text AND k.scope = :text AND k.key IN ({wanted})"
    )


TAKEN_ID = "SELECT 1 FROM {orders} WHERE tenant = :text AND id = :text"
TAKEN_NUMBER = "SELECT 1 FROM {orders} WHERE tenant = :text AND number = :text AND id <> :text"

_HISTORY = f"SELECT {', '.join(EVENTS.columns)} FROM {{events}} WHERE tenant = :text AND order_id = :text"


def history(version: object, time: object) -> str:
    """Return the statement that reads the events of an order up to a version, a time, both or neither."""
    until_version = "" if version is None else " AND version <= :integer"
    until_time = "" if time is None else " AND occurred_at <= :time"
    return f"{_HISTORY}{until_version}{until_time} ORDER BY version"


# Sorted by the caller: to have them in the order of their ids, SQLite would read those of every order by their key.
READ_PERSONAL = f"SELECT {', '.join(PERSONAL.columns)} FROM {{personal}} WHERE tenant = :text AND order_id = :text"

NEXT_NUMBER = (
    "INSERT INTO {order_numbers} AS n (tenant, last) VALUES (:text, 1) "
    "ON CONFLICT (tenant) DO UPDATE SET last = n.last + 1 RETURNING last"
)

FORGET_KEY = (
    "DELETE FROM {idempotency_keys} WHERE tenant = :text AND scope = :text AND key = :text AND expires_at <= :time"
)


EXPIRED = "expires_at <= :time ORDER BY expires_at LIMIT :bigint"
"""The condition that picks a batch of expired keys."""


def order_record(row: Row) -> OrderRecord:
    """Make an order record of its four columns."""
    return OrderRecord._make(cast("Sequence[Any]", row))


def order_record_if_any(row: Row) -> OrderRecord | None:
    """Make an order record of four columns of an outer join; None if there was no order."""
    return None if row[0] is None else order_record(row)


def stored_key(dialect: Dialect, row: Row) -> StoredKey | None:
    """Make the record of a key of eight columns; None if the key was not there."""
    fingerprint, order_id, order_version, expires_at = row[:4]
    if fingerprint is None:
        return None
    return StoredKey(
        cast("str", fingerprint),
        cast("str", order_id),
        cast("int", order_version),
        dialect.decode_time(expires_at),
        order_record_if_any(row[4:8]),
    )


_OCCURRED_AT = EventRow._fields.index("occurred_at")


def event_row(dialect: Dialect, row: Row) -> EventRow:
    """Make an event's row of its columns."""
    values = list(row)
    values[_OCCURRED_AT] = dialect.decode_time(values[_OCCURRED_AT])
    return EventRow._make(cast("list[Any]", values))


def personal_row(dialect: Dialect, row: Row) -> PersonalRow:
    """Make a personal row of its columns."""
    *values, created_at, erased_at = row
    erased = None if erased_at is None else dialect.decode_time(erased_at)
    return PersonalRow._make([*cast("list[Any]", values), dialect.decode_time(created_at), erased])
