"""Code of one release beside tables of another: what is compatible works, what is not is refused at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import attrs
import pytest

from orderkit import AsyncOrderKit, OrderKit
from orderkit.errors import SchemaMissing
from orderkit.idempotency.leases import NewOperation
from orderkit.idempotency.ports import KeepsOperations
from orderkit.storage.sql import SqlBackend, open_backend
from orderkit.storage.sql.groups import GroupedBackend
from orderkit.storage.sql.migrations import Migrations, SchemaOutdated, SchemaTooNew
from orderkit.storage.sql.migrations.versions import REVISIONS
from orderkit.unit_of_work.changes import KeyReference
from tests.integration.migrations.databases import TEA, Database
from tests.integration.migrations.newer import CONTRACTED, EXPANDED, NEWER

pytestmark = pytest.mark.slow

HEAD = REVISIONS[-1].revision
ROOT = Path(__file__).parents[3]


@attrs.frozen
class Application:
    """A process of this release that places one order after the other."""

    process: subprocess.Popen[str]
    placed: list[str] = attrs.field(factory=list)

    def place(self, count: int) -> None:
        """Wait until so many more orders have been placed."""
        assert self.process.stdout is not None
        self.placed.extend(self.process.stdout.readline().strip() for _ in range(count))
        assert all(order.startswith("order_") for order in self.placed), self.placed[-1]

    def stop(self) -> None:
        """Let it end."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def ended(self) -> str | None:
        """Return the code of the error that ended it, or None."""
        assert self.process.stdout is not None
        *placed, last = ["", *self.process.stdout.read().split()]
        self.placed.extend(filter(None, placed))
        if last.startswith("order_"):
            self.placed.append(last)
        return None if last.startswith("order_") or not last else last


@pytest.fixture
def application(database: Database) -> Iterator[Application]:
    database.migrations().upgrade()
    command = [sys.executable, "-m", "tests.integration.migrations.placing", database.url, database.schema or ""]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Application(process)
        process.kill()


def test_this_release_works_on_while_a_newer_one_expands_the_tables(
    database: Database, application: Application
) -> None:
    newer = database.migrations(NEWER)
    application.place(20)
    newer.upgrade(EXPANDED)
    assert database.state() == (EXPANDED, REVISIONS[-1].compatible_from, None)
    application.place(20)
    newer.downgrade(HEAD)
    application.place(20)
    newer.upgrade(EXPANDED)
    application.place(20)
    application.stop()
    assert application.ended() is None
    with database.kit(create_tables=False) as kit:
        assert [kit.orders.get(order).status for order in application.placed] == ["cancelled"] * len(application.placed)
    assert len(database.rows("SELECT id FROM orderkit_orders")) == len(application.placed) >= 80


def test_this_release_is_refused_once_a_newer_one_has_contracted_the_tables(
    database: Database, application: Application
) -> None:
    application.place(10)
    database.migrations(NEWER).upgrade()
    assert database.state() == (CONTRACTED, CONTRACTED, None)
    assert application.ended() == SchemaTooNew.code
    stored = {order for (order,) in database.rows("SELECT id FROM orderkit_orders")}
    # Its last order may be stored already when the cancellation that follows is refused.
    assert stored >= set(application.placed)
    assert len(stored) - len(application.placed) in {0, 1}


def test_a_kit_is_refused_at_its_first_use_of_tables_that_are_too_new(database: Database) -> None:
    database.migrations(NEWER).upgrade()
    for create in (False, True):
        with database.kit(create_tables=create) as kit, pytest.raises(SchemaTooNew) as caught:
            kit.orders.search()
        assert (caught.value.revision, caught.value.compatible_from, caught.value.known) == (
            CONTRACTED,
            CONTRACTED,
            HEAD,
        )
    with database.kit() as kit, pytest.raises(SchemaTooNew):
        kit.create_schema()
    with pytest.raises(SchemaTooNew):
        database.migrations().upgrade()
    with pytest.raises(SchemaTooNew):
        database.migrations().downgrade("0001")
    assert database.state() == (CONTRACTED, CONTRACTED, None)


def test_this_release_leaves_newer_tables_that_it_can_use_as_they_are(database: Database) -> None:
    database.migrations(NEWER).upgrade(EXPANDED)
    with database.kit() as kit:
        kit.create_schema()
        order = kit.orders.place(lines=TEA)
        assert kit.orders.get(order.id) == order
    found = database.migrations().current()
    assert (found.revision, found.outstanding) == (EXPANDED, ())
    with pytest.raises(SchemaTooNew):
        database.migrations().downgrade("0001")
    assert database.state() == (EXPANDED, REVISIONS[-1].compatible_from, None)


async def refused_by_an_asynchronous_kit(url: str) -> SchemaTooNew:
    async with AsyncOrderKit.from_url(url) as kit:
        with pytest.raises(SchemaTooNew) as caught:
            await kit.orders.search()
        return caught.value


@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
def test_an_asynchronous_kit_is_refused_too(database: Database) -> None:
    database.migrations(NEWER).upgrade()
    url = database.url.replace("psycopg", "asyncpg")
    assert asyncio.run(refused_by_an_asynchronous_kit(url)).known == HEAD


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "mariadb"], indirect=True)
def test_tables_that_are_too_old_are_refused_or_upgraded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a release that needs what its newest revision brings."""
    Migrations(database.engine()).upgrade("0001")
    monkeypatch.setattr("orderkit.storage.sql.migrations.state.NEEDS", HEAD)
    with database.kit(create_tables=False) as kit:
        with pytest.raises(SchemaOutdated, match="orderkit db upgrade") as caught:
            kit.orders.place(lines=TEA)
        assert (caught.value.revision, caught.value.needed) == ("0001", HEAD)
        assert database.rows("SELECT id FROM orderkit_orders") == []
    with database.kit(create_tables=True) as kit:
        kit.orders.place(lines=TEA)
    assert database.state() == (HEAD, REVISIONS[-1].compatible_from, None)


def start_operation(backend: SqlBackend | GroupedBackend) -> None:
    new = NewOperation(KeyReference("acme", "pay", "key"), "v1:abc", "{}", "claim", timedelta(0))
    with backend.connect() as storage:
        assert isinstance(storage, KeepsOperations)
        assert storage.operations.start(new, lease=timedelta(0)) is None


def test_without_the_newest_table_everything_else_works(database: Database) -> None:
    database.migrations().upgrade("0002")
    orders = database.place()
    assert database.get(orders) == orders
    backend = open_backend(database.url, schema=database.schema)
    with pytest.raises(SchemaMissing, match="create_schema"):
        start_operation(backend)
    backend.create_schema()
    start_operation(backend)
    backend.close()
    assert database.get(orders) == orders


def test_tables_are_compared_once_and_not_at_every_use(database: Database) -> None:
    database.migrations().upgrade()
    with database.kit() as kit:
        order = kit.orders.place(lines=TEA)
        # Nobody looks any more, so that nobody minds.
        database.execute(f"UPDATE {qualified(database)} SET compatible_from = '9999'")
        assert kit.orders.get(order.id) == order
    with database.kit() as kit, pytest.raises(SchemaTooNew):
        kit.orders.get(order.id)


def qualified(database: Database) -> str:
    return "orderkit_schema" if database.schema is None else f"{database.schema}.orderkit_schema"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_database_whose_tables_the_application_makes_is_not_checked(database: Database) -> None:
    database.migrations().upgrade()
    database.execute("DROP TABLE orderkit_schema")
    with OrderKit.from_url(database.url) as kit:
        kit.orders.place(lines=TEA)
    assert database.state() is None


async def made_by_an_asynchronous_kit(url: str) -> int:
    async with AsyncOrderKit.from_url(url) as kit:
        await kit.create_schema()
        await kit.create_schema()
        await kit.orders.place(lines=TEA)
        return len((await kit.orders.search()).items)


@pytest.mark.parametrize("start", ["base", "0001"])
@pytest.mark.parametrize(
    ("database", "driver"),
    [
        ("sqlite", "sqlite"),
        ("postgresql", "postgresql+asyncpg"),
        ("postgresql", "postgresql+psycopg"),
        ("mariadb", "mariadb+aiomysql"),
    ],
    indirect=["database"],
)
def test_an_asynchronous_kit_makes_and_upgrades_the_tables(database: Database, driver: str, start: str) -> None:
    database.migrations().upgrade(start)
    url = f"{driver}://{database.url.partition('://')[2]}"
    assert asyncio.run(made_by_an_asynchronous_kit(url)) == 1
    assert database.state() == (HEAD, REVISIONS[-1].compatible_from, None)
    assert database.migrations().check() == []
