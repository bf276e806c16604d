"""Run an operation: do its steps, each once; go on where somebody else has come to; finish what was left behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import attrs

from orderkit.errors import ConfigurationError, Conflict, IdempotencyInFlight, NotFound
from orderkit.idempotency.claims import (
    Claim,
    Script,
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
    OnUnknown,
    OutcomeLost,
    OutcomeUnknown,
    check_name,
    check_work,
    foreign_key,
)
from orderkit.idempotency.outcomes import (
    Step,
    decode_json,
    decode_steps,
    done_with,
    encode_json,
    failed_with,
    raised_again,
)
from orderkit.idempotency.sending import Sending
from orderkit.resilience.events import tell
from orderkit.resilience.policy import Policy
from orderkit.unit_of_work.changes import KeyReference

T = TypeVar("T")

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
class Found:
    """What looking up a foreign call has shown: that it was done.

    Attributes:
        value: What it gave.
    """

    value: object


@attrs.frozen
class OperationReport:
    """How far an operation has come, for the person on call.

    Attributes:
        operation: Its name.
        key: Its idempotency key.
        state: Whether it is under way, or how it ended.
        recovery_point: The last step that is done.
        unknown: The foreign calls that were begun and whose outcome is not known.
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


class Steps:
    """The steps of one run: each is done once, whoever comes to it and however often."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    @property
    def claim(self) -> Claim:
        """How far the operation has come."""
        return self._keeper.claim

    async def call(
        self,
        name: str,
        function: Callable[[str], object],
        *,
        policy: Policy | None,
        on_unknown: OnUnknown,
        look_up: Callable[[str], object] | None,
    ) -> Json:
        """Call something foreign, between two commits: that it was begun, and what came of it.

        Raises:
            OutcomeUnknown: It was begun before, and it is not to be made again.
            LeaseLost: Somebody else holds the operation by now.
            Exception: What the function raised.
        """
        check_name(name)
        step = self.claim.steps.get(name)
        if step is not None and step.done:
            return self._outcome(step)
        key = foreign_key(self.claim.reference, name)
        if step is None:
            await self._keeper.keep(lambda claim: claim.begun(name))
        else:
            settled = await self._look_up(name, key, look_up, on_unknown)
            if settled is not None:
                return await self._done(name, settled.value)
        sending = Sending(function, policy)
        try:
            value = await self._keeper.around.runtime.finish(sending.send(key))
        except Exception as error:
            # What an earlier run has sent is not undone by one that could send nothing.
            unsent = sending.nothing_sent(error) and (step is None or look_up is not None)
            await self._failed(name, error, unsent=unsent)
            raise
        return await self._done(name, value)

    async def _look_up(
        self, name: str, key: str, look_up: Callable[[str], object] | None, on_unknown: OnUnknown
    ) -> Found | None:
        """Find out what a call has done that was begun before; None if it is to be made again."""
        self._tell_lost(name, None)
        if look_up is not None:
            found = await self._keeper.around.runtime.finish(look_up(key))
            if isinstance(found, Found):
                return found
            if found is not None:
                raise ConfigurationError(
                    f"`look_up` of step {name!r} returns `Found` with what the call gave, or None if it was never "
                    "done; the call was not made again."
                )
        if on_unknown is OnUnknown.HOLD and look_up is None:
            raise OutcomeUnknown(self.claim.reference.scope, self.claim.reference.key, name, key)
        return None

    async def _done(self, name: str, value: object) -> Json:
        step = done_with(value, name)
        await self._keeper.keep(lambda claim: claim.reached(name, step))
        return decode_json(step.value)

    async def _failed(self, name: str, error: Exception, *, unsent: bool) -> None:
        """Keep what a failed call is known to have done: nothing, what its error says, or that it is unknown."""
        if self.claim.operation.is_final(error):
            step = Step(done=True, error=failed_with(error))
            await self._keeper.keep(lambda claim: claim.reached(name, step))
        elif unsent:
            await self._keeper.keep(lambda claim: claim.unbegun(name))
        else:
            self._tell_lost(name, type(error).__name__)

    def _tell_lost(self, name: str, error: str | None) -> None:
        operation = self.claim.operation
        tell(operation.listeners, OutcomeLost(policy=operation.name, step=name, error=error))

    async def commit(self, name: str, script: Script[object]) -> Json:
        """Do something in one transaction, together with the note that it is done.

        Raises:
            LeaseLost: Somebody else holds the operation by now, and nothing was written.
        """
        check_name(name)
        step = self.claim.steps.get(name)
        if step is not None and step.done:
            return self._outcome(step)

        def progress(result: object) -> tuple[Claim, Any]:
            after = self.claim.reached(name, done_with(result, name))
            return after, after.progress()

        try:
            await self._keeper.transact(script, progress)
        except Exception as error:
            if self.claim.operation.is_final(error):
                failed = Step(done=True, error=failed_with(error))
                await self._keeper.keep(lambda claim: claim.reached(name, failed))
            raise
        return decode_json(self.claim.steps[name].value)

    async def complete(self, script: Script[object]) -> Json:
        """Do something in one transaction, together with the end of the operation: what it gives is the answer.

        Raises:
            LeaseLost: Somebody else holds the operation by now, and nothing was written.
        """
        kept: list[str] = []

        def progress(result: object) -> tuple[Claim, Any]:
            kept[:] = [encode_json(result, "The result of the operation")]
            return self.claim, self.claim.progress(OperationState.SUCCEEDED, result=kept[0])

        await self._keeper.transact(script, progress)
        self._keeper.ended = kept[0]
        return decode_json(kept[0])

    def _outcome(self, step: Step) -> Json:
        if step.error is not None:
            raise raised_again(step.error, self.claim.operation.final)
        return decode_json(step.value)


async def run_operation(
    operation: IdempotentOperation[Any], key: str, request: object, *, wait: float, site: Site
) -> Json:
    """Do an operation once, and give its answer to every repetition; see `Operations.run`."""
    check_work(operation, asynchronous=site.asynchronous)
    found = await claim_or_answer(operation, key, request, wait=wait, around=site.around)
    if isinstance(found, Replayed):
        return answer_of(found, operation)
    return await _work(found, site)


async def _work(claim: Claim, site: Site) -> Json:
    keeper, begin = Keeper(claim, site.around), site.begin(claim.operation)

    def work() -> Awaitable[object]:
        return site.around.runtime.finish(begin(keeper))

    return await hold(keeper, work)


async def find_stuck(
    operations: Sequence[IdempotentOperation[Any]], grace: float, limit: int, around: Surroundings
) -> list[KeyReference]:
    """Return operations of every tenant that are under way with nobody at work on them; see `Operations.stuck`."""
    names, lapse = [operation.name for operation in operations], timedelta(seconds=grace)
    return await around.scripts.run(
        lambda unit: operations_of(unit).stuck(names, grace=lapse, limit=limit, now=around.now())
    )


async def resume(operations: Sequence[IdempotentOperation[Any]], grace: float, limit: int, site: Site) -> Resumed:
    """Bring operations of every tenant to their end that were left behind; see `Operations.resume`."""
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
    reference = key_reference(around.scripts.tenant, operation.name, key)
    row = await _read(reference, around)
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
    if ended or steps[step].done:
        raise Conflict(f"What came of step {step!r} is known by now, or of no use any more; nothing was changed.")


async def report(operation: IdempotentOperation[Any], key: str, around: Surroundings) -> OperationReport | None:
    """Return how far an operation has come; None if none was started under this key."""
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
