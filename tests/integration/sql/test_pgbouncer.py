"""Behind PgBouncer in transaction mode: with the option everything holds, without it one clear error says so."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import ClassVar

import psycopg
import pytest
from sqlalchemy import URL

from orderkit import AsyncOrderKit, Line, Money, OrderKit, Settings
from orderkit.errors import CommitUnknown, ConfigurationError, StorageBusy, StorageUnavailable
from orderkit.kit.assembly import assemble
from orderkit.storage.options import SqlOptions
from orderkit.storage.sql import open_async_backend, open_backend
from orderkit.storage.sql.failures import Phase, failure
from orderkit.storage.sql.postgresql import fault_of
from orderkit.testing.conformance import ReadRows
from tests.conformance.test_storages import AsyncSqlConformance, OnPostgresql, SqlConformance
from tests.conftest import connected, text_of
from tests.integration.sql.bouncer import SERVERS, Bouncer, bouncing

pytestmark = pytest.mark.slow

CLIENTS = 32
DRIVERS = ["postgresql+psycopg", "postgresql+asyncpg"]
TEA = [Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR"))]
POOLED = Settings(pooler="transaction", pool_size=8, max_overflow=0)


@pytest.fixture(scope="module")
def database(postgresql_database: URL) -> Iterator[URL]:
    """An empty database on which waits for locks are bounded, as they must be behind a pooler."""
    name = f"orderkit_bounced_{secrets.token_hex(6)}"
    with connected(postgresql_database) as session:
        session.execute(f'CREATE DATABASE "{name}"'.encode())
        session.execute(f"ALTER DATABASE \"{name}\" SET lock_timeout = '5s'".encode())
        try:
            yield postgresql_database.set(database=name)
        finally:
            session.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture(scope="module")
def bouncer(database: URL) -> Iterator[Bouncer]:
    """A bouncer in transaction mode, with fewer connections than it has clients."""
    with bouncing(database) as bouncer:
        yield bouncer


class Bounced(OnPostgresql):
    options: ClassVar[SqlOptions] = {"pooler": "transaction"}

    @pytest.fixture(scope="module")
    def url(self, bouncer: Bouncer) -> URL:
        return bouncer.url.set(drivername=self.driver)

    @pytest.fixture(scope="module")
    def rows(self, database: URL) -> Iterator[ReadRows]:
        yield from OnPostgresql.rows.__wrapped__(self, database)


@pytest.mark.slow
class TestPsycopg(Bounced, SqlConformance):
    pass


@pytest.mark.slow
@pytest.mark.torture
class TestAsyncPsycopg(Bounced, AsyncSqlConformance):
    pass


@pytest.mark.slow
class TestAsyncpg(Bounced, AsyncSqlConformance):
    driver: ClassVar = "postgresql+asyncpg"


def address(bouncer: Bouncer, driver: str = "postgresql+psycopg") -> str:
    return text_of(bouncer.url.set(drivername=driver))


def count(database: URL, tenant: str) -> int:
    with connected(database) as session:
        row = session.execute("SELECT count(*) FROM orderkit_orders WHERE tenant = %s", [tenant]).fetchone()
    return row[0] if row else 0


def test_many_threads_share_a_few_connections(bouncer: Bouncer, database: URL) -> None:
    with OrderKit.from_url(address(bouncer), settings=Settings(pooler="transaction", pool_size=CLIENTS)) as kit:
        kit.create_schema()
        shop = kit.for_tenant("threads")
        start = threading.Barrier(CLIENTS)

        def trade(_: int) -> None:
            start.wait()
            for _ in range(8):
                order = shop.orders.place(lines=TEA)
                shop.orders.confirm(order.id)
                with shop.transaction() as transaction:
                    transaction.orders.cancel(order.id)
                assert len(shop.orders.history(order.id)) == 3

        with ThreadPoolExecutor(CLIENTS) as threads:
            list(threads.map(trade, range(CLIENTS)))
    assert count(database, "threads") == CLIENTS * 8
    assert 1 <= bouncer.servers() <= SERVERS


@pytest.mark.parametrize("driver", DRIVERS)
def test_many_tasks_share_a_few_connections(bouncer: Bouncer, database: URL, driver: str) -> None:
    tenant = f"tasks-{driver}"

    async def trade() -> None:
        settings = Settings(pooler="transaction", pool_size=CLIENTS)
        async with AsyncOrderKit.from_url(address(bouncer, driver), settings=settings) as kit:
            await kit.create_schema()
            shop = kit.for_tenant(tenant)

            async def one() -> None:
                for _ in range(8):
                    order = await shop.orders.place(lines=TEA)
                    async with shop.transaction() as transaction:
                        await transaction.orders.confirm(order.id)
                    assert [found.id for found in (await shop.orders.search(limit=1)).items]

            await asyncio.gather(*(one() for _ in range(CLIENTS)))

    asyncio.run(trade())
    assert count(database, tenant) == CLIENTS * 8


def test_a_pooler_that_dies_and_comes_back_loses_and_doubles_nothing(bouncer: Bouncer, database: URL) -> None:
    with OrderKit.from_url(address(bouncer), settings=POOLED) as kit:
        kit.create_schema()
        shop = kit.for_tenant("killed")
        halfway = threading.Event()

        def trade(client: int) -> None:
            for number in range(30):
                while True:
                    with suppress(StorageUnavailable, CommitUnknown):
                        shop.orders.place(lines=TEA, idempotency_key=f"{client}-{number}")
                        break
                if number == 10:
                    halfway.set()

        with ThreadPoolExecutor(8) as threads:
            working = [threads.submit(trade, client) for client in range(8)]
            assert halfway.wait(60)
            bouncer.kill()
            bouncer.start()
            for work in working:
                work.result()
    assert count(database, "killed") == 8 * 30


@pytest.mark.parametrize("driver", DRIVERS)
def test_nobody_waits_for_a_lock_for_ever(bouncer: Bouncer, database: URL, driver: str) -> None:
    with OrderKit.from_url(address(bouncer), settings=POOLED) as kit:
        kit.create_schema()
        order = kit.orders.place(lines=TEA)
    backend = open_async_backend(address(bouncer, driver), pooler="transaction")

    async def confirm() -> None:
        async with AsyncOrderKit(backend, assemble("", {})) as kit:
            await kit.orders.confirm(order.id)

    with connected(database) as session, session.transaction():
        session.execute("SELECT 1 FROM orderkit_orders WHERE id = %s FOR UPDATE", [order.id])
        with pytest.raises(StorageBusy):
            asyncio.run(confirm())


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("ignored", ["", "options, lock_timeout, orderkit.session"])
def test_without_the_option_the_first_use_says_what_to_do(database: URL, driver: str, ignored: str) -> None:
    with bouncing(database, ignored=ignored) as bouncer:
        assert "pooler='transaction'" in refusal(address(bouncer, driver))


@pytest.mark.parametrize("driver", DRIVERS)
def test_waits_that_nothing_bounds_are_refused(database: URL, driver: str) -> None:
    with connected(database) as session:
        session.execute(f'ALTER DATABASE "{database.database}" RESET lock_timeout'.encode())
        try:
            with bouncing(database) as bouncer:
                message = refusal(address(bouncer, driver), pooler="transaction")
        finally:
            session.execute(f"ALTER DATABASE \"{database.database}\" SET lock_timeout = '5s'".encode())
    assert "ALTER ROLE" in message


def refusal(url: str, **options: object) -> str:
    """Return what is said at the first use of a database."""

    async def use() -> None:
        backend = open_async_backend(url, **options)  # type: ignore[arg-type]  # the options of one test
        try:
            async with backend.connect() as call:
                await call(lambda storage: storage.read("tenant", "order"))
        finally:
            await backend.close()

    with pytest.raises(ConfigurationError) as caught:
        asyncio.run(use())
    return caught.value.message


@pytest.mark.parametrize("state", ["26000", "42P05"])
def test_statements_of_a_session_that_is_gone_are_explained(state: str) -> None:
    error = failure(fault_of(psycopg.errors.lookup(state)("prepared statement")), Phase.READING)
    assert isinstance(error, ConfigurationError)
    assert "pooler='transaction'" in error.message


@pytest.mark.parametrize("url", ["sqlite://", "mariadb+pymysql://host/shop"])
def test_a_pooler_is_for_postgresql(url: str) -> None:
    with pytest.raises(ConfigurationError, match="PostgreSQL"):
        open_backend(url, pooler="transaction")


def test_a_statement_is_not_timed_by_a_session_there_is_none_of() -> None:
    with pytest.raises(ConfigurationError, match="ALTER ROLE"):
        open_backend("postgresql+psycopg://host/shop", pooler="transaction", statement_timeout=3)
