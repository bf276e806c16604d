"""Claims: who holds an operation, and what its key has led to before.

Written once, as coroutines over a runtime: a thread drives them to their end, an event loop awaits them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

import attrs

from orderkit.errors import (
    CommitUnknown,
    ConfigurationError,
    IdempotencyInFlight,
    IdempotencyMismatch,
    LeaseLost,
    OrderKitError,
)
from orderkit.idempotency.heartbeats import Heart
from orderkit.idempotency.keys import KeyedRequest, keyed_request
from orderkit.idempotency.leases import (
    STARTED,
    Expired,
    Held,
    Hold,
    Judgement,
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
from orderkit.idempotency.operations import IdempotentOperation, Json, OperationReplayed, OperationTakenOver
from orderkit.idempotency.outcomes import (
    Step,
    Steps,
    decode_failure,
    decode_json,
    decode_steps,
    encode_json,
    encode_steps,
    raised_again,
)
from orderkit.idempotency.ports import KeepsOperations, OperationStorage
from orderkit.resilience import conditions
from orderkit.resilience.events import tell
from orderkit.resilience.runtimes import Runtime
from orderkit.unit_of_work.changes import KeyReference
from orderkit.unit_of_work.unit import UnitOfWork

T = TypeVar("T")

Unit = UnitOfWork[Any]
Script = Callable[[Unit], T]

NO_TIME = timedelta(0)

_COME_AGAIN = 2.0
"""Seconds after which to ask again for what somebody is at work on."""

_FIRST_LOOK, _LONGEST_LOOK = 0.05, 1.0
"""Seconds between two looks at what somebody else is at work on: at first, and after several."""


class Scripts(Protocol):
    """Run transaction scripts for a tenant."""

    @property
    def tenant(self) -> str:
        """Whose operations."""
        ...

    @property
    def now(self) -> Callable[[], datetime] | None:
        """What tells the time that leases are judged by, in tests; None for the storage's own clock."""
        ...

    async def run(self, script: Script[T], *, together: bool = False) -> T:
        """Return what a script returns, once what it wrote is durable.

        Args:
            script: The script.
            together: Whether what its commands gather is written by one commit.
        """
        ...

    def turn(self) -> AbstractAsyncContextManager[object]:
        """Return a block that one thread or task after the other can be in."""
        ...


def operations_of(unit: Unit) -> OperationStorage:
    """Return the leased operations of a unit of work's storage.

    Raises:
        ConfigurationError: The storage keeps none.
    """
    if not isinstance(unit.storage, KeepsOperations):
        raise ConfigurationError("This storage keeps no leased operations; see `OperationConformance`.")
    return unit.storage.operations


class Patience:
    """How long somebody waits for what somebody else is at work on, and how often it is looked at meanwhile.

    Args:
        wait: Seconds to wait.
    """

    def __init__(self, wait: float) -> None:
        self._wait = wait
        self._begun = conditions.present.monotonic()
        self._waited = 0.0
        self._most = _FIRST_LOOK

    def pause(self) -> float:
        """Return seconds until the next look, more each time; none once the time is over."""
        # Where a test does not really wait, what was waited is what it would have been.
        spent = max(self._waited, conditions.present.monotonic() - self._begun)
        pause = min(conditions.present.uniform(self._most / 2, self._most), self._wait - spent)
        self._most = min(2 * self._most, _LONGEST_LOOK)
        self._waited += pause
        return pause


@attrs.frozen
class Surroundings:
    """What the engine works with.

    Attributes:
        scripts: Runs transaction scripts.
        runtime: How to wait.
        heart: Renews leases while their operations are at work.
    """

    scripts: Scripts
    runtime: Runtime
    heart: Heart

    def now(self) -> datetime | None:
        """Return the time to judge leases by, or None for the storage's own."""
        return None if self.scripts.now is None else self.scripts.now()


@attrs.define
class Claim:
    """An operation that is held: who holds it, and how far it has come.

    Attributes:
        operation: What is done.
        reference: Its tenant, name and key.
        request: What was asked, as JSON text.
        owner: A random id of this claim.
        fence: The number under which alone it writes.
        recovery_point: The last finished step.
        steps: What the steps gave that are done, and which foreign calls were begun.
    """

    operation: IdempotentOperation[Any]
    reference: KeyReference
    request: str
    owner: str
    fence: int = 1
    recovery_point: str = STARTED
    steps: Steps = attrs.Factory(dict)

    @classmethod
    def of(cls, operation: IdempotentOperation[Any], row: OperationRow) -> Claim:
        """Return a new claim on an operation that is there, not yet made."""
        return cls(operation, row.reference, row.request, secrets.token_hex(16))

    @property
    def hold(self) -> Hold:
        """What it writes under."""
        return Hold(self.reference, self.owner, self.fence)

    def progress(self, state: OperationState = OperationState.IN_PROGRESS, **ended: str | None) -> Progress:
        """Return what is to be kept of it."""
        return Progress(
            state,
            self.recovery_point,
            encode_steps(self.steps),
            ended.get("result"),
            ended.get("error"),
            self.operation.retention,
        )

    def begun(self, name: str) -> Claim:
        """Return the same claim, at the beginning of a foreign call."""
        return attrs.evolve(self, steps={**self.steps, name: Step()})

    def unbegun(self, name: str) -> Claim:
        """Return the same claim, without a foreign call of which nothing was sent."""
        return attrs.evolve(self, steps={other: step for other, step in self.steps.items() if other != name})

    def reached(self, name: str, step: Step) -> Claim:
        """Return the same claim, a step further."""
        return attrs.evolve(self, recovery_point=name, steps={**self.steps, name: step})

    def lost(self) -> LeaseLost:
        """Return the error of whoever writes under it although somebody else holds the operation."""
        return LeaseLost(self.reference.key, self.fence)


async def claim_or_answer(
    operation: IdempotentOperation[Any], key: str, request: object, *, wait: float, around: Surroundings
) -> Claim | Replayed:
    """Claim an operation, or find out what its first use has led to.

    Args:
        operation: What is to be done.
        key: The idempotency key.
        request: What is asked.
        wait: Seconds to wait while somebody else is at work on it.
        around: What to work with.

    Raises:
        InvalidKey: The key is malformed.
        NotJson: The request is no JSON.
        IdempotencyMismatch: The key was used with another request.
        IdempotencyInFlight: Somebody is at work on it still.
    """
    text = encode_json(request, "The request")
    keyed = keyed_request(around.scripts.tenant, operation.name, key, request, operation.retention)
    claim = Claim(operation, keyed.reference, text, secrets.token_hex(16))
    try:
        return await _claimed(claim, keyed, wait, around)
    except BaseException as error:
        if not isinstance(error, Exception):
            await _withdraw(claim, around)
        raise


async def _claimed(claim: Claim, keyed: KeyedRequest, wait: float, around: Surroundings) -> Claim | Replayed:
    patience = Patience(wait)
    while True:
        found = await _attempt(claim, keyed, around)
        if not isinstance(found, Held):
            return found
        await _wait_for_others(found, keyed, patience, around)


async def _wait_for_others(
    found: Judgement | None, keyed: KeyedRequest, patience: Patience, around: Surroundings
) -> None:
    """Wait until nobody is at work on it any more. Nothing is written meanwhile.

    Raises:
        IdempotencyInFlight: That takes too long.
    """
    while isinstance(found, Held):
        pause = min(patience.pause(), found.retry_after)
        if not pause > 0:
            # While somebody is at work the lease is renewed: how long that takes, it does not tell.
            raise IdempotencyInFlight(keyed.reference.key, min(_COME_AGAIN, found.retry_after))
        await around.runtime.sleep(pause)
        stored = await around.scripts.run(lambda unit: operations_of(unit).read(keyed.reference, now=around.now()))
        found = None if stored is None else judge(stored, keyed.fingerprint)


async def _withdraw(claim: Claim, around: Surroundings) -> None:
    """Take back what a claim that was broken off has written after all; if that fails, its lease runs out by itself."""

    def release(unit: Unit) -> None:
        operations = operations_of(unit)
        stored = operations.read(claim.reference)
        if stored is None or stored.row.owner != claim.owner:
            return
        if stored.row.hold == claim.hold:
            operations.drop(claim.hold)
        else:
            operations.renew(stored.row.hold, lease=NO_TIME, now=around.now())

    with suppress(OrderKitError):
        await around.scripts.run(release)


async def _attempt(claim: Claim, keyed: KeyedRequest, around: Surroundings) -> Claim | Replayed | Held:
    """Insert the operation, or look at what is there until that is settled."""
    while True:
        stored = await _start(claim, keyed, around)
        if stored is None:
            return claim
        match judge(stored, keyed.fingerprint):
            case Mismatched():
                raise IdempotencyMismatch(claim.reference.key)
            case Replayed() as replayed:
                return replayed
            case Held() as held:
                # One whose commit was lost sight of finds itself.
                return _resumed(claim, stored.row) if stored.row.owner == claim.owner else held
            case Lapsed(row):
                taken = await take_over(claim, row, around)
                if taken is not None:
                    return taken
            case Expired():
                await around.scripts.run(lambda unit: operations_of(unit).forget(claim.reference, now=around.now()))


async def _start(claim: Claim, keyed: KeyedRequest, around: Surroundings) -> StoredOperation | None:
    new = NewOperation(claim.reference, keyed.fingerprint, claim.request, claim.owner, claim.operation.retention)

    def start(unit: Unit) -> StoredOperation | None:
        return operations_of(unit).start(new, lease=claim.operation.lease, now=around.now())

    try:
        return await around.scripts.run(start)
    except CommitUnknown:
        return await around.scripts.run(start)


async def take_over(claim: Claim, row: OperationRow, around: Surroundings) -> Claim | None:
    """Take over an operation whose lease has run out, as it is by then; None if somebody else was faster.

    Args:
        claim: The claim that is made.
        row: The operation as it was looked at.
        around: What to work with.
    """
    operation = claim.operation

    def take(unit: Unit) -> OperationRow | None:
        return operations_of(unit).take_over(row.hold, owner=claim.owner, lease=operation.lease, now=around.now())

    try:
        taken = await around.scripts.run(take)
    except CommitUnknown:
        stored = await around.scripts.run(lambda unit: operations_of(unit).read(row.reference))
        taken = None if stored is None or stored.row.owner != claim.owner else stored.row
    if taken is None:
        return None
    event = OperationTakenOver(
        policy=operation.name,
        tenant=taken.tenant,
        key=taken.key,
        recovery_point=taken.recovery_point,
        attempts=taken.attempts,
    )
    tell(operation.listeners, event)
    return _resumed(claim, taken)


def _resumed(claim: Claim, row: OperationRow) -> Claim:
    return attrs.evolve(
        claim,
        request=row.request,
        fence=row.fence,
        recovery_point=row.recovery_point,
        steps=decode_steps(row.steps),
    )


def answer_of(replayed: Replayed, operation: IdempotentOperation[Any]) -> Json:
    """Return what a finished operation gave.

    Raises:
        Exception: What it failed with for good.
    """
    row = replayed.row
    tell(operation.listeners, OperationReplayed(policy=operation.name, tenant=row.tenant, key=row.key))
    if row.error is not None:
        raise raised_again(decode_failure(row.error), operation.final)
    return decode_json(row.result or "null")
