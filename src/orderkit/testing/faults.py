"""What can go wrong with a call, put where the call itself would be: inside every layer of a policy.

Example:
    >>> from orderkit.resilience import Operation, Policy, Retry
    >>> from orderkit.testing.faults import Faults, LoseResult
    >>> from orderkit.testing.resilience import resilience
    >>> policy = Policy(Retry(on=ConnectionError), operation=Operation.KEYED, name="payments")
    >>> with resilience(Faults(ConnectionError, LoseResult(ConnectionError), policy="payments")):
    ...     policy.call(print, "charged")
    charged
    charged
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol

import attrs

from orderkit.resilience import conditions
from orderkit.resilience.deadlines import time_left
from orderkit.resilience.layers import InvalidPolicy, Invocation, Step, checked
from orderkit.resilience.runtimes import Overtime

Error = BaseException | type[BaseException]
"""What is raised: an error, or a class of which there is a new one each time."""


class Fault(Protocol):
    """Happens to one call."""

    async def meet(self, invocation: Invocation[Any], inner: Step, /) -> object:
        """Make the call or not, and return or raise what comes of it."""
        ...


@attrs.frozen
class Fail:
    """The call is not made, and fails.

    Args:
        error: What is raised.
    """

    error: Error

    async def meet(self, _invocation: Invocation[Any], _inner: Step) -> object:
        """Raise the error."""
        raise self.error


@attrs.frozen
class Succeed:
    """The call is left alone."""

    async def meet(self, invocation: Invocation[Any], inner: Step) -> object:
        """Make the call."""
        return await inner(invocation)


@attrs.frozen
class Delay:
    """The call takes so long; what a deadline or the time-out of an attempt leaves it bounds it.

    A `ManualClock` goes on by that time instead. Without one, and where waits are removed, it takes none.

    Args:
        seconds: How long.
    """

    seconds: float

    def __attrs_post_init__(self) -> None:
        checked(self.seconds, "The seconds of a delay")

    async def meet(self, invocation: Invocation[Any], inner: Step) -> object:
        """Make the call late, or not before the time is over."""
        left = time_left()
        if left is not None and left <= self.seconds:
            await invocation.runtime.sleep(left)
            # As it ends in an event loop, and with an adapter that minds the time that is left.
            raise Overtime
        await invocation.runtime.sleep(self.seconds)
        return await inner(invocation)


@attrs.frozen
class LoseResult:
    """The call is made and succeeds, but its result is lost on the way back.

    Args:
        error: What is raised in its place.
    """

    error: Error = TimeoutError

    async def meet(self, invocation: Invocation[Any], inner: Step) -> object:
        """Make the call, and raise the error."""
        await inner(invocation)
        raise self.error


@attrs.frozen
class Answer:
    """The call is not made, and something else is its result.

    Args:
        value: What is returned.
    """

    value: object

    async def meet(self, _invocation: Invocation[Any], _inner: Step) -> object:
        """Return the value."""
        return self.value


class Faults:
    """Let calls meet faults, one after the other; once all have been met, calls are left alone.

    Args:
        *script: What happens to each call; an error stands for `Fail` with it.
        policy: The name of the policy whose calls are meant; those of all where absent.
        rate: How large a part of the calls meets a fault, as chance has it; the script is then repeated.

    Raises:
        InvalidPolicy: There is no fault, or the rate is no part.
    """

    def __init__(self, *script: Fault | Error, policy: str | None = None, rate: float | None = None) -> None:
        if not script or (rate is not None and checked(rate, "The rate of faults") > 1):
            raise InvalidPolicy("Faults are at least one, and happen to at most every call.")
        self._script: Sequence[Fault] = [_fault(each) for each in script]
        self._policy = policy
        self._rate = rate
        self._lock = threading.Lock()
        self._met = 0

    @property
    def met(self) -> int:
        """How many calls have met a fault."""
        return self._met

    @property
    def left(self) -> int:
        """How many faults of the script no call has met yet."""
        return max(0, len(self._script) - self._met)

    async def around(self, invocation: Invocation[Any], inner: Step) -> object:
        """Let a call meet what comes next, if it is one of those that are meant."""
        fault = self._next() if self._policy in {None, invocation.policy} else None
        return await inner(invocation) if fault is None else await fault.meet(invocation, inner)

    def _next(self) -> Fault | None:
        with self._lock:
            if self._rate is None:
                is_due = self._met < len(self._script)
            else:
                is_due = conditions.present.uniform(0.0, 1.0) < self._rate
            if not is_due:
                return None
            self._met += 1
            return self._script[(self._met - 1) % len(self._script)]


def _fault(step: Fault | Error) -> Fault:
    return Fail(step) if isinstance(step, BaseException | type) else step
