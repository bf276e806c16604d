"""Checks of batches: many orders in one look, and several change sets in one commit, each deciding for itself."""

# ruff: noqa: D102 - the names of checks are sentences

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderkit.errors import OrderKitError
from orderkit.orders.ports import OrderStorage
from orderkit.orders.tables import EVENTS, LINES, ORDERS
from orderkit.testing.conformance.base import (
    ReadRows,
    StorageChecks,
    assert_record,
    assert_rows,
    claim_for,
    fresh_tenant,
    insistently,
    moved,
    moving,
    order_row,
    placing,
    race,
    read,
    reference,
)
from orderkit.testing.conformance.commits import A_FEW
from orderkit.testing.conformance.samples import KINDS, Kind, event_row, line_row, table_rows
from orderkit.testing.conformance.transactions import Abandoned
from orderkit.unit_of_work.batches import STALE, TAKEN, WRITTEN
from orderkit.unit_of_work.changes import KEYS, ChangeSet
from orderkit.unit_of_work.storage import Backend, Outcome, Readings

MANY = 600
"""More than any storage sends in one statement."""


def commit_each(backend: Backend[OrderStorage], *changes: ChangeSet) -> list[Outcome]:
    """Commit change sets together, in a block of their own."""
    with backend.connect() as storage:
        return storage.commit_each(changes)


class BatchReadingChecks(StorageChecks):
    """Several orders and keys are read in one look."""

    def test_those_that_are_there_are_found(self, backend: Backend[OrderStorage], tenant: str) -> None:
        orders = [order_row(tenant, f"order_{n}") for n in range(3)]
        claim = claim_for(orders[0])
        commit_each(backend, placing(*orders, claim=claim))
        free = reference(claim)._replace(key="free")
        other_scope = reference(claim)._replace(scope="orders.other")
        with backend.connect() as storage:
            found = storage.read_many(
                tenant, ["order_0", "order_2", "absent", "order_0"], [free, other_scope, reference(claim)]
            )
            assert storage.read_many(fresh_tenant(), ["order_0"]) == Readings({}, {})
            assert storage.read_many(tenant, [], []) == Readings({}, {})
        assert set(found.orders) == {"order_0", "order_2"}
        for order in (orders[0], orders[2]):
            assert_record(found.orders[order.id], order)
        assert set(found.keys) == {reference(claim)}
        stored = found.keys[reference(claim)]
        assert stored[:4] == (claim.fingerprint, claim.order_id, claim.order_version, claim.expires_at)
        assert_record(stored.order, orders[0])

    def test_hundreds_are_found(self, backend: Backend[OrderStorage], tenant: str) -> None:
        orders = [order_row(tenant, f"order_{n:04}") for n in range(MANY)]
        claims = [claim_for(order, f"key-{order.id}") for order in orders]
        assert commit_each(
            backend, *(placing(order, claim=claim) for order, claim in zip(orders, claims, strict=True))
        ) == [WRITTEN] * len(orders)
        with backend.connect() as storage:
            found = storage.read_many(tenant, [order.id for order in orders], [reference(claim) for claim in claims])
        assert set(found.orders) == {order.id for order in orders}
        assert {key: stored.order_id for key, stored in found.keys.items()} == {
            reference(claim): claim.order_id for claim in claims
        }


class BatchCommitChecks(StorageChecks):
    """Several change sets are written by one commit, each of them wholly or not at all."""

    def test_none_at_all_is_written(self, backend: Backend[OrderStorage]) -> None:
        assert commit_each(backend) == []

    def test_each_decides_for_itself(self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str) -> None:
        here, there, taken = (order_row(tenant, f"order_{n}") for n in range(3))
        claim = claim_for(taken)
        commit_each(backend, placing(here, there, taken, claim=claim))
        fresh, late = order_row(tenant, "order_3"), order_row(tenant, "order_4")
        free = claim_for(fresh, "key-2")
        assert commit_each(
            backend,
            placing(fresh, claim=free),
            moving(here._replace(version=7)),
            moving(there),
            placing(late, claim=claim._replace(order_id=late.id)),
        ) == [WRITTEN, STALE, WRITTEN, TAKEN]
        assert_rows(rows, ORDERS, tenant, [here, moved(there), taken, fresh])
        assert_rows(rows, KEYS, tenant, [claim, free])

    def test_whoever_shares_an_order_or_a_key_gives_way(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str
    ) -> None:
        order, first, second = (order_row(tenant, f"order_{n}") for n in range(3))
        claim = claim_for(first)
        commit_each(backend, placing(order))
        assert commit_each(
            backend,
            moving(order),
            moving(order),
            placing(first, claim=claim),
            placing(second, claim=claim._replace(order_id=second.id)),
        ) == [WRITTEN, STALE, WRITTEN, TAKEN]
        assert_rows(rows, ORDERS, tenant, [moved(order), first])
        assert_rows(rows, KEYS, tenant, [claim])

    def test_a_stale_guard_does_not_burn_its_key(self, backend: Backend[OrderStorage], tenant: str) -> None:
        order = order_row(tenant)
        claim = claim_for(order)
        commit_each(backend, placing(order))
        assert commit_each(backend, moving(order._replace(version=9), claim=claim)) == [STALE]
        assert commit_each(backend, moving(order, claim=claim)) == [WRITTEN]

    def test_any_other_failure_writes_nothing(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str
    ) -> None:
        there, fresh = order_row(tenant), order_row(tenant, "order_2")
        claim = claim_for(fresh)
        commit_each(backend, placing(there))
        with pytest.raises(OrderKitError):
            commit_each(backend, placing(fresh, claim=claim), placing(there._replace(number="another")))
        assert_rows(rows, ORDERS, tenant, [there])
        assert_rows(rows, KEYS, tenant, [])
        assert commit_each(backend, placing(fresh, claim=claim)) == [WRITTEN]

    def test_every_column_of_every_table_is_kept(self, backend: Backend[OrderStorage], rows: ReadRows) -> None:
        @A_FEW
        @given(st.data())
        def check(data: st.DataObject) -> None:
            tenant = fresh_tenant()
            given_rows = data.draw(table_rows(tenant))
            parts = []
            for table, some in given_rows.items():
                part = ChangeSet()
                part.insert(table, some)
                parts.append(part)
            assert commit_each(backend, *parts) == [WRITTEN] * len(parts)
            for table, some in given_rows.items():
                assert_rows(rows, table, tenant, some)

        check()

    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.table.name)
    def test_hundreds_of_rows_are_kept(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str, kind: Kind
    ) -> None:
        many = kind.rows(tenant, MANY)
        many[7] = kind.rewritten(many[7:8])[0]
        parts = [ChangeSet(inserts={kind.table: [row]}) for row in many]
        assert commit_each(backend, *parts) == [WRITTEN] * MANY
        assert_rows(rows, kind.table, tenant, many)

    def test_rows_are_replaced_and_removed(self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str) -> None:
        orders = [order_row(tenant, f"order_{n:04}") for n in range(MANY)]
        lines = [line_row(order, f"line_{n}") for order in orders for n in (1, 2)]
        commit_each(backend, ChangeSet(inserts={ORDERS: [*orders], LINES: [*lines]}))
        parts = [moving(order) for order in orders]
        for part, order in zip(parts, orders, strict=True):
            part.insert(EVENTS, [event_row(order, 2)])
            part.delete(LINES, [(tenant, order.id, "line_1")])
            part.upsert(LINES, [line_row(order, "line_2", "SALT"), line_row(order, "line_3")])
        assert commit_each(backend, *parts) == [WRITTEN] * MANY
        assert_rows(rows, ORDERS, tenant, [moved(order) for order in orders])
        assert_rows(rows, EVENTS, tenant, [event_row(order, 2) for order in orders])
        assert_rows(
            rows,
            LINES,
            tenant,
            [line for order in orders for line in (line_row(order, "line_2", "SALT"), line_row(order, "line_3"))],
        )

    def test_a_transaction_takes_them_back(self, backend: Backend[OrderStorage], tenant: str) -> None:
        order = order_row(tenant)

        def abandon() -> None:
            with backend.connect(transaction=True) as storage:
                assert storage.commit_each([placing(order, claim=claim_for(order))]) == [WRITTEN]
                with pytest.raises(OrderKitError):
                    storage.commit_each([placing(order), placing(order_row(tenant, "order_2"))])
                assert set(storage.read_many(tenant, [order.id, "order_2"]).orders) == {order.id}
                raise Abandoned

        with pytest.raises(Abandoned):
            abandon()
        assert read(backend, order) is None

    def test_each_key_is_claimed_once_by_all_batches(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str
    ) -> None:
        orders = [order_row(tenant, f"order_{n}") for n in range(20)]

        def attempt(contender: int) -> list[Outcome]:
            mine = [order._replace(id=f"{order.id}_{contender}", number=None) for order in orders]
            claims = [claim_for(order, f"key-{n}") for n, order in enumerate(mine)]
            parts = [placing(order, claim=claim) for order, claim in zip(mine, claims, strict=True)]
            return insistently(lambda: commit_each(backend, *parts[contender:], *parts[:contender]))

        outcomes = race(4, attempt)
        assert sum(outcome.committed for some in outcomes for outcome in some) == len(orders)
        assert all(outcome in {WRITTEN, TAKEN} for some in outcomes for outcome in some)
        assert len(list(rows(ORDERS, tenant))) == len(list(rows(KEYS, tenant))) == len(orders)
