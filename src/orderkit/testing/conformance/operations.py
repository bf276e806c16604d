"""Checks of leased operations: held by one at a time, under a fence that only ever rises."""

# ruff: noqa: D102 - the names of checks are sentences

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderkit.idempotency.leases import (
    STARTED,
    Held,
    Hold,
    Lapsed,
    NewOperation,
    OperationRow,
    OperationState,
    Progress,
    Replayed,
    StoredOperation,
    judge,
)
from orderkit.idempotency.ports import KeepsOperations, OperationStorage
from orderkit.orders.ports import OrderStorage
from orderkit.testing.conformance.base import NOON, StorageChecks, fresh_tenant
from orderkit.testing.conformance.commits import A_FEW
from orderkit.testing.conformance.samples import MEGABYTE, TEXTS, TIMES
from orderkit.unit_of_work.changes import KeyReference
from orderkit.unit_of_work.storage import Backend

LEASE = timedelta(minutes=1)
RETENTION = timedelta(hours=72)
TICK = timedelta(microseconds=1)
AT_ONCE = timedelta(0)
SLACK = timedelta(minutes=10)
"""How far the clock of a storage may be from that of the checks, and how long a check takes at most."""

by_every_clock = pytest.mark.parametrize("now", [NOON, None], ids=["given-clock", "own-clock"])

Writing = Callable[[OperationStorage, Hold], bool]
"""Write something about an operation under a claim."""


def first(key: KeyReference) -> Hold:
    """Return the claim that an operation is started under."""
    return Hold(key, "first", 1)


def second(key: KeyReference) -> Hold:
    """Return the claim that took an operation over from the first."""
    return Hold(key, "second", 2)


def new_operation(tenant: str, key: str = "key-1", *, scope: str = "shop.pay", owner: str = "first") -> NewOperation:
    """Return an operation to be started."""
    return NewOperation(KeyReference(tenant, scope, key), "v1:abc", '{"amount": 1}', owner, RETENTION)


def progressed(
    state: OperationState = OperationState.IN_PROGRESS, *, result: str | None = None, retention: timedelta = RETENTION
) -> Progress:
    """Return how far an operation has come after its first step."""
    return Progress(state, "charged", '{"charged": "ch_1"}', result, None, retention)


SUCCEEDED = progressed(OperationState.SUCCEEDED, result='{"id": 1}')

WRITINGS: dict[str, Writing] = {
    "take_over": lambda kept, hold: kept.take_over(hold, owner="other", lease=LEASE) is not None,
    "advance": lambda kept, hold: kept.advance(hold, progress=SUCCEEDED, lease=LEASE),
    "renew": lambda kept, hold: kept.renew(hold, lease=LEASE),
    "drop": lambda kept, hold: kept.drop(hold),
}
by_every_writing = pytest.mark.parametrize("writing", WRITINGS.values(), ids=list(WRITINGS))


def of(storage: OrderStorage) -> OperationStorage:
    """Return the operations that a storage keeps."""
    assert isinstance(storage, KeepsOperations)
    return storage.operations


@contextmanager
def opened(backend: Backend[OrderStorage]) -> Generator[OperationStorage]:
    """Open a storage, and return the operations that it keeps."""
    with backend.connect() as storage:
        yield of(storage)


def found(backend: Backend[OrderStorage], key: KeyReference, now: datetime | None = None) -> StoredOperation:
    """Return an operation that is there."""
    with opened(backend) as kept:
        stored = kept.read(key, now=now)
    assert stored is not None
    return stored


def row_of(backend: Backend[OrderStorage], key: KeyReference) -> OperationRow:
    """Return the row of an operation that is there."""
    return found(backend, key, NOON).row


def is_gone(backend: Backend[OrderStorage], key: KeyReference) -> bool:
    """Tell whether an operation is not there."""
    with opened(backend) as kept:
        return kept.read(key) is None


def started(
    backend: Backend[OrderStorage], tenant: str, key: str = "key-1", *, now: datetime | None = NOON
) -> KeyReference:
    """Start an operation and return its key."""
    operation = new_operation(tenant, key)
    with opened(backend) as kept:
        assert kept.start(operation, lease=LEASE, now=now) is None
    return operation.reference


def lapsed(backend: Backend[OrderStorage], tenant: str, key: str = "key-1") -> KeyReference:
    """Start an operation, let its lease run out and return its key."""
    reference = started(backend, tenant, key, now=None)
    with opened(backend) as kept:
        assert kept.renew(first(reference), lease=AT_ONCE)
    return reference


def assert_near(time: datetime, expected: datetime, now: datetime | None) -> None:
    """Insist on a time: exactly, by the clock that was given."""
    assert time.utcoffset() == AT_ONCE
    assert abs(time - expected) <= (SLACK if now is None else AT_ONCE)


class StartingChecks(StorageChecks):
    """A key is started once; whoever comes again finds what is there and changes nothing."""

    @by_every_clock
    def test_a_free_key_is_started(self, backend: Backend[OrderStorage], tenant: str, now: datetime | None) -> None:
        operation = new_operation(tenant)
        assert is_gone(backend, operation.reference)
        with opened(backend) as kept:
            assert kept.start(operation, lease=LEASE, now=now) is None
        row, seen_at = found(backend, operation.reference, now)
        assert row.reference == operation.reference
        assert (row.fingerprint, row.request, row.owner) == operation[1:4]
        assert (row.state, row.fence, row.attempts) == (OperationState.IN_PROGRESS, 1, 1)
        assert (row.recovery_point, row.steps, row.result, row.error) == (STARTED, "{}", None, None)
        time = datetime.now(UTC) if now is None else now
        for value, lapse in (
            (seen_at, AT_ONCE),
            (row.created_at, AT_ONCE),
            (row.updated_at, AT_ONCE),
            (row.locked_until, LEASE),
            (row.expires_at, RETENTION),
        ):
            assert_near(value, time + lapse, now)

    def test_a_taken_key_changes_nothing_and_shows_what_is_there(
        self, backend: Backend[OrderStorage], tenant: str
    ) -> None:
        key = started(backend, tenant)
        before = row_of(backend, key)
        another = NewOperation(key, "v1:another", "[]", "second", AT_ONCE)
        later = NOON + LEASE + RETENTION
        with opened(backend) as kept:
            assert kept.start(another, lease=AT_ONCE, now=later) == StoredOperation(before, later)
            assert kept.start(another, lease=AT_ONCE) is not None
            assert kept.advance(first(key), progress=SUCCEEDED, lease=LEASE, now=NOON)
            stored = kept.start(another, lease=AT_ONCE, now=later)
        assert stored is not None
        assert stored.row == row_of(backend, key) != before
        assert stored.row.result == SUCCEEDED.result

    @by_every_clock
    def test_what_is_found_is_judged_by_the_clock(
        self, backend: Backend[OrderStorage], tenant: str, now: datetime | None
    ) -> None:
        key = started(backend, tenant, now=now)
        held = judge(found(backend, key, now), "v1:abc")
        assert isinstance(held, Held)
        assert 0 < held.retry_after <= LEASE.total_seconds()
        with opened(backend) as kept:
            assert kept.renew(first(key), lease=AT_ONCE, now=now)
            assert isinstance(judge(found(backend, key, now), "v1:abc"), Lapsed)
            assert kept.advance(first(key), progress=SUCCEEDED, lease=LEASE, now=now)
        assert isinstance(judge(found(backend, key, now), "v1:abc"), Replayed)

    def test_every_value_is_kept(self, backend: Backend[OrderStorage]) -> None:
        text = st.sampled_from(TEXTS)
        texts = st.tuples(text, text, text, text, text, st.none() | text, st.none() | text)

        @A_FEW
        @given(texts, st.sampled_from(TIMES))
        def check(texts: tuple[str, str, str, str, str, str | None, str | None], now: datetime) -> None:
            scope, request, owner, point, steps, result, error = texts
            key = KeyReference(fresh_tenant(), scope, uuid4().hex)
            lapse = timedelta(seconds=1, microseconds=1)
            progress = Progress(OperationState.FAILED, point, steps, result, error, lapse)
            end = now + lapse
            with opened(backend) as kept:
                assert kept.start(NewOperation(key, scope, request, owner, lapse), lease=lapse, now=now) is None
                assert kept.advance(Hold(key, owner, 1), progress=progress, lease=lapse, now=now)
            assert row_of(backend, key) == OperationRow(
                *key, scope, request, "failed", owner, 1, 1, end, point, steps, result, error, now, now, end
            )

        check()

    def test_operations_have_keys_of_every_length_and_sign(self, backend: Backend[OrderStorage], tenant: str) -> None:
        printable = "".join(map(chr, range(0x20, 0x7F)))
        keys = [*printable, printable, printable.swapcase(), "k" * 255, "k" * 254, "k" * 254 + "K"]
        with opened(backend) as kept:
            for key in keys:
                assert kept.start(new_operation(tenant, key, owner=key), lease=LEASE) is None
            for key in keys:
                stored = kept.read(KeyReference(tenant, "shop.pay", key))
                assert stored is not None
                assert stored.row.owner == key

    def test_documents_may_be_long(self, backend: Backend[OrderStorage], tenant: str) -> None:
        key = started(backend, tenant)
        long = Progress(OperationState.IN_PROGRESS, "charged", MEGABYTE, MEGABYTE, MEGABYTE, RETENTION)
        with opened(backend) as kept:
            assert kept.advance(first(key), progress=long, lease=LEASE)
        row = row_of(backend, key)
        assert row.steps == row.result == row.error == MEGABYTE

    @pytest.mark.parametrize("part", [0, 1, 2], ids=KeyReference._fields)
    def test_an_operation_is_another_in_another_scope(
        self, backend: Backend[OrderStorage], tenant: str, part: int
    ) -> None:
        key = lapsed(backend, tenant)
        before = row_of(backend, key)
        other = KeyReference._make(fresh_tenant() if n == part else value for n, value in enumerate(key))
        with opened(backend) as kept:
            assert kept.read(other) is None
            for writing in WRITINGS.values():
                assert not writing(kept, first(other))
            assert not kept.forget(other)
            assert kept.start(new_operation(tenant)._replace(reference=other), lease=AT_ONCE) is None
            assert kept.take_over(first(other), owner="second", lease=LEASE)
            assert kept.advance(second(other), progress=progressed(retention=AT_ONCE), lease=LEASE)
            assert kept.renew(second(other), lease=LEASE)
            assert kept.drop(second(other))
        assert row_of(backend, key) == before


class HoldingChecks(StorageChecks):
    """An operation is written under the claim of its holder, and by nobody else."""

    def test_an_operation_is_taken_over_once_its_lease_has_run_out(
        self, backend: Backend[OrderStorage], tenant: str
    ) -> None:
        key = started(backend, tenant)
        end = NOON + LEASE
        with opened(backend) as kept:
            assert kept.advance(first(key), progress=progressed(), lease=LEASE, now=NOON)
            before = row_of(backend, key)
            assert not kept.take_over(first(key), owner="second", lease=LEASE, now=end - TICK)
            assert row_of(backend, key) == before
            taken = before._replace(owner="second", fence=2, attempts=2, locked_until=end + LEASE, updated_at=end)
            assert kept.take_over(first(key), owner="second", lease=LEASE, now=end) == taken
            assert row_of(backend, key) == taken
            assert not kept.take_over(first(key), owner="third", lease=LEASE, now=end + LEASE)
            assert row_of(backend, key) == taken

    def test_whoever_takes_over_is_told_what_its_holder_has_done_since_it_was_looked_at(
        self, backend: Backend[OrderStorage], tenant: str
    ) -> None:
        key = lapsed(backend, tenant)
        seen = row_of(backend, key)
        with opened(backend) as kept:
            assert kept.advance(first(key), progress=progressed(), lease=LEASE)
            assert kept.renew(first(key), lease=AT_ONCE)
        with opened(backend) as kept:
            taken = kept.take_over(seen.hold, owner="second", lease=LEASE)
        assert taken == row_of(backend, key)
        assert taken is not None
        assert (taken.steps, taken.recovery_point) == (progressed().steps, "charged")

    def test_a_lease_runs_out_by_the_clock_of_the_storage(self, backend: Backend[OrderStorage], tenant: str) -> None:
        key = started(backend, tenant, now=None)
        with opened(backend) as kept:
            assert not kept.take_over(first(key), owner="second", lease=LEASE)
            assert kept.renew(first(key), lease=AT_ONCE)
            assert kept.take_over(first(key), owner="second", lease=LEASE)
            assert not kept.take_over(second(key), owner="third", lease=LEASE)
        row, seen_at = found(backend, key)
        assert (row.owner, row.fence, row.attempts) == ("second", 2, 2)
        assert AT_ONCE < row.locked_until - seen_at <= LEASE

    @by_every_clock
    def test_progress_is_written_and_renews_the_lease(
        self, backend: Backend[OrderStorage], tenant: str, now: datetime | None
    ) -> None:
        key = started(backend, tenant)
        before = row_of(backend, key)
        later = None if now is None else now + LEASE
        with opened(backend) as kept:
            assert kept.advance(first(key), progress=progressed(), lease=2 * LEASE, now=later)
            after = row_of(backend, key)
            assert [after.state, after.recovery_point, after.steps, after.result, after.error] == [*progressed()[:5]]
            assert (*after[:5], *after[6:9], after.created_at) == (*before[:5], *before[6:9], before.created_at)
            time = datetime.now(UTC) if later is None else later
            times = (after.locked_until, after.updated_at, after.expires_at)
            for value, lapse in zip(times, (2 * LEASE, AT_ONCE, RETENTION), strict=True):
                assert_near(value, time + lapse, now)
            assert kept.advance(first(key), progress=SUCCEEDED, lease=LEASE, now=later)
        assert row_of(backend, key).result == SUCCEEDED.result

    @by_every_clock
    def test_a_lease_is_renewed_and_nothing_else(
        self, backend: Backend[OrderStorage], tenant: str, now: datetime | None
    ) -> None:
        key = started(backend, tenant)
        before = row_of(backend, key)
        with opened(backend) as kept:
            for lease in (2 * LEASE, 2 * LEASE, AT_ONCE):
                assert kept.renew(first(key), lease=lease, now=now)
                after = row_of(backend, key)
                assert after._replace(locked_until=before.locked_until) == before
                assert_near(after.locked_until, (datetime.now(UTC) if now is None else now) + lease, now)
            assert kept.take_over(first(key), owner="second", lease=LEASE, now=now)

    def test_a_dropped_operation_is_started_anew(self, backend: Backend[OrderStorage], tenant: str) -> None:
        key, other = started(backend, tenant), started(backend, tenant, "key-2")
        with opened(backend) as kept:
            assert kept.drop(first(key))
            assert not kept.drop(first(key))
        assert is_gone(backend, key)
        assert row_of(backend, other).fence == 1
        assert started(backend, tenant) == key

    @by_every_writing
    @pytest.mark.parametrize(("owner", "fence"), [("first", 1), ("second", 1), ("first", 2), ("second", 3)])
    def test_nothing_is_written_under_another_claim(
        self, backend: Backend[OrderStorage], tenant: str, writing: Writing, owner: str, fence: int
    ) -> None:
        key = lapsed(backend, tenant)
        with opened(backend) as kept:
            assert kept.take_over(first(key), owner="second", lease=AT_ONCE)
            before = row_of(backend, key)
            assert not writing(kept, Hold(key, owner, fence))
            assert row_of(backend, key) == before
            assert writing(kept, second(key))

    @by_every_writing
    def test_a_claim_ends_with_the_operation_it_was_made_on(
        self, backend: Backend[OrderStorage], tenant: str, writing: Writing
    ) -> None:
        key = lapsed(backend, tenant)
        with opened(backend) as kept:
            assert kept.take_over(first(key), owner="second", lease=LEASE)
            assert kept.drop(second(key))
            assert kept.start(new_operation(tenant, owner="anew"), lease=AT_ONCE) is None
            before = row_of(backend, key)
            assert before.fence == 1
            for hold in (first(key), second(key)):
                assert not writing(kept, hold)
        assert row_of(backend, key) == before

    @by_every_writing
    @pytest.mark.parametrize("state", [OperationState.SUCCEEDED, OperationState.FAILED])
    def test_what_has_finished_never_changes(
        self, backend: Backend[OrderStorage], tenant: str, writing: Writing, state: OperationState
    ) -> None:
        key = started(backend, tenant, now=None)
        with opened(backend) as kept:
            assert kept.advance(first(key), progress=progressed(state), lease=AT_ONCE)
            before = row_of(backend, key)
            assert before.state == state
            assert not writing(kept, first(key))
        assert row_of(backend, key) == before

    @by_every_writing
    def test_what_is_not_there_is_not_written(
        self, backend: Backend[OrderStorage], tenant: str, writing: Writing
    ) -> None:
        key = new_operation(tenant).reference
        with opened(backend) as kept:
            assert not writing(kept, first(key))
        assert is_gone(backend, key)
