"""How long a call may take: in all, and for each attempt; whoever is called can ask how much is left."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

import attrs

from orderkit.resilience import conditions
from orderkit.resilience.events import TimedOut
from orderkit.resilience.layers import InvalidPolicy, Invocation, Layer, Rank, Step, checked
from orderkit.resilience.operations import Operation
from orderkit.resilience.rejections import DeadlineExceeded
from orderkit.resilience.runtimes import Overtime

T = TypeVar("T")


class Term(NamedTuple):
    """When the time is over that a policy allows.

    Attributes:
        until: The end, by the monotonic clock.
        policy: The name of the policy.
        layer: Which of its layers sets it.
        seconds: How long it allows.
    """

    until: float
    policy: str
    layer: str
    seconds: float


_term: ContextVar[Term | None] = ContextVar("orderkit_deadline", default=None)


def term() -> Term | None:
    """Return which of all deadlines around this code is over first."""
    return _term.get()


def time_left() -> float | None:
    """Return the seconds left of the deadlines around this code, by the one that is over first; None without any.

    An adapter sets its time-outs by it: what a thread waits for cannot be interrupted from outside.

    Example:
        >>> time_left() is None
        True
    """
    term = _term.get()
    return None if term is None else max(0.0, term.until - conditions.present.monotonic())


@contextmanager
def no_deadline() -> Generator[None]:
    """Let no deadline count in a block: what is begun there may outlive the call it is begun in.

    A task or a thread that is begun inside of a call inherits its deadline, and would meet it long after the call.

    Example:
        >>> with no_deadline():
        ...     time_left() is None
        True
    """
    with _bounded(None):
        yield


@contextmanager
def _bounded(term: Term | None) -> Generator[None]:
    outer = _term.get()
    _term.set(term)
    try:
        yield
    finally:
        # Not by a token: a block may be left in another context than it was entered in.
        _term.set(outer)


async def _within(layer: Deadline | AttemptTimeout, whole: bool, invocation: Invocation[T], inner: Step) -> T:
    """Await what a layer surrounds for at most as long as it allows, or as an outer deadline leaves.

    Raises:
        DeadlineExceeded: The time is over.
    """
    now, outer = conditions.present.monotonic(), _term.get()
    term = Term(now + layer.seconds, invocation.policy, layer.kind, layer.seconds)
    if outer is not None and outer.until < term.until:
        term = outer
    with _bounded(term):
        if term.until <= now:
            raise exceeded(invocation, sent=False)
        work: Any = inner(invocation)
        try:
            result: T = await invocation.runtime.within(term.until - now, work, invocation if whole else None)
        except Overtime:
            raise exceeded(invocation) from (invocation.failure if whole else None)
        if not (whole or invocation.runtime.interrupts) and conditions.present.monotonic() > term.until:
            invocation.late = exceeded(invocation)
    return result


def exceeded(invocation: Invocation[Any], *, sent: bool = True) -> DeadlineExceeded:
    """Return the error of a call whose time is over, by the deadline around this code, and tell it."""
    # There is one: without it no time is ever over.
    term = cast("Term", _term.get())
    invocation.tell(TimedOut(policy=invocation.policy, layer=term.layer, seconds=term.seconds))
    return DeadlineExceeded(term.policy, term.seconds, sent=sent)


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

    Interrupts as `Deadline` does: in an event loop. In a thread, an attempt that took too long and returned
    nevertheless is told as `TimedOut`, and is a failure to the breaker; what it returned is the result.

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
