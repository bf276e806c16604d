"""Checks of commits that a leased operation moves on with: all of it, or nothing."""

# ruff: noqa: D102 - the names of checks are sentences

from __future__ import annotations

from functools import partial

import pytest

from orderkit.idempotency.leases import OperationState, advance_of
from orderkit.orders.ports import OrderStorage
from orderkit.orders.tables import OrderRow
from orderkit.testing.conformance.base import (
    StorageChecks,
    assert_record,
    commit,
    moved,
    moving,
    order_row,
    placing,
    race,
    read,
)
from orderkit.testing.conformance.commits import WRITTEN
from orderkit.testing.conformance.operations import (
    AT_ONCE,
    LEASE,
    SUCCEEDED,
    by_every_clock,
    first,
    lapsed,
    opened,
    progressed,
    row_of,
    second,
    started,
)
from orderkit.unit_of_work.changes import Advance, ChangeSet, KeyReference
from orderkit.unit_of_work.storage import Backend, Outcome

LOST = Outcome(committed=False, guards_held=True, lease_held=False)
FEW_AND_MANY = (1, 3, 40)


def advance(key: KeyReference) -> Advance:
    """Return what ends an operation as its first holder."""
    return advance_of(first(key), SUCCEEDED, LEASE)


def with_advance(changes: ChangeSet, wanted: Advance) -> ChangeSet:
    """Return a change set with which an operation moves on."""
    changes.advance = wanted
    return changes


class AdvancingCommitChecks(StorageChecks):
    """A commit moves an operation on together with its rows, if its claim holds it still."""

    @by_every_clock
    def test_an_operation_moves_on_alone(self, backend: Backend[OrderStorage], tenant: str, now: None) -> None:
        key = started(backend, tenant)
        wanted = advance_of(first(key), progressed(), LEASE, now)
        assert commit(backend, with_advance(ChangeSet(), wanted)) == WRITTEN
        with opened(backend) as kept:
            assert kept.advance(first(key), progress=progressed(), lease=LEASE, now=now)
        assert row_of(backend, key).recovery_point == "charged"

    @pytest.mark.parametrize("count", FEW_AND_MANY)
    def test_an_operation_moves_on_with_new_orders(
        self, backend: Backend[OrderStorage], tenant: str, count: int
    ) -> None:
        key, orders = started(backend, tenant), orders_of(tenant, count)
        assert commit(backend, with_advance(placing(*orders), advance(key))) == WRITTEN
        assert row_of(backend, key).state == OperationState.SUCCEEDED
        for order in orders:
            assert_record(read(backend, order), order)

    @pytest.mark.parametrize("count", FEW_AND_MANY)
    def test_an_operation_moves_on_with_orders_that_are_where_they_were(
        self, backend: Backend[OrderStorage], tenant: str, count: int
    ) -> None:
        key, orders = started(backend, tenant), orders_of(tenant, count)
        commit(backend, placing(*orders))
        assert commit(backend, with_advance(moving(*orders), advance(key))) == WRITTEN
        assert row_of(backend, key).finished
        assert_record(read(backend, orders[-1]), moved(orders[-1]))

    @pytest.mark.parametrize("transaction", [False, True])
    @pytest.mark.parametrize("count", FEW_AND_MANY)
    def test_whoever_was_taken_over_writes_nothing(
        self, backend: Backend[OrderStorage], tenant: str, count: int, transaction: bool
    ) -> None:
        key, orders = lapsed(backend, tenant), orders_of(tenant, count)
        commit(backend, placing(*orders))
        with opened(backend) as kept:
            assert kept.take_over(first(key), owner="second", lease=LEASE)
        before, new = row_of(backend, key), order_row(tenant, "order_new")
        changes = moving(*orders)
        changes.inserts = placing(new).inserts
        with backend.connect(transaction=transaction) as storage:
            assert storage.commit(with_advance(changes, advance(key))) == LOST
        assert row_of(backend, key) == before
        assert read(backend, new) is None
        assert_record(read(backend, orders[0]), orders[0])

    @pytest.mark.parametrize("count", FEW_AND_MANY)
    def test_an_order_that_has_moved_on_holds_the_operation_back(
        self, backend: Backend[OrderStorage], tenant: str, count: int
    ) -> None:
        key, orders = started(backend, tenant), orders_of(tenant, count)
        commit(backend, placing(*orders))
        commit(backend, moving(orders[0]))
        before = row_of(backend, key)
        outcome = commit(backend, with_advance(moving(*orders), advance(key)))
        assert (outcome.committed, outcome.guards_held) == (False, False)
        assert row_of(backend, key) == before

    def test_an_operation_that_has_ended_or_is_not_there_moves_no_more(
        self, backend: Backend[OrderStorage], tenant: str
    ) -> None:
        ended, absent = started(backend, tenant), KeyReference(tenant, "shop.pay", "absent")
        with opened(backend) as kept:
            assert kept.advance(first(ended), progress=SUCCEEDED, lease=AT_ONCE)
        order = order_row(tenant)
        for key in (ended, absent, KeyReference("another-" + tenant[:50], *started(backend, tenant, "other")[1:])):
            assert commit(backend, with_advance(placing(order), advance(key))) == LOST
        assert read(backend, order) is None

    def test_an_operation_is_ended_by_a_commit_or_taken_over_but_never_both(
        self, backend: Backend[OrderStorage], tenant: str
    ) -> None:
        for n in range(8):
            order, key = order_row(tenant, f"order_{n}"), lapsed(backend, tenant, f"{n}")
            attempts = (partial(end, backend, key, order), partial(take, backend, key))
            written, taken = race(2, lambda contender, attempts=attempts: attempts[contender]())  # type: ignore[misc]  # mypy cannot infer a lambda's default
            assert written != taken
            assert (read(backend, order) is not None) == written
            assert row_of(backend, key).hold == (first(key) if written else second(key))


def orders_of(tenant: str, count: int) -> list[OrderRow]:
    """Return some orders."""
    return [order_row(tenant, f"order_{n}") for n in range(count)]


def end(backend: Backend[OrderStorage], key: KeyReference, order: OrderRow) -> bool:
    """Write an order as the first holder of an operation, which ends with that."""
    return commit(backend, with_advance(placing(order), advance(key))).committed


def take(backend: Backend[OrderStorage], key: KeyReference) -> bool:
    """Take a lapsed operation over from its first holder."""
    with opened(backend) as kept:
        return kept.take_over(first(key), owner="second", lease=LEASE) is not None
