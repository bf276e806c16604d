"""Checks of what becomes of leased operations in time, in transactions and among many who want them."""

# ruff: noqa: D102 - the names of checks are sentences
# ruff: noqa: PT012 - it is the whole block that is left by an error

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from orderkit.errors import LeaseLost, StorageBusy, TransactionEnded
from orderkit.idempotency.leases import OperationRow, OperationState, StoredOperation
from orderkit.orders.ports import OrderStorage
from orderkit.orders.tables import OrderRow
from orderkit.testing.conformance.advancing import AdvancingCommitChecks
from orderkit.testing.conformance.base import (
    NOON,
    StorageChecks,
    assert_record,
    fresh_tenant,
    moved,
    moving,
    order_row,
    placing,
    race,
    read,
)
from orderkit.testing.conformance.blocking import Blocking
from orderkit.testing.conformance.commits import WRITTEN
from orderkit.testing.conformance.contention import give_way
from orderkit.testing.conformance.operations import (
    AT_ONCE,
    LEASE,
    RETENTION,
    SUCCEEDED,
    TICK,
    WRITINGS,
    HoldingChecks,
    StartingChecks,
    Writing,
    by_every_clock,
    by_every_writing,
    first,
    is_gone,
    lapsed,
    new_operation,
    of,
    opened,
    progressed,
    row_of,
    second,
    started,
)
from orderkit.testing.conformance.transactions import Abandoned
from orderkit.unit_of_work.changes import KeyReference
from orderkit.unit_of_work.storage import Backend

MANY = 32
LONG_AGO = datetime(1900, 1, 1, tzinfo=UTC)


class ForgettingOperationsChecks(StorageChecks):
    """Operations are forgotten when they have finished and expired, and found when nobody is at work on them."""

    @by_every_clock
    def test_an_operation_that_has_finished_and_expired_is_forgotten(
        self, backend: Backend[OrderStorage], tenant: str, now: datetime | None
    ) -> None:
        key = started(backend, tenant, now=now)
        with opened(backend) as kept:
            assert kept.advance(first(key), progress=SUCCEEDED, lease=AT_ONCE, now=now)
            before = row_of(backend, key)
            assert not kept.forget(key, now=None if now is None else now + RETENTION - TICK)
            assert row_of(backend, key) == before
            assert kept.forget(key, now=before.expires_at)
            assert not kept.forget(key, now=before.expires_at)
        assert is_gone(backend, key)
        assert started(backend, tenant) == key

    def test_an_operation_in_progress_is_never_forgotten(self, backend: Backend[OrderStorage], tenant: str) -> None:
        key, other = (started(backend, tenant, name, now=LONG_AGO) for name in ("key-1", "key-2"))
        much_later = LONG_AGO + 10 * RETENTION
        with opened(backend) as kept:
            assert kept.advance(first(other), progress=progressed(retention=AT_ONCE), lease=AT_ONCE, now=LONG_AGO)
            before = [row_of(backend, each) for each in (key, other)]
            for each in (key, other):
                assert not kept.forget(each)
                assert not kept.forget(each, now=much_later)
            kept.forget_expired(1_000_000, now=much_later)
        assert [row_of(backend, each) for each in (key, other)] == before

    def test_expired_operations_are_forgotten_in_batches(self, backend: Backend[OrderStorage]) -> None:
        here, there = fresh_tenant(), fresh_tenant()
        with opened(backend) as kept:
            kept.forget_expired(1_000_000, now=LONG_AGO)
            expired = [self.ended(backend, tenant, f"expired-{n}", AT_ONCE) for tenant in (here, there) for n in (1, 2)]
            fresh = [self.ended(backend, here, "fresh", TICK), started(backend, here, "begun", now=LONG_AGO)]
            assert [kept.forget_expired(3, now=LONG_AGO) for _ in range(3)] == [3, 1, 0]
        assert all(is_gone(backend, key) for key in expired)
        assert not any(is_gone(backend, key) for key in fresh)

    def test_operations_expire_by_the_clock_of_the_storage(self, backend: Backend[OrderStorage], tenant: str) -> None:
        old, new = (started(backend, tenant, name, now=None) for name in ("old", "new"))
        with opened(backend) as kept:
            for key, retention in ((old, AT_ONCE), (new, LEASE)):
                progress = progressed(OperationState.FAILED, retention=retention)
                assert kept.advance(first(key), progress=progress, lease=AT_ONCE)
            assert kept.forget_expired(1_000_000) >= 1
        assert is_gone(backend, old)
        assert not is_gone(backend, new)

    @by_every_clock
    def test_operations_that_nobody_is_at_work_on_are_found(
        self, backend: Backend[OrderStorage], now: datetime | None
    ) -> None:
        tenants = [fresh_tenant() for _ in range(5)]
        mine, other, idle = (f"shop.{fresh_tenant()}" for _ in range(3))
        with opened(backend) as kept:

            def begin(tenant: str, scope: str, lease: timedelta) -> KeyReference:
                operation = new_operation(tenant, scope=scope)
                assert kept.start(operation, lease=lease, now=now) is None
                return operation.reference

            # Longest abandoned first, whatever their keys say.
            abandoned = [begin(tenant, mine, -(9 - n) * LEASE) for n, tenant in enumerate(reversed(tenants[:3]))]
            begin(tenants[3], mine, LEASE)
            finished = begin(tenants[4], mine, -9 * LEASE)
            assert kept.advance(first(finished), progress=SUCCEEDED, lease=-9 * LEASE, now=now)
            elsewhere = begin(tenants[0], other, -10 * LEASE)
            assert kept.stuck([mine], grace=AT_ONCE, limit=9, now=now) == abandoned
            assert kept.stuck([mine], grace=8 * LEASE, limit=9, now=now) == abandoned[:2]
            assert kept.stuck([mine], grace=AT_ONCE, limit=1, now=now) == abandoned[:1]
            assert kept.stuck([mine, idle, other], grace=AT_ONCE, limit=9, now=now) == [elsewhere, *abandoned]
            assert kept.stuck([idle], grace=AT_ONCE, limit=9, now=now) == []
            assert kept.stuck([], grace=AT_ONCE, limit=9, now=now) == []
            if now is not None:
                assert kept.stuck([mine], grace=9 * LEASE + TICK, limit=9, now=now) == []
                assert kept.stuck([mine], grace=9 * LEASE, limit=9, now=now) == abandoned[:1]

    def ended(self, backend: Backend[OrderStorage], tenant: str, name: str, retention: timedelta) -> KeyReference:
        """Start an operation long ago and end it at once; return its key."""
        key = started(backend, tenant, name, now=LONG_AGO)
        progress = progressed(OperationState.SUCCEEDED, retention=retention)
        with opened(backend) as kept:
            assert kept.advance(first(key), progress=progress, lease=AT_ONCE, now=LONG_AGO)
        return key


class OperationTransactionChecks(StorageChecks):
    """Inside a transaction operations are written with all else, or not at all."""

    def test_operations_are_kept_with_their_transaction(self, backend: Backend[OrderStorage], tenant: str) -> None:
        order = order_row(tenant)
        old, key = lapsed(backend, tenant, "old"), new_operation(tenant).reference
        with backend.connect(transaction=True) as storage:
            kept = of(storage)
            assert kept.start(new_operation(tenant), lease=LEASE) is None
            assert kept.take_over(first(old), owner="second", lease=LEASE)
            assert storage.commit(placing(order)) == WRITTEN
            assert kept.advance(second(old), progress=progressed(), lease=LEASE)
            assert kept.renew(first(key), lease=2 * LEASE)
            assert storage.commit(moving(order)) == WRITTEN
            assert isinstance(kept.start(new_operation(tenant), lease=LEASE), StoredOperation)
            assert is_gone(backend, key)
            assert row_of(backend, old).fence == 1
        assert row_of(backend, key).fence == 1
        assert (row_of(backend, old).fence, row_of(backend, old).recovery_point) == (2, "charged")
        assert_record(read(backend, order), moved(order))

    def test_an_error_takes_operations_back(self, backend: Backend[OrderStorage], tenant: str) -> None:
        names = ("advanced", "renewed", "taken", "dropped")
        advanced, renewed, taken, dropped = keys = [lapsed(backend, tenant, name) for name in names]
        finished = started(backend, tenant, "finished")
        with opened(backend) as kept:
            assert kept.advance(first(finished), progress=SUCCEEDED, lease=AT_ONCE, now=NOON)
        before = [row_of(backend, key) for key in (*keys, finished)]
        with pytest.raises(Abandoned), backend.connect(transaction=True) as storage:
            kept = of(storage)
            assert kept.start(new_operation(tenant), lease=LEASE) is None
            assert kept.advance(first(advanced), progress=SUCCEEDED, lease=LEASE)
            assert kept.renew(first(renewed), lease=LEASE)
            assert kept.take_over(first(taken), owner="second", lease=LEASE)
            assert kept.drop(first(dropped))
            assert kept.forget(finished, now=NOON + RETENTION)
            raise Abandoned
        assert [row_of(backend, key) for key in (*keys, finished)] == before
        assert is_gone(backend, new_operation(tenant).reference)

    def test_whoever_was_taken_over_writes_nothing_else_either(
        self, backend: Backend[OrderStorage], tenant: str
    ) -> None:
        order, key = order_row(tenant), lapsed(backend, tenant)
        with opened(backend) as kept:
            assert kept.take_over(first(key), owner="second", lease=LEASE)
        before = row_of(backend, key)
        with pytest.raises(LeaseLost), backend.connect(transaction=True) as storage:
            assert storage.commit(placing(order)) == WRITTEN
            if not of(storage).advance(first(key), progress=SUCCEEDED, lease=LEASE):
                raise LeaseLost(key.key, 1)
        assert read(backend, order) is None
        assert row_of(backend, key) == before

    @by_every_writing
    def test_a_writing_that_fails_leaves_the_transaction_usable(
        self, backend: Backend[OrderStorage], tenant: str, writing: Writing
    ) -> None:
        order, key = order_row(tenant), lapsed(backend, tenant)
        with backend.connect(transaction=True) as storage:
            assert storage.commit(placing(order)) == WRITTEN
            assert not writing(of(storage), second(key))
            assert of(storage).start(new_operation(tenant), lease=LEASE) is not None
            assert storage.commit(moving(order)) == WRITTEN
        assert_record(read(backend, order), moved(order))

    def test_nothing_is_done_after_the_end(self, backend: Backend[OrderStorage], tenant: str) -> None:
        key = started(backend, tenant)
        with backend.connect(transaction=True) as storage:
            kept = of(storage)
        for use in (kept.read, lambda key: kept.renew(first(key), lease=AT_ONCE)):
            with pytest.raises(TransactionEnded):
                use(key)


class OperationContentionChecks(StorageChecks):
    """Of many who want an operation one has it, and what the others write is not written."""

    @pytest.mark.parametrize("transaction", [False, True], ids=["by-itself", "in-a-transaction"])
    def test_one_of_many_starts_an_operation(
        self, backend: Backend[OrderStorage], tenant: str, transaction: bool
    ) -> None:
        def start(contender: int) -> StoredOperation | None:
            operation = new_operation(tenant, owner=f"owner {contender}")
            with backend.connect(transaction=transaction) as storage:
                stored = of(storage).start(operation, lease=LEASE)
                give_way()
            return stored

        def contend(contender: int) -> StoredOperation | None:
            try:
                return start(contender)
            except StorageBusy:
                stored = start(contender)
                assert stored is not None
                return stored

        outcomes = race(MANY, contend)
        (winner,) = [n for n, stored in enumerate(outcomes) if stored is None]
        row = row_of(backend, new_operation(tenant).reference)
        assert (row.owner, row.fence) == (f"owner {winner}", 1)
        assert [stored.row for stored in outcomes if stored is not None] == [row] * (MANY - 1)

    def test_one_of_many_takes_an_operation_over(self, backend: Backend[OrderStorage], tenant: str) -> None:
        key = lapsed(backend, tenant)

        def contend(contender: int) -> bool:
            with opened(backend) as kept:
                return kept.take_over(first(key), owner=f"owner {contender}", lease=LEASE) is not None

        (winner,) = [n for n, won in enumerate(race(MANY, contend)) if won]
        row = row_of(backend, key)
        assert (row.owner, row.fence, row.attempts) == (f"owner {winner}", 2, 2)

    @pytest.mark.parametrize("ending", ["advance", "drop"])
    def test_an_operation_is_ended_or_taken_over_but_never_both(
        self, backend: Backend[OrderStorage], tenant: str, ending: str
    ) -> None:
        for n in range(4):
            key = lapsed(backend, tenant, f"{n}")

            def contend(contender: int, key: KeyReference = key) -> bool:
                with opened(backend) as kept:
                    return WRITINGS["take_over" if contender % 2 else ending](kept, first(key))

            outcomes = race(4, contend)
            assert sum(outcomes) == 1
            if any(outcomes[1::2]):
                assert (row_of(backend, key).state, row_of(backend, key).fence) == ("in_progress", 2)

    def test_what_a_holder_writes_stands_or_falls_with_its_fence(
        self, backend: Backend[OrderStorage], tenant: str
    ) -> None:
        for n in range(4):
            order, key = order_row(tenant, f"order_{n}"), lapsed(backend, tenant, f"{n}")
            contenders = (partial(place_as_holder, order=order), take_over)
            written, taken = race(2, lambda n, key=key, contenders=contenders: contenders[n](backend, key))  # type: ignore[misc]  # mypy cannot infer a lambda's default
            assert written != taken
            assert (read(backend, order) is not None) == written
            assert row_of(backend, key).finished == written


def take_over(backend: Backend[OrderStorage], key: KeyReference) -> bool:
    """Take a lapsed operation over from its first holder."""
    with opened(backend) as kept:
        return kept.take_over(first(key), owner="second", lease=LEASE) is not None


def place_as_holder(backend: Backend[OrderStorage], key: KeyReference, order: OrderRow) -> bool:
    """Write an order as the first holder of an operation, which ends with that."""
    try:
        with backend.connect(transaction=True) as storage:
            if not of(storage).advance(first(key), progress=SUCCEEDED, lease=LEASE):
                raise LeaseLost(key.key, 1)
            give_way()
            storage.commit(placing(order))
    except (LeaseLost, StorageBusy):
        return False
    return True


class OperationConformance(
    StartingChecks,
    HoldingChecks,
    ForgettingOperationsChecks,
    AdvancingCommitChecks,
    OperationTransactionChecks,
    OperationContentionChecks,
):
    """Check a storage of leased operations against every sentence of its contract.

    Subclass it and supply the fixture `backend`; see `orderkit.testing.conformance`.
    """


class AsyncOperationConformance(OperationConformance):
    """Check an asynchronous storage of leased operations against every sentence of its contract.

    Subclass it and supply the fixture `backend`, made by `Blocking`.
    """

    @pytest.fixture
    def backend(self) -> Blocking[OrderStorage]:
        """Return the backend to be checked, driven by `Blocking`, its schema created."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `backend`: see orderkit.testing.conformance")

    def test_one_of_many_tasks_of_a_loop_holds_an_operation(self, backend: Blocking[OrderStorage], tenant: str) -> None:
        key = lapsed(backend, tenant)

        async def contend(contender: int) -> OperationRow | None:
            async with backend.backend.connect() as call:
                return await call(
                    lambda storage: of(storage).take_over(first(key), owner=f"owner {contender}", lease=LEASE)
                )

        async def check() -> list[OperationRow | None]:
            return await asyncio.gather(*map(contend, range(MANY)))

        (winner,) = [n for n, won in enumerate(backend.run(check())) if won]
        assert row_of(backend, key).owner == f"owner {winner}"
