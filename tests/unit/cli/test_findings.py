"""What the doctor concludes from facts: each conclusion, at its threshold, without any database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from orderkit.cli.findings import DAY, HOUR, MIB, MINUTE, Finding, Installed, Level, diagnose, size, span, worst
from orderkit.kit.settings import Settings
from orderkit.storage.sql.diagnosis import Backlog, Facts, Files, Heap, Link, Server, TableFacts

NOTHING = Heap(0, None)
LINK = Link("psycopg 3.2", 0.01, 0.0005, 0.01)
TABLES = TableFacts("0002", "0002", None, "0001", (), (), (), absent=False)
POSTGRESQL = Server(
    "PostgreSQL",
    "16.4",
    (16, 4),
    {
        "default_transaction_isolation": "read committed",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "lock_timeout": "5000",
    },
    connections=10,
    connection_limit=100,
)
MARIADB = Server(
    "MariaDB",
    "10.11.14",
    (10, 11, 14),
    {
        "transaction_isolation": "read committed",
        "innodb_flush_log_at_trx_commit": "1",
        "log_bin": "ON",
        "sync_binlog": "1",
        "sql_mode": "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION",
    },
)
SQLITE = Server(
    "SQLite",
    "3.45.0",
    (3, 45, 0),
    {"journal_mode": "wal", "synchronous": "full"},
    files=Files(10 * MIB, MIB, 5_000 * MIB),
)
BACKLOG = Backlog(NOTHING, NOTHING, NOTHING)
WELL = Facts(LINK, TABLES, POSTGRESQL, BACKLOG)


def findings(facts: Facts) -> tuple[Finding, ...]:
    return diagnose(facts, Installed("0.1.0", "3.13.1", "2.1.0"), Settings.model_construct())


def bad(facts: Facts) -> Mapping[str, Level]:
    """Return what is not well, by its code."""
    return {finding.code: finding.level for finding in findings(facts) if finding.level is not Level.OK}


@pytest.mark.parametrize("server", [POSTGRESQL, MARIADB, SQLITE], ids=lambda server: server.product)
def test_where_all_is_well_nothing_is_advised(server: Server) -> None:
    found = findings(attrs.evolve(WELL, server=server))
    assert {finding.code for finding in found if finding.level is not Level.OK} == set()
    assert [finding.code for finding in found if finding.advice] == []
    assert worst(found) is Level.OK


def test_an_unreachable_database_is_all_there_is_to_say() -> None:
    found = findings(Facts(unreachable="connection refused"))
    assert [finding.code for finding in found] == ["versions", "unreachable"]
    assert "connection refused" in found[1].message
    assert worst(found) is Level.PROBLEM


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ({"round_trip": 0.006}, {"round_trip_slow": Level.WARNING}),
        ({"clock_ahead": 0.9}, {}),
        ({"clock_ahead": -2.0}, {"clock_off": Level.WARNING}),
        ({"clock_ahead": 3600.0}, {"clock_off": Level.PROBLEM}),
        ({"clock_ahead": None}, {}),
    ],
)
def test_the_way_to_the_server(link: dict[str, Any], expected: dict[str, Level]) -> None:
    assert bad(attrs.evolve(WELL, link=attrs.evolve(LINK, **link))) == expected


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({"absent": True}, {"schema_missing": Level.PROBLEM}),
        ({"revision": None}, {}),
        ({"migrating_to": "0003"}, {"schema_unfinished": Level.WARNING}),
        ({"revision": "0004", "compatible_from": "0003"}, {"schema_too_new": Level.PROBLEM}),
        ({"revision": "0004", "compatible_from": "0001"}, {}),
        ({"revision": "0001", "outstanding": ("0002",)}, {"schema_outdated": Level.WARNING}),
        ({"missing": ("missing index: a.b",)}, {"index_missing": Level.PROBLEM}),
        ({"missing": ("missing column: a.c",)}, {"schema_differs": Level.PROBLEM}),
        ({"different": ("other type: a.c",)}, {"schema_differs": Level.WARNING}),
    ],
)
def test_the_tables(tables: dict[str, Any], expected: dict[str, Level]) -> None:
    assert bad(attrs.evolve(WELL, tables=attrs.evolve(TABLES, **tables))) == expected


@pytest.mark.parametrize(
    ("server", "settings", "expected"),
    [
        (POSTGRESQL, {"fsync": "off"}, {"not_durable": Level.PROBLEM}),
        (POSTGRESQL, {"full_page_writes": "off"}, {"not_durable": Level.PROBLEM}),
        (POSTGRESQL, {"synchronous_commit": "off"}, {"not_durable": Level.WARNING}),
        (POSTGRESQL, {"synchronous_commit": "remote_apply"}, {}),
        (POSTGRESQL, {"default_transaction_isolation": "serializable"}, {"isolation_other": Level.WARNING}),
        (POSTGRESQL, {"lock_timeout": "0"}, {"lock_timeout_none": Level.WARNING}),
        (MARIADB, {"innodb_flush_log_at_trx_commit": "2"}, {"not_durable": Level.WARNING}),
        (MARIADB, {"sync_binlog": "0"}, {"not_durable": Level.WARNING}),
        (MARIADB, {"sync_binlog": "0", "log_bin": "OFF"}, {}),
        (MARIADB, {"sql_mode": ""}, {"strict_mode_off": Level.WARNING}),
        (MARIADB, {"transaction_isolation": "repeatable read"}, {"isolation_other": Level.WARNING}),
        (SQLITE, {"synchronous": "normal"}, {"not_durable": Level.WARNING}),
        (SQLITE, {"synchronous": "off"}, {"not_durable": Level.PROBLEM}),
        (SQLITE, {"journal_mode": "delete"}, {"journal_mode": Level.WARNING}),
    ],
)
def test_settings(server: Server, settings: dict[str, str], expected: dict[str, Level]) -> None:
    changed = attrs.evolve(server, settings={**server.settings, **settings})
    assert bad(attrs.evolve(WELL, server=changed)) == expected


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ({"number": (12, 9), "version": "12.9"}, {"server_too_old": Level.PROBLEM}),
        ({"read_only": True}, {"read_only": Level.PROBLEM}),
        ({"invalid_indexes": ("orderkit_orders_number",)}, {"index_invalid": Level.PROBLEM}),
        ({"transactions": (4 * MINUTE,)}, {}),
        ({"transactions": (6 * MINUTE, 90.0)}, {"transaction_long": Level.WARNING}),
        ({"transactions": (2 * HOUR,)}, {"transaction_long": Level.PROBLEM}),
        ({"connections": 95}, {"connections_scarce": Level.WARNING}),
        ({"connection_limit": 12}, {"connections_scarce": Level.WARNING}),
        ({"dead_rows": {"orderkit_outbox": (50_000, 10)}}, {"dead_rows": Level.WARNING}),
        ({"files": Files(10, 0, 63 * MIB)}, {"disk_space": Level.PROBLEM}),
        ({"files": Files(1000 * MIB, 0, 150 * MIB)}, {"disk_space": Level.WARNING}),
        ({"files": Files(1000 * MIB, 300 * MIB, 9000 * MIB)}, {"log_large": Level.WARNING}),
    ],
)
def test_the_server(server: dict[str, Any], expected: dict[str, Level]) -> None:
    assert bad(attrs.evolve(WELL, server=attrs.evolve(POSTGRESQL, **server))) == expected


@pytest.mark.parametrize(
    ("backlog", "expected"),
    [
        ({"outbox": Heap(5, MINUTE)}, {}),
        ({"outbox": Heap(5, 20 * MINUTE)}, {"outbox": Level.WARNING}),
        ({"outbox": Heap(Heap.MOST, MINUTE)}, {"outbox": Level.WARNING}),
        ({"keys": Heap(5, 2 * DAY)}, {"keys_expired": Level.WARNING}),
        ({"orders": Heap(5, 2 * HOUR)}, {"orders_overdue": Level.WARNING}),
        ({"orders": Heap(5, MINUTE)}, {}),
    ],
)
def test_what_waits(backlog: dict[str, Heap], expected: dict[str, Level]) -> None:
    assert bad(attrs.evolve(WELL, backlog=attrs.evolve(BACKLOG, **backlog))) == expected


def test_what_could_not_be_looked_at_is_told_and_nothing_is_concluded_from_it() -> None:
    found = findings(Facts(LINK, unknown={"server": "permission denied"}))
    assert [finding.code for finding in found] == ["versions", "reachable", "clock_agrees", "not_looked_at"]
    assert "permission denied" in found[-1].message


def test_whatever_is_not_well_has_an_advice() -> None:
    facts = Facts(
        attrs.evolve(LINK, round_trip=1.0, clock_ahead=-100.0),
        attrs.evolve(TABLES, revision="0001", outstanding=("0002",), missing=("missing index: a.b",)),
        attrs.evolve(POSTGRESQL, read_only=True, transactions=(DAY,), connections=100),
        Backlog(Heap(1, DAY), Heap(2, 9 * DAY), Heap(3, DAY)),
        unknown={"moon": "too far"},
    )
    assert [finding.code for finding in findings(facts) if finding.level is not Level.OK and not finding.advice] == []


def test_lengths_and_sizes_for_people() -> None:
    assert [span(seconds) for seconds in (0.0004, 0.5, 1.4, 90, 150, 3 * HOUR, 3 * DAY)] == [
        "0 ms",
        "500 ms",
        "1 s",
        "90 s",
        "2 min",
        "3 h",
        "3 d",
    ]
    assert [size(amount) for amount in (512, 3 * MIB, 3 * 1024 * MIB)] == ["0.5 KiB", "3.0 MiB", "3.0 GiB"]
