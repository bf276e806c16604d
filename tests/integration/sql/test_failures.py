"""What the databases do wrong, and what is then known: each has its own error."""

# ruff: noqa: PT012 - it is the whole block that is left by an error

from __future__ import annotations

import sqlite3 as sqlite_driver
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.pool import Pool

from orderkit.errors import (
    AlreadyExists,
    CommitUnknown,
    ConfigurationError,
    IdempotencyInFlight,
    InvalidQuery,
    OrderKitError,
    SchemaMissing,
    StorageBusy,
    StorageFailed,
    StorageFull,
    StorageUnavailable,
)
from orderkit.orders.ports import Among, Search
from orderkit.orders.tables import ORDERS
from orderkit.storage.sql import SqlBackend, open_backend
from orderkit.storage.sql.brackets import Savepoint, Transaction
from orderkit.storage.sql.execution import Rows
from orderkit.storage.sql.sqlite import Sqlite
from orderkit.storage.sql.storage import SqlStorage
from orderkit.testing.conformance.base import (
    claim_for,
    commit,
    fresh_tenant,
    moved,
    moving,
    order_row,
    placing,
    read,
)
from tests.integration.sql.gates import build_gate, closed_gate, terminate, until, waiting


def gated_tenant() -> str:
    return f"gated-{uuid4().hex}"


@pytest.fixture
def pooled(postgresql: str, session: psycopg.Connection) -> Iterator[SqlBackend]:
    """A backend with one connection to PostgreSQL, in front of which there is a gate."""
    build_gate(session)
    backend = open_backend(postgresql, pool_size=1, max_overflow=0, lock_timeout=30)
    yield backend
    backend.close()


# --------------------------------------------------------------------------------------------
# The connection goes
# --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transaction", [False, True], ids=["by-itself", "in-a-transaction"])
def test_a_connection_that_goes_during_the_commit_leaves_it_unknown(
    pooled: SqlBackend, session: psycopg.Connection, transaction: bool
) -> None:
    order = order_row(gated_tenant())

    def write() -> None:
        with pooled.connect(transaction=transaction) as storage:
            storage.commit(placing(order))

    with ThreadPoolExecutor(1) as pool, closed_gate(session):
        writing = pool.submit(write)
        until(lambda: waiting(session))
        terminate(session)
        with pytest.raises(CommitUnknown):
            writing.result()
    assert read(pooled, order) is None
    commit(pooled, placing(order))
    assert read(pooled, order) is not None


def test_a_connection_that_goes_before_the_commit_leaves_nothing(
    pooled: SqlBackend, session: psycopg.Connection
) -> None:
    order = order_row(fresh_tenant())
    with pytest.raises(StorageUnavailable) as caught, pooled.connect(transaction=True) as storage:
        storage.commit(placing(order))
        terminate(session, waiting_only=False)
        storage.read(order.tenant, order.id)
    assert "nothing" in caught.value.message
    assert read(pooled, order) is None


def test_a_connection_that_goes_before_the_end_of_the_transaction_leaves_it_unknown(
    pooled: SqlBackend, session: psycopg.Connection
) -> None:
    order = order_row(fresh_tenant())
    with pytest.raises(CommitUnknown), pooled.connect(transaction=True) as storage:
        storage.commit(placing(order))
        terminate(session, waiting_only=False)
    assert read(pooled, order) is None


@pytest.mark.parametrize("times", [1, 3])
def test_connections_that_went_while_idle_are_replaced_unnoticed(
    postgresql: str, session: psycopg.Connection, times: int
) -> None:
    backend = open_backend(postgresql, pool_size=3, max_overflow=0)
    tenant = fresh_tenant()
    for attempt in range(times):
        with backend.connect(), backend.connect(), backend.connect():
            pass
        terminate(session, waiting_only=False)
        commit(backend, placing(order_row(tenant, f"order_{attempt}")))
    assert read(backend, order_row(tenant, "order_0")) is not None
    backend.close()


def test_a_connection_with_news_of_another_kind_is_kept(pooled: SqlBackend, session: psycopg.Connection) -> None:
    with pooled.connect() as storage:
        storage._executor.execute("LISTEN gossip")
        ((before,),) = storage._executor.execute("SELECT pg_backend_pid()")
    session.execute("NOTIFY gossip")
    with pooled.connect() as storage:
        assert storage._executor.execute("SELECT pg_backend_pid()") == [(before,)]


def test_a_server_that_is_not_there_is_unavailable() -> None:
    backend = open_backend("postgresql+psycopg://someone:a-secret@127.0.0.1:1/shop")
    with pytest.raises(StorageUnavailable) as caught:
        read(backend, order_row("t"))
    assert "a-secret" not in str(caught.value)
    with pytest.raises(StorageUnavailable):
        backend.create_schema()
    backend.close()


class Interrupted:
    """An executor that is interrupted by whoever stops the program."""

    def __init__(self, at: str) -> None:
        self._at = at

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> Rows:
        if sql.startswith(self._at):
            raise KeyboardInterrupt
        return []

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        raise AssertionError("there is one row")


@pytest.mark.parametrize("at", ["SAVEPOINT", "SELECT", "ROLLBACK"])
def test_a_connection_that_was_interrupted_is_not_used_again(at: str) -> None:
    executor = Interrupted(at)
    storage = SqlStorage(executor, Sqlite(), Savepoint(executor), in_transaction=True)
    order = order_row("t")
    with pytest.raises(KeyboardInterrupt):
        storage.commit(moving(order))
    assert storage.damaged


def test_a_connection_whose_rollback_was_interrupted_is_not_used_again() -> None:
    executor = Interrupted("ROLLBACK")
    storage = SqlStorage(executor, Sqlite(), Savepoint(executor), in_transaction=True)
    with pytest.raises(KeyboardInterrupt), storage.inside(Transaction(executor, "BEGIN")):
        raise ZeroDivisionError
    assert storage.damaged


# --------------------------------------------------------------------------------------------
# Others are in the way
# --------------------------------------------------------------------------------------------


@contextmanager
def unfinished(backend: SqlBackend) -> Iterator[SqlStorage]:
    """A transaction left open for the length of a block, and then rolled back."""

    class Done(Exception):
        pass

    with pytest.raises(Done), backend.connect(transaction=True) as storage:
        yield storage
        raise Done


@pytest.fixture
def impatient(postgresql: str) -> Iterator[SqlBackend]:
    backend = open_backend(postgresql, lock_timeout=0.05)
    yield backend
    backend.close()


def test_a_key_whose_first_use_is_not_over_is_in_flight(impatient: SqlBackend) -> None:
    tenant = fresh_tenant()
    first, second = order_row(tenant, "order_1"), order_row(tenant, "order_2")
    with unfinished(impatient) as storage:
        storage.commit(placing(first, claim=claim_for(first)))
        with pytest.raises(IdempotencyInFlight) as caught:
            commit(impatient, placing(second, claim=claim_for(second)))
        assert caught.value.key == claim_for(second).key
    assert commit(impatient, placing(second, claim=claim_for(second))).committed


def test_a_key_is_in_flight_although_there_are_guards_too(impatient: SqlBackend) -> None:
    tenant = fresh_tenant()
    first, second = order_row(tenant, "order_1"), order_row(tenant, "order_2")
    commit(impatient, placing(first, second))
    with unfinished(impatient) as storage:
        storage.commit(moving(first, claim=claim_for(moved(first))))
        with pytest.raises(IdempotencyInFlight):
            commit(impatient, moving(second, claim=claim_for(moved(first))))


def test_an_order_somebody_holds_is_busy_and_no_key_in_flight(impatient: SqlBackend) -> None:
    order = order_row(fresh_tenant())
    commit(impatient, placing(order))
    with unfinished(impatient) as storage:
        storage.read(order.tenant, order.id, lock=True)
        with pytest.raises(StorageBusy):
            commit(impatient, moving(order, claim=claim_for(moved(order))))
    assert commit(impatient, moving(order, claim=claim_for(moved(order)))).committed


def test_a_statement_that_takes_too_long_is_ended(postgresql: str) -> None:
    backend = open_backend(postgresql, statement_timeout=0.05, lock_timeout=30)
    order = order_row(fresh_tenant())
    commit(backend, placing(order))
    with unfinished(backend) as storage:
        storage.read(order.tenant, order.id, lock=True)
        with pytest.raises(StorageBusy):
            commit(backend, moving(order))
    assert commit(backend, moving(order)).committed
    backend.close()


def test_a_pool_without_a_free_connection_is_busy(url: str) -> None:
    backend = open_backend(url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    with backend.connect(), pytest.raises(StorageBusy):
        read(backend, order_row("t"))
    backend.close()


def test_a_block_in_memory_waits_for_the_only_connection() -> None:
    backend = open_backend("sqlite://", busy_timeout=0.05)
    backend.create_schema()
    with backend.connect(), pytest.raises(StorageBusy):
        read(backend, order_row("t"))
    patient = open_backend("sqlite://", busy_timeout=30)
    patient.create_schema()
    with patient.connect():
        pool = ThreadPoolExecutor(1)
        reading = pool.submit(read, patient, order_row("t"))
    assert reading.result() is None
    pool.shutdown()
    backend.close()
    patient.close()


# --------------------------------------------------------------------------------------------
# The database refuses
# --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["memory", "another schema"])
def test_tables_that_are_not_there_are_missed(request: pytest.FixtureRequest, place: str) -> None:
    if place == "memory":
        backend = open_backend("sqlite://")
    else:
        backend = open_backend(request.getfixturevalue("postgresql"), schema="nowhere")
    order = order_row("t")
    for attempt in (lambda: read(backend, order), lambda: commit(backend, placing(order))):
        with pytest.raises(SchemaMissing) as caught:
            attempt()
        assert "create_schema" in caught.value.message
    backend.close()


def test_a_full_disk_leaves_nothing(sqlite: str) -> None:
    def bound(connection: sqlite_driver.Connection, _record: object) -> None:
        ((pages,),) = connection.execute("PRAGMA page_count").fetchall()
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    event.listen(Pool, "connect", bound)
    backend = open_backend(sqlite, pool_size=1, max_overflow=0)
    tenant = fresh_tenant()
    large = [order_row(tenant, f"order_{n}")._replace(document="x" * 3000) for n in range(9)]
    try:
        with pytest.raises(StorageFull):
            commit(backend, placing(*large))
        assert read(backend, large[0]) is None
        commit(backend, placing(order_row(tenant, "order_small")))
        with pytest.raises(StorageFull), backend.connect(transaction=True) as storage:
            storage.commit(placing(large[0]))
            storage.commit(placing(*large[1:]))
        assert read(backend, large[0]) is None
    finally:
        event.remove(Pool, "connect", bound)
        backend.close()


def test_a_file_that_is_no_database_fails(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    path.write_bytes(b"these are not the pages you are looking for" * 100)
    backend = open_backend(f"sqlite:///{path}")
    with pytest.raises(StorageFailed):
        read(backend, order_row("t"))
    backend.close()


def test_a_database_that_may_not_be_written_fails(sqlite: str) -> None:
    path = sqlite.removeprefix("sqlite:///")
    backend = open_backend(f"sqlite:///file:{path}?mode=ro&uri=true")
    order = order_row("t")
    assert read(backend, order) is None
    with pytest.raises(StorageFailed):
        commit(backend, placing(order))
    backend.close()


def test_a_folder_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    backend = open_backend(f"sqlite:///{tmp_path / 'absent' / 'shop.db'}")
    with pytest.raises(StorageUnavailable):
        read(backend, order_row("t"))
    backend.close()


def test_a_failed_statement_inside_a_transaction_ends_it(backend: SqlBackend) -> None:
    order = order_row(fresh_tenant())
    with pytest.raises(StorageFailed), backend.connect(transaction=True) as storage:
        storage.commit(placing(order))
        with pytest.raises(OrderKitError):
            storage._fetch("SELECT * FROM {orders} WHERE no_such_column = :text", ["x"])
    assert read(backend, order) is None


@pytest.mark.parametrize(("kind", "text"), [("postgresql", "\0"), ("postgresql", "\ud800"), ("sqlite", "\ud800")])
def test_a_text_the_database_cannot_keep_changes_nothing(request: pytest.FixtureRequest, kind: str, text: str) -> None:
    backend = open_backend(request.getfixturevalue(kind))
    order = order_row(fresh_tenant())
    for changes in (placing(order._replace(status=text)), placing(order, order._replace(id=text))):
        with pytest.raises(StorageFailed) as caught:
            commit(backend, changes)
        assert text not in caught.value.message
        assert read(backend, order) is None
    commit(backend, placing(order))
    backend.close()


def test_what_is_in_the_rows_stays_out_of_the_message(backend: SqlBackend) -> None:
    secret = "Erika Mustermann"
    order = order_row(fresh_tenant())._replace(document=secret, metadata=secret, total=2**80)
    with pytest.raises(StorageFailed) as caught:
        commit(backend, placing(order))
    assert secret not in str(caught.value)


# --------------------------------------------------------------------------------------------
# What is taken
# --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 50])
def test_the_order_whose_number_is_taken_is_named(backend: SqlBackend, count: int) -> None:
    tenant = fresh_tenant()
    commit(backend, placing(order_row(tenant, "order_old")._replace(number="N-7")))
    orders = [order_row(tenant, f"order_{n}") for n in range(count)]
    orders[-1] = orders[-1]._replace(number="N-7")
    with pytest.raises(AlreadyExists) as caught:
        commit(backend, placing(*orders))
    assert (caught.value.what, caught.value.value) == ("number", "N-7")


def test_a_number_two_new_orders_share_is_named(backend: SqlBackend) -> None:
    tenant = fresh_tenant()
    orders = [order_row(tenant, f"order_{n}")._replace(number=f"N-{n % 3}") for n in range(4)]
    with pytest.raises(AlreadyExists) as caught:
        commit(backend, placing(*orders))
    assert (caught.value.what, caught.value.value) == ("number", "N-0")


def test_a_taken_id_says_more_than_the_number_that_is_taken_with_it(backend: SqlBackend) -> None:
    order = order_row(fresh_tenant())
    commit(backend, placing(order))
    with pytest.raises(AlreadyExists) as caught:
        commit(backend, placing(order))
    assert (caught.value.what, caught.value.value) == ("order_id", order.id)


def test_an_order_that_takes_the_number_of_another_is_refused(backend: SqlBackend) -> None:
    tenant = fresh_tenant()
    first, second = order_row(tenant, "order_1"), order_row(tenant, "order_2")
    commit(backend, placing(first, second))
    changes = moving(second)
    changes.updates[ORDERS] = [moved(second)._replace(number=first.number)]
    with pytest.raises(AlreadyExists) as caught:
        commit(backend, changes)
    assert (caught.value.what, caught.value.value) == ("number", first.number)


# --------------------------------------------------------------------------------------------
# What cannot be asked
# --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("no_such_column", "x"),
        ("document", "x"),
        ("metadata", "x"),
        ("status = '' OR 1 = 1 --", "x"),
        ("status", 5),
        ("status", "\0"),
        ("status", "\udfff"),
        ("total", "5"),
        ("total", 2**63),
        ("total", True),
        ("version", 2**31),
        ("held", 1),
        ("created_at", "2026-01-01"),
    ],
)
def test_a_condition_that_cannot_hold_is_refused(backend: SqlBackend, column: str, value: object) -> None:
    search = Search("t", (Among(column, (value,)),), "created_at", True, 10)  # type: ignore[arg-type]  # the point
    with backend.connect() as storage, pytest.raises(InvalidQuery):
        storage.search(search)


@pytest.mark.parametrize("sort", ["document", "nothing", "id; DROP TABLE orderkit_orders"])
def test_a_sort_that_does_not_exist_is_refused(backend: SqlBackend, sort: str) -> None:
    with backend.connect() as storage, pytest.raises(InvalidQuery):
        storage.search(Search("t", (), sort, True, 10))


def test_a_number_without_gaps_needs_a_transaction(backend: SqlBackend) -> None:
    with backend.connect() as storage, pytest.raises(ConfigurationError):
        storage.next_number("t")


# --------------------------------------------------------------------------------------------
# The application's own engine
# --------------------------------------------------------------------------------------------


def test_an_engine_of_the_application_is_given_back_as_it_was(url: str) -> None:
    engine = create_engine(url, pool_size=1, max_overflow=0)
    backend = SqlBackend(engine)
    order = order_row(fresh_tenant())
    commit(backend, placing(order))
    with backend.connect(transaction=True) as storage:
        assert storage.commit(moving(order)).committed
    with engine.connect() as connection:
        connection.exec_driver_sql("DELETE FROM orderkit_orders")
        connection.rollback()
    backend.close()
    assert read(backend, order) is not None
    engine.dispose()
