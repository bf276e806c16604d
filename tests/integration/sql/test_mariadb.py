"""MariaDB keeps what it is given as it is given, or refuses it; and what its server does is understood."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import pymysql
import pytest
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.orm import Session
from sqlalchemy.pool import Pool

from orderkit.errors import (
    AlreadyExists,
    ConfigurationError,
    IdempotencyInFlight,
    OrderKitError,
    SchemaMissing,
    StorageBusy,
    StorageFailed,
    StorageFull,
    StorageUnavailable,
    TransactionAborted,
    VersionConflict,
)
from orderkit.orders.ports import Search
from orderkit.orders.tables import EVENTS, LINES, ORDERS, PERSONAL
from orderkit.storage.sql import SqlBackend, open_backend
from orderkit.storage.sql.forms import portions
from orderkit.storage.sql.joining import join
from orderkit.storage.sql.mariadb import Mariadb, fault_of
from orderkit.storage.sql.tables import metadata
from orderkit.testing.conformance.base import (
    NOON,
    claim_for,
    commit,
    fresh_tenant,
    look,
    moved,
    moving,
    order_row,
    placing,
    race,
    read,
    reference,
)
from orderkit.testing.conformance.samples import KINDS, TEXTS, event_row, line_row, personal_row
from orderkit.unit_of_work.changes import ChangeSet, Row, Table
from tests.conftest import connected_mariadb

Cursor = pymysql.cursors.Cursor


@pytest.fixture
def backend(mariadb: str) -> Iterator[SqlBackend]:
    backend = open_backend(mariadb)
    assert isinstance(backend, SqlBackend)
    yield backend
    backend.close()


@pytest.fixture
def cursor(mariadb: str) -> Iterator[Cursor]:
    """Another session of the database, each statement a transaction."""
    with closing(connected_mariadb(make_url(mariadb))) as connection, connection.cursor() as cursor:
        yield cursor


@pytest.fixture
def tenant() -> str:
    return fresh_tenant()


@contextmanager
def theirs(url: str, setting: str = "", **options: Any) -> Iterator[Engine]:
    """An engine of the application's, its connections set up as it likes."""
    engine = create_engine(url, **options)

    def set_up(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(setting)

    if setting:
        event.listen(engine, "connect", set_up)
    yield engine
    engine.dispose()


# --------------------------------------------------------------------------------------------
# What is kept
# --------------------------------------------------------------------------------------------


def test_tables_are_made_alike_whatever_the_server_prefers(cursor: Cursor) -> None:
    cursor.execute(
        "SELECT table_name, engine, row_format FROM information_schema.tables "
        "WHERE table_schema = DATABASE() AND table_name LIKE 'orderkit\\_%'"
    )
    tables = cursor.fetchall()
    assert len(tables) >= 8
    assert {(engine, row_format) for _, engine, row_format in tables} == {("InnoDB", "Dynamic")}
    cursor.execute(
        "SELECT DISTINCT collation_name FROM information_schema.columns "
        "WHERE table_schema = DATABASE() AND table_name IN %s AND collation_name IS NOT NULL",
        ([*metadata.tables],),
    )
    assert cursor.fetchall() == (("utf8mb4_nopad_bin",),)


def test_texts_are_told_apart_and_sorted_by_code_point(backend: SqlBackend, tenant: str) -> None:
    """Neither case, nor accents, nor spaces at the end, nor characters of four bytes are alike."""
    texts = ["a", "A", "a ", "a  ", "á", "e\u0301", "é", "ß", "ss", "\ue000", "🫖", "\U0010ffff", *TEXTS]
    orders = [order_row(tenant, f"order_{n:02}")._replace(number=text) for n, text in enumerate(texts)]
    orders += [order_row(tenant, text)._replace(number=None) for text in ("x", "X", "x ")]
    commit(backend, placing(*orders))
    with backend.connect() as storage:
        found = storage.search(Search(tenant, (), "number", False, 100))
        assert [row.sort_value for row in found] == sorted(texts)
    for text in ("x", "X", "x "):
        assert look(backend, order_row(tenant, text)).order is not None
    assert look(backend, order_row(tenant, "x  ")).order is None


def test_times_do_not_pass_through_the_zone_of_a_session(mariadb: str, cursor: Cursor, tenant: str) -> None:
    moment = datetime(2026, 10, 25, 1, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    order = order_row(tenant)._replace(created_at=moment)
    with theirs(mariadb, "SET time_zone = '-11:30'") as engine:
        backend = SqlBackend(engine)
        commit(backend, placing(order))
        with backend.connect() as storage:
            (found,) = storage.search(Search(tenant, (), "created_at", False, 1))
    assert found.sort_value == moment
    cursor.execute("SELECT CAST(created_at AS char) FROM orderkit_orders WHERE tenant = %s", (tenant,))
    assert cursor.fetchone() == ("2026-10-24 23:30:00.123456",)


@pytest.mark.parametrize(
    "setting",
    [
        "SET sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES')",
        "SET sql_mode = CONCAT(@@sql_mode, ',PIPES_AS_CONCAT')",
        "SET sql_mode = CONCAT(@@sql_mode, ',NO_BACKSLASH_ESCAPES')",
        "SET sql_mode = CONCAT(@@sql_mode, ',IGNORE_SPACE')",
        "SET sql_mode = 'ANSI,TRADITIONAL'",
        "SET collation_connection = 'utf8mb4_unicode_ci'",
        "SET optimizer_switch = 'derived_merge=off'",
    ],
)
def test_no_setting_of_theirs_changes_what_a_statement_means(mariadb: str, tenant: str, setting: str) -> None:
    with theirs(mariadb, setting) as engine:
        backend = SqlBackend(engine)
        plain = [order_row(tenant, f"order_{n}") for n in range(len(TEXTS))]
        orders = [order._replace(document=f"\\{text}") for order, text in zip(plain, TEXTS, strict=True)]
        claim = claim_for(orders[0])
        changes = placing(*orders, claim=claim)
        changes.insert(LINES, [line_row(order) for order in orders])
        commit(backend, changes)
        commit(backend, moving(*orders))
        assert commit(backend, placing(order_row(tenant, "other"), claim=claim)).stored is not None
        assert look(backend, orders[0], reference(claim)).stored is not None
        with backend.connect() as storage:
            page = storage.search(Search(tenant, (), "created_at", True, 50, after=(NOON, "order_9")))
        assert {found.order_id for found in page} == {order.id for order in orders if order.id < "order_9"}
        record = look(backend, orders[10]).order
        assert record is not None
        assert record.document == moved(orders[10]).document


TOO_MUCH = [
    order_row("t")._replace(customer="x" * 256),
    order_row("t")._replace(total=2**63),
    order_row("t")._replace(version=2**31),
]


@pytest.mark.parametrize("order", TOO_MUCH, ids=["text", "wide-number", "number"])
def test_what_does_not_fit_is_refused_and_never_cut_off(backend: SqlBackend, tenant: str, order: Any) -> None:
    order = order._replace(tenant=tenant)
    changes = placing(order_row(tenant, "fine"), order, claim=claim_for(order))
    with pytest.raises(StorageFailed):
        commit(backend, changes)
    assert look(backend, order_row(tenant, "fine"), reference(claim_for(order))) == (None, None)


@pytest.mark.parametrize(
    ("setting", "wanted"), [("SET sql_mode = ''", "STRICT_TRANS_TABLES"), ("SET NAMES utf8mb3", "utf8mb4")]
)
def test_a_connection_that_would_change_values_silently_is_refused(mariadb: str, setting: str, wanted: str) -> None:
    with theirs(mariadb, setting) as engine, Session(engine) as session:
        for attempt in (partial(read, SqlBackend(engine), order_row("t")), join(session)):
            with pytest.raises(ConfigurationError) as caught:
                attempt()
            assert wanted in caught.value.message


def test_a_connection_of_theirs_is_given_back_as_it_was(mariadb: str, tenant: str) -> None:
    asked = "SELECT @@SESSION.autocommit, @@SESSION.tx_isolation"
    with theirs(mariadb, pool_size=1, max_overflow=0) as engine:
        with engine.connect() as connection:
            before = connection.exec_driver_sql(asked).one()
        backend = SqlBackend(engine)
        commit(backend, placing(order_row(tenant)))
        with backend.connect() as storage:
            assert storage._executor.execute(asked)[0] == (1, "READ-COMMITTED")
        with engine.connect() as connection:
            assert connection.exec_driver_sql(asked).one() == before == (0, "REPEATABLE-READ")


def test_metadata_comes_back_as_it_was(backend: SqlBackend, tenant: str) -> None:
    text = '{"huge": 1e300, "tiny": 1e-300, "many": 12345678901234567890123, "tea": "🫖"}'
    order = order_row(tenant)._replace(metadata=text)
    commit(backend, placing(order))
    record = read(backend, order)
    assert record is not None
    assert record.metadata == text


def test_another_order_is_never_replaced_because_it_has_the_number(backend: SqlBackend, tenant: str) -> None:
    taken, order = order_row(tenant, "order_1"), order_row(tenant, "order_2")
    commit(backend, placing(taken, order))
    renamed: dict[Table, list[Row]] = {ORDERS: [order._replace(number=taken.number)]}
    for changes in (ChangeSet(updates=renamed), ChangeSet(upserts=renamed)):
        with pytest.raises(AlreadyExists) as caught:
            commit(backend, changes)
        assert caught.value.what == "number"
    with pytest.raises(AlreadyExists):
        commit(backend, ChangeSet(upserts={ORDERS: [order_row(tenant, "order_3")._replace(number=taken.number)]}))
    assert [read(backend, each) is not None for each in (taken, order)] == [True, True]
    fresh = order_row(tenant, "order_4")
    commit(backend, ChangeSet(upserts={ORDERS: [fresh, order._replace(version=5)]}))
    found = [read(backend, each) for each in (fresh, order)]
    assert [record and record.version for record in found] == [1, 5]


# --------------------------------------------------------------------------------------------
# Statements
# --------------------------------------------------------------------------------------------


def test_a_change_set_is_a_statement_for_each_table_in_four_messages(mariadb: str, tenant: str) -> None:
    said: list[str] = []

    def listen(connection: Any, _record: object) -> None:
        query = connection.query

        def heard(sql: bytes, *arguments: object) -> object:
            said.append(sql.decode("utf8") if isinstance(sql, bytes) else sql)
            return query(sql, *arguments)

        connection.query = heard

    event.listen(Pool, "connect", listen)
    backend = open_backend(mariadb)
    order = order_row(tenant)
    commit(backend, placing(order_row(tenant, "order_0")))
    said.clear()
    changes = placing(order, claim=claim_for(order))
    for kind in KINDS[1:]:
        changes.insert(kind.table, kind.rows(tenant, 40))
    commit(backend, changes)
    event.remove(Pool, "connect", listen)
    backend.close()
    begin, claim, rows, end = said
    assert (begin, end) == ("START TRANSACTION", "COMMIT")
    assert claim.startswith("INSERT INTO orderkit_idempotency_keys")
    assert [statement.split()[2] for statement in rows.split("; ")] == [
        f"orderkit_{table}" for table in ("orders", "order_lines", "events", "personal", "order_labels", "outbox")
    ]


def test_rows_are_sent_in_portions_that_a_server_takes() -> None:
    assert list(portions([])) == []
    assert [len(portion) for portion in portions([(n,) for n in range(1001)])] == [500, 500, 1]
    assert [len(portion) for portion in portions([("x" * 600_000,)] * 3)] == [1, 1, 1]
    assert [len(portion) for portion in portions([("x" * 400_000,)] * 3)] == [2, 1]
    assert [len(portion) for portion in portions([("x" * 9_000_000,)])] == [1]


@pytest.mark.slow
def test_megabytes_are_written_by_one_commit(backend: SqlBackend, tenant: str) -> None:
    orders = [order_row(tenant, f"order_{n}")._replace(document=f'"{"🫖" * 700_000}"') for n in range(8)]
    commit(backend, placing(*orders))
    assert all(read(backend, order) is not None for order in orders)


def test_more_than_the_server_takes_at_once_is_refused_whole(backend: SqlBackend, cursor: Cursor, tenant: str) -> None:
    cursor.execute("SELECT @@GLOBAL.max_allowed_packet")
    ((most,),) = cursor.fetchall()
    order = order_row(tenant)._replace(document=f'"{"x" * most}"')
    with pytest.raises((StorageFailed, StorageUnavailable)) as caught:
        commit(backend, placing(order_row(tenant, "fine"), order))
    assert "nothing" in caught.value.message
    assert look(backend, order_row(tenant, "fine")).order is None
    commit(backend, placing(order_row(tenant, "fine")))


# --------------------------------------------------------------------------------------------
# Others
# --------------------------------------------------------------------------------------------


def test_the_loser_of_a_race_sees_the_winner_in_an_old_snapshot_too(
    mariadb: str, backend: SqlBackend, tenant: str
) -> None:
    """The application's transaction began, and looked, before the key was used: REPEATABLE READ hides the record."""
    order = order_row(tenant)
    claim = claim_for(order)
    with theirs(mariadb) as engine, Session(engine) as session:
        storage = join(session)()
        assert storage.read_key(reference(claim)) is None
        commit(backend, placing(order, claim=claim))
        assert storage.read_key(reference(claim)) is None
        outcome = storage.commit(placing(order_row(tenant, "late"), claim=claim))
        assert not outcome.committed
        assert outcome.stored is not None
        assert outcome.stored.order_id == order.id
        with pytest.raises(AlreadyExists):
            storage.commit(placing(order))
        with pytest.raises(AlreadyExists):
            storage.commit(placing(order_row(tenant, "same number")._replace(number=order.number)))
        session.commit()
    assert read(backend, order_row(tenant, "late")) is None


@pytest.mark.slow
def test_a_claim_waits_for_the_one_before_it_and_says_so(mariadb: str, tenant: str) -> None:
    backend = open_backend(mariadb, lock_timeout=1)
    order = order_row(tenant)
    commit(backend, placing(order))
    claim = claim_for(order)
    with backend.connect(transaction=True) as owner:
        owner.commit(placing(order_row(tenant, "order_2"), claim=claim))
        for changes in (placing(order_row(tenant, "order_3"), claim=claim), moving(order, claim=claim)):
            with pytest.raises(IdempotencyInFlight):
                commit(backend, changes)
        owner.commit(moving(order))
        with pytest.raises(StorageBusy):
            commit(backend, moving(order, claim=claim_for(order, "another")))
    backend.close()


@pytest.mark.slow
def test_a_thousand_placements_by_many_need_no_luck(mariadb: str, tenant: str) -> None:
    """Different keys, numbers and orders do not stand in each other's way, whatever gaps the server locks."""
    backend = open_backend(mariadb, pool_size=32)

    def place(client: int) -> None:
        for n in range(30):
            order = order_row(tenant, f"order_{client:02}_{n:02}")
            changes = placing(order, claim=claim_for(order, f"key-{client}-{n}"))
            changes.insert(LINES, [line_row(order, f"line_{i}") for i in range(3)])
            changes.insert(EVENTS, [event_row(order)])
            changes.insert(PERSONAL, [personal_row(order, f"personal_{client}_{n}")])
            assert commit(backend, changes).committed

    race(32, place)
    backend.close()


def test_a_deadlock_ends_the_transaction_and_nothing_is_kept_of_it(mariadb: str, tenant: str) -> None:
    backend = open_backend(mariadb)
    first, second = order_row(tenant, "order_1"), order_row(tenant, "order_2")
    commit(backend, placing(first, second))
    meeting = threading.Barrier(2)

    def attempt(client: int) -> OrderKitError | None:
        mine, other = (first, second) if client else (second, first)
        try:
            with backend.connect(transaction=True) as storage:
                storage.commit(moving(mine))
                meeting.wait()
                try:
                    storage.commit(moving(other._replace(version=1)))
                except StorageBusy:
                    # Whoever goes on all the same is stopped: the server would keep each statement by itself.
                    with pytest.raises(TransactionAborted):
                        storage.commit(placing(order_row(tenant, "stray")))
                    raise
        except OrderKitError as error:
            return error
        return None

    outcomes = race(2, attempt)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType", "StorageBusy"]
    assert read(backend, order_row(tenant, "stray")) is None
    assert {record.version for order in (first, second) if (record := read(backend, order))} == {2}
    backend.close()


def test_an_event_that_is_there_already_is_a_version_conflict(backend: SqlBackend, tenant: str) -> None:
    order = order_row(tenant)
    commit(backend, ChangeSet(inserts={ORDERS: [order], EVENTS: [event_row(order)], LINES: [line_row(order)]}))
    with pytest.raises(VersionConflict):
        commit(backend, ChangeSet(inserts={EVENTS: [event_row(order)]}))
    with pytest.raises(StorageFailed):  # which is no order's version
        commit(backend, ChangeSet(inserts={EVENTS: [event_row(order, 2)], LINES: [line_row(order)]}))


@pytest.mark.parametrize(
    ("number", "family"),
    [
        (1021, StorageFull),
        (1114, StorageFull),
        (1020, StorageBusy),
        (1205, StorageBusy),
        (1213, StorageBusy),
        (1969, StorageBusy),
        (1146, SchemaMissing),
        (1290, StorageFailed),
        (1792, StorageFailed),
        (1406, StorageFailed),
        (4025, StorageFailed),
    ],
)
def test_a_server_that_refuses_leaves_nothing_behind(
    backend: SqlBackend, cursor: Cursor, tenant: str, number: int, family: type[OrderKitError]
) -> None:
    """The last row of the commit is refused: whatever came before it in the same commit is gone as well."""
    cursor.execute(
        f"CREATE OR REPLACE TRIGGER refusing BEFORE INSERT ON orderkit_outbox FOR EACH ROW IF NEW.tenant = '{tenant}' "
        f"THEN SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = 'near cust-private'; END IF"
    )
    order = order_row(tenant)
    outbox = next(kind for kind in KINDS if kind.table.name == "outbox")
    changes = placing(order, claim=claim_for(order))
    changes.insert(outbox.table, outbox.rows(tenant, 1))
    try:
        with pytest.raises(family) as caught:
            commit(backend, changes)
    finally:
        cursor.execute("DROP TRIGGER refusing")
    assert type(caught.value) is family
    assert f"[{number}]" in caught.value.message
    assert "cust-private" not in caught.value.message
    assert look(backend, order, reference(claim_for(order))) == (None, None)
    commit(backend, changes)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (pymysql.err.OperationalError(2006, "gone away"), "LOST"),
        (pymysql.err.OperationalError(2013, "lost"), "LOST"),
        (pymysql.err.OperationalError(1927, "killed"), "LOST"),
        (pymysql.err.OperationalError(4031, "inactive"), "LOST"),
        (pymysql.err.InterfaceError(0, ""), "LOST"),
        (ConnectionResetError(104, "reset"), "LOST"),
        (pymysql.err.OperationalError(1030, "Got error 28 from storage engine"), "FULL"),
        (pymysql.err.OperationalError(1030, "Got error 122 from storage engine"), "OTHER"),
        (pymysql.err.ProgrammingError("what a driver says of itself"), "OTHER"),
        (ValueError(), "OTHER"),
    ],
)
def test_an_error_is_understood_by_its_number(error: BaseException, kind: str) -> None:
    assert fault_of(error).kind.name == kind


def test_a_killed_connection_is_replaced_before_it_is_used(mariadb: str, cursor: Cursor, tenant: str) -> None:
    backend = open_backend(mariadb, pool_size=1, max_overflow=0)
    assert isinstance(backend, SqlBackend)
    for n in range(3):
        with backend.connect() as storage:
            ((identifier,),) = storage._executor.execute("SELECT CONNECTION_ID()")
        cursor.execute("KILL %s", (identifier,))
        gone = "SELECT 1 FROM information_schema.processlist WHERE id = %s"
        while cursor.execute(gone, (identifier,)):
            pass
        commit(backend, placing(order_row(tenant, f"order_{n}")))

    def be_killed() -> None:
        with backend.connect(transaction=True) as storage:
            storage.commit(placing(order_row(tenant, "order_9")))
            cursor.execute("KILL %s", (storage._executor.execute("SELECT CONNECTION_ID()")[0][0],))
            storage.commit(placing(order_row(tenant, "order_10")))

    with pytest.raises(StorageUnavailable):
        be_killed()
    assert read(backend, order_row(tenant, "order_9")) is None
    backend.close()


def test_a_server_that_closes_idle_connections_is_not_noticed(mariadb: str, cursor: Cursor, tenant: str) -> None:
    backend = open_backend(mariadb, pool_size=1, max_overflow=0)
    assert isinstance(backend, SqlBackend)
    with backend.connect() as storage:
        storage._executor.execute("SET SESSION wait_timeout = 1")
        ((identifier,),) = storage._executor.execute("SELECT CONNECTION_ID()")
    while cursor.execute("SELECT 1 FROM information_schema.processlist WHERE id = %s", (identifier,)):
        pass
    commit(backend, placing(order_row(tenant)))
    backend.close()


def test_the_dialect_spells_what_every_database_shares() -> None:
    dialect = Mariadb("pymysql")
    assert dialect.compile("SELECT k.key, CAST(o.metadata AS text), k.tenant || '' FROM {idempotency_keys} AS k") == (
        "SELECT k.`key`, o.metadata, CONCAT(k.tenant, '') FROM orderkit_idempotency_keys AS k"
    )
    assert dialect.compile("ON DUPLICATE KEY UPDATE precision = VALUES(precision), key_name = :text") == (
        "ON DUPLICATE KEY UPDATE `precision` = VALUES(`precision`), key_name = %s"
    )
    ahead = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    assert str(dialect.encode(ahead)) == "2026-01-01 00:00:00+00:00"
