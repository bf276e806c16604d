"""What several processes may share of a breaker, as a port: off by default, since one sick process opens it for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast
from weakref import WeakKeyDictionary

from orderkit.forking import Guarded
from orderkit.resilience import conditions
from orderkit.resilience.layers import checked
from orderkit.resilience.redis import RedisConnection, Script, Unreachable, tell_degraded

if TYPE_CHECKING:
    from orderkit.resilience.breaker import CircuitBreaker
    from orderkit.resilience.layers import Invocation


class SharedCircuit(Protocol):
    """Let processes tell each other which circuits are open. What cannot be reached changes nothing."""

    async def look(self, breaker: CircuitBreaker, invocation: Invocation[Any]) -> None:
        """Open a breaker if another process has, before a call; look only now and then."""
        ...

    async def publish(self, breaker: CircuitBreaker, invocation: Invocation[Any]) -> None:
        """Tell the others if a breaker has just opened here, after a call that failed."""
        ...


_LENGTHEN = Script(
    "if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], 'open', 'PX', ARGV[1]) end"
)


_ROUNDING = 0.05
"""Seconds by which clocks and Redis may differ on when a circuit is open no more."""


class RedisCircuits(Guarded):
    """Share through Redis which circuits are open, by the names of their breakers.

    Whoever opens a circuit says for how long; the others reject calls for the rest of that time. Each process then
    tries for itself whether the other side is back. A `reset` is for the process it was called in.

    Args:
        connection: The way to Redis.
        refresh: Seconds for which a breaker does not look again.
        prefix: What its keys begin with.
    """

    def __init__(self, connection: RedisConnection, *, refresh: float = 1.0, prefix: str = "orderkit:circuit") -> None:
        self._connection = connection
        self._refresh = checked(refresh, "The seconds between looks at other processes")
        self._prefix = prefix
        self._look_at: WeakKeyDictionary[CircuitBreaker, float] = WeakKeyDictionary()
        self._known_until: WeakKeyDictionary[CircuitBreaker, float] = WeakKeyDictionary()
        super().__init__()

    async def look(self, breaker: CircuitBreaker, invocation: Invocation[Any]) -> None:
        """Open a breaker if another process has, before a call; look only now and then."""
        now = conditions.present.monotonic()
        with self._lock:
            if now < self._look_at.get(breaker, now):
                return
            self._look_at[breaker] = now + self._refresh
        try:
            answer = await self._connection.run(invocation.runtime, "PTTL", self._key(breaker))
        except Unreachable as error:
            tell_degraded(invocation, breaker.kind, error)
            return
        left = cast("int", answer) / 1000
        # What this process has told or heard before, it has dealt with: by a reset, or by probes that succeeded.
        if left > 0 and not self._is_known(breaker, now + left):
            self._know(breaker, left)
            breaker.opened_by_others(left)

    async def publish(self, breaker: CircuitBreaker, invocation: Invocation[Any]) -> None:
        """Tell the others if a breaker has just opened here, after a call that failed."""
        left = breaker.seconds_left
        if breaker.mode != "enforced" or left <= 0:
            return
        # Calls that were under way when it opened fail later, and have nothing to add.
        if self._is_known(breaker, conditions.present.monotonic() + left):
            return
        self._know(breaker, left)
        try:
            await self._connection.evaluate(
                invocation.runtime, _LENGTHEN, [self._key(breaker)], max(1, int(left * 1000))
            )
        except Unreachable as error:
            tell_degraded(invocation, breaker.kind, error)
        else:
            self._know(breaker, left)  # which began when Redis was reached

    def _know(self, breaker: CircuitBreaker, left: float) -> None:
        with self._lock:
            self._known_until[breaker] = conditions.present.monotonic() + left

    def _is_known(self, breaker: CircuitBreaker, until: float) -> bool:
        with self._lock:
            return until <= self._known_until.get(breaker, 0.0) + _ROUNDING

    def _key(self, breaker: CircuitBreaker) -> str:
        return f"{self._prefix}:{breaker.name}"
