"""What only a storage that never waits does: the later of two transactions is refused at its end."""

# ruff: noqa: PT012 - it is the end of the block that is refused

from __future__ import annotations

import pytest

from orderkit.errors import AlreadyExists, StorageBusy, StorageFailed, VersionConflict
from orderkit.orders.tables import ORDERS, OrderRow
from orderkit.storage.memory import MemoryBackend
from orderkit.testing.conformance.base import (
    assert_record,
    claim_for,
    commit,
    moved,
    moving,
    order_row,
    placing,
    read,
    reference,
)
from orderkit.unit_of_work.changes import ChangeSet

ORDER = order_row("acme")
OTHER = order_row("acme", "order_2")
CLAIM = claim_for(ORDER)


@pytest.fixture
def backend() -> MemoryBackend:
    backend = MemoryBackend()
    commit(backend, placing(ORDER))
    return backend


def test_a_guard_that_no_longer_holds_is_a_conflict_and_nothing_is_kept(backend: MemoryBackend) -> None:
    with pytest.raises(VersionConflict) as caught, backend.connect(transaction=True) as storage:
        assert storage.commit(placing(OTHER)).committed
        assert storage.commit(moving(ORDER)).committed
        commit(backend, moving(ORDER))
    assert (caught.value.order_id, caught.value.expected, caught.value.actual) == (ORDER.id, 1, 2)
    assert read(backend, OTHER) is None
    assert_record(read(backend, ORDER), moved(ORDER))


def test_a_key_taken_meanwhile_asks_for_another_attempt(backend: MemoryBackend) -> None:
    with pytest.raises(StorageBusy), backend.connect(transaction=True) as storage:
        assert storage.commit(placing(OTHER, claim=CLAIM)).committed
        commit(backend, moving(ORDER, claim=CLAIM))
    assert read(backend, OTHER) is None


def test_a_key_forgotten_meanwhile_is_forgotten_once(backend: MemoryBackend) -> None:
    commit(backend, ChangeSet(claim=CLAIM))
    with backend.connect(transaction=True) as storage:
        assert storage.forget_expired_keys(CLAIM.expires_at, 10) == 1
        with backend.connect() as other:
            other.forget_key(reference(CLAIM), CLAIM.expires_at)
    assert commit(backend, ChangeSet(claim=CLAIM)).committed


@pytest.mark.parametrize("taken", [OTHER, OTHER._replace(id="order_3"), OTHER._replace(number="another")])
def test_an_id_or_number_taken_meanwhile_exists_already(backend: MemoryBackend, taken: OrderRow) -> None:
    with pytest.raises(AlreadyExists), backend.connect(transaction=True) as storage:
        storage.commit(moving(ORDER))
        storage.commit(placing(OTHER))
        commit(backend, placing(taken))
    assert_record(read(backend, ORDER), ORDER)


def test_a_locked_order_changed_meanwhile_asks_for_another_attempt(backend: MemoryBackend) -> None:
    with pytest.raises(StorageBusy), backend.connect(transaction=True) as storage:
        storage.read(ORDER.tenant, ORDER.id, lock=True)
        storage.commit(placing(OTHER))
        commit(backend, moving(ORDER))
    assert read(backend, OTHER) is None


def test_a_number_taken_meanwhile_asks_for_another_attempt(backend: MemoryBackend) -> None:
    with pytest.raises(StorageBusy), backend.connect(transaction=True) as first:
        assert first.next_number("acme") == 1
        with backend.connect(transaction=True) as second:
            assert second.next_number("acme") == 1
    with backend.connect(transaction=True) as storage:
        assert storage.next_number("acme") == 2


def test_transactions_that_do_not_meet_are_both_kept(backend: MemoryBackend) -> None:
    with backend.connect(transaction=True) as first, backend.connect(transaction=True) as second:
        first.commit(moving(ORDER))
        second.commit(placing(OTHER))
    assert_record(read(backend, ORDER), moved(ORDER))
    assert_record(read(backend, OTHER), OTHER)


def test_a_number_needs_a_transaction(backend: MemoryBackend) -> None:
    with backend.connect() as storage, pytest.raises(StorageFailed):
        storage.next_number("acme")


def test_a_row_to_be_updated_must_be_there(backend: MemoryBackend) -> None:
    changes = placing(OTHER)
    changes.update(ORDERS, [order_row("acme", "order_absent")])
    with pytest.raises(StorageFailed):
        commit(backend, changes)
    assert read(backend, OTHER) is None
