"""Run an operation: do its steps, each once; go on where somebody else has come to; finish what was left behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import attrs

from orderkit.errors import ConfigurationError, Conflict, IdempotencyInFlight, LeaseLost, NotFound
from orderkit.idempotency.claims import (
    Claim,
    Surroundings,
    answer_of,
    claim_or_answer,
    operations_of,
    take_over,
)
from orderkit.idempotency.keeping import Keeper, hold
from orderkit.idempotency.keys import key_reference
from orderkit.idempotency.leases import OperationRow, OperationState, Replayed
from orderkit.idempotency.operations import (
    IdempotentOperation,
    Json,
    OperationLost,
    check_definitions,
    check_limit,
    check_seconds,
    check_work,
    foreign_key,
)
from orderkit.idempotency.outcomes import (
    Step,
    decode_steps,
    done_with,
)
from orderkit.idempotency.steps import Found
from orderkit.resilience.events import tell
from orderkit.unit_of_work.changes import KeyReference

Begin = Callable[[Keeper], object]
"""Begin the work of a claimed operation: what it returns is the answer, or is awaited for it."""


class OperationNotFound(NotFound):
    """No operation was started under this key."""

    code = "operation_not_found"

    def __init__(self, operation: str, key: str) -> None:
        self.operation = operation
        self.key = key
        super().__init__(f"No {operation!r} was started under the key {key!r} for this tenant. Check both.")


@attrs.frozen
class OperationReport:
    """How far an operation has come, for the person on call.

    Attributes:
        operation: Its name.
        key: Its idempotency key.
        state: Whether it is under way, or how it ended.
        recovery_point: The last step that is done.
        unknown: The foreign calls that were begun and whose outcome is not known. An operation may have ended all the
            same, where its work has handled the error; its answer stands then, and nothing is to be settled.
        foreign_keys: The keys these were sent with, by call, to look them up by.
        attempts: How many claims there were.
        lapsed: Whether nobody is at work on it, although it is under way.
    """

    operation: str
    key: str
    state: OperationState
    recovery_point: str
    unknown: tuple[str, ...]
    foreign_keys: Mapping[str, str]
    attempts: int
    lapsed: bool


@attrs.frozen
class Resumed:
    """What a look after operations that were left behind has done.

    Attributes:
        done: How many were brought to their end.
        failed: The errors that left others to be repeated, by tenant, name and key.
        more: Whether there are probably more.
    """

    done: int
    failed: Mapping[tuple[str, str, str], Exception]
    more: bool


@attrs.frozen
class Site:
    """Where operations of one tenant are done.

    Attributes:
        around: What to work with.
        begin: Return what begins the work of an operation.
        for_tenant: Return the same for another tenant.
        asynchronous: Whether their work is awaited.
    """

    around: Surroundings
    begin: Callable[[IdempotentOperation[Any]], Begin]
    for_tenant: Callable[[str], Site]
    asynchronous: bool


async def run_operation(
    operation: IdempotentOperation[Any], key: str, request: object, *, wait: float, site: Site
) -> Json:
    """Do an operation once, and give its answer to every repetition; see `Operations.run`."""
    check_work(operation, asynchronous=site.asynchronous)
    check_seconds("wait", wait)
    found = await claim_or_answer(operation, key, request, wait=wait, around=site.around)
    if isinstance(found, Replayed):
        return answer_of(found, operation)
    return await _work(found, site)


async def _work(claim: Claim, site: Site) -> Json:
    keeper, begin = Keeper(claim, site.around), site.begin(claim.operation)

    def work() -> Awaitable[object]:
        return site.around.runtime.finish(begin(keeper))

    try:
        return await hold(keeper, work)
    except LeaseLost:
        tell(
            claim.operation.listeners,
            OperationLost(
                policy=claim.operation.name,
                tenant=claim.reference.tenant,
                key=claim.reference.key,
                fence=claim.fence,
            ),
        )
        raise


async def find_stuck(
    operations: Sequence[IdempotentOperation[Any]], grace: float, limit: int, around: Surroundings
) -> list[KeyReference]:
    """Return operations of every tenant that are under way with nobody at work on them; see `Operations.stuck`."""
    check_definitions(operations)
    check_seconds("grace", grace)
    check_limit(limit)
    names, lapse = [operation.name for operation in operations], timedelta(seconds=grace)
    return await around.scripts.run(
        lambda unit: operations_of(unit).stuck(names, grace=lapse, limit=limit, now=around.now())
    )


async def resume(operations: Sequence[IdempotentOperation[Any]], grace: float, limit: int, site: Site) -> Resumed:
    """Bring operations of every tenant to their end that were left behind; see `Operations.resume`."""
    check_definitions(operations)
    for operation in operations:
        check_work(operation, asynchronous=site.asynchronous)
    named = {operation.name: operation for operation in operations}
    stuck = await find_stuck(operations, grace, limit, site.around)
    failed: dict[tuple[str, str, str], Exception] = {}
    done = 0
    for reference in stuck:
        try:
            done += await _resume_one(named[reference.scope], reference, site.for_tenant(reference.tenant))
        except Exception as error:  # noqa: BLE001 - one that cannot go on stops no other
            failed[reference] = error
    return Resumed(done, failed, len(stuck) == limit)


async def _resume_one(operation: IdempotentOperation[Any], key: KeyReference, site: Site) -> bool:
    """Take an operation over and bring it to its end; tell whether it was there still. An error may be its answer."""
    row = await _read(key, site.around)
    claim = None if row is None or row.finished else await take_over(Claim.of(operation, row), row, site.around)
    if claim is None:
        return False
    try:
        await _work(claim, site)
    except Exception as error:
        if not operation.is_final(error):
            raise
    return True


async def settle(
    operation: IdempotentOperation[Any], key: str, step: str, *, outcome: Found | None, around: Surroundings
) -> None:
    """Say what came of a foreign call whose outcome is unknown; see `Operations.settle`."""
    check_definitions([operation])
    if outcome is not None and not isinstance(outcome, Found):
        raise ConfigurationError("`outcome` is `Found` with what the call gave, or None if it was never done.")
    row = await _read(key_reference(around.scripts.tenant, operation.name, key), around)
    if row is None:
        raise OperationNotFound(operation.name, key)
    _check_open(step, decode_steps(row.steps), operation, key, ended=row.finished)
    done = None if outcome is None else done_with(outcome.value, step)
    claim = await take_over(Claim.of(operation, row), row, around)
    if claim is None:
        raise IdempotencyInFlight(key)
    keeper = Keeper(claim, around)
    try:
        # Its holder may have come further since it was looked at.
        _check_open(step, claim.steps, operation, key)
        await keeper.keep(lambda held: held.unbegun(step) if done is None else held.reached(step, done))
    finally:
        await keeper.release()


def _check_open(
    step: str, steps: Mapping[str, Step], operation: IdempotentOperation[Any], key: str, *, ended: bool = False
) -> None:
    if step not in steps:
        raise OperationNotFound(operation.name, key)
    if steps[step].done:
        raise Conflict(f"What came of step {step!r} is known by now; nothing was changed.")
    if ended:
        raise Conflict("The operation has ended: its answer stands, whatever came of this call. Nothing was changed.")


async def abandon(operation: IdempotentOperation[Any], key: str, around: Surroundings) -> None:
    """Forget an operation that has not ended; see `Operations.abandon`."""
    check_definitions([operation])
    row = await _read(key_reference(around.scripts.tenant, operation.name, key), around)
    if row is None:
        raise OperationNotFound(operation.name, key)
    if row.finished:
        raise Conflict("The operation has ended, and its answer is kept for as long as was said; nothing was changed.")
    claim = await take_over(Claim.of(operation, row), row, around)
    if claim is None:
        raise IdempotencyInFlight(key)
    await around.scripts.run(lambda unit: operations_of(unit).drop(claim.hold))


async def report(operation: IdempotentOperation[Any], key: str, around: Surroundings) -> OperationReport | None:
    """Return how far an operation has come; None if none was started under this key."""
    check_definitions([operation])
    reference = key_reference(around.scripts.tenant, operation.name, key)
    stored = await around.scripts.run(lambda unit: operations_of(unit).read(reference, now=around.now()))
    if stored is None:
        return None
    row = stored.row
    unknown = tuple(name for name, step in decode_steps(row.steps).items() if not step.done)
    lapsed = not row.finished and row.locked_until <= stored.seen_at
    return OperationReport(
        operation.name,
        key,
        OperationState(row.state),
        row.recovery_point,
        unknown,
        {name: foreign_key(reference, name) for name in unknown},
        row.attempts,
        lapsed,
    )


async def _read(key: KeyReference, around: Surroundings) -> OperationRow | None:
    stored = await around.scripts.run(lambda unit: operations_of(unit).read(key, now=around.now()))
    return None if stored is None else stored.row
