"""Kits with a cache of their own, and what its listeners are told."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest

from orderkit import OrderCache, OrderKit
from orderkit.orders import reading
from orderkit.resilience import CacheAnswered, PolicyEvent, RedisConnection
from tests.integration.kit.facade import Loop, blocking
from tests.integration.kit.places import Place

T = TypeVar("T")

REDIS = os.environ.get("ORDERKIT_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")

WAITING = 30.0
"""Seconds that a test waits for another thread on a busy machine."""


class Heard:
    """What the listeners of caches are told."""

    def __init__(self) -> None:
        self.events: list[PolicyEvent] = []

    def __call__(self, event: PolicyEvent) -> None:
        self.events.append(event)

    def during(self, look: Callable[[], T]) -> tuple[T, list[str]]:
        """Return what a look-up gives, and whether it was a hit or a miss."""
        before = len(self.events)
        found = look()
        return found, [event.outcome for event in self.events[before:] if isinstance(event, CacheAnswered)]


class Paused:
    """The next look into the database, held up once it has seen what is there."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seen = threading.Event()
        self.go_on = threading.Event()
        self.reads = 0
        self._read = reading.record
        patch.setattr(reading, "record", self._record)

    def _record(self, order_id: str) -> Callable[[Any], Any]:
        script = self._read(order_id)

        def paused(unit: Any) -> Any:
            self.reads += 1
            is_first = self.reads == 1
            try:
                return script(unit)
            finally:
                if is_first:
                    self.seen.set()
                    assert self.go_on.wait(WAITING)

        return paused


class OpenCached:
    """Open kits with a cache of their own, as if each were in another process; all are closed with the test."""

    def __init__(self, listener: Heard) -> None:
        self._opened = ExitStack()
        self._listener = listener

    def __call__(self, place: Place, prefix: str | None, url: str = REDIS) -> OrderKit:
        """Open a kit.

        Args:
            place: Where its orders are.
            prefix: What the keys in Redis begin with; None for a cache in this process.
            url: Where Redis is.
        """
        connection = None if prefix is None else RedisConnection(url, timeout=5.0)
        cache = OrderCache(shared=connection, prefix=prefix or "", listeners=(self._listener,))
        if connection is not None:
            self._opened.callback(connection.close)
        if not place.asynchronous:
            return self._opened.enter_context(place.kit(cache=cache))
        loop = Loop()
        self._opened.callback(loop.stop)
        if connection is not None:
            self._opened.callback(lambda: loop.run(connection.aclose()))
        kit = blocking(place.async_kit(cache=cache), loop)
        self._opened.callback(kit.close)
        return kit

    def close(self) -> None:
        self._opened.close()
