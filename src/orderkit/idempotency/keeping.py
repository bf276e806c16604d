"""Keep what a claimed operation has come to: every write is guarded by the fence of the claim."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from orderkit.errors import CommitUnknown, LeaseLost, OrderKitError
from orderkit.idempotency.claims import Claim, Script, Surroundings, Unit, operations_of
from orderkit.idempotency.leases import OperationState, Progress
from orderkit.idempotency.operations import Json
from orderkit.idempotency.outcomes import decode_json, encode_failure, encode_json, failed_with

T = TypeVar("T")

_NO_TIME = timedelta(0)


class Keeper:
    """Holds a claim while the work is done, and writes how far it has come.

    Args:
        claim: What was claimed.
        around: What to work with.

    Attributes:
        claim: How far it has come.
        ended: Its answer, once it is kept.
    """

    def __init__(self, claim: Claim, around: Surroundings) -> None:
        self.claim = claim
        self.around = around
        self.ended: str | None = None

    async def keep(self, after: Claim) -> None:
        """Write that the operation has come further.

        Raises:
            LeaseLost: Somebody else holds it.
        """
        await self._write(after.progress())
        self.claim = after

    async def finish(self, *, result: str | None = None, error: str | None = None) -> None:
        """Write the answer of the operation.

        Raises:
            LeaseLost: Somebody else holds it.
        """
        state = OperationState.SUCCEEDED if error is None else OperationState.FAILED
        await self._write(self.claim.progress(state, result=result, error=error))
        self.ended = result

    async def transact(self, script: Script[T], progress: Callable[[T], tuple[Claim, Progress]]) -> T:
        """Run a script and write how far that has brought the operation, in one transaction.

        Args:
            script: What is done.
            progress: Return, from what the script gave, the claim afterwards and what is kept of it.

        Raises:
            LeaseLost: Somebody else holds the operation, and nothing the script did is kept.
        """
        last: list[tuple[T, Claim, Progress]] = []

        def guarded(unit: Unit) -> T:
            result = script(unit)
            last[:] = [(result, *progress(result))]
            self._advance(unit, last[0][2])
            return result

        try:
            result = await self.around.scripts.run(guarded, transaction=True)
        except CommitUnknown:
            if not last or not await self._is_kept(last[0][2]):
                raise
            result = last[0][0]
        self.claim = last[0][1]
        return result

    async def _write(self, progress: Progress) -> None:
        try:
            await self.around.scripts.run(lambda unit: self._advance(unit, progress))
        except CommitUnknown:
            if not await self._is_kept(progress):
                raise

    def _advance(self, unit: Unit, progress: Progress) -> None:
        claim = self.claim
        if not operations_of(unit).advance(
            claim.hold,
            progress=progress,
            lease=claim.operation.lease,
            now=self.around.now(),
        ):
            raise claim.lost()

    async def _is_kept(self, progress: Progress) -> bool:
        """Tell whether a commit that was lost sight of has kept this after all."""
        claim = self.claim
        stored = await self.around.scripts.run(lambda unit: operations_of(unit).read(claim.reference))
        if stored is None or stored.row.hold != claim.hold:
            return False
        row = stored.row
        return (row.state, row.steps, row.result, row.error) == (
            progress.state,
            progress.steps,
            progress.result,
            progress.error,
        )

    async def let_go(self, *, broken_off: bool = False) -> None:
        """Give the operation up, to be repeated: its key is free again if no step was begun.

        Args:
            broken_off: Whether it was cancelled: what it was doing may go on, so that its lease runs out by itself.
        """
        claim = self.claim
        if claim.steps and broken_off:
            return

        def release(unit: Unit) -> bool:
            operations = operations_of(unit)
            if not claim.steps:
                return operations.drop(claim.hold)
            return operations.renew(claim.hold, lease=_NO_TIME, now=self.around.now())

        await self.around.scripts.run(release)

    async def beat(self) -> bool:
        """Renew the lease; tell whether the operation is held still."""
        claim = self.claim
        return await self.around.scripts.run(
            lambda unit: operations_of(unit).renew(claim.hold, lease=claim.operation.lease, now=self.around.now())
        )


async def hold(keeper: Keeper, work: Callable[[], Awaitable[object]]) -> Json:
    """Do the work of a claimed operation, and keep its answer.

    Raises:
        LeaseLost: Somebody else holds it by now.
        Exception: What the work raised. One that is an answer is kept; after any other it may be repeated.
    """
    beat = keeper.around.heart.begin(keeper.beat, keeper.claim.operation.lease.total_seconds() / 3)
    try:
        return await _answer(keeper, work)
    except BaseException as error:
        if keeper.ended is None and not isinstance(error, LeaseLost):
            await _give_up(keeper, error)
        raise
    finally:
        await beat.end()


async def _give_up(keeper: Keeper, error: BaseException) -> None:
    """Keep an error that is the answer of the operation; after any other, leave it to be repeated."""
    if not isinstance(error, Exception):
        await keeper.let_go(broken_off=True)
    elif keeper.claim.operation.is_final(error):
        await keeper.finish(error=encode_failure(failed_with(error)))
    else:
        try:
            await keeper.let_go()
        except OrderKitError as failure:
            # Its lease runs out by itself; the error that led here is the one to tell.
            error.add_note(f"The operation is held until its lease has run out, since giving it up failed: {failure}")


async def _answer(keeper: Keeper, work: Callable[[], Awaitable[object]]) -> Json:
    result = await work()
    if keeper.ended is None:
        await keeper.finish(result=encode_json(result, "The result of the operation"))
    return decode_json(keeper.ended or "null")
