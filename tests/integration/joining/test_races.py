"""Two transactions of an application want the same: the second waits for the first, and then knows."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from django.db import connections
from django.utils.connection import ConnectionProxy
from sqlalchemy import URL, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from orderkit import AsyncOrderKit, Line, Money, Order, OrderKit
from orderkit.errors import IdempotencyInFlight, IdempotencyMismatch, StorageBusy, StorageFull, VersionConflict
from tests.conftest import text_of
from tests.integration.joining import django_setup
from tests.integration.joining.theirs import KINDS, Theirs

TEA = (Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR")),)
MATE = (Line(sku="MATE", quantity=1, unit_price=Money("3", "EUR")),)

Enter = Callable[[], AbstractContextManager[tuple[Theirs, Any]]]

WRITE = text("INSERT INTO their_notes VALUES (:owner, 'a')")

LIMITS = {
    "postgresql": "SET LOCAL lock_timeout = '50ms'",
    "mariadb": "SET SESSION innodb_lock_wait_timeout = 1",
    "sqlite": "PRAGMA busy_timeout = 50",
}


@pytest.fixture(params=[("sqlite", "sqlite3"), ("postgresql", "psycopg"), ("mariadb", "pymysql")], ids=" ".join)
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    found: tuple[str, str] = request.param
    return found


@pytest.fixture
def enter(place: tuple[str, str], database: URL, kit: OrderKit) -> Enter:
    """Open one more transaction of the application."""

    @contextmanager
    def entered() -> Generator[tuple[Theirs, Any]]:
        # One loop of another thread is enough for connections that need none.
        with KINDS[place[0]][place[1]](database, None) as theirs:  # type: ignore[arg-type]  # see above
            yield theirs, kit.within(theirs.joined).orders

    return entered


def waiting(enter: Enter, **options: Any) -> tuple[Future[Order | Exception], ThreadPoolExecutor]:
    """Place an order in a transaction of another thread, which is committed if that succeeds."""

    def place() -> Order | Exception:
        with enter() as (theirs, orders):
            try:
                order: Order = orders.place(**options)
            except (IdempotencyInFlight, IdempotencyMismatch, StorageBusy) as error:
                return error
            theirs.commit()
            return order

    pool = ThreadPoolExecutor(1)
    return pool.submit(place), pool


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_the_same_key(enter: Enter, kit: OrderKit, end: str) -> None:
    with enter() as (theirs, orders):
        first = orders.place(lines=TEA, idempotency_key="k")
        second, pool = waiting(enter, lines=TEA, idempotency_key="k")
        with pytest.raises(TimeoutError):
            second.result(timeout=0.1)
        getattr(theirs, end)()
    answer = second.result()
    pool.shutdown()
    assert isinstance(answer, Order)
    assert (answer == first) is (end == "commit")
    assert [order.id for order in kit.orders.stream()] == [answer.id]


def test_the_same_key_for_something_else(enter: Enter, kit: OrderKit) -> None:
    with enter() as (theirs, orders):
        first = orders.place(lines=TEA, idempotency_key="k")
        second, pool = waiting(enter, lines=MATE, idempotency_key="k")
        with pytest.raises(TimeoutError):
            second.result(timeout=0.1)
        theirs.commit()
    assert isinstance(second.result(), IdempotencyMismatch)
    pool.shutdown()
    assert [order.id for order in kit.orders.stream()] == [first.id]


def test_whoever_does_not_wait_that_long_can_go_on(
    enter: Enter, kit: OrderKit, place: tuple[str, str], owner: str
) -> None:
    with enter() as (theirs, orders), enter() as (others, their_orders):
        if place[0] != "sqlite":
            others.execute("INSERT INTO their_notes VALUES (?, 'b')", owner)
        orders.place(lines=TEA, idempotency_key="k")
        others.execute(LIMITS[place[0]])
        with pytest.raises((IdempotencyInFlight, StorageBusy)):
            their_orders.place(lines=TEA, idempotency_key="k")
        if place[0] == "sqlite":
            theirs.commit()
            return
        their_orders.place(lines=MATE, id="another")
        others.commit()
        theirs.rollback()
    assert [order.id for order in kit.orders.stream()] == ["another"]


# On SQLite there is one writer at a time, who reads after the other is done.
@pytest.mark.parametrize("place", [("postgresql", "psycopg"), ("mariadb", "pymysql")], ids=" ".join)
def test_the_same_order(enter: Enter, kit: OrderKit) -> None:
    """The second has decided upon what is no longer so: a conflict, and it may go on or repeat."""
    order = kit.orders.place(lines=TEA)
    with enter() as (theirs, orders), enter() as (others, their_orders):
        seen = their_orders.get(order.id)
        orders.confirm(order.id)
        theirs.commit()
        with pytest.raises(VersionConflict):
            their_orders.confirm(order.id, expected_version=seen.version)
        others.rollback()
        with pytest.raises(VersionConflict):
            their_orders.cancel(order.id, expected_version=seen.version)
        their_orders.cancel(order.id)
        others.commit()
    assert kit.orders.get(order.id).status == "cancelled"


@pytest.mark.parametrize(
    ("place", "driver", "usable"),
    [
        (("postgresql", "psycopg"), "postgresql+psycopg", True),
        (("postgresql", "psycopg"), "postgresql+asyncpg", True),
        # aiomysql closes a connection whose statement is cancelled: whatever they do next fails.
        (("mariadb", "pymysql"), "mariadb+aiomysql", False),
    ],
)
def test_whoever_is_cancelled_while_waiting(
    enter: Enter, kit: OrderKit, database: URL, owner: str, driver: str, usable: bool
) -> None:
    """Their transaction is as it was before the command, or of no use any more; never half of it."""
    order = kit.orders.place(lines=TEA)
    url = database.set(drivername=driver)

    async def give_up() -> None:
        engine = create_async_engine(url, poolclass=NullPool)
        async with AsyncOrderKit.from_url(text_of(url)) as patient, engine.connect() as connection:
            orders = patient.for_tenant(owner).within(connection).orders
            await connection.execute(WRITE, {"owner": owner})
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(orders.confirm(order.id), timeout=0.3)
            if usable:
                assert await orders.get(order.id) == order
                await connection.commit()
            else:
                with pytest.raises(DBAPIError, match="Cancelled"):
                    await connection.commit()
                await connection.invalidate()
        await engine.dispose()

    with enter() as (theirs, orders):
        orders.confirm(order.id)
        asyncio.run(give_up())
        assert theirs.execute("SELECT count(*) FROM their_notes WHERE owner = ?", owner) == [(int(usable),)]
        theirs.rollback()
    assert kit.orders.get(order.id) == order


@pytest.mark.parametrize("place", [("postgresql", "django"), ("mariadb", "django")], ids=" ".join)
def test_threads_that_share_the_proxy_of_django(kit: OrderKit, database: URL) -> None:
    """What `within` gave once is used by every thread, each on its own connection."""
    alias = django_setup.alias_of(database)
    orders = kit.within(ConnectionProxy(connections, alias)).orders

    def work(number: int) -> list[str]:
        try:
            placed = []
            for step in range(5):
                with django_setup.atomic(alias):
                    placed.append(orders.place(lines=TEA, idempotency_key=f"{number}-{step}").id)
            return placed
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        placed = [order for orders_of_one in pool.map(work, range(8)) for order in orders_of_one]
    assert sorted(placed) == sorted(order.id for order in kit.orders.stream())
    assert len(set(placed)) == 40
    django_setup.forget(alias)


def test_nothing_is_imported_that_the_application_has_not_imported(tmp_path: Any) -> None:
    script = """
import sqlite3, sys
from orderkit import Line, Money, OrderKit
kit = OrderKit.from_url("sqlite:///shop.db")
kit.create_schema()
connection = sqlite3.connect("shop.db")
kit.within(connection).orders.place(lines=[Line(sku="TEA", quantity=1, unit_price=Money("1", "EUR"))])
connection.commit()
connection.close()
kit.close()
print({"psycopg", "pymysql", "MySQLdb", "aiomysql", "django"} & sys.modules.keys())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("set()", "")


def test_a_full_database_under_sqlite(tmp_path: Any) -> None:
    """SQLite may end the whole transaction then: the error says so, or what came before is still there."""
    url = URL.create("sqlite", database=str(tmp_path / "small.db"))
    with OrderKit.from_url(text_of(url)) as kit:
        kit.create_schema()
        connection = sqlite3.connect(str(url.database))
        connection.execute("CREATE TABLE their_notes (body text)")
        connection.commit()
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        connection.execute("INSERT INTO their_notes VALUES ('a')")

        def fill() -> None:
            for _ in range(100):
                kit.within(connection).orders.place(lines=TEA, metadata={"long": "x" * 500})

        with pytest.raises(StorageFull) as caught:
            fill()
        noted = "repeat it from its beginning" in str(getattr(caught.value, "__notes__", ""))
        assert connection.in_transaction is not noted
        connection.close()
