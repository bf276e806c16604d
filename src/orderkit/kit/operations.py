"""`Operations`: operations that call something foreign and yet are done once, for synchronous callers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar, cast

import attrs

from orderkit.clock import SystemClock
from orderkit.idempotency import runs
from orderkit.idempotency.claims import Script, Surroundings
from orderkit.idempotency.keeping import Keeper
from orderkit.idempotency.operations import IdempotentOperation, Json, OnUnknown, foreign_key
from orderkit.idempotency.outcomes import decode_json, request_as
from orderkit.idempotency.runs import OperationReport, Resumed
from orderkit.idempotency.sending import ForeignCall
from orderkit.idempotency.steps import Found, Steps
from orderkit.kit.assembly import Assembly
from orderkit.kit.front import Transaction
from orderkit.kit.runners import BackendRunner, KitUnit, UnitRunner, finished
from orderkit.resilience.policy import Policy
from orderkit.resilience.runtimes import THREAD, drive
from orderkit.unit_of_work.changes import KeyReference

T = TypeVar("T")

GRACE = 300.0
"""Seconds after which an operation counts as left behind."""


def lease_clock(assembly: Assembly) -> Callable[[], datetime] | None:
    """Return the clock that leases are judged by: the application's own, or None for that of the database.

    Processes agree on the time of the database, and their own clocks may differ.
    """
    clock = assembly.surroundings.clock
    return None if isinstance(clock, SystemClock) else clock.now


def within(assembly: Assembly, work: Callable[[Transaction], object]) -> Script[object]:
    """Return the script that does something through a transaction."""

    def script(unit: KitUnit) -> object:
        return finished(work(Transaction(UnitRunner(unit), assembly)))

    return script


@attrs.frozen
class ThreadScripts:
    """Runs the scripts of operations over a backend."""

    runner: BackendRunner
    tenant: str
    now: Callable[[], datetime] | None

    async def run(self, script: Script[T], *, together: bool = False) -> T:
        """Return what a script returns, once what it wrote is durable."""
        return (self.runner.gathering() if together else self.runner).run(script)

    def turn(self) -> Turn:
        """Return a block that one thread after the other can be in."""
        return Turn()


class Turn:
    """A lock, entered as those of event loops are."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        """Wait for the others, in this thread."""
        self._lock.acquire()

    async def __aexit__(self, *_error: object) -> None:
        """Let the next one in."""
        self._lock.release()


class OperationRun:
    """One run of an operation, given to its work: whatever it does, it does through this.

    Steps have names. One that is done gives what it gave the first time, in this run and in every later one, so that
    the work can be begun again from its start. Between steps it must do the same each time: what depends on the time or
    on chance belongs into a step.
    """

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

    def call(
        self,
        step: str,
        function: Callable[[str], T],
        *,
        policy: Policy | None = None,
        on_unknown: OnUnknown = OnUnknown.RETRY,
        look_up: Callable[[str], Found | None] | None = None,
    ) -> T:
        """Call something foreign, safely: no transaction is open, and a crash at any moment is found out about.

        That the call is begun is committed before, and what came of it after. If neither its outcome nor that nothing
        was sent is known, as after a crash or a time-out, it is looked up, made again under the same key, or held.

        Args:
            step: What the call is named, within the operation.
            function: Makes the call, given the key that the other side is to know it by; what it returns is kept.
            policy: What surrounds the call: retries, a breaker, time-outs; declared `KEYED` where the other side knows
                the key, `SAFE` where it only reads. Nothing that answers in its place.
            on_unknown: What is done about a call whose outcome is unknown.
            look_up: Asks the other side, by the key, for a call whose outcome is unknown: returns `Found` with what
                the function would have returned, or None if it was never done.

        Returns:
            What the function returned, as JSON keeps it.

        Raises:
            ConfigurationError: It cannot be called this way, or inside of another step; nothing of it was begun.
            OutcomeUnknown: The outcome of the call is unknown, and it is to be held.
            LeaseLost: Somebody else holds the operation by now.
            Exception: What the function raised.
        """
        made = ForeignCall(function, policy, on_unknown, look_up, asynchronous=False)
        return cast("T", drive(self._steps.call(step, made)))

    def commit(self, step: str, work: Callable[[Transaction], T]) -> T:
        """Do something to orders, by one commit together with the note that it is done.

        Args:
            step: What it is named, within the operation.
            work: Does it, through a transaction; what it returns is kept. It may run more than once.

        Raises:
            LeaseLost: Somebody else holds the operation by now; nothing was written.
        """
        return cast("T", drive(self._steps.commit(step, within(self._assembly, work))))

    def complete(self, work: Callable[[Transaction], T]) -> T:
        """Do the last thing, by one commit together with the end of the operation: what it returns is the answer.

        Saves the commit that would keep the answer afterwards. Return what this returns.

        Args:
            work: Does it, through a transaction. It may run more than once.

        Raises:
            LeaseLost: Somebody else holds the operation by now; nothing was written.
        """
        return cast("T", drive(self._steps.complete(within(self._assembly, work))))


Work = Callable[[OperationRun], object]


class Operations:
    """Do operations that call something foreign, once each. Made by a kit, bound to its tenant.

    Example:
        >>> from orderkit import IdempotentOperation, OrderKit
        >>> def charge(run):
        ...     receipt = run.call("charge", lambda key: {"id": "ch_1", "key": key})
        ...     return {"charge": receipt["id"]}
        >>> pay = IdempotentOperation("pay", charge)
        >>> kit = OrderKit.from_url("memory://")
        >>> kit.operations.run(pay, key="checkout-7f3a", request={"amount": 900})
        {'charge': 'ch_1'}
    """

    def __init__(self, runner: BackendRunner, assembly: Assembly) -> None:
        self._site = _site(runner, assembly)

    def run(
        self,
        operation: IdempotentOperation[Callable[[OperationRun], T]],
        *,
        key: str,
        request: object = None,
        wait: float = 0.0,
    ) -> T:
        """Do an operation, unless its key was used before: then give the answer of its first use.

        One that was left half done, by a crash or an error that is no answer, goes on where it has come to.

        Args:
            operation: What is to be done.
            key: 1 to 255 printable ASCII characters, the same for every repetition of the request.
            request: What is asked, as plain data: references, not personal data. Kept, so that the operation can go on
                without whoever asked.
            wait: Seconds to wait while somebody else is at work on it.

        Returns:
            The answer, as JSON keeps it.

        Raises:
            ConfigurationError: The work is not a plain function, or the request is no JSON.
            InvalidKey: The key is malformed.
            IdempotencyMismatch: The key was used with another request.
            IdempotencyInFlight: Somebody is at work on it; it says when to come again.
            LeaseLost: Whoever ran it was so long without a sign of life that somebody else took over.
            Exception: What the work raised: again and again, where that is its answer.
        """
        return cast("T", drive(runs.run_operation(operation, key, request, wait=wait, site=self._site)))

    def resume(
        self,
        *operations: IdempotentOperation[Work],
        grace: float = GRACE,
        limit: int = 100,
    ) -> Resumed:
        """Bring operations to their end, of every tenant, that somebody has left behind; call it every few minutes.

        Args:
            *operations: Which ones, with the work they were started with.
            grace: Seconds for which nobody must have been at work on them.
            limit: How many at most.
        """
        return drive(runs.resume(operations, grace, limit, self._site))

    def stuck(
        self,
        *operations: IdempotentOperation[Work],
        grace: float = GRACE,
        limit: int = 100,
    ) -> list[KeyReference]:
        """Return operations of every tenant that are under way with nobody at work on them, the oldest first.

        Args:
            *operations: Which ones.
            grace: Seconds for which nobody must have been at work on them.
            limit: How many at most.

        Returns:
            The tenant, the name and the key of each; `report` tells more.
        """
        return drive(runs.find_stuck(operations, grace, limit, self._site.around))

    def settle(self, operation: IdempotentOperation[Work], *, key: str, step: str, outcome: Found | None) -> None:
        """Say what came of a foreign call whose outcome is unknown, after looking it up; the operation can go on then.

        Args:
            operation: Which operation.
            key: Its idempotency key.
            step: The call.
            outcome: `Found` with what it would have returned; None if it was never done, so that it is made again.

        Raises:
            OperationNotFound: No such operation was started, or no such step begun.
            Conflict: The operation has ended, or what came of the call is known.
            IdempotencyInFlight: Somebody is at work on it.
            NotJson: The value is no JSON.
        """
        drive(runs.settle(operation, key, step, outcome=outcome, around=self._site.around))

    def abandon(self, operation: IdempotentOperation[Work], *, key: str) -> None:
        """Forget an operation that has not ended and that nobody is at work on: for one that is never to go on.

        What its steps have done stays done, and what was called stays called: nothing is taken back, and whether a call
        that is unknown was made is not known any more. The key is free, so that a repetition begins anew, under the
        same foreign keys. Look at `report` first, and put right by hand what is half done.

        Args:
            operation: Which operation.
            key: Its idempotency key.

        Raises:
            OperationNotFound: No such operation was started.
            Conflict: It has ended.
            IdempotencyInFlight: Somebody is at work on it.
        """
        drive(runs.abandon(operation, key, self._site.around))

    def report(self, operation: IdempotentOperation[Work], *, key: str) -> OperationReport | None:
        """Return how far an operation has come; None if none was started under this key."""
        return drive(runs.report(operation, key, self._site.around))


def _site(runner: BackendRunner, assembly: Assembly) -> runs.Site:
    scripts = ThreadScripts(runner, assembly.surroundings.context.tenant, lease_clock(assembly))

    def begin(operation: IdempotentOperation[Work]) -> runs.Begin:
        return lambda keeper: operation.work(OperationRun(keeper, assembly))

    def for_tenant(tenant: str) -> runs.Site:
        theirs = assembly.for_tenant(tenant)
        return _site(attrs.evolve(runner, surroundings=theirs.surroundings), theirs)

    return runs.Site(Surroundings(scripts, THREAD, assembly.heart), begin, for_tenant, asynchronous=False)
