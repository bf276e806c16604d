"""Checks of transactions: several commits become one, and each of them a savepoint."""

# ruff: noqa: D102 - the names of checks are sentences
# ruff: noqa: PT012 - it is the whole block that is left by an error

from __future__ import annotations

import pytest

from orderkit.errors import AlreadyExists
from orderkit.orders.ports import OrderStorage, Search
from orderkit.orders.tables import EVENTS, ORDERS, PERSONAL
from orderkit.testing.conformance.base import (
    ReadRows,
    StorageChecks,
    assert_record,
    assert_rows,
    claim_for,
    commit,
    look,
    moved,
    moving,
    order_row,
    placing,
    read,
    reference,
)
from orderkit.testing.conformance.commits import STALE, WRITTEN
from orderkit.testing.conformance.keys import END, assert_stored, stored_key
from orderkit.testing.conformance.samples import event_row, personal_row
from orderkit.unit_of_work.changes import KEYS, ChangeSet
from orderkit.unit_of_work.storage import Backend


class Abandoned(Exception):
    """Raised by a check to leave a transaction."""


class TransactionChecks(StorageChecks):
    """A transaction is written at its end, all of it or nothing."""

    def test_a_storage_knows_whether_it_is_in_a_transaction(self, backend: Backend[OrderStorage]) -> None:
        with backend.connect() as storage:
            assert storage.in_transaction is False
        with backend.connect(transaction=True) as storage:
            assert storage.in_transaction is True

    def test_a_transaction_is_kept_as_a_whole(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str
    ) -> None:
        first, second = order_row(tenant), order_row(tenant, "order_2")
        claims = [claim_for(first, "key-1"), claim_for(second, "key-2")]
        with backend.connect(transaction=True) as storage:
            assert storage.commit(placing(first, claim=claims[0])) == WRITTEN
            assert storage.commit(placing(second, claim=claims[1])) == WRITTEN
            assert storage.commit(moving(first)) == WRITTEN
            assert storage.commit(moving(moved(first))) == WRITTEN
            assert storage.commit(moving(second)) == WRITTEN
        assert_rows(rows, ORDERS, tenant, [moved(moved(first)), moved(second)])
        assert_rows(rows, KEYS, tenant, claims)

    def test_an_error_takes_everything_back(self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str) -> None:
        order = order_row(tenant)
        claim = claim_for(order)
        commit(backend, placing(order, claim=claim))
        error = Abandoned()
        with pytest.raises(Abandoned) as caught, backend.connect(transaction=True) as storage:
            storage.commit(moving(order))
            storage.commit(placing(order_row(tenant, "order_2"), claim=claim_for(order, "key-2")))
            storage.forget_key(reference(claim), END)
            storage.next_number(tenant)
            raise error
        assert caught.value is error
        assert_rows(rows, ORDERS, tenant, [order])
        assert_rows(rows, KEYS, tenant, [claim])

    def test_a_transaction_reads_what_it_wrote(self, backend: Backend[OrderStorage], tenant: str) -> None:
        order = order_row(tenant)
        claim = claim_for(order)
        event, personal = event_row(order), personal_row(order)
        everything = Search(tenant, (), "created_at", descending=True, limit=10)
        with backend.connect(transaction=True) as storage:
            changes = placing(order, claim=claim)
            changes.insert(EVENTS, [event])
            changes.insert(PERSONAL, [personal])
            storage.commit(changes)
            reading = storage.read(tenant, order.id, key=reference(claim), lock=True)
            assert_record(reading.order, order)
            assert_record(assert_stored(reading.stored, claim).order, order)
            assert_record(assert_stored(storage.read_key(reference(claim)), claim).order, order)
            assert [found.order_id for found in storage.search(everything)] == [order.id]
            assert storage.history(tenant, order.id) == [event]
            assert storage.personal(tenant, order.id) == [personal]
            storage.commit(moving(order))
            assert_record(storage.read(tenant, order.id).order, moved(order))

    def test_nobody_else_reads_it_before_the_end(self, backend: Backend[OrderStorage], tenant: str) -> None:
        old, new = order_row(tenant), order_row(tenant, "order_2")
        claim = claim_for(new)
        commit(backend, placing(old))
        with backend.connect(transaction=True) as storage:
            storage.commit(moving(old))
            storage.commit(placing(new, claim=claim))
            assert_record(read(backend, old), old)
            assert look(backend, new, reference(claim)) == (None, None)
        assert_record(read(backend, old), moved(old))
        assert_record(assert_stored(look(backend, new, reference(claim)).stored, claim).order, new)

    def test_a_transaction_without_writes_is_nothing(self, backend: Backend[OrderStorage], tenant: str) -> None:
        with backend.connect(transaction=True) as storage:
            assert storage.read(tenant, "order_absent", lock=True) == (None, None)
        with backend.connect(transaction=True):
            pass


class SavepointChecks(StorageChecks):
    """A commit that fails inside a transaction takes back itself alone."""

    def test_an_error_leaves_what_went_before_it(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str
    ) -> None:
        first, second, third = (order_row(tenant, f"order_{n}") for n in (1, 2, 3))
        claim = claim_for(third)
        with backend.connect(transaction=True) as storage:
            storage.commit(placing(first))
            with pytest.raises(AlreadyExists) as caught:
                storage.commit(placing(third, second._replace(number=first.number), claim=claim))
            assert (caught.value.what, caught.value.value) == ("number", first.number)
            assert_record(storage.read(tenant, first.id).order, first)
            assert storage.read(tenant, third.id, key=reference(claim)) == (None, None)
            storage.commit(placing(second))
        assert_rows(rows, ORDERS, tenant, [first, second])
        assert_rows(rows, KEYS, tenant, [])

    def test_an_error_of_the_first_commit_leaves_the_transaction_usable(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str
    ) -> None:
        order = order_row(tenant)
        commit(backend, placing(order))
        with backend.connect(transaction=True) as storage:
            with pytest.raises(AlreadyExists):
                storage.commit(placing(order))
            assert storage.next_number(tenant) == 1
            storage.commit(moving(order))
        assert_rows(rows, ORDERS, tenant, [moved(order)])

    def test_a_stale_guard_leaves_the_transaction_usable(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str
    ) -> None:
        first, second = order_row(tenant), order_row(tenant, "order_2")
        claim = claim_for(first)
        with backend.connect(transaction=True) as storage:
            storage.commit(placing(first))
            assert storage.commit(moving(first._replace(version=9), claim=claim))[:2] == STALE
            assert storage.read_key(reference(claim)) is None
            assert storage.commit(moving(first, claim=claim)) == WRITTEN
            storage.commit(placing(second))
        assert_rows(rows, ORDERS, tenant, [moved(first), second])
        assert_rows(rows, KEYS, tenant, [claim])

    def test_a_taken_key_leaves_the_transaction_usable(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str
    ) -> None:
        first, second = order_row(tenant), order_row(tenant, "order_2")
        claim = claim_for(first)
        with backend.connect(transaction=True) as storage:
            storage.commit(placing(first, claim=claim))
            outcome = storage.commit(placing(second, claim=claim))
            assert (outcome.committed, outcome.guards_held) == (False, True)
            assert_record(assert_stored(outcome.stored, claim).order, first)
            assert storage.read(tenant, second.id).order is None
            storage.commit(moving(first))
        assert_rows(rows, ORDERS, tenant, [moved(first)])

    def test_a_key_is_forgotten_and_claimed_anew(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str
    ) -> None:
        order = order_row(tenant)
        claim = claim_for(order)
        anew = claim._replace(fingerprint="v1:anew", created_at=END, expires_at=END + (END - claim.created_at))
        commit(backend, placing(order, claim=claim))
        with backend.connect(transaction=True) as storage:
            storage.forget_key(reference(claim), END)
            assert storage.read_key(reference(claim)) is None
            assert storage.commit(moving(order, claim=anew)) == WRITTEN
        assert_rows(rows, KEYS, tenant, [anew])
        assert_stored(stored_key(backend, reference(claim)), anew)

    def test_a_caller_may_go_on_using_its_change_set(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str
    ) -> None:
        first, second = order_row(tenant), order_row(tenant, "order_2")
        changes = ChangeSet()
        with backend.connect(transaction=True) as storage:
            changes.insert(ORDERS, [first])
            storage.commit(changes)
            changes.inserts[ORDERS].clear()
            changes.insert(ORDERS, [second])
            storage.commit(changes)
        assert_rows(rows, ORDERS, tenant, [first, second])


class NumberChecks(StorageChecks):
    """Numbers count from one without gaps, and go back with their transaction."""

    def test_numbers_count_from_one(self, backend: Backend[OrderStorage], tenant: str) -> None:
        taken: list[int] = []
        for _ in range(2):
            with backend.connect(transaction=True) as storage:
                taken += [storage.next_number(tenant), storage.next_number(tenant)]
        assert taken == [1, 2, 3, 4]

    def test_a_number_goes_back_with_its_transaction(self, backend: Backend[OrderStorage], tenant: str) -> None:
        for _ in range(2):
            with pytest.raises(Abandoned), backend.connect(transaction=True) as storage:
                assert storage.next_number(tenant) == 1
                raise Abandoned
        with backend.connect(transaction=True) as storage:
            assert storage.next_number(tenant) == 1
