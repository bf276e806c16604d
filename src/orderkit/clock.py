"""Time and identity, as things that are passed in: the clock and the source of ids."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterator
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


_DRAWN = 6


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
        self._chance: Iterator[bytes] = iter(())

    def new(self, prefix: str) -> str:
        """Return a new identifier with this prefix."""
        millisecond, counter, chance = self._tick()
        high = counter >> 14
        low = counter & 0x3FFF
        value = (millisecond << 80) | (0x7 << 76) | (high << 64) | (0b10 << 62) | (low << 48) | int.from_bytes(chance)
        return f"{prefix}_{value:032x}"

    def _tick(self) -> tuple[int, int, bytes]:
        """Advance the clock and the 26-bit counter; a full counter borrows the next millisecond."""
        if self._process != os.getpid():
            # A thread of the parent may have held the lock when this process was forked; and what the parent
            # drew of chance is the parent's.
            self._lock, self._chance = threading.Lock(), iter(())
            self._process = os.getpid()
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
            return self._millisecond, self._counter, self._draw()

    def _draw(self) -> bytes:
        """Return six bytes of chance; they are fetched from the system by the hundred, which is dear each time."""
        drawn = next(self._chance, None)
        if drawn is None:
            fetched = secrets.token_bytes(_DRAWN * 100)
            self._chance = (fetched[start : start + _DRAWN] for start in range(0, len(fetched), _DRAWN))
            drawn = next(self._chance)
        return drawn
