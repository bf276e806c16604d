"""Checks of `commit`: what is written is kept, all of it or nothing."""

# ruff: noqa: D102 - the names of checks are sentences
# ruff: noqa: PT012 - it is the whole block that is left by an error

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from orderkit.errors import AlreadyExists, Conflict, StorageError
from orderkit.orders.ports import OrderStorage
from orderkit.orders.tables import EVENTS, ORDERS, PERSONAL, EventRow, OrderRow, PersonalRow
from orderkit.testing.conformance.base import (
    ReadRows,
    StorageChecks,
    assert_record,
    assert_rows,
    claim_for,
    commit,
    fresh_tenant,
    guard_of,
    key_of,
    look,
    moved,
    moving,
    order_row,
    placing,
    read,
    reference,
)
from orderkit.testing.conformance.samples import (
    KINDS,
    MEGABYTE,
    Kind,
    event_row,
    personal_row,
    table_rows,
)
from orderkit.unit_of_work.changes import KEYS, ChangeSet, Guard, Row, Table
from orderkit.unit_of_work.storage import Backend, Outcome

WRITTEN = Outcome(committed=True, guards_held=True)
STALE = (False, False)
A_FEW = settings(max_examples=25, deadline=None, phases=set(Phase) - {Phase.explain})

CHANGEABLE = tuple(kind for kind in KINDS if set(kind.table.columns) > set(kind.table.key))

by_table = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.table.name)
one_and_many = pytest.mark.parametrize("count", [1, 2, 150])


class CommitChecks(StorageChecks):
    """What is written is kept, all of it or nothing."""

    def test_creating_the_schema_again_changes_nothing(self, backend: Backend[OrderStorage], tenant: str) -> None:
        order = order_row(tenant)
        commit(backend, placing(order))
        backend.create_schema()
        assert_record(read(backend, order), order)

    def test_every_column_of_every_table_is_kept(self, backend: Backend[OrderStorage], rows: ReadRows) -> None:
        @A_FEW
        @given(st.data())
        def check(data: st.DataObject) -> None:
            tenant = fresh_tenant()
            written = data.draw(table_rows(tenant))
            assert commit(backend, ChangeSet(inserts={table: rs for table, rs in written.items() if rs})) == WRITTEN
            for table, expected in written.items():
                assert_rows(rows, table, tenant, expected)
            assert_readable(backend, tenant, written)

        check()

    def test_a_megabyte_of_text_is_kept(self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str) -> None:
        text = f'{{"text": "{MEGABYTE}"}}'
        order = order_row(tenant)._replace(document=text, metadata=text)
        written: dict[Table, list[Row]] = {
            ORDERS: [order],
            EVENTS: [event_row(order)._replace(data=text)],
            PERSONAL: [personal_row(order)._replace(data=text)],
        }
        commit(backend, ChangeSet(inserts=written))
        assert_readable(backend, tenant, written)

    @by_table
    @one_and_many
    def test_rows_are_inserted(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str, kind: Kind, count: int
    ) -> None:
        written = inserted(backend, tenant, kind, count)
        assert_rows(rows, kind.table, tenant, written)

    @by_table
    @one_and_many
    def test_rows_are_upserted(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str, kind: Kind, count: int
    ) -> None:
        old = inserted(backend, tenant, kind, count + 1)
        changed, new = kind.rewritten(old[:count]), kind.rows(tenant, count, first=1000)
        assert commit(backend, ChangeSet(upserts={kind.table: [*changed, *new]})) == WRITTEN
        assert_rows(rows, kind.table, tenant, [*changed, *old[count:], *new])

    @pytest.mark.parametrize("kind", CHANGEABLE, ids=lambda kind: kind.table.name)
    @one_and_many
    def test_rows_are_updated(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str, kind: Kind, count: int
    ) -> None:
        old = inserted(backend, tenant, kind, count + 1)
        changed = kind.rewritten(old[:count])
        assert commit(backend, ChangeSet(updates={kind.table: changed})) == WRITTEN
        assert_rows(rows, kind.table, tenant, [*changed, *old[count:]])

    @by_table
    @one_and_many
    def test_rows_are_deleted(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str, kind: Kind, count: int
    ) -> None:
        old = inserted(backend, tenant, kind, count + 1)
        changes = ChangeSet()
        changes.delete(kind.table, [key_of(kind.table, row) for row in old[:count]])
        assert commit(backend, changes) == WRITTEN
        assert_rows(rows, kind.table, tenant, old[count:])

    def test_everything_goes_in_at_once(self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str) -> None:
        old, other, gone = (order_row(tenant, f"order_{n}") for n in (1, 2, 3))
        kept = {kind: kind.rows(tenant, 4) for kind in KINDS[1:]}
        before = {kind.table: rows_before[:3] for kind, rows_before in kept.items()}
        commit(backend, ChangeSet(inserts={ORDERS: [old, other, gone], **before}))
        changes = ChangeSet(guards=[guard_of(old), guard_of(other)], claim=claim_for(old))
        changes.update(ORDERS, [moved(old)])
        changes.upsert(ORDERS, [moved(other), order_row(tenant, "order_4")])
        changes.delete(ORDERS, [(tenant, gone.id)])
        for kind, (first, second, third, new) in kept.items():
            changes.upsert(kind.table, kind.rewritten([first]))
            changes.delete(kind.table, [key_of(kind.table, second)])
            changes.insert(kind.table, [new])
            if kind in CHANGEABLE:
                changes.update(kind.table, kind.rewritten([third]))
        assert commit(backend, changes) == WRITTEN
        assert_rows(rows, KEYS, tenant, [claim_for(old)])
        assert_rows(rows, ORDERS, tenant, [moved(old), moved(other), order_row(tenant, "order_4")])
        for kind, (first, _, third, new) in kept.items():
            assert_rows(rows, kind.table, tenant, [*kind.rewritten([first, third]), new])


class GuardChecks(StorageChecks):
    """A change set is written if every guarded order is at its version, and not otherwise."""

    def test_a_guard_that_holds_lets_the_change_through(self, backend: Backend[OrderStorage], tenant: str) -> None:
        order = order_row(tenant)
        commit(backend, placing(order))
        assert commit(backend, moving(order)) == WRITTEN
        assert_record(read(backend, order), moved(order))

    @pytest.mark.parametrize("version", [0, 1, 3, 2**31 - 2])
    def test_a_stale_guard_stops_everything(self, backend: Backend[OrderStorage], tenant: str, version: int) -> None:
        order, new = order_row(tenant, version=2), order_row(tenant, "order_2")
        commit(backend, placing(order))
        changes = moving(order._replace(version=version))
        changes.insert(ORDERS, [new])
        assert commit(backend, changes)[:2] == STALE
        assert_record(read(backend, order), order)
        assert read(backend, new) is None

    @pytest.mark.parametrize("version", [0, 1])
    def test_an_absent_order_is_at_no_version(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str, version: int
    ) -> None:
        changes = placing(order_row(tenant))
        changes.guards.append(Guard(tenant, "order_absent", version))
        assert commit(backend, changes)[:2] == STALE
        assert_rows(rows, ORDERS, tenant, [])

    def test_an_order_can_be_guarded_without_being_changed(self, backend: Backend[OrderStorage], tenant: str) -> None:
        pinned, order = order_row(tenant, "order_pinned"), order_row(tenant)
        commit(backend, placing(pinned, order))
        only_guard = ChangeSet(guards=[guard_of(pinned)])
        assert commit(backend, only_guard) == WRITTEN
        changes = moving(order)
        changes.guards.append(guard_of(pinned))
        assert commit(backend, changes) == WRITTEN
        commit(backend, moving(pinned))
        assert commit(backend, only_guard)[:2] == STALE

    @pytest.mark.parametrize("stale", [0, 1, 2])
    def test_one_stale_guard_of_several_stops_all(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str, stale: int
    ) -> None:
        orders = [order_row(tenant, f"order_{n}") for n in (3, 1, 2)]
        commit(backend, placing(*orders))
        changes = moving(*orders)
        changes.guards[stale] = changes.guards[stale]._replace(version=9)
        assert commit(backend, changes)[:2] == STALE
        assert_rows(rows, ORDERS, tenant, orders)
        assert commit(backend, moving(*orders)) == WRITTEN
        assert_rows(rows, ORDERS, tenant, map(moved, orders))


class AllOrNothingChecks(StorageChecks):
    """Whatever fails leaves nothing of its change set."""

    @pytest.mark.parametrize("taken", ["order_id", "number"])
    @pytest.mark.parametrize("among", [1, 3])
    def test_a_taken_id_or_number_is_named(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str, taken: str, among: int
    ) -> None:
        first = order_row(tenant)
        commit(backend, placing(first))
        again = first._replace(number="another") if taken == "order_id" else first._replace(id="order_another")
        others = [order_row(tenant, f"order_free_{n}") for n in range(1, among)]
        with pytest.raises(AlreadyExists) as caught:
            commit(backend, placing(*others, again))
        assert caught.value.what == taken
        assert caught.value.value == (first.id if taken == "order_id" else first.number)
        assert_rows(rows, ORDERS, tenant, [first])

    def test_a_number_is_taken_by_a_change_as_well(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str
    ) -> None:
        placed, draft = order_row(tenant), order_row(tenant, "order_draft")._replace(number=None)
        commit(backend, placing(placed, draft))
        changes = ChangeSet(guards=[guard_of(draft)])
        changes.update(ORDERS, [moved(draft)._replace(number=placed.number)])
        with pytest.raises(AlreadyExists) as caught:
            commit(backend, changes)
        assert (caught.value.what, caught.value.value) == ("number", placed.number)
        assert_rows(rows, ORDERS, tenant, [placed, draft])

    def test_orders_without_a_number_are_not_in_each_others_way(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str
    ) -> None:
        drafts = [order_row(tenant, f"order_{n}")._replace(number=None) for n in range(3)]
        assert commit(backend, placing(*drafts)) == WRITTEN
        assert_rows(rows, ORDERS, tenant, drafts)

    def test_a_number_that_was_given_up_is_free(self, backend: Backend[OrderStorage], tenant: str) -> None:
        order = order_row(tenant)
        commit(backend, placing(order))
        changes = ChangeSet()
        changes.update(ORDERS, [order._replace(number="renumbered")])
        commit(backend, changes)
        assert commit(backend, placing(order_row(tenant, "order_2")._replace(number=order.number))) == WRITTEN

    @pytest.mark.parametrize("kind", KINDS[1:], ids=lambda kind: kind.table.name)
    def test_a_taken_key_in_the_last_table_leaves_nothing(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str, kind: Kind
    ) -> None:
        order = order_row(tenant)
        taken = kind.rows(tenant, 1)
        commit(backend, ChangeSet(inserts={ORDERS: [order], kind.table: list(taken)}))
        changes = moving(order, claim=claim_for(order))
        changes.insert(ORDERS, [order_row(tenant, "order_2")])
        changes.upsert(PERSONAL, [personal_row(order)._replace(id="personal_new")])
        changes.insert(kind.table, taken)
        before = {table: sorted(map(tuple, rows(table, tenant)), key=repr) for table, _, _ in KINDS}
        with pytest.raises((StorageError, Conflict)):
            commit(backend, changes)
        assert {table: sorted(map(tuple, rows(table, tenant)), key=repr) for table, _, _ in KINDS} == before
        assert look(backend, order, reference(claim_for(order))).stored is None

    def test_a_commit_stands_whatever_its_block_does_next(self, backend: Backend[OrderStorage], tenant: str) -> None:
        order, taken = order_row(tenant), order_row(tenant)._replace(number="another")
        with pytest.raises(ZeroDivisionError), backend.connect() as storage:
            storage.commit(placing(order))
            with pytest.raises(AlreadyExists):
                storage.commit(placing(taken))
            assert_record(read(backend, order), order)
            assert storage.commit(moving(order)) == WRITTEN
            raise ZeroDivisionError
        assert_record(read(backend, order), moved(order))


def inserted(backend: Backend[OrderStorage], tenant: str, kind: Kind, count: int) -> list[Row]:
    """Write some rows of a table and return them."""
    written = kind.rows(tenant, count)
    assert commit(backend, ChangeSet(inserts={kind.table: list(written)})) == WRITTEN
    return written


def assert_readable(backend: Backend[OrderStorage], tenant: str, written: dict[Table, list[Row]]) -> None:
    """Insist that orders, their events and their personal rows are read as they were written."""
    orders = cast("list[OrderRow]", written[ORDERS])
    events = cast("list[EventRow]", written[EVENTS])
    personal = cast("list[PersonalRow]", written[PERSONAL])
    with backend.connect() as storage:
        for order in orders:
            assert_record(storage.read(tenant, order.id).order, order)
            own_events = [event for event in events if event.order_id == order.id]
            assert storage.history(tenant, order.id) == sorted(own_events, key=lambda event: event.version)
            found = storage.personal(tenant, order.id)
            assert sorted(found) == sorted(row for row in personal if row.order_id == order.id)
