"""The bulkhead: how many calls may be under way at once, so that one slow dependency does not take all threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from orderkit.forking import Guarded
from orderkit.resilience.deadlines import time_left
from orderkit.resilience.events import CallRejected
from orderkit.resilience.layers import Invocation, Layer, Rank, Step, checked, counted
from orderkit.resilience.rejections import BulkheadFull
from orderkit.resilience.runtimes import Signal

T = TypeVar("T")


class Bulkhead(Layer, Guarded):
    """Let so many calls pass at once, in threads and tasks taken together; a few more may wait for a place.

    Those who wait are served in their order.

    Args:
        limit: How many calls may be under way.
        waiting: How many more may wait for a place.
        max_wait: Seconds they wait at most; a deadline counts as well.
    """

    rank: ClassVar[Rank] = Rank.LIMIT
    kind: ClassVar[str] = "bulkhead"
    holds: ClassVar[bool] = True

    def __init__(self, limit: int, *, waiting: int = 0, max_wait: float = 1.0) -> None:
        self._limit = counted(limit, "The limit of a bulkhead")
        self._places = counted(waiting, "The waiting calls of a bulkhead", least=0)
        self._max_wait = checked(max_wait, "The longest wait for a bulkhead")
        self._under_way = 0
        self._queue: deque[Signal] = deque()
        self._generation = 0
        super().__init__()

    def renew(self) -> None:
        """Be empty in a child after a fork: the calls of its parent are not in it."""
        super().renew()
        self._under_way, self._queue = 0, deque()
        self._generation += 1

    @property
    def under_way(self) -> int:
        """How many calls are under way."""
        return self._under_way

    async def around(self, invocation: Invocation[T], inner: Step) -> T:
        """Let a call pass when there is a place for it."""
        generation = await self._enter(invocation)
        try:
            result: T = await inner(invocation)
        finally:
            self._leave(generation)
        return result

    async def _enter(self, invocation: Invocation[Any]) -> int:
        """Take a place; return of which generation it is."""
        signal = None
        with self._lock:
            generation = self._generation
            if self._under_way < self._limit:
                self._under_way += 1
                return generation
            if len(self._queue) < self._places:
                signal = invocation.runtime.signal()
                self._queue.append(signal)
        if signal is None or not await self._wait(signal, generation):
            invocation.tell(CallRejected(policy=invocation.policy, layer=self.kind, retry_after=None))
            raise BulkheadFull(invocation.policy, self._limit)
        return generation

    async def _wait(self, signal: Signal, generation: int) -> bool:
        """Wait for a place; whoever leaves hands it over. Tell whether it came."""
        left = time_left()
        try:
            came = await signal.wait(self._max_wait if left is None else min(self._max_wait, left))
        except BaseException:
            self._give_up(signal, generation)
            raise
        if came:
            return True
        with self._lock:
            if signal in self._queue:
                self._queue.remove(signal)
                return False
        # It was handed over just now, while nobody waited for it any more.
        return True

    def _give_up(self, signal: Signal, generation: int) -> None:
        """Hand on a place that came too late for a wait that was broken off."""
        with self._lock:
            if signal in self._queue:
                self._queue.remove(signal)
                return
        self._leave(generation)

    def _leave(self, generation: int) -> None:
        """Hand the place over to who has waited longest, or free it."""
        with self._lock:
            if generation != self._generation:
                # A call that has forked ends in the child as well, where it has no place.
                return
            if self._queue:
                self._queue.popleft().set()
            else:
                self._under_way -= 1

    def for_target(self, name: str) -> Bulkhead:
        """Return an empty bulkhead of the same size: one target that is slow takes the places of no other."""
        return Bulkhead(self._limit, waiting=self._places, max_wait=self._max_wait)

    def settings(self) -> Mapping[str, object]:
        """Return what it was built with."""
        return {"limit": self._limit, "waiting": self._places, "max_wait": self._max_wait}
