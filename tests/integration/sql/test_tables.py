"""The tables hold what the row types say, and the indexes what searches need."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import UniqueConstraint, create_engine, inspect

from orderkit.messaging.outbox import OUTBOX
from orderkit.orders.ports import Among, Condition, Search
from orderkit.orders.tables import EVENTS, LABELS, LINES, ORDERS, PERSONAL
from orderkit.storage.sql import SqlBackend, open_backend
from orderkit.storage.sql.postgresql import Postgresql
from orderkit.storage.sql.searching import page
from orderkit.storage.sql.tables import PREFIX, PostgresqlOnly, metadata
from orderkit.testing.conformance.base import NOON, commit, fresh_tenant, order_row, placing
from orderkit.unit_of_work.changes import KEYS, Table, Value

TABLES = (ORDERS, LINES, EVENTS, PERSONAL, LABELS, OUTBOX, KEYS)

each_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)


def own_columns(table: Table) -> list[str]:
    """The columns of a table beyond what readers of outbox and events go by."""
    columns = metadata.tables[PREFIX + table.name].columns
    return [column.name for column in columns if not isinstance(column.type, PostgresqlOnly) and column.name != "seq"]


@each_table
def test_the_columns_are_the_fields_of_the_row(table: Table) -> None:
    assert own_columns(table) == list(table.columns)


@each_table
def test_the_declared_keys_are_unique(table: Table) -> None:
    declared = metadata.tables[PREFIX + table.name]
    unique = {tuple(column.name for column in declared.primary_key)}
    unique |= {tuple(column.name for column in index.columns) for index in declared.indexes if index.unique}
    unique |= {
        tuple(c.name for c in each.columns) for each in declared.constraints if isinstance(each, UniqueConstraint)
    }
    assert {table.key, *table.unique} <= unique


def test_every_table_bears_the_prefix() -> None:
    assert all(name.startswith("orderkit_") for name in metadata.tables)


@pytest.mark.parametrize("table", [OUTBOX, EVENTS], ids=lambda table: table.name)
def test_a_transaction_has_its_id_before_it_draws_a_number(
    session: psycopg.Connection, postgresql: str, table: Table
) -> None:
    rows = session.execute(
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_name = %s AND table_schema = 'public' ORDER BY ordinal_position",
        [PREFIX + table.name],
    ).fetchall()
    assert rows[:2] == [("xid", "xid8"), ("seq", "bigint")]


def test_sqlite_numbers_its_outbox_rows_and_has_nothing_else_of_its_own(sqlite: str) -> None:
    engine = create_engine(sqlite)
    found = inspect(engine)
    assert found.get_pk_constraint("orderkit_outbox")["constrained_columns"] == ["seq"]
    for table in TABLES:
        names = [column["name"] for column in found.get_columns(PREFIX + table.name)]
        assert [name for name in names if name != "seq"] == list(table.columns)
    engine.dispose()


def test_tables_can_be_kept_in_a_schema_of_their_own(postgresql: str, session: psycopg.Connection) -> None:
    tenant = fresh_tenant()
    backend = open_backend(postgresql, schema="shop")
    backend.create_schema()
    backend.create_schema()
    commit(backend, placing(order_row(tenant)))
    backend.close()
    counted = "SELECT count(*) FROM {}.orderkit_orders WHERE tenant = %s"
    assert session.execute(counted.format("shop").encode(), [tenant]).fetchone() == (1,)
    assert session.execute(counted.format("public").encode(), [tenant]).fetchone() == (0,)


@pytest.fixture(scope="module")
def crowded(postgresql: str) -> str:
    """A tenant with some thousand orders, which the planner knows of."""
    tenant = fresh_tenant()
    backend = open_backend(postgresql)
    orders = []
    for number in range(4000):
        time = NOON + timedelta(minutes=number)
        order = order_row(tenant, f"order_{number}")._replace(
            number=f"N{number:05}", current_total=number, status=STATUSES[number % 3]
        )
        orders.append(
            order._replace(created_at=time, placed_at=time, updated_at=time, customer=f"customer_{number % 2}")
        )
    commit(backend, placing(*orders))
    with backend.connect() as storage:
        storage._executor.execute("ANALYZE orderkit_orders")
    backend.close()
    return tenant


STATUSES = ("draft", "open", "done")
MIDDLE: dict[str, Value] = {"number": "N02000", "current_total": 2000, "id": "order_2000"}


@pytest.mark.parametrize(
    ("sort", "conditions"),
    [
        *((sort, ()) for sort in ("created_at", "placed_at", "updated_at", "number", "current_total", "id")),
        ("created_at", (Among("status", ("open",)),)),
        ("created_at", (Among("customer", ("customer_1",)),)),
    ],
)
@pytest.mark.parametrize("descending", [False, True])
def test_a_page_deep_in_the_list_is_read_off_an_index(
    session: psycopg.Connection, crowded: str, sort: str, conditions: tuple[Condition, ...], descending: bool
) -> None:
    middle = MIDDLE.get(sort, NOON + timedelta(minutes=2000))
    template, parameters = page(Search(crowded, conditions, sort, descending, 50, after=(middle, "order_2000")))
    statement = Postgresql("asyncpg").compile(template)
    lines = psycopg.RawCursor(session).execute(f"EXPLAIN {statement}".encode(), list(parameters)).fetchall()
    plan = "\n".join(line for (line,) in lines)
    assert "Sort" not in plan
    sought = plan.split("Index Cond", 1)[1].split("Filter", 1)[0]
    assert (
        f"{sort} {'<' if descending else '>'} " in sought or f"ROW({sort}, id) {'<' if descending else '>'} " in sought
    )


def test_the_backend_survives_that_its_tables_are_created_twice_at_once(backend: SqlBackend) -> None:
    backend.create_schema()
    backend.create_schema()
