"""SQLite knows how selective its indexes are from the beginning, and believes what it finds itself afterwards."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from orderkit import Line, Money, OrderFilter, OrderKit
from orderkit.storage.sql import metadata
from orderkit.storage.sql.statistics import ASSUMED
from orderkit.storage.sql.tables import PREFIX

TEA = [Line(sku="TEA-001", quantity=1, unit_price=Money("4.50", "EUR"))]
UNREAD = {"outbox_bucket"}
"""Indexes that no statement uses yet."""


def statistics(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT idx, stat FROM sqlite_stat1 WHERE idx IS NOT NULL"))


def test_every_index_has_its_statistics(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with OrderKit.from_url(f"sqlite:///{path}") as kit:
        kit.create_schema()
    found = statistics(path)
    for table in metadata.tables.values():
        names = {str(index.name) for index in table.indexes} - {PREFIX + name for name in UNREAD}
        assert names <= found.keys(), "storage/sql/statistics.py lacks an index"
        for index in table.indexes:
            if str(index.name) in found:
                assert len(found[str(index.name)].split()) == 1 + len(index.columns), index.name


def test_no_statistics_are_assumed_of_an_index_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with OrderKit.from_url(f"sqlite:///{path}") as kit:
        kit.create_schema()
    assert {index for indexes in ASSUMED.values() for index in indexes} == statistics(path).keys()


def test_what_sqlite_found_itself_stays(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with OrderKit.from_url(f"sqlite:///{path}") as kit:
        kit.orders.place(lines=TEA)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("ANALYZE")
        own = statistics(path)
        assert own["orderkit_orders_created"] == "1 1 1 1"
        kit.create_schema()
    assert statistics(path) == own


@pytest.mark.parametrize("url", ["sqlite:///{}/shop.db", "sqlite://"])
def test_they_count_for_the_connection_that_made_the_tables(url: str, tmp_path: Path) -> None:
    with OrderKit.from_url(url.format(tmp_path)) as kit:
        kit.create_schema()
        order = kit.orders.place(lines=TEA, external_references={"shop": "S-1"})
        found = kit.orders.search(OrderFilter(external_references={"shop": "S-1"}), sort="-total")
        assert [one.id for one in found.items] == [order.id]
