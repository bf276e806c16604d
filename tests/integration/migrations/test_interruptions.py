"""A migration that was killed anywhere is recognised, stands in nobody's way and is gone on with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import psycopg
import pytest
from sqlalchemy import make_url

from orderkit import OrderKit
from orderkit.errors import StorageBusy
from orderkit.storage.sql.migrations import SchemaUnfinished
from orderkit.storage.sql.migrations.versions import REVISIONS
from tests.conftest import text_of
from tests.integration.migrations.databases import Database

HEAD = REVISIONS[-1].revision
ROOT = Path(__file__).parents[3]


@attrs.frozen
class Migrator:
    """Another process, whose migrations die."""

    process: subprocess.Popen[str]

    def migrate(self, revision: str, dies_before: int) -> str:
        """Migrate there; return how the attempt ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{revision} {dies_before}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture
def migrator(database: Database) -> Iterator[Migrator]:
    command = [sys.executable, "-m", "tests.integration.migrations.migrating", database.url, database.schema or ""]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Migrator(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10)


STRIDES = [pytest.param(6, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.torture)]


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize(("start", "target"), [("0001", "head"), ("head", "0001")])
def test_a_migration_killed_before_any_statement_is_gone_on_with(
    database: Database, migrator: Migrator, start: str, target: str, stride: int
) -> None:
    migrations = database.migrations()
    migrations.upgrade(start)
    orders = database.place()
    contents = database.contents()
    for dies_before in range(1, 100, stride):
        ended = migrator.migrate(target, dies_before)
        assert ended in {"killed", "done"}
        assert database.get(orders) == orders
        migrations.upgrade()
        assert migrations.check() == []
        assert database.contents() == contents
        if ended == "done":
            break
        migrations.downgrade(start, lose_data=True)
    assert dies_before > 5


@pytest.mark.slow
def test_the_first_tables_are_made_in_spite_of_deaths(database: Database, migrator: Migrator) -> None:
    for dies_before in (1, 2, 3, 4, 9):
        assert migrator.migrate("head", dies_before) == "killed"
        # Only MariaDB keeps what was done until then.
        half_done = database.kind == "mariadb" and dies_before > 2
        assert database.state() == (("0000", "0001", "0001") if half_done else None)
    database.migrations().upgrade()
    assert database.migrations().check() == []
    assert len(database.place()) == 3


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_an_application_is_told_that_the_tables_are_not_finished(database: Database, migrator: Migrator) -> None:
    assert migrator.migrate("head", 7) == "killed"
    with OrderKit.from_url(database.url) as kit:
        with pytest.raises(SchemaUnfinished, match="orderkit db upgrade") as caught:
            kit.orders.search()
        assert caught.value.migrating_to == "0001"
        assert database.migrations().current().migrating_to == "0001"
        assert str(database.migrations().check()[0]) == "unfinished migration: 0001"
        kit.create_schema()
        assert kit.orders.search().items == ()


@pytest.mark.parametrize("database", ["postgresql", "postgresql-schema"], indirect=True)
def test_what_an_interrupted_index_leaves_behind_is_built_anew(database: Database) -> None:
    """PostgreSQL keeps an invalid index when `CREATE INDEX CONCURRENTLY` ends before it is done."""
    migrations = database.migrations()
    migrations.upgrade("0001")
    orders = database.place()
    address = text_of(make_url(database.url).set(drivername="postgresql"))
    qualifier = "" if database.schema is None else f"{database.schema}."
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"UPDATE {qualifier}orderkit_schema SET migrating_to = '0002'".encode())
        with psycopg.connect(address) as reader:
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            reader.execute(f"SELECT count(*) FROM {qualifier}orderkit_orders".encode())
            connection.execute("SET lock_timeout = '100ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                connection.execute(
                    f"CREATE INDEX CONCURRENTLY orderkit_orders_held ON {qualifier}orderkit_orders (held)".encode()
                )
    assert "invalid index: orderkit_orders.orderkit_orders_held" in map(str, migrations.check())
    assert database.get(orders) == orders
    migrations.upgrade()
    assert migrations.check() == []


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_migration_does_not_queue_behind_a_long_transaction(database: Database) -> None:
    """A statement that waits for a table makes everybody else wait behind it."""
    migrations = database.migrations(lock_timeout=0.2)
    migrations.upgrade("0001")
    with psycopg.connect(text_of(make_url(database.url).set(drivername="postgresql"))) as other:
        other.execute("LOCK TABLE orderkit_orders IN ROW EXCLUSIVE MODE")
        with pytest.raises(StorageBusy, match="Repeat it"):
            migrations.downgrade("base", lose_data=True)
        assert database.tables() > {"orderkit_orders", "orderkit_schema"}
    migrations.downgrade("base", lose_data=True)
    assert database.tables() == set()
