"""What the checks share: the fixtures a user supplies, and short ways to use them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import uuid4

import pytest

from orderkit.errors import StorageBusy, VersionConflict
from orderkit.orders.ports import OrderStorage
from orderkit.orders.tables import ORDERS, OrderRow
from orderkit.unit_of_work.changes import ChangeSet, Guard, KeyClaim, KeyReference, Row, Table, Value
from orderkit.unit_of_work.storage import Backend, OrderRecord, Outcome, Reading

T = TypeVar("T")


ReadRows = Callable[[Table, str], Iterable[Sequence[Value]]]
"""Return every row of a table that belongs to a tenant, columns in the order of `Table.columns`."""


class StorageChecks:
    """Declare the fixtures that a subclass supplies."""

    @pytest.fixture
    def backend(self) -> Backend[OrderStorage]:
        """Return the backend to be checked, its schema created."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `backend`: see orderkit.testing.conformance")

    @pytest.fixture
    def rows(self) -> ReadRows:
        """Return a function that reads all rows of a tenant from a table."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `rows`: see orderkit.testing.conformance")

    @pytest.fixture
    def tenant(self) -> str:
        """Return a tenant nobody else uses."""
        return fresh_tenant()


NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
"""When everything in the checks happens, unless they say otherwise."""

LAPSE = timedelta(hours=72)


def fresh_tenant() -> str:
    """Return a tenant nobody else uses."""
    return f"tenant-{uuid4().hex}"


def order_row(tenant: str, order_id: str = "order_1", *, version: int = 1) -> OrderRow:
    """Return the row of a plain order."""
    return OrderRow(
        tenant=tenant,
        id=order_id,
        number=f"number of {order_id}",
        status="open",
        substate=None,
        held=False,
        customer="customer_1",
        currency="EUR",
        total=1200,
        current_total=1200,
        placed_at=NOON,
        created_at=NOON,
        updated_at=NOON,
        expires_at=None,
        version=version,
        schema_version=1,
        document=f'{{"version": {version}}}',
        metadata="{}",
    )


def guard_of(order: OrderRow) -> Guard:
    """Return the guard that holds while an order is what it is."""
    return Guard(order.tenant, order.id, order.version)


def moved(order: OrderRow, document: str = '{"moved": true}') -> OrderRow:
    """Return an order one version on."""
    return order._replace(version=order.version + 1, document=document)


def placing(*orders: OrderRow, claim: KeyClaim | None = None) -> ChangeSet:
    """Return the change set that inserts orders."""
    changes = ChangeSet(claim=claim)
    changes.insert(ORDERS, orders)
    return changes


def moving(*orders: OrderRow, claim: KeyClaim | None = None) -> ChangeSet:
    """Return the change set that takes orders one version on, if nobody else has."""
    changes = ChangeSet(guards=[guard_of(order) for order in orders], claim=claim)
    changes.update(ORDERS, [moved(order) for order in orders])
    return changes


def claim_for(order: OrderRow, key: str = "key-1", *, expires_at: datetime = NOON + LAPSE) -> KeyClaim:
    """Return the claim of a key whose operation left an order as it is."""
    return KeyClaim(
        order.tenant, "orders.place", key, "v1:abc", order.id, order.version, expires_at - LAPSE, expires_at
    )


def reference(claim: KeyClaim) -> KeyReference:
    """Return the primary key of a claim."""
    return KeyReference(claim.tenant, claim.scope, claim.key)


def key_of(table: Table, row: Row) -> Row:
    """Return the primary key of a row."""
    return tuple(row[table.columns.index(column)] for column in table.key)


def commit(backend: Backend[OrderStorage], changes: ChangeSet) -> Outcome:
    """Commit a change set in a block of its own."""
    with backend.connect() as storage:
        return storage.commit(changes)


def read(backend: Backend[OrderStorage], order: OrderRow) -> OrderRecord | None:
    """Read an order in a block of its own."""
    return look(backend, order).order


def look(backend: Backend[OrderStorage], order: OrderRow, key: KeyReference | None = None) -> Reading:
    """Read an order and a key in a block of its own."""
    with backend.connect() as storage:
        return storage.read(order.tenant, order.id, key=key)


def assert_rows(rows: ReadRows, table: Table, tenant: str, expected: Iterable[Row]) -> None:
    """Insist that a table holds exactly these rows of a tenant, in type and in value."""
    found = {key_of(table, tuple(row)): tuple(row) for row in rows(table, tenant)}
    wanted = {key_of(table, row): tuple(row) for row in expected}
    assert {key: meaning(table, row) for key, row in found.items()} == {
        key: meaning(table, row) for key, row in wanted.items()
    }
    for key, row in found.items():
        assert [type(value) for value in row] == [type(value) for value in wanted[key]]
        assert all(value.utcoffset() == timedelta(0) for value in row if isinstance(value, datetime))


def meaning(table: Table, row: Row) -> tuple[object, ...]:
    """Return a row with its metadata parsed: storages may keep that as JSON of their own."""
    return tuple(
        json.loads(value) if column == "metadata" and isinstance(value, str) else value
        for column, value in zip(table.columns, row, strict=True)
    )


def assert_record(found: OrderRecord | None, order: OrderRow) -> None:
    """Insist that a record is what was written of an order."""
    assert found is not None
    assert found._replace(metadata="") == OrderRecord(order.document, "", order.version, order.schema_version)
    assert json.loads(found.metadata) == json.loads(order.metadata)


def race(contenders: int, attempt: Callable[[int], T]) -> list[T]:
    """Let threads attempt something at the same time; return what each of them got."""
    start = threading.Barrier(contenders)

    def run(contender: int) -> T:
        start.wait()
        return attempt(contender)

    with ThreadPoolExecutor(contenders) as pool:
        return list(pool.map(run, range(contenders)))


def insistently(attempt: Callable[[], T], *, attempts: int = 1000) -> T:
    """Repeat a whole transaction while somebody else is first, as the shells do."""
    for _ in range(attempts):
        try:
            return attempt()
        except (StorageBusy, VersionConflict):
            continue
    raise AssertionError(f"a transaction was refused {attempts} times in a row")
