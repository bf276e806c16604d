"""PostgreSQL writes a change set by one statement, built once for each shape; SQLite by a few, built once."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool

from orderkit.errors import VersionConflict
from orderkit.orders.tables import EVENTS, LABELS, LINES, ORDERS
from orderkit.storage.sql import SqlBackend, open_backend
from orderkit.storage.sql.execution import Rows
from orderkit.storage.sql.postgresql import Postgresql
from orderkit.storage.sql.shapes import MANY, change_statement, parameters_of, shape_of
from orderkit.testing.conformance.base import claim_for, commit, fresh_tenant, guard_of, moved, order_row, placing, read
from orderkit.testing.conformance.samples import KINDS, event_row
from orderkit.unit_of_work.changes import ChangeSet


class Recorder:
    """An executor that answers every statement with success."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> Rows:
        assert sql.count("$") == len(parameters)
        self.statements.append(sql)
        return [(True, True)]

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        raise AssertionError("PostgreSQL needs one statement, not repetitions")


def full_change_set(tenant: str, lines: int = 3, guards: int = 1) -> ChangeSet:
    """A change set with every part there is."""
    orders = [order_row(tenant, f"order_{n}") for n in range(guards)]
    changes = ChangeSet(guards=[guard_of(order) for order in orders], claim=claim_for(orders[0]))
    changes.update(ORDERS, [moved(order) for order in orders])
    changes.delete(LABELS, [(tenant, "tag", "", "old", "order_0")])
    for kind in KINDS[1:]:
        changes.upsert(kind.table, kind.rows(tenant, lines))
    changes.insert(ORDERS, [order_row(tenant, "order_new")])
    return changes


@pytest.mark.parametrize("lines", [1, MANY - 1, MANY, 500])
@pytest.mark.parametrize("guards", [1, 2, MANY, 30])
def test_every_change_set_is_one_statement(lines: int, guards: int) -> None:
    recorder = Recorder()
    Postgresql("asyncpg").write(recorder, full_change_set("t", lines, guards))
    (statement,) = recorder.statements
    assert statement.count("INSERT INTO orderkit_idempotency_keys") == 1


def test_a_statement_is_built_once_for_each_shape() -> None:
    dialect, recorder = Postgresql("asyncpg"), Recorder()
    for tenant, lines, guards in [("a", MANY, MANY), ("b", 9, 9), ("c", 500, 30)]:
        dialect.write(recorder, full_change_set(tenant, lines, guards))
    assert len({id(statement) for statement in recorder.statements}) == 1
    dialect.write(recorder, full_change_set("d", 3, 1))
    dialect.write(recorder, full_change_set("e", 3, 1))
    assert len({id(statement) for statement in recorder.statements}) == 2


def test_a_statement_has_no_part_that_writes_nothing() -> None:
    statement = change_statement(shape_of(placing(order_row("t"))))
    assert statement.count("INSERT INTO") == 1
    assert not any(word in statement for word in ("UPDATE", "DELETE", "json_to_recordset", "guarded", "claimed"))


def test_a_few_rows_travel_as_scalars_and_many_as_one_text() -> None:
    few, many = (parameters_of(full_change_set("t", lines)) for lines in (MANY - 1, 500))
    assert not any(str(parameter).startswith("[") for parameter in few)
    texts = [json.loads(parameter) for parameter in many if isinstance(parameter, str) and parameter.startswith("[")]
    assert [len(text) for text in texts] == [500] * len(KINDS[1:])
    assert {tuple(row) for text in texts for row in text} == {kind.table.columns for kind in KINDS[1:]}


def test_postgresql_prepares_one_statement_however_the_values_differ_in_size(postgresql: str) -> None:
    backend = open_backend(postgresql, pool_size=1, max_overflow=0)
    tenant = fresh_tenant()
    for number, total in enumerate([1, 2**15, 2**31, 2**62, 3] * 4):
        commit(backend, placing(order_row(tenant, f"order_{number}")._replace(total=total)))
    with backend.connect() as storage:
        rows = storage._executor.execute(
            "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%_orders (%'"
        )
    backend.close()
    assert rows == [(1,)]


def test_sqlite_writes_in_one_short_transaction(sqlite: str) -> None:
    said: list[str] = []

    def listen(connection: object, _record: object) -> None:
        connection.set_trace_callback(said.append)  # type: ignore[attr-defined]  # it is SQLite's

    event.listen(Pool, "connect", listen)
    backend = open_backend(sqlite)
    tenant = fresh_tenant()
    commit(backend, placing(order_row(tenant, "order_0")))  # the first use looks whether the tables can be used
    said.clear()
    order = order_row(tenant)
    changes = placing(order, claim=claim_for(order))
    changes.insert(LINES, next(kind for kind in KINDS if kind.table is LINES).rows(tenant, 3))
    commit(backend, changes)
    event.remove(Pool, "connect", listen)
    backend.close()
    words = [" ".join(statement.split()[:3]) for statement in said if not statement.startswith("PRAGMA")]
    assert words == [
        "BEGIN IMMEDIATE",
        "INSERT INTO orderkit_idempotency_keys",
        "INSERT INTO orderkit_orders",
        *["INSERT INTO orderkit_order_lines"] * 3,
        "COMMIT",
    ]


def test_an_event_that_is_there_already_means_that_the_order_moved_on(backend: SqlBackend) -> None:
    tenant = fresh_tenant()
    order = order_row(tenant)
    changes = placing(order)
    changes.insert(EVENTS, [event_row(order)])
    commit(backend, changes)
    again = ChangeSet()
    again.insert(EVENTS, [event_row(order)])
    with pytest.raises(VersionConflict) as caught:
        commit(backend, again)
    assert caught.value.expected == event_row(order).version - 1
    assert read(backend, order) is not None
