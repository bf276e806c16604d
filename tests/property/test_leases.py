"""Workers who claim, forget to renew, crash and wake up late: one of them holds an operation, whatever they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from itertools import count, permutations
from typing import TypeVar

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import URL

from orderkit.idempotency.leases import (
    MIN_WAIT,
    STARTED,
    Expired,
    Held,
    Hold,
    Lapsed,
    Mismatched,
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
from orderkit.storage.memory import MemoryBackend
from orderkit.storage.sql import open_backend
from orderkit.testing.clock import ManualClock
from orderkit.unit_of_work.changes import KeyReference
from orderkit.unit_of_work.storage import Backend
from tests.effort import examples
from tests.property.together import together

T = TypeVar("T")

LEASE = timedelta(seconds=60)
RETENTION = timedelta(seconds=300)
NOTHING = timedelta(0)
NOON = ManualClock().now()

WORKERS = st.integers(0, 3)
FINGERPRINTS = st.sampled_from(("v1:a", "v1:b", "v2:c"))
DEEDS = st.sampled_from(("renew", "step", "finish", "drop", "seize"))
ENDINGS = st.sampled_from((OperationState.SUCCEEDED, OperationState.FAILED))


class Abandoned(Exception):
    """Leaves a transaction."""


@attrs.define
class Worker:
    """What a worker believes: a claim it may have lost long ago, and what it saw when it last looked."""

    hold: Hold | None = None
    seen: OperationRow | None = None


@attrs.frozen
class Deed:
    """Something a worker does, for real and by hand; both give the answer, by hand also what is kept after it."""

    worker: int
    really: Callable[[OperationStorage], object]
    by_hand: Callable[[OperationRow | None], tuple[OperationRow | None, object]]


class LeaseMachine(RuleBasedStateMachine):
    """One key, several workers, and a clock that also goes backwards, beside a row that is kept by hand."""

    backend: Backend[OrderStorage] = MemoryBackend()
    numbers = count()

    def __init__(self) -> None:
        super().__init__()
        self.key = KeyReference("acme", f"pay {next(self.numbers)}", "key")
        self.now = NOON
        self.workers = [Worker() for _ in range(4)]
        self.holds: list[Hold] = []
        self.fences: list[int] = []
        self.row: OperationRow | None = None

    # --- what a worker does ---------------------------------------------------------------------

    @rule(worker=WORKERS, fingerprint=FINGERPRINTS)
    def claim(self, worker: int, fingerprint: str) -> None:
        owner = f"claim {len(self.holds)}"
        stored = self.start(owner, fingerprint)
        if stored is None:
            self.hold(worker)
            return
        assert stored == StoredOperation(self.there(), self.now)
        match judge(stored, fingerprint):
            case Replayed(row):
                assert row == self.row
            case Lapsed(row):
                self.workers[worker].seen = row
                self.happen(self.seizing(worker))
                assert self.workers[worker].hold == self.there().hold
            case Expired():
                assert self.keep(lambda kept: kept.forget(self.key, now=self.now))
                self.row = None
                assert self.start(owner, fingerprint) is None
                self.hold(worker)
            case Held(retry_after):
                assert retry_after >= MIN_WAIT.total_seconds()
            case Mismatched():
                assert self.there().fingerprint[:3] == fingerprint[:3]

    @rule(worker=WORKERS)
    def look(self, worker: int) -> None:
        self.workers[worker].seen = self.row

    @rule(worker=WORKERS)
    def take_over_what_was_seen_before(self, worker: int) -> None:
        self.happen(self.seizing(worker))

    @rule(worker=WORKERS, lease=st.sampled_from((LEASE, NOTHING)))
    def renew(self, worker: int, lease: timedelta) -> None:
        self.happen(self.renewing(worker, lease))

    @rule(worker=WORKERS, step=st.text("ab", min_size=1, max_size=2))
    def finish_a_step(self, worker: int, step: str) -> None:
        self.happen(self.stepping(worker, step))

    @rule(worker=WORKERS, ending=ENDINGS)
    def finish(self, worker: int, ending: OperationState) -> None:
        self.happen(self.finishing(worker, ending))

    @rule(worker=WORKERS)
    def drop(self, worker: int) -> None:
        self.happen(self.dropping(worker))

    @rule(workers=st.permutations(range(4)), deeds=st.lists(DEEDS, min_size=2, max_size=3), lapsed=st.booleans())
    def come_together(self, workers: list[int], deeds: list[str], lapsed: bool) -> None:
        """Have several do something at once that only one of them can, all with the claim or the look to do it."""
        if self.row is None:
            self.claim(workers[0], "v1:a")
        row = self.there()
        if lapsed:
            self.now = max(self.now, row.locked_until)
        for worker in workers:
            self.workers[worker] = Worker(row.hold, row)
        begin = {
            "renew": partial(self.renewing, lease=LEASE),
            "step": partial(self.stepping, step="c"),
            "finish": partial(self.finishing, ending=OperationState.SUCCEEDED),
            "drop": self.dropping,
            "seize": self.seizing,
        }
        self.happen(*(begin[deed](worker) for worker, deed in zip(workers, deeds, strict=False)))

    @rule(worker=WORKERS)
    def crash(self, worker: int) -> None:
        self.workers[worker] = Worker()

    # --- what happens to them -------------------------------------------------------------------

    @rule(seconds=st.sampled_from((-90, -1, 1, 30, 60, 61, 299, 301)))
    def pass_time(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def collect(self) -> None:
        row = self.row
        expired = row is not None and row.finished and row.expires_at <= self.now
        forgotten = self.keep(lambda kept: kept.forget_expired(1_000_000, now=self.now))
        assert forgotten >= expired
        if expired:
            self.row = None

    @rule(grace=st.sampled_from((NOTHING, LEASE)))
    def find_what_is_stuck(self, grace: timedelta) -> None:
        row = self.row
        stuck = row is not None and not row.finished and row.locked_until <= self.now - grace
        found = self.keep(lambda kept: kept.stuck([self.key.scope], grace=grace, limit=9, now=self.now))
        assert found == ([self.key] if stuck else [])

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    def what_is_kept_is_what_was_written(self) -> None:
        stored = self.keep(lambda kept: kept.read(self.key, now=self.now))
        assert stored == (None if self.row is None else StoredOperation(self.row, self.now))

    @invariant()
    def only_one_of_all_claims_can_write(self) -> None:
        held = [] if self.row is None or self.row.finished else [self.row.hold]
        assert [hold for hold in self.holds if self.could_write(hold)] == held

    # --- by hand --------------------------------------------------------------------------------

    def keep(self, work: Callable[[OperationStorage], T]) -> T:
        with self.backend.connect() as storage:
            assert isinstance(storage, KeepsOperations)
            return work(storage.operations)

    def there(self) -> OperationRow:
        assert self.row is not None
        return self.row

    def start(self, owner: str, fingerprint: str) -> StoredOperation | None:
        operation = NewOperation(self.key, fingerprint, "{}", owner, RETENTION)
        stored = self.keep(lambda kept: kept.start(operation, lease=LEASE, now=self.now))
        assert (stored is None) == (self.row is None)
        if stored is None:
            end, expiry = self.now + LEASE, self.now + RETENTION
            state = OperationState.IN_PROGRESS.value
            self.row = OperationRow(
                *self.key,
                fingerprint,
                "{}",
                state,
                owner,
                1,
                1,
                end,
                STARTED,
                "{}",
                None,
                None,
                self.now,
                self.now,
                expiry,
            )
        return stored

    def hold(self, worker: int) -> None:
        """Let a worker believe that it holds the operation, which it does."""
        hold = self.there().hold
        if hold.fence == 1:
            self.fences.clear()
        assert all(fence < hold.fence for fence in self.fences)
        self.fences.append(hold.fence)
        self.holds.append(hold)
        self.workers[worker].hold = hold

    def renewing(self, worker: int, lease: timedelta) -> Deed:
        def by_hand(row: OperationRow) -> OperationRow:
            return row._replace(locked_until=self.now + lease)

        return self.written(worker, lambda kept, hold: kept.renew(hold, lease=lease, now=self.now), by_hand)

    def stepping(self, worker: int, step: str) -> Deed:
        return self.advancing(worker, Progress(OperationState.IN_PROGRESS, step, f'"{step}"', None, None, RETENTION))

    def finishing(self, worker: int, ending: OperationState) -> Deed:
        return self.advancing(worker, Progress(ending, "the end", "{}", "1", None, RETENTION))

    def advancing(self, worker: int, progress: Progress) -> Deed:
        def by_hand(row: OperationRow) -> OperationRow:
            return row._replace(
                state=progress.state.value,
                recovery_point=progress.recovery_point,
                steps=progress.steps,
                result=progress.result,
                locked_until=self.now + LEASE,
                updated_at=self.now,
                expires_at=self.now + RETENTION,
            )

        return self.written(
            worker, lambda kept, hold: kept.advance(hold, progress=progress, lease=LEASE, now=self.now), by_hand
        )

    def dropping(self, worker: int) -> Deed:
        return self.written(worker, lambda kept, hold: kept.drop(hold), lambda _row: None)

    def written(
        self,
        worker: int,
        write: Callable[[OperationStorage, Hold], bool],
        by_hand: Callable[[OperationRow], OperationRow | None],
    ) -> Deed:
        """Write what a worker wants, which is accepted of the holder alone."""
        hold = self.workers[worker].hold

        def kept(row: OperationRow | None) -> tuple[OperationRow | None, object]:
            if row is None or row.finished or row.hold != hold:
                return row, False
            return by_hand(row), True

        return Deed(worker, lambda storage: hold is not None and write(storage, hold), kept)

    def seizing(self, worker: int) -> Deed:
        """Take over what a worker has seen, if that has not changed and its lease is over."""
        seen, owner = self.workers[worker].seen, f"claim {len(self.holds)} of {worker}"

        def kept(row: OperationRow | None) -> tuple[OperationRow | None, object]:
            if seen is None or row is None or row.finished or row.hold != seen.hold or row.locked_until > self.now:
                return row, None
            taken = row._replace(
                owner=owner,
                fence=row.fence + 1,
                attempts=row.attempts + 1,
                locked_until=self.now + LEASE,
                updated_at=self.now,
            )
            return taken, taken

        def really(storage: OperationStorage) -> object:
            return seen and storage.take_over(seen.hold, owner=owner, lease=LEASE, now=self.now)

        return Deed(worker, really, kept)

    def happen(self, *deeds: Deed) -> None:
        """Do something, in threads if it is several things: they must be as if done in some order."""
        if len(deeds) == 1:
            answers = [self.keep(deeds[0].really)]
        else:
            answers = together([partial(self.keep, deed.really) for deed in deeds])
        stored = self.keep(lambda kept: kept.read(self.key, now=self.now))
        self.row = self.in_some_order(deeds, answers, stored and stored.row)
        for deed, answer in zip(deeds, answers, strict=True):
            if isinstance(answer, OperationRow):
                self.hold(deed.worker)

    def in_some_order(
        self, deeds: Sequence[Deed], answers: Sequence[object], stored: OperationRow | None
    ) -> OperationRow | None:
        """Return what is kept by hand after the deeds, in an order in which they are answered as they were."""
        for order in permutations(range(len(deeds))):
            row, expected = self.row, dict[int, object]()
            for at in order:
                row, expected[at] = deeds[at].by_hand(row)
            if row == stored and all(answers[at] == expected[at] for at in order):
                return row
        raise AssertionError((answers, stored, self.row))

    def could_write(self, hold: Hold) -> bool:
        """Tell whether a claim would be let write now, without writing."""
        accepted = False
        try:
            with self.backend.connect(transaction=True) as storage:
                assert isinstance(storage, KeepsOperations)
                accepted = storage.operations.renew(hold, lease=LEASE, now=self.now)
                raise Abandoned
        except Abandoned:
            return accepted


def test_one_worker_holds_an_operation() -> None:
    run_state_machine_as_test(
        LeaseMachine, settings=settings(deadline=None, max_examples=examples(100), stateful_step_count=40)
    )


@pytest.mark.slow
def test_one_worker_holds_an_operation_on_sqlite(sqlite_database: URL) -> None:
    class SqliteMachine(LeaseMachine):
        backend = open_backend(sqlite_database.render_as_string(hide_password=False))

    SqliteMachine.backend.create_schema()
    try:
        settled = settings(deadline=None, max_examples=examples(15), stateful_step_count=30)
        run_state_machine_as_test(SqliteMachine, settings=settled)
    finally:
        SqliteMachine.backend.close()
