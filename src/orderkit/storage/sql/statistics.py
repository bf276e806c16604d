"""What SQLite is told about its indexes until somebody has it look for itself.

Without statistics it takes every index for as good as another, and reads all orders of a tenant, in the order of the
list, to find the three that have a SKU. With those of a large shop it finds them first, in a small shop as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderkit.storage.sql.tables import PREFIX

if TYPE_CHECKING:
    from sqlalchemy import Connection

ASSUMED = {
    "orders": {
        "sqlite_autoindex_orderkit_orders_1": "1000000 500000 1",
        "orderkit_orders_number": "1000000 500000 1",
        "orderkit_orders_created": "1000000 500000 1 1",
        "orderkit_orders_updated": "1000000 500000 1 1",
        "orderkit_orders_placed": "1000000 500000 1 1",
        "orderkit_orders_total": "1000000 500000 10 1",
        "orderkit_orders_status": "1000000 500000 80000 1 1",
        "orderkit_orders_customer": "900000 450000 5 1 1",
        "orderkit_orders_held": "2000 1000 1000 1 1",
        "orderkit_orders_substate": "1000 500 500 1 1",
        "orderkit_orders_due": "20000 10000 5000 1",
    },
    "order_lines": {
        "sqlite_autoindex_orderkit_order_lines_1": "2000000 1000000 2 1",
        "orderkit_order_lines_sku": "2000000 1000000 400 1",
    },
    "events": {"sqlite_autoindex_orderkit_events_1": "2000000 1000000 2 1"},
    "personal": {
        "sqlite_autoindex_orderkit_personal_1": "1000000 500000 1",
        "orderkit_personal_order": "1000000 500000 1",
    },
    "order_labels": {
        "sqlite_autoindex_orderkit_order_labels_1": "1000000 500000 150000 150000 4 1",
        "orderkit_order_labels_order": "1000000 500000 2",
    },
    "idempotency_keys": {
        "sqlite_autoindex_orderkit_idempotency_keys_1": "100000 50000 50000 1",
        "orderkit_idempotency_keys_expiry": "100000 1",
    },
    "idempotent_operations": {
        "sqlite_autoindex_orderkit_idempotent_operations_1": "100000 50000 50000 1",
        "orderkit_idempotent_operations_expiry": "100000 1",
        "orderkit_idempotent_operations_stuck": "100 100 50 1",
    },
}
"""Rows of each index, and how many of them share its first column, its first two, and so on: what ANALYZE found in a
shop with a million orders of two tenants, rounded (https://www.sqlite.org/fileformat2.html#stat1tab)."""

_ADD = (
    "INSERT INTO sqlite_stat1 (tbl, idx, stat) SELECT :tbl, :idx, :stat "
    "WHERE NOT EXISTS (SELECT 1 FROM sqlite_stat1 WHERE tbl = :tbl AND idx = :idx)"
)


def assume(connection: Connection) -> None:
    """Add the statistics of indexes that have none; what ANALYZE has found stays as it is."""
    found = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'index'")
    indexes = set(found.scalars())
    rows = [
        {"tbl": PREFIX + table, "idx": index, "stat": stat}
        for table, statistics in ASSUMED.items()
        for index, stat in statistics.items()
        if index in indexes
    ]
    if rows:
        # Of a table that has next to nothing in it: this makes the table of statistics.
        connection.exec_driver_sql(f"ANALYZE {PREFIX}order_numbers")
        connection.exec_driver_sql(_ADD, rows)
        connection.exec_driver_sql("ANALYZE sqlite_master")
