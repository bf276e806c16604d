"""Keep what a claimed operation has come to: every write is guarded by the fence of the claim."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from orderkit.errors import CommitUnknown, ConfigurationError, OrderKitError
from orderkit.idempotency.claims import NO_TIME, Claim, Script, Surroundings, Unit, operations_of
from orderkit.idempotency.leases import OperationRow, OperationState, Progress, advance_of
from orderkit.idempotency.operations import Json
from orderkit.idempotency.outcomes import decode_json, decode_steps, encode_failure, encode_json, failed_with
from orderkit.unit_of_work.unit import Restart

T = TypeVar("T")


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
        # Steps may be done side by side, and what one of them keeps must not undo what another has kept.
        self._turn = around.scripts.turn()

    async def keep(self, further: Callable[[Claim], Claim]) -> None:
        """Write that the operation has come further.

        Args:
            further: Return, from how far it has come, how far that is.

        Raises:
            LeaseLost: Somebody else holds it.
            ConfigurationError: It has ended.
        """
        async with self._turn:
            self._check_under_way()
            after = further(self.claim)
            await self._write(after.progress())
            self.claim = after

    async def finish(self, *, result: str | None = None, error: str | None = None) -> None:
        """Write the answer of the operation.

        Raises:
            LeaseLost: Somebody else holds it.
        """
        state = OperationState.SUCCEEDED if error is None else OperationState.FAILED
        async with self._turn:
            await self._write(self.claim.progress(state, result=result, error=error))
        self.ended = result

    async def transact(self, script: Script[T], progress: Callable[[T], tuple[Claim, Progress]]) -> T:
        """Run a script and write how far that has brought the operation, by one commit.

        Args:
            script: What is done.
            progress: Return, from what the script gave, the claim afterwards and what is kept of it.

        Raises:
            LeaseLost: Somebody else holds the operation, and nothing the script did is kept.
            ConfigurationError: It has ended.
        """
        last: list[tuple[T, Claim, Progress]] = []

        def guarded(unit: Unit) -> T:
            result = script(unit)
            last[:] = [(result, *progress(result))]
            claim = self.claim
            unit.advance(advance_of(claim.hold, last[0][2], claim.operation.lease, self.around.now()))
            return result

        async with self._turn:
            self._check_under_way()
            try:
                result = await self.around.scripts.run(guarded, together=True)
            except CommitUnknown:
                if not last or not await self._is_kept(last[0][2]):
                    raise
                result = last[0][0]
            self.claim, self.ended = last[0][1], last[0][2].result
            return result

    def _check_under_way(self) -> None:
        if self.ended is not None:
            raise ConfigurationError(
                f"The operation {self.claim.operation.name!r} has ended with `complete`, and its answer is kept; what "
                "came after it was not done. Let `complete` be the last step."
            )

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
        try:
            row = await self.around.scripts.run(self._settled)
        except OrderKitError:
            return False
        return row is not None and (row.state, row.steps, row.result, row.error) == (
            progress.state,
            progress.steps,
            progress.result,
            progress.error,
        )

    def _settled(self, unit: Unit) -> OperationRow | None:
        """Return what is kept of the operation, if this claim held it last, once no commit of it is under way."""
        self._renew(unit)  # which waits for whoever has locked it
        stored = operations_of(unit).read(self.claim.reference)
        return None if stored is None or stored.row.hold != self.claim.hold else stored.row

    async def let_go(self, *, broken_off: bool = False) -> None:
        """Give the operation up, to be repeated: its key is free again if no step was begun.

        What is kept decides, not what is known here: a commit may have been lost sight of, or broken off.

        Args:
            broken_off: Whether it was cancelled: what it was doing may go on, so that its lease runs out by itself.
        """

        def release(unit: Unit) -> None:
            if not unit.storage.in_transaction:
                # A commit that is under way still must find it locked between the look and what follows from that.
                raise Restart(transaction=True)
            row = self._settled(unit)
            if row is None:
                return
            if not decode_steps(row.steps):
                operations_of(unit).drop(row.hold)
            elif not broken_off:
                operations_of(unit).renew(row.hold, lease=NO_TIME, now=self.around.now())

        await self.around.scripts.run(release)

    async def release(self) -> None:
        """Have the lease run out at once, so that anybody may go on with the operation; it is kept in any case."""
        hold, now = self.claim.hold, self.around.now()
        await self.around.scripts.run(lambda unit: operations_of(unit).renew(hold, lease=NO_TIME, now=now))

    async def beat(self) -> bool:
        """Renew the lease; tell whether the operation is held still."""
        return await self.around.scripts.run(self._renew)

    def _renew(self, unit: Unit) -> bool:
        claim = self.claim
        return operations_of(unit).renew(claim.hold, lease=claim.operation.lease, now=self.around.now())


async def hold(keeper: Keeper, work: Callable[[], Awaitable[object]]) -> Json:
    """Do the work of a claimed operation, and keep its answer.

    Raises:
        LeaseLost: Somebody else holds it by now.
        Exception: What the work raised. One that is an answer is kept; after any other it may be repeated.
    """
    try:
        beat = keeper.around.heart.begin(keeper.beat, keeper.claim.operation.lease.total_seconds() / 3)
        try:
            return await _answer(keeper, work)
        finally:
            await beat.end()  # before the operation is given up, or it would be held anew
    except BaseException as error:
        if keeper.ended is None:
            await _give_up(keeper, error)
        raise


async def _give_up(keeper: Keeper, error: BaseException) -> None:
    """Keep an error that is the answer of the operation; after any other, leave it to be repeated."""
    broken_off = not isinstance(error, Exception)
    if isinstance(error, Exception) and keeper.claim.operation.is_final(error):
        await keeper.finish(error=encode_failure(failed_with(error)))
        return
    try:
        await keeper.let_go(broken_off=broken_off)
    except OrderKitError as failure:
        # Its lease runs out by itself; the error that led here is the one to tell.
        error.add_note(f"The operation is held until its lease has run out, since giving it up failed: {failure}")


async def _answer(keeper: Keeper, work: Callable[[], Awaitable[object]]) -> Json:
    result = await work()
    if keeper.ended is None:
        await keeper.finish(result=encode_json(result, "The result of the operation"))
    return decode_json(keeper.ended or "null")
