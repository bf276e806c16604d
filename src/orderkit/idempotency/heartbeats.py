"""Signs of life: leases are renewed while their operations are at work, by a thread or by tasks."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from orderkit.resilience.runtimes import awaited, drive

if TYPE_CHECKING:
    import asyncio

_logger = logging.getLogger("orderkit.idempotency")

Renew = Callable[[], Awaitable[bool]]
"""Renew a lease; tell whether it is held still."""


class Beat(Protocol):
    """The renewals of one lease."""

    async def end(self) -> None:
        """Renew it no more."""
        ...


class Heart(Protocol):
    """Renews leases."""

    def begin(self, renew: Renew, every: float) -> Beat:
        """Renew a lease every so many seconds, until that is ended or the lease is lost."""
        ...


class ThreadHeart:
    """Renews leases from one thread, which is there only while there are any.

    Args:
        idle: Seconds for which the thread waits for another lease before it ends.
    """

    def __init__(self, idle: float = 30.0) -> None:
        self._idle = idle
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._beats: dict[_ThreadBeat, float] = {}
        self._thread: threading.Thread | None = None

    def begin(self, renew: Renew, every: float) -> _ThreadBeat:
        """Renew a lease every so many seconds, until that is ended or the lease is lost."""
        if self._process != os.getpid():
            # A child has neither its parent's thread nor its operations, and a lock that a thread may have held.
            self._begin_anew()
        beat = _ThreadBeat(self, renew, every)
        with self._changed:
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._work, name="orderkit-heartbeats", daemon=True)
                thread.start()
                self._thread = thread  # only now: one that could not be started is tried again by the next lease
            self._beats[beat] = time.monotonic() + every
            if every < 1.0:
                self._changed.notify()
        return beat

    def end(self, beat: _ThreadBeat) -> None:
        """Renew this lease no more, from when this returns."""
        if self._process != os.getpid():
            return
        with self._changed:
            self._beats.pop(beat, None)
        with beat.renewing:
            pass

    def _work(self) -> None:
        busy = time.monotonic()
        while True:
            with self._changed:
                now = time.monotonic()
                if self._beats:
                    busy = now
                elif now - busy >= self._idle:
                    self._thread = None
                    return
                # A second at most: a lease that has begun meanwhile has a third of its own time until it is due.
                due = min(self._beats.values(), default=busy + self._idle)
                self._changed.wait(min(1.0, max(0.0, due - now)))
                now = time.monotonic()
                ready = [beat for beat, when in self._beats.items() if when <= now]
            for beat in ready:
                self._renew(beat)

    def _renew(self, beat: _ThreadBeat) -> None:
        with beat.renewing:
            # Ended meanwhile, it is renewed no more: whoever ended it may have given the lease up since.
            held = beat in self._beats and drive(awaited(renewed(beat.renew)))
        with self._changed:
            if beat in self._beats and held:
                self._beats[beat] = time.monotonic() + beat.every
            else:
                self._beats.pop(beat, None)


class _ThreadBeat:
    """One lease that a `ThreadHeart` renews."""

    def __init__(self, heart: ThreadHeart, renew: Renew, every: float) -> None:
        self._heart = heart
        self.renew = renew
        self.every = every
        self.renewing = threading.Lock()

    async def end(self) -> None:
        """Renew it no more."""
        self._heart.end(self)


class LoopHeart:
    """Renews each lease by a task of the running event loop."""

    def begin(self, renew: Renew, every: float) -> _LoopBeat:
        """Renew a lease every so many seconds, until that is ended or the lease is lost."""
        import asyncio

        return _LoopBeat(asyncio.create_task(_beating(renew, every), name="orderkit-heartbeat"))


async def _beating(renew: Renew, every: float) -> None:
    from asyncio import sleep

    held = True
    while held:
        await sleep(every)
        held = await renewed(renew)


class _LoopBeat:
    """The task that renews one lease."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    async def end(self) -> None:
        """Renew it no more."""
        from asyncio import wait

        self._task.cancel()
        await wait([self._task])


async def renewed(renew: Renew) -> bool:
    """Renew a lease; tell whether it is worth trying again. A storage that fails now may work the next time."""
    try:
        return await renew()
    except Exception:
        _logger.exception("A lease could not be renewed; it is tried again.")
        return True
