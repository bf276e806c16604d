"""The steps of one run of an operation: each is done once, whoever comes to it and however often."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import Any

import attrs

from orderkit.errors import ConfigurationError
from orderkit.idempotency.claims import Claim, Script
from orderkit.idempotency.keeping import Keeper
from orderkit.idempotency.leases import OperationState
from orderkit.idempotency.operations import Json, OnUnknown, OutcomeLost, OutcomeUnknown, check_name, foreign_key
from orderkit.idempotency.outcomes import Step, decode_json, done_with, encode_json, failed_with, raised_again
from orderkit.idempotency.sending import ForeignCall, Sending
from orderkit.resilience.events import tell

_inside: ContextVar[tuple[Steps, ...]] = ContextVar("orderkit_inside_of_steps", default=())
"""The runs a step of which is being done here."""

_COMPLETE = ""
"""What the step that ends an operation takes turns under; no other has that name."""


@attrs.frozen
class Found:
    """What looking up a foreign call has shown: that it was done.

    Attributes:
        value: What it gave.
    """

    value: object


class Steps:
    """The steps of one run: each is done once, whoever comes to it and however often.

    Different steps may be done side by side. Those who come to the same one take turns.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._turns: dict[str, AbstractAsyncContextManager[object]] = {}

    @property
    def claim(self) -> Claim:
        """How far the operation has come."""
        return self._keeper.claim

    async def call(self, name: str, made: ForeignCall) -> Json:
        """Call something foreign, between two commits: that it was begun, and what came of it.

        Raises:
            OutcomeUnknown: It was begun before, and it is not to be made again.
            LeaseLost: Somebody else holds the operation by now.
            Exception: What the function raised.
        """
        check_name(name)
        async with self._alone(name):
            step = self.claim.steps.get(name)
            if step is not None and step.done:
                return self._outcome(step)
            key = foreign_key(self.claim.reference, name)
            if step is None:
                await self._keeper.keep(lambda claim: claim.begun(name))
            else:
                settled = await self._look_up(name, key, made)
                if settled is not None:
                    return await self._done(name, settled.value)
            # What an earlier run has sent is not undone by one that could send nothing.
            return await self._send(name, key, made, is_first=step is None or made.look_up is not None)

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncGenerator[None]:
        """Let one thread or task after the other do a step, which has no other step inside.

        Raises:
            ConfigurationError: It is inside of another one.
        """
        if self in _inside.get():
            raise ConfigurationError(
                "A step was begun inside of another step of the same run; nothing of it was done. Do the one after the "
                "other, and give the second what the first has given."
            )
        async with self._turns.setdefault(name, self._keeper.around.scripts.turn()):
            token = _inside.set((*_inside.get(), self))
            try:
                yield
            finally:
                _inside.reset(token)

    async def _look_up(self, name: str, key: str, made: ForeignCall) -> Found | None:
        """Find out what a call has done that was begun before; None if it is to be made again."""
        self._tell_lost(name, None)
        if made.look_up is not None:
            found = await self._keeper.around.runtime.finish(made.look_up(key))
            if isinstance(found, Found):
                return found
            if found is not None:
                raise ConfigurationError(
                    f"`look_up` of step {name!r} returns `Found` with what the call gave, or None if it was never "
                    "done; the call was not made again."
                )
        elif made.on_unknown is OnUnknown.HOLD:
            raise OutcomeUnknown(self.claim.reference.scope, self.claim.reference.key, name, key)
        return None

    async def _send(self, name: str, key: str, made: ForeignCall, *, is_first: bool) -> Json:
        sending = Sending(made)
        try:
            value = await self._keeper.around.runtime.finish(sending.send(key))
        except Exception as error:
            await self._failed(name, error, unsent=is_first and sending.nothing_sent(error))
            raise
        return await self._done(name, value)

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
        operation, reference = self.claim.operation, self.claim.reference
        event = OutcomeLost(policy=operation.name, tenant=reference.tenant, key=reference.key, step=name, error=error)
        tell(operation.listeners, event)

    async def commit(self, name: str, script: Script[object]) -> Json:
        """Do something in one transaction, together with the note that it is done.

        Raises:
            LeaseLost: Somebody else holds the operation by now, and nothing was written.
        """

        def progress(result: object) -> tuple[Claim, Any]:
            after = self.claim.reached(name, done_with(result, name))
            return after, after.progress()

        check_name(name)
        async with self._alone(name):
            step = self.claim.steps.get(name)
            if step is not None and step.done:
                return self._outcome(step)
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

        def progress(result: object) -> tuple[Claim, Any]:
            answer = encode_json(result, "The result of the operation")
            return self.claim, self.claim.progress(OperationState.SUCCEEDED, result=answer)

        async with self._alone(_COMPLETE):
            await self._keeper.transact(script, progress)
            return decode_json(self._keeper.ended or "null")

    def _outcome(self, step: Step) -> Json:
        if step.error is not None:
            raise raised_again(step.error, self.claim.operation.final)
        return decode_json(step.value)
