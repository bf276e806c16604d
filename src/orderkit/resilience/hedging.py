"""The hedge: a second request where the first takes long. Only for reads, since both arrive."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Mapping, Sequence
from typing import ClassVar, TypeVar

import attrs

from orderkit.resilience.deadlines import AttemptTimeout, Deadline, exceeded, time_left
from orderkit.resilience.events import HedgeStarted
from orderkit.resilience.layers import InvalidPolicy, Invocation, Layer, Rank, Step, checked, counted
from orderkit.resilience.operations import Operation
from orderkit.resilience.runtimes import Overtime

T = TypeVar("T")


@attrs.frozen
class Hedge(Layer):
    """Begin another attempt when one has taken so long, and return what the first to succeed gives.

    An attempt that fails is not followed by another: that is what `Retry` is for. Where the policy has a retry with a
    budget, each further attempt takes out of it what a retry does. In an event loop the attempts that lose are
    cancelled, and clean up while the result is in use already. Threads cannot be: there each attempt has a thread of
    its own, and those that lose end by themselves. (Dean and Barroso, "The Tail at Scale", 2013.)

    Args:
        after: Seconds after which another attempt begins; the 95th percentile of the call is a good choice.
        attempts: How many there are at most.
    """

    after: float
    attempts: int = 2

    rank: ClassVar[Rank] = Rank.HEDGE
    kind: ClassVar[str] = "hedge"

    def __attrs_post_init__(self) -> None:
        checked(self.after, "The seconds before a hedge")
        counted(self.attempts, "The attempts of a hedge", least=2)

    async def around(self, invocation: Invocation[T], inner: Step) -> T:
        """Return the result of the first attempt to succeed."""

        def start(attempt: int) -> Awaitable[T] | None:
            if attempt > 1:
                budget = invocation.budget
                if budget is not None and not budget.take(throttled=False):
                    return None
                invocation.tell(HedgeStarted(policy=invocation.policy, attempt=attempt))
            # What is noted of one attempt is not to be taken for that of another.
            return inner(copy.copy(invocation))

        try:
            return await invocation.runtime.race(start, self.attempts, self.after, time_left())
        except Overtime:
            raise exceeded(invocation) from None

    def settings(self) -> Mapping[str, object]:
        """Return what it was built with."""
        return {"after": self.after, "attempts": self.attempts}

    def check(self, operation: Operation, others: Sequence[Layer]) -> None:
        """Refuse calls that do more than read, and a hedge that would never begin."""
        if operation is not Operation.SAFE:
            raise InvalidPolicy(f"A hedge sends a call twice, so that it is for {Operation.SAFE!r} operations only.")
        for other in others:
            if isinstance(other, AttemptTimeout | Deadline) and other.seconds <= self.after:
                raise InvalidPolicy(
                    f"A hedge after {self.after:g} seconds would never begin: the {other.kind} is shorter."
                )
