"""Time and identity, as things that are passed in: the clock and the source of ids."""

from __future__ import annotations

import os
import secrets
import threading
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tell the time. Everything that needs it is given one."""

    def now(self) -> datetime:
        """Return the current time, aware and in UTC."""
        ...


class IdSource(Protocol):
    """Mint identifiers. Everything that needs one is given a source."""

    def new(self, prefix: str) -> str:
        """Return a new identifier such as `order_0193…`.

        Args:
            prefix: The kind of thing named, without the underscore.
        """
        ...


_COUNTER = 26
"""How many bits count within a millisecond."""


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """Return the current time, aware and in UTC."""
        return datetime.now(UTC)


class UuidV7:
    """Mint time-ordered identifiers: a prefix, an underscore and 32 hexadecimal digits.

    The digits are a UUID of version 7 (RFC 9562, section 5.7) with 48 bits of milliseconds. The 12 bits
    of `rand_a` and the top of `rand_b` hold a counter within the millisecond (method 1 of section 6.2),
    so that ids of one process sort in the order in which they were minted.

    Example:
        >>> UuidV7().new("order")[:6]
        'order_'
    """

    def __init__(self) -> None:
        self._process = 0
        self._lock = threading.Lock()
        self._last = 0
        self._chance: list[str] = []

    def new(self, prefix: str) -> str:
        """Return a new identifier with this prefix."""
        if self._process != os.getpid():
            self._begin()
        with self._lock:
            if len(self._chance) < 2:
                self._chance = _draw()
            # The millisecond above, the counter below: a full counter borrows the next millisecond.
            first = time.time_ns() // 1_000_000 << _COUNTER
            self._last = last = self._last + 1 if self._last >= first else first | int(self._chance.pop(), 16) >> 23
            chance = self._chance.pop()
        return f"{prefix}_{last >> _COUNTER:012x}7{last >> 14 & 0xFFF:03x}{0x8000 | last & 0x3FFF:04x}{chance}"

    def _begin(self) -> None:
        """Begin anew in this process: a thread of its parent may have held the lock, and chance is the parent's."""
        self._lock, self._chance = threading.Lock(), []
        self._process = os.getpid()


def _draw() -> list[str]:
    """Return 48 bits of chance a hundred times, as digits: to fetch each by itself from the system is dear."""
    digits = secrets.token_hex(600)
    return [digits[start : start + 12] for start in range(0, len(digits), 12)]
