"""Of those who want the same at the same time one fetches it, and the others wait: threads and tasks alike."""

from __future__ import annotations

import enum
import threading
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Final, Literal, TypeAlias

import attrs

from orderkit.forking import Guarded
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
        thread: The thread that fetches it.
        awaits: The flights that are waited for inside of what fetches it.
    """

    __slots__ = ("_outcome", "_signals", "awaits", "key", "tags", "thread")

    def __init__(self, key: str, tags: Sequence[str]) -> None:
        self.key = key
        self.tags = frozenset(tags)
        self.thread = threading.get_ident()
        self.awaits: list[Flight] = []
        self._signals: list[Signal] = []
        self._outcome: Outcome | None = None

    async def wait(self, runtime: Runtime) -> Outcome | None:
        """Wait for its end, as long as the deadline allows; return nothing if that is over, or it waits for the caller.

        The latter is so inside of what fetches it, where each of several fetches waits for the next, and for a thread
        that would keep the fetching task of its own event loop from going on.
        """
        if not _waiting.begin(self, runtime):
            return None
        try:
            signal = runtime.signal()
            # In this order, and the other way round where it lands: one of both sees the other.
            self._signals.append(signal)
            if self._outcome is None:
                await signal.wait(time_left())
            return self._outcome
        finally:
            _waiting.end(self)

    def land(self, outcome: Outcome) -> None:
        """Tell everybody how it ended."""
        self._outcome = outcome
        for signal in list(self._signals):
            signal.set()


flown_here: ContextVar[tuple[Flight, ...]] = ContextVar("orderkit_flights", default=())
"""The flights inside of whose fetch this code runs."""


class _Waiting(Guarded):
    """Which flights wait for which, over all caches: nobody is let wait for what waits for him."""

    def begin(self, flight: Flight, runtime: Runtime) -> bool:
        """Note that the flights flown here wait for another; refuse if it waits for one of them, or for this thread."""
        here = flown_here.get()
        thread = threading.get_ident() if isinstance(runtime, ThreadRuntime) else None
        with self._lock:
            if any(other.thread == thread or other in here for other in _reached(flight)):
                return False
            for waiting in here:
                waiting.awaits.append(flight)
            return True

    def end(self, flight: Flight) -> None:
        """Note that the wait is over."""
        with self._lock:
            for waiting in flown_here.get():
                waiting.awaits.remove(flight)


def _reached(flight: Flight) -> set[Flight]:
    """Return a flight and all that must land before it does."""
    reached, ahead = {flight}, [flight]
    while ahead:
        further = set(ahead.pop().awaits) - reached
        reached |= further
        ahead += further
    return reached


_waiting: Final = _Waiting()


class Flights(Guarded):
    """The fetches that are under way, one for each key."""

    def __init__(self) -> None:
        self._under_way: dict[str, Flight] = {}
        super().__init__()

    def renew(self) -> None:
        """Begin without flights in a child after a fork: the threads of the parent are not in it."""
        super().renew()
        self._under_way = {}

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
