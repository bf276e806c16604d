"""`AsyncOperations`: operations that call something foreign and yet are done once, for event loops."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar, cast

import attrs

from orderkit.idempotency import runs
from orderkit.idempotency.claims import Script, Surroundings
from orderkit.idempotency.heartbeats import LoopHeart
from orderkit.idempotency.keeping import Keeper
from orderkit.idempotency.operations import IdempotentOperation, Json, OnUnknown, foreign_key
from orderkit.idempotency.outcomes import decode_json, request_as
from orderkit.idempotency.runs import OperationReport, Resumed
from orderkit.idempotency.sending import ForeignCall
from orderkit.idempotency.steps import Found, Steps
from orderkit.kit.assembly import Assembly
from orderkit.kit.front import Transaction
from orderkit.kit.operations import GRACE, lease_clock, within
from orderkit.kit.runners import AsyncBackendRunner
from orderkit.resilience.policy import Policy
from orderkit.resilience.runtimes import LOOP
from orderkit.unit_of_work.changes import KeyReference

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


@attrs.frozen
class LoopScripts:
    """Runs the scripts of operations over an asynchronous backend."""

    runner: AsyncBackendRunner
    tenant: str
    now: Callable[[], datetime] | None

    async def run(self, script: Script[T], *, together: bool = False) -> T:
        """Return what a script returns, once what it wrote is durable."""
        return await (self.runner.gathering() if together else self.runner).run(script)

    def turn(self) -> asyncio.Lock:
        """Return a block that one task after the other can be in."""
        import asyncio

        return asyncio.Lock()


class AsyncOperationRun:
    """One run of an operation, given to its work: `OperationRun` with `await`."""

    def __init__(self, keeper: Keeper, assembly: Assembly) -> None:
        self._keeper = keeper
        self._steps = Steps(keeper)
        self._assembly = assembly

    @property
    def tenant(self) -> str:
        """Whose operation it is."""
        return self._keeper.claim.reference.tenant

    @property
    def key(self) -> str:
        """The idempotency key it was started under."""
        return self._keeper.claim.reference.key

    @property
    def request(self) -> Json:
        """What was asked, as it was first."""
        return decode_json(self._keeper.claim.request)

    def request_as(self, kind: type[T]) -> T:
        """Return what was asked as a type: a `TypedDict`, a dataclass, an attrs class, a list or mapping of such.

        Raises:
            ConfigurationError: It is none such.
        """
        return request_as(self._keeper.claim.request, kind)

    def foreign_key(self, step: str) -> str:
        """Return the key that `call` gives to the function of a step."""
        return foreign_key(self._keeper.claim.reference, step)

    async def call(
        self,
        step: str,
        function: Callable[[str], Awaitable[T]],
        *,
        policy: Policy | None = None,
        on_unknown: OnUnknown = OnUnknown.RETRY,
        look_up: Callable[[str], Awaitable[Found | None]] | None = None,
    ) -> T:
        """Call something foreign, safely; see `OperationRun.call`. `function` and `look_up` may be `async`."""
        made = ForeignCall(function, policy, on_unknown, look_up, asynchronous=True)
        return cast("T", await self._steps.call(step, made))

    async def commit(self, step: str, work: Callable[[Transaction], T]) -> T:
        """Do something to orders, by one commit together with the note that it is done; see `OperationRun.commit`.

        The function is synchronous, as one given to `kit.run` is.
        """
        return cast("T", await self._steps.commit(step, within(self._assembly, work)))

    async def complete(self, work: Callable[[Transaction], T]) -> T:
        """Do the last thing, by one commit together with the end of the operation; see `OperationRun.complete`."""
        return cast("T", await self._steps.complete(within(self._assembly, work)))


AsyncWork = Callable[[AsyncOperationRun], Awaitable[object]]


class AsyncOperations:
    """Do operations that call something foreign, once each: `Operations` with `await`."""

    def __init__(self, runner: AsyncBackendRunner, assembly: Assembly) -> None:
        self._site = _site(runner, assembly)

    async def run(
        self,
        operation: IdempotentOperation[Callable[[AsyncOperationRun], Awaitable[T]]],
        *,
        key: str,
        request: object = None,
        wait: float = 0.0,
    ) -> T:
        """Do an operation, unless its key was used before: then give the answer of its first use; see `Operations.run`.

        A cancellation frees the key if no step was begun; otherwise the operation may go on once its lease has run out.
        """
        return cast("T", await runs.run_operation(operation, key, request, wait=wait, site=self._site))

    async def resume(
        self,
        *operations: IdempotentOperation[AsyncWork],
        grace: float = GRACE,
        limit: int = 100,
    ) -> Resumed:
        """Bring operations to their end, of every tenant, that somebody has left behind; see `Operations.resume`."""
        return await runs.resume(operations, grace, limit, self._site)

    async def stuck(
        self,
        *operations: IdempotentOperation[AsyncWork],
        grace: float = GRACE,
        limit: int = 100,
    ) -> list[KeyReference]:
        """Return operations of every tenant that are under way with nobody at work on them; see `Operations.stuck`."""
        return await runs.find_stuck(operations, grace, limit, self._site.around)

    async def settle(
        self, operation: IdempotentOperation[AsyncWork], *, key: str, step: str, outcome: Found | None
    ) -> None:
        """Say what came of a foreign call whose outcome is unknown; see `Operations.settle`."""
        await runs.settle(operation, key, step, outcome=outcome, around=self._site.around)

    async def abandon(self, operation: IdempotentOperation[AsyncWork], *, key: str) -> None:
        """Forget an operation that has not ended and that nobody is at work on; see `Operations.abandon`."""
        await runs.abandon(operation, key, self._site.around)

    async def report(self, operation: IdempotentOperation[AsyncWork], *, key: str) -> OperationReport | None:
        """Return how far an operation has come; None if none was started under this key."""
        return await runs.report(operation, key, self._site.around)


def _site(runner: AsyncBackendRunner, assembly: Assembly) -> runs.Site:
    scripts = LoopScripts(runner, assembly.surroundings.context.tenant, lease_clock(assembly))

    def begin(operation: IdempotentOperation[AsyncWork]) -> runs.Begin:
        return lambda keeper: operation.work(AsyncOperationRun(keeper, assembly))

    def for_tenant(tenant: str) -> runs.Site:
        theirs = assembly.for_tenant(tenant)
        return _site(attrs.evolve(runner, surroundings=theirs.surroundings), theirs)

    return runs.Site(Surroundings(scripts, LOOP, LoopHeart()), begin, for_tenant, asynchronous=True)
