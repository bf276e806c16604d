"""The database goes away in the middle of operations: each write is there or not, and never twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from orderkit import Found, OperationRun, OrderKit, Settings
from orderkit.errors import SchemaMissing, StorageError, StorageUnavailable
from orderkit.kit.operations import Operations
from orderkit.testing.clock import ManualClock
from tests.integration.kit.places import POSTGRESQL, SERVERS, TEA, OpenAt, OpenKit, Place, assert_whole, outcome
from tests.integration.kit.proxy import Cut, Proxy
from tests.integration.operations.facade import operations_of
from tests.integration.operations.world import LEASE, Provider, place_tea, rows, shopping, working

on_servers = pytest.mark.parametrize("place", SERVERS, indirect=True)
on_postgresql = pytest.mark.parametrize("place", POSTGRESQL, indirect=True)


@pytest.fixture
def distant(open_at: OpenAt, proxied: Place, tenant: str, clock: ManualClock) -> Operations:
    """The operations of the tenant, through the proxy."""
    kit = open_at(proxied, clock=clock, settings=Settings(connect_timeout=2))
    return operations_of(kit.for_tenant(tenant))


def never(_run: OperationRun) -> Any:
    pytest.fail("the work was begun although its claim was not kept")


@on_servers
def test_nothing_is_called_while_the_storage_is_gone(
    distant: Operations, proxy: Proxy, place: Place, tenant: str
) -> None:
    proxy.stop()
    for attempt in (
        lambda: distant.run(working(never), key="k"),
        lambda: distant.report(working(never), key="k"),
        lambda: distant.settle(working(never), key="k", step="a", outcome=Found(1)),
        lambda: distant.resume(working(never)),
    ):
        with pytest.raises(StorageUnavailable):
            attempt()
    assert rows(place, tenant) == []


@pytest.mark.parametrize("cut", Cut)
@pytest.mark.parametrize("said", [b"INSERT INTO", b"UPDATE", b"COMMIT"], ids=["insert", "update", "commit"])
@on_servers
def test_a_connection_that_is_cut_during_any_write_makes_nothing_happen_twice(
    distant: Operations, proxy: Proxy, place: Place, tenant: str, clock: ManualClock, cut: Cut, said: bytes
) -> None:
    """The n-th time something is said the connection is cut, for every n there is."""
    cuts = 0
    for number in range(1, 100):
        provider, key, before = Provider(), f"k-{number}", proxy.cuts
        cut_at_the_nth(proxy, said, cut, number)
        result = outcome(partial(distant.run, shopping(provider), key=key))
        if proxy.cuts == before:
            break
        cuts += 1
        proxy.cut_at(b"\x00nothing says this", cut)
        if isinstance(result, Exception):
            assert isinstance(result, StorageError)
            clock.advance(LEASE + 1)
        answer: Any = distant.run(shopping(provider), key=key)
        assert answer["charged"] == 2
        assert isinstance(result, Exception) or result == answer
        assert len(provider.effects) == 2
        assert max(provider.arrivals.values()) <= 2
        assert place.count("orders", tenant) == number
    proxy.cut_at(b"\x00nothing says this", cut)
    assert cuts >= 1 or (place.is_postgresql and said == b"COMMIT")  # there a phase can be a single statement
    assert assert_whole(place, tenant)["orders"] == number


def cut_at_the_nth(proxy: Proxy, marker: bytes, cut: Cut, number: int) -> None:
    """Cut the next connection on which a client says something for the n-th time."""
    left = [number]

    def ordered(said: bytes) -> Cut | None:
        if marker not in said:
            return None
        left[0] -= 1
        return cut if left[0] == 0 else None

    proxy._ordered = ordered  # type: ignore[method-assign]


@on_servers
@pytest.mark.parametrize("step", ["first", "last"])
def test_a_phase_whose_commit_was_lost_sight_of_is_settled_at_once(
    distant: Operations, proxy: Proxy, place: Place, tenant: str, step: str
) -> None:
    def phase(tx: Any) -> Any:
        # A query of MariaDB's protocol; PostgreSQL writes and commits by one statement.
        proxy.cut_at(b"\x03COMMIT" if place.is_mariadb else b"cust-marked", Cut.BEFORE_ANSWER)
        return tx.orders.place(lines=TEA, customer="cust-marked").id

    def work(run: OperationRun) -> Any:
        return run.commit("order", phase) if step == "first" else run.complete(phase)

    answer = distant.run(working(work), key="k")
    assert proxy.cuts == 1
    assert [row["id"] for row in place.rows("orders", tenant)] == [answer]
    assert distant.run(working(never), key="k") == answer


@on_postgresql
def test_a_commit_that_is_under_way_still_is_waited_for(
    open_at: OpenAt, proxied: Place, proxy: Proxy, place: Place, tenant: str, clock: ManualClock
) -> None:
    """Nobody takes a phase for undone, and frees its key, while the server is in the middle of its commit."""
    schema, lock = f"s_{uuid4().hex}", 4711
    kit = open_at(proxied, clock=clock, settings=Settings(table_schema=schema))
    kit.create_schema()
    place.query(
        f"CREATE FUNCTION {schema}.dawdle() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN PERFORM pg_advisory_xact_lock_shared({lock}); RETURN NULL; END $$"
    )
    place.query(
        f"CREATE CONSTRAINT TRIGGER dawdling AFTER INSERT ON {schema}.orderkit_orders "
        f"DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {schema}.dawdle()"
    )

    def work(run: OperationRun) -> Any:
        return run.commit("order", place_tea)

    results: list[Any] = []
    operations = operations_of(kit.for_tenant(tenant))
    running = threading.Thread(target=lambda: results.append(outcome(lambda: operations.run(working(work), key="k"))))
    try:
        with place.holder() as held:
            held(f"SELECT pg_advisory_xact_lock({lock})", ())
            running.start()
            # The commit waits for the lock, is cut off, and whoever settles what came of it waits for the commit.
            wait_until(lambda: waiting(place, "advisory") >= 1)
            proxy.drop_all()
            wait_until(lambda: waiting(place, "transactionid") >= 1)
        running.join()
        (order,) = place.query(f"SELECT id FROM {schema}.orderkit_orders")
        assert results == [order["id"]]
        assert operations.run(working(never), key="k") == order["id"]
    finally:
        place.query(f"DROP SCHEMA {schema} CASCADE")


def waiting(place: Place, what: str) -> int:
    """Return how many connections of this database wait for a lock of this kind."""
    found = place.query(
        "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock' "
        "AND wait_event = %s",
        place.url.database,
        what,
    )
    return int(found[0]["n"])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@on_servers
def test_a_database_that_goes_away_for_good_leaves_what_was_begun(
    distant: Operations, proxy: Proxy, place: Place, tenant: str, kit: OrderKit, clock: ManualClock
) -> None:
    provider = Provider()
    provider.breaks = lambda key: proxy.stop()
    with pytest.raises(StorageUnavailable):
        distant.run(shopping(provider), key="k")
    provider.breaks = lambda key: None
    clock.advance(LEASE + 1)
    answer: Any = operations_of(kit).run(shopping(provider), key="k")
    assert (answer["reserved"], answer["charged"]) == (1, 2)
    assert place.count("orders", tenant) == 1


@on_servers
def test_an_error_of_the_work_is_told_although_giving_it_up_fails(distant: Operations, proxy: Proxy) -> None:
    def work(run: OperationRun) -> Any:
        proxy.stop()
        raise ConnectionError("mine")

    with pytest.raises(ConnectionError, match="mine") as found:
        distant.run(working(work), key="k")
    assert "until its lease has run out" in found.value.__notes__[0]


@on_postgresql
def test_missing_tables_are_told(open_kit: OpenKit, place: Place) -> None:
    schema = f"s_{uuid4().hex}"
    kit = open_kit(settings=Settings(table_schema=schema))
    with pytest.raises(SchemaMissing):
        operations_of(kit).run(working(never), key="k")
    kit.create_schema()
    assert operations_of(kit).run(working(lambda run: "done"), key="k") == "done"
    place.query(f"DROP TABLE {schema}.orderkit_idempotent_operations")
    with pytest.raises(SchemaMissing):
        operations_of(kit).run(working(never), key="k")
    place.query(f"DROP SCHEMA {schema} CASCADE")


@pytest.mark.parametrize("place", ["sqlite", "sqlite-async"], indirect=True)
def test_the_tables_of_a_file_are_made_on_first_use(operations: Operations, provider: Provider) -> None:
    answer: Any = operations.run(shopping(provider), key="k")
    assert answer["charged"] == 2
    assert operations.run(working(never, "shop"), key="k") == answer
