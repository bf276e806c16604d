"""Shops of many orders, made by a few statements: one tenant has nearly all of them, one a handful.

Nothing about them is even. A customer has every twentieth order, others one; almost all orders are completed,
and those still open are the latest; one SKU is in every third order, one in three orders of all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
from sqlalchemy import Connection
from sqlalchemy.schema import CreateTable

from orderkit.storage.sql import metadata
from orderkit.storage.sql.tables import PREFIX

HUGE, TINY = "huge", "tiny"
TINY_ORDERS = 200

EPOCH = 1_672_531_200
"""When the first order was created: the first second of 2023, in seconds since 1970."""

STEP = 90
"""Seconds between two orders."""

RARE = 3
"""How many orders have the rare SKU, and how many the rare tag."""


@attrs.frozen
class Spelling:
    """How a database spells what the statements need.

    Attributes:
        numbers: Returns a relation with one column, `n`, from 1 to a number.
        time: Returns the time that is so many seconds after 1970.
        settings: What the session is told first.
    """

    numbers: Callable[[int], str]
    time: Callable[[str], str]
    settings: tuple[str, ...] = ()


_RECURSIVE = "(WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {}) SELECT n FROM s) AS s"
_MYSQL = Spelling(
    lambda number: f"(SELECT seq AS n FROM seq_1_to_{number}) AS s",
    lambda seconds: f"(TIMESTAMP '1970-01-01 00:00:00' + INTERVAL ({seconds}) SECOND)",
    ("SET SESSION sql_mode = CONCAT(@@sql_mode, ',PIPES_AS_CONCAT')", "SET SESSION time_zone = '+00:00'"),
)
SPELLINGS: Mapping[str, Spelling] = {
    "postgresql": Spelling(
        lambda number: f"generate_series(1::bigint, {number}) AS s (n)",
        lambda seconds: f"to_timestamp({seconds})",
        ("SET maintenance_work_mem = '512MB'", "SET synchronous_commit = off"),
    ),
    "sqlite": Spelling(
        _RECURSIVE.format,
        lambda seconds: f"strftime('%Y-%m-%dT%H:%M:%S.000000+00:00', {seconds}, 'unixepoch')",
        ("PRAGMA synchronous = OFF", "PRAGMA cache_size = -200000"),
    ),
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}


def order_id(number: int) -> str:
    """Return the id of an order by its place in time, from 1."""
    return f"order_{1_000_000_000 + number}"


def created_at(number: int) -> int:
    """Return when an order was created, in seconds since 1970."""
    return EPOCH + number * STEP


def fill(connection: Connection, orders: int) -> None:
    """Make the tables of an empty database, put orders into them, and then index and analyse them."""
    spelling = SPELLINGS[connection.dialect.name]
    tables = list(metadata.tables.values())
    for statement in spelling.settings:
        connection.exec_driver_sql(statement)
    for table in tables:
        connection.execute(CreateTable(table))
    for tenant, number in ((HUGE, orders), (TINY, TINY_ORDERS)):
        for statement in _statements(spelling, tenant, number):
            connection.exec_driver_sql(
                statement.replace("%", "%%") if connection.dialect.paramstyle in {"pyformat", "format"} else statement
            )
    for table in tables:
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            index.create(connection)
    connection.commit()


def analyse(connection: Connection) -> None:
    """Let the database look at what it has, as it does by itself sooner or later."""
    for table in metadata.tables:
        words = {"postgresql": "VACUUM (ANALYZE)", "sqlite": "ANALYZE"}.get(connection.dialect.name, "ANALYZE TABLE")
        connection.exec_driver_sql(f"{words} {table}").close()


def _statements(spelling: Spelling, tenant: str, orders: int) -> list[str]:
    """Return the statements that make a tenant's rows, every value by the order's number."""
    tenth = max(orders // 10, 1)
    one, two = (
        spelling.numbers(orders),
        f"{spelling.numbers(orders)} CROSS JOIN (SELECT 0 AS i UNION ALL SELECT 1) AS t",
    )
    keys = spelling.numbers(tenth)
    common = _values(spelling, tenant, orders)
    order_columns = [column.name for column in metadata.tables[PREFIX + "orders"].columns]
    insert = f"INSERT INTO {PREFIX}"
    return [
        f"{insert}orders ({', '.join(order_columns)}) SELECT {', '.join(common[name] for name in order_columns)} FROM {one}",
        f"{insert}order_lines (tenant, order_id, line_id, position, sku, units, {_quoted('precision', spelling)}, "
        "cancelled, unit_price, total) "
        f"SELECT '{tenant}', {common['id']}, 'line_' || i, i, {_SKU.format(rare=_rare(orders))}, 1, 0, 0, '9', 900 FROM {two}",
        f"{insert}events (tenant, order_id, version, id, type, schema_version, occurred_at, data) "
        f"SELECT '{tenant}', {common['id']}, i + 1, 'event_{tenant}' || (2 * n + i), 'order.placed', 1, "
        f"{common['created_at']}, '{{}}' FROM {two}",
        f"{insert}personal (tenant, id, order_id, kind, data, created_at) "
        f"SELECT '{tenant}', 'contact_' || n, {common['id']}, 'contact', '{{}}', {common['created_at']} FROM {one}",
        f"{insert}order_labels (tenant, kind, name, value, order_id) "
        f"SELECT '{tenant}', 'tag', '', CASE WHEN {_rare(orders)} THEN 'rare' WHEN n % 100 = 7 THEN 'vip' ELSE 'web' END, "
        f"{common['id']} FROM {one} WHERE n % 2 = 1 OR {_rare(orders)}",
        f"{insert}order_labels (tenant, kind, name, value, order_id) "
        f"SELECT '{tenant}', 'external', 'shop', 'S-' || n, {common['id']} FROM {one} WHERE n % 3 = 1",
        f"{insert}order_labels (tenant, kind, name, value, order_id) "
        f"SELECT '{tenant}', 'metadata', 'channel', '\"app\"', {common['id']} FROM {one} WHERE n % 5 = 1",
        f"{insert}idempotency_keys (tenant, scope, {_quoted('key', spelling)}, fingerprint, order_id, order_version, "
        "created_at, expires_at) "
        f"SELECT '{tenant}', 'place_order', 'key-' || n, 'v1:0', 'order_' || ({1_000_000_000 + orders - tenth} + n), 1, "
        f"{spelling.time(f'{created_at(orders - tenth)} + n * {STEP}')}, "
        f"{spelling.time(f'{created_at(orders - tenth)} + n * {STEP} + 259200')} FROM {keys}",
    ]


_SKU = (
    "CASE WHEN i = 1 AND {rare} THEN 'RARE' WHEN i = 0 AND n % 3 = 0 THEN 'TEA-001' "
    "ELSE 'SKU-' || ((n * 7919 + i * 104729) % 5000) END"
)


def _rare(orders: int) -> str:
    """Return the condition that picks the few orders that have what is rare."""
    return f"n % {max(orders // RARE, 1)} = {max(orders // RARE, 1) - 1}"


def _quoted(column: str, spelling: Spelling) -> str:
    return f"`{column}`" if spelling is _MYSQL else f'"{column}"'


def _values(spelling: Spelling, tenant: str, orders: int) -> Mapping[str, str]:
    """Return the expression for each column of an order.

    The latest fiftieth of the orders is under way, and so is one in a thousand of the rest; one in a hundred is a draft.
    """
    created = f"{EPOCH} + n * {STEP}"
    recent = orders - max(orders // 50, 1)
    draft = "n % 101 = 50"
    status = (
        f"CASE WHEN {draft} THEN 'draft' WHEN n > {recent} THEN CASE WHEN n % 5 = 0 THEN 'pending' ELSE 'open' END "
        "WHEN n % 1000 = 1 THEN 'open' WHEN n % 10 = 3 THEN 'cancelled' WHEN n % 50 = 8 THEN 'expired' ELSE 'completed' END"
    )
    customer = (
        "CASE WHEN n % 20 = 0 THEN 'cust-big' WHEN n % 10 = 9 THEN NULL "
        "WHEN n % 4 = 1 THEN 'once-' || n ELSE 'cust-' || ((n * 7919) % 20011) END"
    )
    total = "CASE WHEN n % 5 = 0 THEN 900 ELSE (n * 7919) % 100003 END"
    return {
        "tenant": f"'{tenant}'",
        "id": "'order_' || (1000000000 + n)",
        "number": f"CASE WHEN {draft} THEN NULL ELSE 'N-' || (1000000000 + (n * 7919) % 1000003) END",
        "status": status,
        "substate": "CASE WHEN n % 1000 = 1 THEN 'awaiting_print' ELSE NULL END",
        "held": "n % 500 = 1",
        "customer": customer,
        "currency": "CASE WHEN n % 20 = 7 THEN 'USD' ELSE 'EUR' END",
        "total": total,
        "current_total": total,
        "placed_at": f"CASE WHEN {draft} THEN NULL ELSE {spelling.time(created)} END",
        "created_at": spelling.time(created),
        "updated_at": spelling.time(f"{created} + ((n * 7919) % 1000) * 600"),
        "expires_at": f"CASE WHEN {status} IN ('pending', 'expired') THEN {spelling.time(f'{created} + 86400')} END",
        "version": "2",
        "schema_version": "1",
        "document": f"'{'x' * 1000}'",
        "metadata": "'{}'",
    }
