"""How long a call may take: in all, and for each attempt; whoever is called can ask how much is left."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, TypeVar

import attrs

from orderkit.resilience import conditions
from orderkit.resilience.events import TimedOut
from orderkit.resilience.layers import InvalidPolicy, Invocation, Layer, Rank, Step, checked
from orderkit.resilience.operations import Operation
from orderkit.resilience.rejections import DeadlineExceeded
from orderkit.resilience.runtimes import Overtime

T = TypeVar("T")

_until: ContextVar[float | None] = ContextVar("orderkit_deadline", default=None)


def time_left() -> float | None:
    """Return the seconds left of the innermost deadline around this code; None where there is none.

    An adapter sets its time-outs by it: what a thread waits for cannot be interrupted from outside.

    Example:
        >>> time_left() is None
        True
    """
    until = _until.get()
    return None if until is None else max(0.0, until - conditions.present.monotonic())


@contextmanager
def _bounded(until: float) -> Generator[None]:
    outer = _until.get()
    _until.set(until if outer is None else min(until, outer))
    try:
        yield
    finally:
        # Not by a token: a block may be left in another context than it was entered in.
        _until.set(outer)


async def _within(layer: Deadline | AttemptTimeout, whole: bool, invocation: Invocation[T], inner: Step) -> T:
    """Await what a layer surrounds for at most as long as it allows, or as an outer deadline leaves.

    Raises:
        DeadlineExceeded: The time is over.
    """
    left = time_left()
    seconds = layer.seconds if left is None else min(layer.seconds, left)
    if seconds <= 0:
        raise _exceeded(layer, invocation, sent=False)
    with _bounded(conditions.present.monotonic() + seconds):
        work: Any = inner(invocation)
        try:
            result: T = await invocation.runtime.within(seconds, work, invocation if whole else None)
        except Overtime:
            raise _exceeded(layer, invocation, sent=True) from None
    return result


def _exceeded(layer: Deadline | AttemptTimeout, invocation: Invocation[Any], *, sent: bool) -> DeadlineExceeded:
    invocation.tell(TimedOut(policy=invocation.policy, layer=layer.kind, seconds=layer.seconds))
    return DeadlineExceeded(invocation.policy, layer.seconds, sent=sent)


@attrs.frozen
class Deadline(Layer):
    """Bound the whole call, all attempts and the waits between them included.

    In an event loop the call is cancelled when the time is over. A thread cannot be: there a further attempt is not
    begun when no time is left, and `time_left` tells whoever is called how long it may wait.

    Args:
        seconds: How long the call may take; an outer deadline that ends sooner counts as well.
    """

    seconds: float

    rank: ClassVar[Rank] = Rank.DEADLINE
    kind: ClassVar[str] = "deadline"
    holds: ClassVar[bool] = True

    def __attrs_post_init__(self) -> None:
        checked(self.seconds, "The seconds of a deadline")

    async def around(self, invocation: Invocation[T], inner: Step) -> T:
        """Bound what is surrounded."""
        return await _within(self, True, invocation, inner)

    def settings(self) -> Mapping[str, object]:
        """Return what it was built with."""
        return {"seconds": self.seconds}

    def check(self, operation: Operation, others: Sequence[Layer]) -> None:
        """Refuse an attempt that is allowed to take longer than the whole."""
        for other in others:
            if isinstance(other, AttemptTimeout) and other.seconds > self.seconds:
                raise InvalidPolicy(
                    f"An attempt may take {other.seconds:g} seconds but the whole call {self.seconds:g}: "
                    "make the deadline longer, or the time-out of an attempt shorter."
                )


@attrs.frozen
class AttemptTimeout(Layer):
    """Bound each attempt, so that one that hangs counts as failed and leaves time for another.

    Interrupts as `Deadline` does: in an event loop.

    Args:
        seconds: How long an attempt may take.
    """

    seconds: float

    rank: ClassVar[Rank] = Rank.ATTEMPT
    kind: ClassVar[str] = "attempt_timeout"
    holds: ClassVar[bool] = True

    def __attrs_post_init__(self) -> None:
        checked(self.seconds, "The seconds of an attempt")

    async def around(self, invocation: Invocation[T], inner: Step) -> T:
        """Bound what is surrounded."""
        return await _within(self, False, invocation, inner)

    def settings(self) -> Mapping[str, object]:
        """Return what it was built with."""
        return {"seconds": self.seconds}
