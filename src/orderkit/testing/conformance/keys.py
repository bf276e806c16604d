"""Checks of idempotency keys: claimed once, found by whoever comes again, forgotten when they have expired."""

# ruff: noqa: D102 - the names of checks are sentences

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderkit.errors import AlreadyExists
from orderkit.orders.ports import OrderStorage
from orderkit.orders.tables import ORDERS
from orderkit.testing.conformance.base import (
    LAPSE,
    NOON,
    ReadRows,
    StorageChecks,
    assert_record,
    assert_rows,
    claim_for,
    commit,
    fresh_tenant,
    look,
    moved,
    moving,
    order_row,
    placing,
    read,
    reference,
)
from orderkit.testing.conformance.commits import A_FEW, STALE, WRITTEN
from orderkit.testing.conformance.samples import rows_like
from orderkit.unit_of_work.changes import KEYS, ChangeSet, KeyClaim, KeyReference
from orderkit.unit_of_work.storage import Backend, StoredKey

END = NOON + LAPSE
LONG_AGO = datetime(1900, 1, 1, tzinfo=UTC)


def stored_key(backend: Backend[OrderStorage], key: KeyReference) -> StoredKey | None:
    """Read the record of a key in a block of its own."""
    with backend.connect() as storage:
        return storage.read_key(key)


def assert_stored(found: StoredKey | None, claim: KeyClaim) -> StoredKey:
    """Insist that a record is the one that was claimed."""
    assert found is not None
    assert found[:4] == (claim.fingerprint, claim.order_id, claim.order_version, claim.expires_at)
    assert found.expires_at.utcoffset() == timedelta(0)
    return found


class ClaimChecks(StorageChecks):
    """A key is claimed once; whoever comes again finds its record and changes nothing."""

    def test_a_free_key_is_claimed(self, backend: Backend[OrderStorage], tenant: str) -> None:
        order = order_row(tenant)
        claim = claim_for(order)
        assert stored_key(backend, reference(claim)) is None
        assert commit(backend, placing(order, claim=claim)) == WRITTEN
        assert_record(assert_stored(stored_key(backend, reference(claim)), claim).order, order)

    def test_every_column_of_a_claim_is_kept(self, backend: Backend[OrderStorage], rows: ReadRows) -> None:
        @A_FEW
        @given(st.data())
        def check(data: st.DataObject) -> None:
            tenant = fresh_tenant()
            claim = data.draw(rows_like(KeyClaim, tenant=st.just(tenant)))
            assert commit(backend, ChangeSet(claim=claim)) == WRITTEN
            assert_rows(rows, KEYS, tenant, [claim])
            assert assert_stored(stored_key(backend, reference(claim)), claim).order is None

        check()

    def test_keys_of_every_length_and_sign_are_kept(self, backend: Backend[OrderStorage], tenant: str) -> None:
        printable = "".join(map(chr, range(0x20, 0x7F)))
        keys = [*printable, printable, printable.swapcase(), "k" * 255, "k" * 254, "k" * 254 + "K"]
        orders = [order_row(tenant, f"order_{n}") for n in range(len(keys))]
        for order, key in zip(orders, keys, strict=True):
            commit(backend, placing(order, claim=claim_for(order, key)))
        for order, key in zip(orders, keys, strict=True):
            claim = claim_for(order, key)
            assert_stored(stored_key(backend, reference(claim)), claim)

    def test_an_order_and_a_key_are_read_together(self, backend: Backend[OrderStorage], tenant: str) -> None:
        owner, other = order_row(tenant), order_row(tenant, "order_2")
        claim = claim_for(owner)
        free = reference(claim)._replace(key="free")
        commit(backend, placing(owner, other, claim=claim))
        neither = look(backend, order_row(tenant, "order_absent"), free)
        assert neither == (None, None)
        assert look(backend, other, free).stored is None
        assert_record(look(backend, other, free).order, other)
        for order in (owner, other):
            found = look(backend, order, reference(claim))
            assert_record(found.order, order)
            assert_record(assert_stored(found.stored, claim).order, owner)
        only_key = look(backend, order_row(tenant, "order_absent"), reference(claim))
        assert only_key.order is None
        assert_record(assert_stored(only_key.stored, claim).order, owner)

    @pytest.mark.parametrize("part", [0, 1, 2], ids=KeyReference._fields)
    def test_a_key_is_another_in_another_scope(self, backend: Backend[OrderStorage], tenant: str, part: int) -> None:
        order = order_row(tenant)
        claim = claim_for(order)
        commit(backend, placing(order, claim=claim))
        changed = [fresh_tenant() if n == part else value for n, value in enumerate(claim)]
        another = KeyClaim._make(changed)._replace(fingerprint="v1:another")
        assert stored_key(backend, reference(another)) is None
        assert commit(backend, ChangeSet(claim=another)) == WRITTEN
        assert_stored(stored_key(backend, reference(another)), another)
        assert_stored(stored_key(backend, reference(claim)), claim)

    @pytest.mark.parametrize("expired", [False, True])
    def test_a_taken_key_changes_nothing_and_shows_its_record(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str, expired: bool
    ) -> None:
        order = order_row(tenant)
        claim = claim_for(order, expires_at=LONG_AGO if expired else END)
        commit(backend, placing(order, claim=claim))
        again = placing(order_row(tenant, "order_2"), claim=claim._replace(fingerprint="v1:x", order_id="order_2"))
        outcome = commit(backend, again)
        assert (outcome.committed, outcome.guards_held) == (False, True)
        assert_record(assert_stored(outcome.stored, claim).order, order)
        assert_rows(rows, ORDERS, tenant, [order])
        assert_rows(rows, KEYS, tenant, [claim])

    def test_a_record_shows_its_order_as_that_is_now(self, backend: Backend[OrderStorage], tenant: str) -> None:
        order = order_row(tenant)
        claim = claim_for(order)
        commit(backend, placing(order, claim=claim))
        commit(backend, moving(order))
        repeated = commit(backend, placing(order, claim=claim))
        for found in (stored_key(backend, reference(claim)), repeated.stored):
            assert_record(assert_stored(found, claim).order, moved(order))

    def test_a_stale_guard_does_not_burn_the_key(self, backend: Backend[OrderStorage], tenant: str) -> None:
        order = order_row(tenant)
        claim = claim_for(order)
        commit(backend, placing(order))
        stale = commit(backend, moving(order._replace(version=7), claim=claim))
        assert (stale[:2], stale.stored) == (STALE, None)
        assert stored_key(backend, reference(claim)) is None
        assert commit(backend, moving(order, claim=claim)) == WRITTEN

    def test_a_repeated_change_is_stale_and_its_key_taken(self, backend: Backend[OrderStorage], tenant: str) -> None:
        order = order_row(tenant)
        claim = claim_for(moved(order))
        commit(backend, placing(order))
        assert commit(backend, moving(order, claim=claim)) == WRITTEN
        outcome = commit(backend, moving(order, claim=claim))
        assert outcome[:2] == STALE
        assert outcome.stored is None or assert_stored(outcome.stored, claim)
        assert_record(read(backend, order), moved(order))

    def test_a_held_guard_does_not_get_round_a_taken_key(self, backend: Backend[OrderStorage], tenant: str) -> None:
        order = order_row(tenant)
        claim = claim_for(order)
        commit(backend, placing(order, claim=claim))
        outcome = commit(backend, moving(order, claim=claim))
        assert (outcome.committed, outcome.guards_held) == (False, True)
        assert_record(assert_stored(outcome.stored, claim).order, order)
        assert_record(read(backend, order), order)

    def test_what_fails_after_the_claim_does_not_burn_the_key(
        self, backend: Backend[OrderStorage], tenant: str
    ) -> None:
        order = order_row(tenant)
        claim = claim_for(order)
        commit(backend, placing(order))
        with pytest.raises(AlreadyExists):
            commit(backend, placing(order, claim=claim))
        assert stored_key(backend, reference(claim)) is None


class ForgettingChecks(StorageChecks):
    """Records are forgotten when they have expired, and not before."""

    @pytest.mark.parametrize("late", [timedelta(0), timedelta(microseconds=1), timedelta(days=400)])
    def test_an_expired_key_is_forgotten_and_free_again(
        self, backend: Backend[OrderStorage], tenant: str, late: timedelta
    ) -> None:
        order = order_row(tenant)
        claim = claim_for(order)
        commit(backend, placing(order, claim=claim))
        with backend.connect() as storage:
            storage.forget_key(reference(claim), claim.expires_at + late)
            assert storage.read_key(reference(claim)) is None
        assert commit(backend, moving(order, claim=claim)) == WRITTEN
        assert_record(read(backend, order), moved(order))

    def test_a_key_that_has_not_expired_stays(self, backend: Backend[OrderStorage], tenant: str) -> None:
        order = order_row(tenant)
        claim = claim_for(order)
        commit(backend, placing(order, claim=claim))
        with backend.connect() as storage:
            storage.forget_key(reference(claim), claim.expires_at - timedelta(microseconds=1))
        assert_stored(stored_key(backend, reference(claim)), claim)

    def test_only_the_key_that_was_named_is_forgotten(
        self, backend: Backend[OrderStorage], rows: ReadRows, tenant: str
    ) -> None:
        claim, other = (claim_for(order_row(tenant), key) for key in ("key-1", "key-2"))
        elsewhere = claim._replace(tenant=fresh_tenant())
        for each in (claim, other, elsewhere):
            commit(backend, ChangeSet(claim=each))
        with backend.connect() as storage:
            storage.forget_key(reference(claim), END)
            storage.forget_key(reference(claim), END)
        assert_rows(rows, KEYS, tenant, [other])
        assert_rows(rows, KEYS, elsewhere.tenant, [elsewhere])

    def test_expired_keys_are_forgotten_in_batches(self, backend: Backend[OrderStorage], rows: ReadRows) -> None:
        here, there = fresh_tenant(), fresh_tenant()
        with backend.connect() as storage:
            storage.forget_expired_keys(LONG_AGO, 1_000_000)
        expired = [
            claim_for(order_row(tenant), f"expired-{n}", expires_at=LONG_AGO - timedelta(seconds=n))
            for n, tenant in enumerate([here, there, here, there, here])
        ]
        fresh = [
            claim_for(order_row(here), f"fresh-{n}", expires_at=LONG_AGO + timedelta(microseconds=n)) for n in (1, 2)
        ]
        for claim in (*expired, *fresh):
            commit(backend, ChangeSet(claim=claim))
        with backend.connect() as storage:
            assert [storage.forget_expired_keys(LONG_AGO, 2) for _ in range(4)] == [2, 2, 1, 0]
        assert_rows(rows, KEYS, here, fresh)
        assert_rows(rows, KEYS, there, [])
