"""Who may migrate what: one at a time, only tables of ours, and callbacks belong to the step."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, Engine, create_engine

from orderkit import OrderKit
from orderkit.errors import ConfigurationError, StorageBusy, StorageUnavailable
from orderkit.storage.sql.migrations import Migrations, SchemaForeign, Step
from orderkit.storage.sql.migrations.versions import REVISIONS
from tests.integration.kit.places import race
from tests.integration.migrations.databases import TEA, Database
from tests.integration.migrations.newer import EXPANDED, NEWER

HEAD = REVISIONS[-1].revision
STATE = (HEAD, REVISIONS[-1].compatible_from, None)


def test_two_migrators_at_once_do_each_step_once(database: Database) -> None:
    done: list[str] = []

    def note(_connection: Connection, step: Step) -> None:
        done.append(step.revision)

    race(4, lambda _: database.migrations(after=note).upgrade())
    assert done == [one.revision for one in REVISIONS]
    assert database.state() == STATE
    assert database.migrations().check() == []


def test_tables_made_by_many_processes_at_once_are_made_once(database: Database) -> None:
    race(4, lambda _: database.migrations().upgrade())
    assert database.state() == STATE
    assert database.migrations().check() == []


def test_who_waits_for_another_migration_waits_for_a_while_only(database: Database) -> None:
    entered, leave = threading.Event(), threading.Event()

    def wait(_connection: Connection, _step: Step) -> None:
        entered.set()
        assert leave.wait(30)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(database.migrations(before=wait).upgrade, "0001")
        assert entered.wait(30)
        try:
            # SQLite's own time-out is that of the connection.
            engine = create_engine(database.url, connect_args={"timeout": 0.1} if database.kind == "sqlite" else {})
            with pytest.raises(StorageBusy):
                Migrations(engine, schema=database.schema, lock_timeout=0.2).upgrade()
            engine.dispose()
        finally:
            leave.set()
        first.result(30)
    database.migrations().upgrade()
    assert database.state() == STATE


def test_callbacks_are_called_around_each_step_on_its_connection(database: Database) -> None:
    called: list[tuple[str, Step]] = []

    def before(connection: Connection, step: Step) -> None:
        connection.exec_driver_sql("SELECT 1")
        called.append(("before", step))

    def after(_connection: Connection, step: Step) -> None:
        called.append(("after", step))

    migrations = database.migrations(before=before, after=after)
    migrations.upgrade()
    steps = [Step(one.revision, "upgrade", (one.__doc__ or "").splitlines()[0]) for one in REVISIONS]
    assert called == [(when, step) for step in steps for when in ("before", "after")]
    called.clear()
    migrations.downgrade("0001", lose_data=True)
    assert [(when, step.revision, step.direction) for when, step in called] == [
        (when, one.revision, "downgrade") for one in reversed(REVISIONS[1:]) for when in ("before", "after")
    ]


def test_a_step_whose_callback_fails_is_not_done(database: Database) -> None:
    class Stopped(Exception):
        pass

    def fail(connection: Connection, _step: Step) -> None:
        raise Stopped

    for migrations in (database.migrations(before=fail), database.migrations(after=fail)):
        with pytest.raises(Stopped):
            migrations.upgrade()
        current = database.migrations().current()
        assert current.outstanding[0].revision == "0001"
    database.migrations().upgrade()
    assert database.state() == STATE
    assert database.migrations().check() == []


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "postgresql-schema"], indirect=True)
def test_what_a_callback_writes_is_kept_with_the_step_or_goes_with_it(database: Database) -> None:
    def write(connection: Connection, step: Step) -> None:
        connection.exec_driver_sql("CREATE TABLE notes (revision VARCHAR(10))")
        connection.exec_driver_sql(f"INSERT INTO notes VALUES ('{step.revision}')")

    def fail(_connection: Connection, _step: Step) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        database.migrations(before=write, after=fail).upgrade("0001")
    assert database.tables() == set()
    database.migrations(before=write).upgrade("0001")
    assert database.rows("SELECT revision FROM notes") == [("0001",)]


# --- tables that are there already ----------------------------------------------------------------


def test_tables_of_somebody_else_under_our_names_are_left_alone(database: Database) -> None:
    engine = database.engine()
    if database.schema is not None:
        database.execute(f'CREATE SCHEMA "{database.schema}"')
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE orderkit_orders (id INTEGER)")
    with database.kit() as kit:
        for make in (database.migrations().upgrade, kit.create_schema):
            with pytest.raises(SchemaForeign, match="nothing was changed") as caught:
                make()
            assert caught.value.tables == ("orderkit_orders",)
    assert database.tables() == {"orderkit_orders"}


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "mariadb"], indirect=True)
def test_a_version_table_of_somebody_else_is_left_alone(database: Database) -> None:
    database.execute("CREATE TABLE orderkit_schema (name VARCHAR(10))")
    with pytest.raises(SchemaForeign) as caught:
        database.migrations().upgrade()
    assert caught.value.tables == ("orderkit_schema",)
    assert database.tables() == {"orderkit_schema"}
    assert database.migrations().current().revision is None


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "mariadb"], indirect=True)
def test_only_some_of_our_tables_are_not_taken_over(database: Database) -> None:
    database.migrations().upgrade()
    database.execute("DROP TABLE orderkit_schema", "DROP TABLE orderkit_personal")
    before = database.definition()
    with pytest.raises(SchemaForeign):
        database.migrations().upgrade()
    assert database.definition() == before


def test_tables_without_a_version_table_are_taken_over(database: Database) -> None:
    """As a release made them that had no migrations yet, or the application's own."""
    migrations = database.migrations()
    migrations.upgrade("0001")
    orders = database.place()
    qualifier = "" if database.schema is None else f"{database.schema}."
    database.execute(f"DROP TABLE {qualifier}orderkit_schema")
    assert migrations.current().revision is None
    migrations.upgrade()
    assert database.state() == STATE
    assert migrations.check() == []
    assert database.get(orders) == orders


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "mariadb"], indirect=True)
def test_tables_of_the_application_are_neither_touched_nor_told_of(database: Database) -> None:
    database.execute(
        "CREATE TABLE customers (id INTEGER PRIMARY KEY)",
        "CREATE TABLE orderkit_reports (id INTEGER PRIMARY KEY)",
        "CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)",
        "INSERT INTO alembic_version VALUES ('abc')",
    )
    migrations = database.migrations()
    migrations.upgrade()
    database.execute("CREATE INDEX report ON orderkit_orders (total)")
    assert migrations.check() == []
    migrations.downgrade("base", lose_data=True)
    assert database.tables() == {"customers", "orderkit_reports", "alembic_version"}
    assert database.rows("SELECT version_num FROM alembic_version") == [("abc",)]


DAMAGE = {
    "missing index: orderkit_orders.orderkit_orders_status": "DROP INDEX orderkit_orders_status",
    "additional column: orderkit_orders.mine": "ALTER TABLE orderkit_orders ADD COLUMN mine TEXT",
    "missing table: orderkit_order_numbers": "DROP TABLE orderkit_order_numbers",
    "missing column: orderkit_personal.kind": "ALTER TABLE orderkit_personal DROP COLUMN kind",
    "other condition: orderkit_orders.orderkit_orders_placed": (
        "DROP INDEX orderkit_orders_placed;"
        "CREATE INDEX orderkit_orders_placed ON orderkit_orders (tenant, placed_at, id)"
    ),
}


@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
def test_what_differs_from_the_models_is_told(database: Database) -> None:
    database.migrations().upgrade()
    database.execute(*(statement for text in DAMAGE.values() for statement in text.split(";")))
    assert sorted(map(str, database.migrations().check())) == sorted(DAMAGE)


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_types_and_nullability_that_differ_are_told(database: Database) -> None:
    database.migrations().upgrade()
    if database.kind == "mariadb":
        database.execute("ALTER TABLE orderkit_order_lines MODIFY COLUMN units INTEGER NULL")
    else:
        database.execute(
            "ALTER TABLE orderkit_order_lines ALTER COLUMN units TYPE integer",
            "ALTER TABLE orderkit_order_lines ALTER COLUMN units DROP NOT NULL",
            "ALTER TABLE orderkit_outbox DROP COLUMN xid",
        )
    missing = ["missing column: orderkit_outbox.xid"] if database.kind == "postgresql" else []
    assert list(map(str, database.migrations().check())) == [
        "other nullability: orderkit_order_lines.units",
        "other type: orderkit_order_lines.units",
        *missing,
    ]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_newer_release_tells_what_an_older_one_has_not_got(database: Database) -> None:
    database.migrations().upgrade("0001")
    assert "missing index: orderkit_orders.orderkit_orders_due" in map(str, database.migrations().check())


# --- databases that cannot be migrated ------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:version is deprecated:DeprecationWarning")
def test_a_database_there_is_no_storage_for_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        Migrations(create_engine("mssql+pyodbc://", module=__import__("sqlite3")))


@pytest.mark.parametrize("url", ["sqlite:////nowhere/at/all.db", "postgresql+psycopg://127.0.0.1:1/none"])
def test_a_database_that_is_not_there_is_told_of(url: str) -> None:
    for attempt in ("upgrade", "current", "check"):
        with pytest.raises(StorageUnavailable):
            getattr(Migrations(create_engine(url)), attempt)()


def test_a_database_in_memory_can_be_migrated() -> None:
    engine: Engine = create_engine("sqlite://")
    Migrations(engine, before=lambda _connection, _step: None).upgrade()
    assert Migrations(engine).check() == []
    engine.dispose()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_connection_is_given_back_as_it_was(database: Database) -> None:
    engine = create_engine(database.url, pool_size=2, max_overflow=0, connect_args={"options": "-c lock_timeout=4321"})
    Migrations(engine, revisions=NEWER).upgrade(EXPANDED)
    with engine.connect() as one, engine.connect() as two:
        for connection in (one, two):
            assert connection.exec_driver_sql("SHOW lock_timeout").scalar() == "4321ms"
            assert connection.exec_driver_sql("SHOW search_path").scalar() == '"$user", public'
            held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
            assert connection.exec_driver_sql(held).scalar() == 0
    engine.dispose()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_first_order_of_a_new_file_makes_the_tables(database: Database) -> None:
    with OrderKit.from_url(database.url) as kit:
        kit.orders.place(lines=TEA)
    assert database.state() == STATE
    assert database.migrations().check() == []
