"""The hedge: a second request where the first takes long. Only for reads, since both arrive."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import ClassVar, TypeVar

import attrs

from orderkit.resilience.deadlines import AttemptTimeout, Deadline, time_left
from orderkit.resilience.events import HedgeStarted
from orderkit.resilience.layers import InvalidPolicy, Invocation, Layer, Rank, Step, checked, counted
from orderkit.resilience.operations import Operation
from orderkit.resilience.rejections import DeadlineExceeded
from orderkit.resilience.runtimes import Overtime

T = TypeVar("T")


@attrs.frozen
class Hedge(Layer):
    """Begin another attempt when one has taken so long, and return what the first to succeed gives.

    An attempt that fails is not followed by another: that is what `Retry` is for. In an event loop the attempts that
    lose are cancelled. Threads cannot be: there each attempt has a thread of its own, and those that lose end by
    themselves. (Dean and Barroso, "The Tail at Scale", 2013.)

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

        def start(attempt: int) -> Awaitable[T]:
            if attempt > 1:
                invocation.tell(HedgeStarted(policy=invocation.policy, attempt=attempt))
            return inner(invocation)

        left = time_left()
        try:
            return await invocation.runtime.race(start, self.attempts, self.after, left)
        except Overtime:
            raise DeadlineExceeded(invocation.policy, left or 0.0, sent=True) from None

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
