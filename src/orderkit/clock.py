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
        self._millisecond = 0
        self._counter = 0

    def new(self, prefix: str) -> str:
        """Return a new identifier with this prefix."""
        millisecond, counter = self._tick()
        high = counter >> 14
        low = counter & 0x3FFF
        value = (
            (millisecond << 80)
            | (0x7 << 76)
            | (high << 64)
            | (0b10 << 62)
            | (low << 48)
            | int.from_bytes(secrets.token_bytes(6))
        )
        return f"{prefix}_{value:032x}"

    def _tick(self) -> tuple[int, int]:
        """Advance the clock and the 26-bit counter; a full counter borrows the next millisecond."""
        if self._process != os.getpid():
            # A thread of the parent may have held the lock when this process was forked.
            self._process, self._lock = os.getpid(), threading.Lock()
        with self._lock:
            millisecond = time.time_ns() // 1_000_000
            if millisecond > self._millisecond:
                self._millisecond = millisecond
                self._counter = secrets.randbits(25)
            else:
                self._counter += 1
                if self._counter >> 26:
                    self._millisecond += 1
                    self._counter = 0
            return self._millisecond, self._counter
