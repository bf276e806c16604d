"""Of those who want the same at the same time one fetches it, and the others wait: threads and tasks alike."""

from __future__ import annotations

import enum
import threading
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Final, Literal, TypeAlias

import attrs

from orderkit.resilience.deadlines import time_left
from orderkit.resilience.runtimes import Runtime, Signal, ThreadRuntime


@attrs.frozen
class Landed:
    """It was fetched.

    Attributes:
        value: What it is.
    """

    value: object


@attrs.frozen
class Failed:
    """It could not be fetched.

    Attributes:
        error: What was raised.
        traceback: Where: everybody who raises it again begins from there.
    """

    error: Exception
    traceback: TracebackType | None


class _Abandoned(enum.Enum):
    ABANDONED = enum.auto()


ABANDONED: Final = _Abandoned.ABANDONED
"""Whoever fetched it was broken off, which is nobody else's concern."""

Outcome: TypeAlias = Landed | Failed | Literal[_Abandoned.ABANDONED]
"""How a flight ends."""


class Flight:
    """One fetch, and those who wait for it.

    Attributes:
        key: What is fetched.
        tags: By which tags it may be detached.
    """

    __slots__ = ("_lock", "_outcome", "_signals", "_thread", "key", "tags")

    def __init__(self, key: str, tags: Sequence[str]) -> None:
        self.key = key
        self.tags = frozenset(tags)
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._signals: list[Signal] = []
        self._outcome: Outcome | None = None

    def is_behind(self, runtime: Runtime) -> bool:
        """Tell whether it waits for the caller: who would wait for it now would wait for ever.

        That is so inside of what fetches it, and for a thread that would keep the fetching task of its own event loop
        from going on.
        """
        is_same_thread = isinstance(runtime, ThreadRuntime) and threading.get_ident() == self._thread
        return is_same_thread or self in flown_here.get()

    async def wait(self, runtime: Runtime) -> Outcome | None:
        """Wait for its end, as long as the deadline allows; return nothing if that is over."""
        signal = runtime.signal()
        with self._lock:
            if self._outcome is not None:
                return self._outcome
            self._signals.append(signal)
        await signal.wait(time_left())
        return self._outcome

    def land(self, outcome: Outcome) -> None:
        """Tell everybody how it ended."""
        with self._lock:
            self._outcome, signals = outcome, self._signals
            self._signals = []
        for signal in signals:
            signal.set()


flown_here: ContextVar[tuple[Flight, ...]] = ContextVar("orderkit_flights", default=())
"""The flights inside of whose fetch this code runs."""


class Flights:
    """The fetches that are under way, one for each key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[str, Flight] = {}

    def join(self, key: str, tags: Sequence[str]) -> tuple[Flight, bool]:
        """Return the flight of a key, and whether it was begun just now, so that the caller has to fetch."""
        with self._lock:
            flight = self._under_way.get(key)
            if flight is not None:
                return flight, False
            flight = self._under_way[key] = Flight(key, tags)
            return flight, True

    def land(self, flight: Flight, outcome: Outcome) -> None:
        """End a flight."""
        with self._lock:
            if self._under_way.get(flight.key) is flight:
                del self._under_way[flight.key]
        flight.land(outcome)

    def detach(self, keys: Iterable[str], tags: Iterable[str]) -> None:
        """Let nobody else join the flights of keys and tags: they began before those were invalidated."""
        tags = frozenset(tags)
        with self._lock:
            for key in keys:
                self._under_way.pop(key, None)
            if tags:
                self._under_way = {key: its for key, its in self._under_way.items() if tags.isdisjoint(its.tags)}

    def detach_all(self) -> None:
        """Let nobody else join any flight."""
        with self._lock:
            self._under_way = {}
