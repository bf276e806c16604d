"""Checks of an order's history and personal data, and of the walls between tenants."""

# ruff: noqa: D102 - the names of checks are sentences

from __future__ import annotations

from datetime import timedelta

import pytest

from orderkit.orders.ports import Among, HasLabel, HasLine, OrderStorage, Search
from orderkit.orders.tables import EVENTS, LABELS, ORDERS, PERSONAL, LabelRow
from orderkit.testing.conformance.base import (
    NOON,
    ReadRows,
    StorageChecks,
    assert_record,
    assert_rows,
    claim_for,
    commit,
    fresh_tenant,
    guard_of,
    key_of,
    moved,
    order_row,
    placing,
    read,
    reference,
)
from orderkit.testing.conformance.commits import STALE
from orderkit.testing.conformance.samples import KINDS, Kind, event_row, personal_row
from orderkit.unit_of_work.changes import KEYS, ChangeSet
from orderkit.unit_of_work.storage import Backend

MINUTE = timedelta(minutes=1)


class HistoryChecks(StorageChecks):
    """Events come by version, up to and including a version or a time."""

    @pytest.fixture
    def storage_with_history(self, backend: Backend[OrderStorage], tenant: str) -> Backend[OrderStorage]:
        """Return a backend with an order of eleven events, written in no order, and one of another order."""
        order = order_row(tenant)
        events = [event_row(order, version) for version in (3, 1, 2, 11, 10, 9, 8, 7, 6, 5, 4)]
        other = event_row(order_row(tenant, "order_2"), 1)
        commit(backend, ChangeSet(inserts={ORDERS: [order], EVENTS: [*events[:5], other]}))
        commit(backend, ChangeSet(inserts={EVENTS: list(events[5:])}))
        return backend

    @pytest.mark.parametrize(
        ("version", "minutes", "last"),
        [
            (None, None, 11),
            (1, None, 1),
            (10, None, 10),
            (99, None, 11),
            (0, None, 0),
            (None, MINUTE * 4, 4),
            (None, MINUTE * 4 - timedelta(microseconds=1), 3),
            (None, MINUTE * 99, 11),
            (None, MINUTE * 0, 0),
            (5, MINUTE * 9, 5),
            (9, MINUTE * 5, 5),
        ],
    )
    def test_a_history_ends_where_it_is_told(
        self,
        storage_with_history: Backend[OrderStorage],
        tenant: str,
        version: int | None,
        minutes: timedelta | None,
        last: int,
    ) -> None:
        time = None if minutes is None else NOON + minutes
        with storage_with_history.connect() as storage:
            found = storage.history(tenant, "order_1", version=version, time=time)
        assert found == [event_row(order_row(tenant), n) for n in range(1, last + 1)]

    def test_an_absent_order_has_neither_history_nor_personal_data(
        self, backend: Backend[OrderStorage], tenant: str
    ) -> None:
        with backend.connect() as storage:
            assert storage.read(tenant, "order_absent") == (None, None)
            assert storage.history(tenant, "order_absent") == []
            assert storage.personal(tenant, "order_absent") == []

    def test_erased_personal_data_leaves_a_tombstone(self, backend: Backend[OrderStorage], tenant: str) -> None:
        order = order_row(tenant)
        kept, erased = personal_row(order, "personal_1"), personal_row(order, "personal_2")
        other = personal_row(order_row(tenant, "order_2"), "personal_3")
        commit(backend, ChangeSet(inserts={ORDERS: [order], PERSONAL: [kept, erased, other]}))
        tombstone = erased._replace(data="", erased_at=NOON + MINUTE)
        commit(backend, ChangeSet(updates={PERSONAL: [tombstone]}))
        with backend.connect() as storage:
            assert sorted(storage.personal(tenant, order.id)) == [kept, tombstone]

    def test_what_was_deleted_is_found_no_more(self, backend: Backend[OrderStorage], tenant: str) -> None:
        written = {kind.table: kind.rows(tenant, 1) for kind in KINDS}
        commit(backend, ChangeSet(inserts=written))
        keys = {table: [key_of(table, row) for row in rows] for table, rows in written.items()}
        commit(backend, ChangeSet(deletes=keys))
        with backend.connect() as storage:
            assert storage.read(tenant, "order_0001").order is None
            assert storage.search(Search(tenant, (), "id", descending=False, limit=10)) == []
            assert storage.history(tenant, "order_0001") == []
            assert storage.personal(tenant, "order_0001") == []
        commit(backend, placing(order_row(tenant, "order_0001")))
        with backend.connect() as storage:
            for condition in (HasLine("TEA-001"), HasLabel("tag", "season", "winter")):
                assert storage.search(Search(tenant, (condition,), "id", descending=False, limit=10)) == []


class TenancyChecks(StorageChecks):
    """Two tenants may use the same ids, numbers and keys, and never see or touch each other's."""

    def test_everything_may_bear_the_same_names(self, backend: Backend[OrderStorage], rows: ReadRows) -> None:
        tenants = [fresh_tenant(), fresh_tenant()]
        for tenant in tenants:
            claim = claim_for(order_row(tenant))
            commit(backend, ChangeSet(claim=claim, inserts={kind.table: kind.rows(tenant, 3) for kind in KINDS}))
        for tenant in tenants:
            assert_rows(rows, KEYS, tenant, [claim_for(order_row(tenant))])
            for kind in KINDS:
                assert_rows(rows, kind.table, tenant, kind.rows(tenant, 3))

    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.table.name)
    @pytest.mark.parametrize("count", [1, 3])
    def test_changes_stay_with_their_tenant(
        self, backend: Backend[OrderStorage], rows: ReadRows, kind: Kind, count: int
    ) -> None:
        tenant, neighbour = fresh_tenant(), fresh_tenant()
        for each in (tenant, neighbour):
            commit(backend, ChangeSet(inserts={kind.table: kind.rows(each, 3 * count)}))
        own = kind.rows(tenant, 3 * count)
        updated, upserted, deleted = own[:count], own[count : 2 * count], own[2 * count :]
        changes = ChangeSet()
        changes.upsert(kind.table, kind.rewritten(upserted))
        changes.delete(kind.table, [key_of(kind.table, row) for row in deleted])
        if set(kind.table.columns) > set(kind.table.key):
            changes.update(kind.table, kind.rewritten(updated))
        commit(backend, changes)
        assert_rows(rows, kind.table, tenant, kind.rewritten([*updated, *upserted]))
        assert_rows(rows, kind.table, neighbour, kind.rows(neighbour, 3 * count))

    def test_a_neighbours_order_does_not_exist(self, backend: Backend[OrderStorage]) -> None:
        tenant, neighbour = fresh_tenant(), fresh_tenant()
        theirs = order_row(neighbour)
        label = LabelRow(neighbour, "tag", "season", "winter", theirs.id)
        written = {kind.table: kind.rows(neighbour, 2) for kind in KINDS[1:]}
        claim = claim_for(theirs)
        commit(backend, ChangeSet(claim=claim, inserts={**written, ORDERS: [theirs], LABELS: [label]}))
        with backend.connect() as storage:
            assert storage.read(tenant, theirs.id, key=reference(claim)._replace(tenant=tenant)) == (None, None)
            assert storage.read_key(reference(claim)._replace(tenant=tenant)) is None
            assert storage.history(tenant, "order_0001") == []
            assert storage.personal(tenant, "order_0001") == []
            for condition in (Among("id", (theirs.id,)), HasLine("TEA-001"), HasLabel("tag", "season", "winter")):
                assert storage.search(Search(tenant, (condition,), "id", descending=False, limit=10)) == []

    def test_lines_and_labels_find_their_own_tenants_orders(self, backend: Backend[OrderStorage]) -> None:
        tenant, neighbour = fresh_tenant(), fresh_tenant()
        commit(backend, placing(*(order_row(tenant, f"order_{n:04}") for n in (1, 2))))
        for kind in KINDS:
            commit(backend, ChangeSet(inserts={kind.table: kind.rows(neighbour, 2)}))
        with backend.connect() as storage:
            for condition in (HasLine("TEA-001"), HasLabel("tag", "season", "winter")):
                assert storage.search(Search(tenant, (condition,), "id", descending=False, limit=10)) == []
                theirs = storage.search(Search(neighbour, (condition,), "id", descending=False, limit=10))
                assert [found.order_id for found in theirs] == ["order_0001", "order_0002"]

    def test_a_guard_looks_at_its_own_tenants_order(self, backend: Backend[OrderStorage]) -> None:
        tenant, neighbour = fresh_tenant(), fresh_tenant()
        order, theirs = order_row(tenant), moved(order_row(neighbour))
        commit(backend, placing(order))
        commit(backend, placing(theirs))
        stale = ChangeSet(guards=[guard_of(theirs)._replace(tenant=tenant)])
        assert commit(backend, stale)[:2] == STALE
        assert_record(read(backend, order), order)

    def test_numbers_are_counted_for_each_tenant(self, backend: Backend[OrderStorage]) -> None:
        tenant, neighbour = fresh_tenant(), fresh_tenant()
        with backend.connect(transaction=True) as storage:
            taken = [storage.next_number(each) for each in (tenant, tenant, neighbour, tenant, neighbour)]
        assert taken == [1, 2, 1, 3, 2]
