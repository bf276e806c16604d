"""Time and identity that a test commands: a clock that stands still, ids that count."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

from orderkit.errors import ConfigurationError


class ManualClock:
    """A clock that stands still until it is told to go on.

    Args:
        start: The time it shows first, aware.

    Raises:
        ConfigurationError: The start has no zone.

    Example:
        >>> clock = ManualClock()
        >>> clock.advance(90)
        >>> clock.now().isoformat()
        '2026-01-01T00:01:30+00:00'
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        if start.utcoffset() is None:
            raise ConfigurationError("A clock needs a start with a zone, such as datetime(2026, 1, 1, tzinfo=UTC).")
        self._lock = threading.Lock()
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        """Return the time it was left at, aware and in UTC."""
        return self._now

    def advance(self, by: float | timedelta) -> None:
        """Go on by so many seconds, or by a difference of time."""
        step = by if isinstance(by, timedelta) else timedelta(seconds=by)
        with self._lock:
            self._now += step


class SequentialIds:
    """Mint ids that count: 1, 2, 3, … for each prefix.

    They are as long as real ones, and sort like them in the order in which they were minted.

    Example:
        >>> SequentialIds().new("order")
        'order_00000000000000000000000000000001'
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._minted: Counter[str] = Counter()

    def new(self, prefix: str) -> str:
        """Return the next identifier with this prefix."""
        with self._lock:
            self._minted[prefix] += 1
            return f"{prefix}_{self._minted[prefix]:032x}"
