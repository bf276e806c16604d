"""What a stored operation means to whoever asks for it again: one thing, whatever is stored."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from orderkit.idempotency.leases import (
    MIN_WAIT,
    STARTED,
    Expired,
    Held,
    Judgement,
    Lapsed,
    Mismatched,
    OperationRow,
    OperationState,
    Replayed,
    StoredOperation,
    judge,
)
from orderkit.testing.clock import ManualClock

NOON = ManualClock().now()
FINGERPRINTS = st.sampled_from(("v1:a", "v1:b", "v2:c"))

SOON = st.integers(-3, 3).map(lambda seconds: NOON + timedelta(seconds=seconds))


def stored_with(state: OperationState, fingerprint: str, locked_until: datetime, expires_at: datetime) -> OperationRow:
    """Return an operation of which only this counts."""
    return OperationRow(
        tenant="acme",
        scope="pay",
        key="key",
        fingerprint=fingerprint,
        request="{}",
        state=state.value,
        owner="claim",
        fence=1,
        attempts=1,
        locked_until=locked_until,
        recovery_point=STARTED,
        steps="{}",
        result=None,
        error=None,
        created_at=NOON,
        updated_at=NOON,
        expires_at=expires_at,
    )


@given(st.sampled_from(OperationState), SOON, SOON, FINGERPRINTS, FINGERPRINTS)
def test_every_stored_operation_has_one_meaning(
    state: OperationState, locked_until: datetime, expires_at: datetime, stored: str, asked: str
) -> None:
    row = stored_with(state, stored, locked_until, expires_at)
    finished = state is not OperationState.IN_PROGRESS
    expected: Judgement
    if finished and expires_at <= NOON:
        expected = Expired()
    elif stored != asked and stored[:3] == asked[:3]:
        expected = Mismatched()
    elif finished:
        expected = Replayed(row)
    elif locked_until <= NOON:
        expected = Lapsed(row)
    else:
        expected = Held((locked_until - NOON).total_seconds())
    assert judge(StoredOperation(row, NOON), asked) == expected


def test_whoever_finds_an_operation_held_waits_for_a_while() -> None:
    row = stored_with(OperationState.IN_PROGRESS, "v1:a", NOON + timedelta(microseconds=1), NOON)
    assert judge(StoredOperation(row, NOON), "v1:a") == Held(MIN_WAIT.total_seconds())
