"""Idempotency keys, leased: for an operation that calls something foreign, which no transaction can roll back.

Whoever starts an operation holds it for the length of a lease, and renews that while at work. Once the lease has
run out another one may take the operation over, at the step it had come to. Every claim has a higher number than
the one before it, its *fence*, and an id of its own, since a key that was freed is started at the first fence again.
Under both alone something is written: whoever was taken over without noticing writes nothing any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

import attrs

from orderkit.idempotency.keys import contradicts
from orderkit.unit_of_work.changes import Advance, KeyReference, Table, Value

STARTED: Final = "started"
"""The recovery point of an operation none of whose steps has finished."""

MIN_WAIT: Final = timedelta(seconds=0.1)
"""How long whoever finds an operation held is asked to wait at least."""


class OperationState(StrEnum):
    """How far an operation has come; a finished one never changes."""

    IN_PROGRESS = "in_progress"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Hold(NamedTuple):
    """What one claim writes under: the operation, the random id of the claim, and its number."""

    key: KeyReference
    owner: str
    fence: int


class OperationRow(NamedTuple):
    """A leased operation as it is kept. Documents are JSON text.

    Attributes:
        tenant: Whose operation.
        scope: Which operation.
        key: The idempotency key it was started under.
        fingerprint: What was asked, as a versioned hash.
        request: What was asked, so that it can be resumed without whoever asked.
        state: One of `OperationState`.
        owner: A random id of the claim that holds it, or held it last.
        fence: The number of that claim: 1 for the first, one more with each takeover.
        attempts: How many claims there were.
        locked_until: When the lease runs out.
        recovery_point: The name of the last finished step, or `STARTED`.
        steps: The outcome of each finished step.
        result: What it succeeded with.
        error: What it failed with.
        created_at: When it was started.
        updated_at: When it was last written, renewals of its lease left out.
        expires_at: From when on, if it is finished, it may be forgotten.
    """

    tenant: str
    scope: str
    key: str
    fingerprint: str
    request: str
    state: str
    owner: str
    fence: int
    attempts: int
    locked_until: datetime
    recovery_point: str
    steps: str
    result: str | None
    error: str | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime

    @property
    def reference(self) -> KeyReference:
        """The primary key."""
        return KeyReference(self.tenant, self.scope, self.key)

    @property
    def hold(self) -> Hold:
        """The claim that holds it, or held it last."""
        return Hold(self.reference, self.owner, self.fence)

    @property
    def finished(self) -> bool:
        """Whether it has succeeded or failed, and never changes again."""
        return self.state != OperationState.IN_PROGRESS


OPERATIONS = Table("idempotent_operations", OperationRow._fields, key=("tenant", "scope", "key"))


class StoredOperation(NamedTuple):
    """What one statement found: an operation, and the time by the clock that leases are judged by."""

    row: OperationRow
    seen_at: datetime


class NewOperation(NamedTuple):
    """An operation to be started.

    Attributes:
        reference: Tenant, operation and key.
        fingerprint: What is asked, as a versioned hash.
        request: What is asked, as JSON text.
        owner: A random id of this claim.
        retention: How long it is kept after it was last written and has finished.
    """

    reference: KeyReference
    fingerprint: str
    request: str
    owner: str
    retention: timedelta

    def values(self) -> Mapping[str, Value]:
        """Return the columns of the row it becomes, but those that a clock settles."""
        return {
            **self.reference._asdict(),
            "fingerprint": self.fingerprint,
            "request": self.request,
            "state": OperationState.IN_PROGRESS.value,
            "owner": self.owner,
            "fence": 1,
            "attempts": 1,
            "recovery_point": STARTED,
            "steps": "{}",
            "result": None,
            "error": None,
        }


class Progress(NamedTuple):
    """How far an operation has come, to be written by whoever holds it.

    Attributes:
        state: `IN_PROGRESS` after a step, or how it ended.
        recovery_point: The name of the last finished step.
        steps: The outcome of each finished step, as JSON text.
        result: What it succeeded with, as JSON text.
        error: What it failed with, as JSON text.
        retention: How long it is kept from now on, if it has finished.
    """

    state: OperationState
    recovery_point: str
    steps: str
    result: str | None
    error: str | None
    retention: timedelta

    def values(self) -> Mapping[str, Value]:
        """Return the columns it changes, but those that a clock settles."""
        return {
            "state": self.state.value,
            "recovery_point": self.recovery_point,
            "steps": self.steps,
            "result": self.result,
            "error": self.error,
        }


def advance_of(hold: Hold, progress: Progress, lease: timedelta, now: datetime | None = None) -> Advance:
    """Return what moves an operation on: how far it has come, and that its lease is renewed."""
    lapses = {"locked_until": lease, "updated_at": timedelta(0), "expires_at": progress.retention}
    return Advance(*hold, progress.values(), lapses, now)


@attrs.frozen
class Replayed:
    """It has finished: its result or its error is the answer."""

    row: OperationRow


@attrs.frozen
class Held:
    """Somebody is at work on it.

    Attributes:
        retry_after: Seconds until its lease runs out, unless that is renewed.
    """

    retry_after: float


@attrs.frozen
class Lapsed:
    """Whoever was at work on it has let the lease run out: it may be taken over."""

    row: OperationRow


@attrs.frozen
class Mismatched:
    """It was started with another request."""


@attrs.frozen
class Expired:
    """It has finished so long ago that the key counts as free, once it is forgotten."""


Judgement = Replayed | Held | Lapsed | Mismatched | Expired
"""What a stored operation means to whoever comes with its key."""


def judge(stored: StoredOperation, fingerprint: str) -> Judgement:
    """Return what a stored operation means to a request with this fingerprint."""
    row, now = stored
    if row.finished and row.expires_at <= now:
        return Expired()
    if contradicts(row.fingerprint, fingerprint):
        return Mismatched()
    if row.finished:
        return Replayed(row)
    if row.locked_until <= now:
        return Lapsed(row)
    return Held(max(row.locked_until - now, MIN_WAIT).total_seconds())
