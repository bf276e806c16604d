"""Checks of what happens when many want the same at the same time."""

# ruff: noqa: D102 - the names of checks are sentences
# ruff: noqa: PT012 - it is the whole block that is left by an error

from __future__ import annotations

import time

import pytest

from orderkit.errors import StorageBusy, VersionConflict
from orderkit.orders.ports import OrderStorage
from orderkit.orders.tables import ORDERS
from orderkit.testing.conformance.base import (
    ReadRows,
    StorageChecks,
    assert_record,
    assert_rows,
    claim_for,
    commit,
    guard_of,
    insistently,
    moved,
    moving,
    order_row,
    placing,
    race,
    read,
    reference,
)
from orderkit.testing.conformance.keys import assert_stored, stored_key
from orderkit.testing.conformance.transactions import Abandoned
from orderkit.unit_of_work.changes import KEYS, ChangeSet
from orderkit.unit_of_work.storage import Backend, Outcome

LOST = Outcome(committed=False, guards_held=False)

in_and_outside_a_transaction = pytest.mark.parametrize(
    "transaction", [False, True], ids=["by-itself", "in-a-transaction"]
)


def attempt(backend: Backend[OrderStorage], changes: ChangeSet, *, transaction: bool) -> Outcome:
    """Commit once; a storage may also refuse whoever comes second by an error."""
    try:
        with backend.connect(transaction=transaction) as storage:
            outcome = storage.commit(changes)
            give_way()
            return outcome
    except (StorageBusy, VersionConflict):
        return LOST


def give_way() -> None:
    """Let others run while this block is open: without it, short blocks hardly ever meet."""
    time.sleep(0.001)


class ContentionChecks(StorageChecks):
    """Of many who want the same one gets it, and the others get nothing."""

    @in_and_outside_a_transaction
    def test_one_of_many_changes_wins(self, backend: Backend[OrderStorage], tenant: str, transaction: bool) -> None:
        order = order_row(tenant)
        commit(backend, placing(order))

        def contend(contender: int) -> Outcome:
            changes = ChangeSet(guards=[guard_of(order)])
            changes.update(ORDERS, [moved(order, document=f"{contender}")])
            return attempt(backend, changes, transaction=transaction)

        outcomes = race(16, contend)
        (winner,) = [n for n, outcome in enumerate(outcomes) if outcome.committed]
        assert not any(outcome.guards_held for n, outcome in enumerate(outcomes) if n != winner)
        assert_record(read(backend, order), moved(order, document=f"{winner}"))

    @in_and_outside_a_transaction
    def test_one_of_many_with_the_same_key_wins(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str, transaction: bool
    ) -> None:
        orders = [order_row(tenant, f"order_{n}") for n in range(16)]
        claims = [claim_for(order) for order in orders]

        def contend(contender: int) -> Outcome:
            changes = placing(orders[contender], claim=claims[contender])
            return attempt(backend, changes, transaction=transaction)

        outcomes = race(16, contend)
        (winner,) = [n for n, outcome in enumerate(outcomes) if outcome.committed]
        assert_rows(rows, ORDERS, tenant, [orders[winner]])
        assert_rows(rows, KEYS, tenant, [claims[winner]])
        seen = [outcome.stored for outcome in outcomes if outcome.stored is not None]
        for stored in (*seen, stored_key(backend, reference(claims[0]))):
            assert_record(assert_stored(stored, claims[winner]).order, orders[winner])

    def test_the_same_request_from_many_changes_an_order_once(
        self, backend: Backend[OrderStorage], tenant: str
    ) -> None:
        order = order_row(tenant)
        claim = claim_for(moved(order))
        commit(backend, placing(order))
        outcomes = race(16, lambda _: attempt(backend, moving(order, claim=claim), transaction=False))
        assert sum(outcome.committed for outcome in outcomes) == 1
        assert_record(assert_stored(stored_key(backend, reference(claim)), claim).order, moved(order))

    def test_orders_guarded_in_any_order_do_not_block_each_other_for_ever(
        self, backend: Backend[OrderStorage], tenant: str
    ) -> None:
        orders = [order_row(tenant, f"order_{n}") for n in range(4)]
        commit(backend, placing(*orders))

        def move_all(first: int) -> None:
            changes = ChangeSet()
            with backend.connect() as storage:
                for order in [*orders[first:], *orders[:first]]:
                    record = storage.read(tenant, order.id).order
                    assert record is not None
                    current = order._replace(version=record.version)
                    changes.guards.append(guard_of(current))
                    changes.update(ORDERS, [moved(current)])
                if not storage.commit(changes).committed:
                    raise StorageBusy("a guard was stale")

        race(8, lambda contender: [insistently(lambda: move_all(contender % 4)) for _ in range(3)])
        assert [record and record.version for record in (read(backend, order) for order in orders)] == [25] * 4

    def test_no_change_is_lost_under_a_lock(self, backend: Backend[OrderStorage], tenant: str) -> None:
        order = order_row(tenant)
        commit(backend, placing(order))

        def move() -> None:
            with backend.connect(transaction=True) as storage:
                record = storage.read(tenant, order.id, lock=True).order
                assert record is not None
                give_way()
                unguarded = ChangeSet(updates={ORDERS: [moved(order._replace(version=record.version))]})
                storage.commit(unguarded)

        race(8, lambda _: [insistently(move) for _ in range(5)])
        record = read(backend, order)
        assert record is not None
        assert record.version == 1 + 8 * 5

    def test_numbers_have_no_gaps_under_contention(self, backend: Backend[OrderStorage], tenant: str) -> None:
        def take() -> int:
            with backend.connect(transaction=True) as storage:
                number = storage.next_number(tenant)
                give_way()
                return number

        def abandon() -> None:
            with pytest.raises(Abandoned), backend.connect(transaction=True) as storage:
                storage.next_number(tenant)
                raise Abandoned

        def take_some(_: int) -> list[int]:
            taken: list[int] = []
            for _ in range(3):
                taken.append(insistently(take))
                insistently(abandon)
            return taken

        taken = [number for numbers in race(8, take_some) for number in numbers]
        assert sorted(taken) == list(range(1, 25))
