"""When a breaker opens: by failures in a row, by their rate, or by how slow calls have become."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import attrs

from orderkit.resilience.layers import InvalidPolicy, checked, counted


class Window(Protocol):
    """Remember calls for one breaker, under its lock, and say when it must open."""

    @property
    def bad(self) -> int:
        """How many of the calls it remembers are bad."""
        ...

    def is_bad(self, failed: bool, seconds: float) -> bool:
        """Tell whether a call is one of those that open the breaker when there are many."""
        ...

    def record(self, failed: bool, seconds: float) -> bool:
        """Take a call into account; tell whether the breaker must open."""
        ...

    def clear(self) -> None:
        """Forget every call."""
        ...


@runtime_checkable
class Trip(Protocol):
    """A rule by which a breaker opens, to be given to any number of breakers."""

    @property
    def reason(self) -> str:
        """What led to it, for people and for events."""
        ...

    def window(self) -> Window | None:
        """Return a memory of its own for one breaker; None where pybreaker's counter is all it takes."""
        ...

    def settings(self) -> Mapping[str, object]:
        """Return what it was built with."""
        ...


@attrs.frozen
class ConsecutiveFailures:
    """Open after so many failures in a row.

    Args:
        count: How many.
    """

    count: int = 5

    reason = "consecutive failures"

    def __attrs_post_init__(self) -> None:
        counted(self.count, "The count of consecutive failures")

    def window(self) -> None:
        """Return nothing: pybreaker counts them."""

    def settings(self) -> Mapping[str, object]:
        """Return what it was built with."""
        return {"consecutive_failures": self.count}


@attrs.frozen
class FailureRate:
    """Open when so large a part of the last calls has failed.

    Args:
        rate: The part, above 0 and at most 1.
        calls: How many of the last calls are looked at.
        minimum: How many there must be before it counts.
    """

    rate: float = 0.5
    calls: int = 100
    minimum: int = 20

    reason = "failure rate"

    def __attrs_post_init__(self) -> None:
        _check_share(self.rate, self.calls, self.minimum)

    def window(self) -> Window:
        """Return an empty memory of failures."""
        return _Ring(self.rate, self.calls, self.minimum, None)

    def settings(self) -> Mapping[str, object]:
        """Return what it was built with."""
        return {"failure_rate": self.rate, "calls": self.calls, "minimum": self.minimum}


@attrs.frozen
class SlowCalls:
    """Open when so large a part of the last calls, failed or not, took too long.

    Args:
        over: Seconds from which on a call is slow.
        rate: The part, above 0 and at most 1.
        calls: How many of the last calls are looked at.
        minimum: How many there must be before it counts.
    """

    over: float
    rate: float = 0.5
    calls: int = 100
    minimum: int = 20

    reason = "slow calls"

    def __attrs_post_init__(self) -> None:
        checked(self.over, "The seconds of a slow call")
        _check_share(self.rate, self.calls, self.minimum)

    def window(self) -> Window:
        """Return an empty memory of slow calls."""
        return _Ring(self.rate, self.calls, self.minimum, self.over)

    def settings(self) -> Mapping[str, object]:
        """Return what it was built with."""
        return {"slow_over": self.over, "slow_rate": self.rate, "calls": self.calls, "minimum": self.minimum}


def _check_share(rate: float, calls: int, minimum: int) -> None:
    if checked(rate, "The rate of a breaker") > 1:
        raise InvalidPolicy("The rate of a breaker is a part of the calls, at most 1; nothing was built.")
    if counted(minimum, "The minimum of a breaker") > counted(calls, "The calls of a breaker"):
        raise InvalidPolicy("A breaker that waits for more calls than it looks at would never open; nothing was built.")


class _Ring:
    """The last calls, each of them bad or not, with the bad ones counted."""

    def __init__(self, rate: float, calls: int, minimum: int, slow_over: float | None) -> None:
        self._rate = rate
        self._minimum = minimum
        self._slow_over = slow_over
        self._calls: deque[bool] = deque(maxlen=calls)
        self.bad = 0

    def is_bad(self, failed: bool, seconds: float) -> bool:
        """Tell whether a call failed, or was too slow, whichever this is about."""
        return failed if self._slow_over is None else seconds >= self._slow_over

    def record(self, failed: bool, seconds: float) -> bool:
        """Take a call into account; tell whether the breaker must open."""
        bad = self.is_bad(failed, seconds)
        if len(self._calls) == self._calls.maxlen:
            self.bad -= self._calls[0]
        self._calls.append(bad)
        self.bad += bad
        return len(self._calls) >= self._minimum and self.bad >= self._rate * len(self._calls)

    def clear(self) -> None:
        """Forget every call."""
        self._calls.clear()
        self.bad = 0
