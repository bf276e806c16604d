"""The rate limit: how many calls there may be in a time, in this process or in all that share a Redis.

It is a layer of a policy, and serves by itself where a request is to be answered rather than held back:

```python
from orderkit.resilience import RateLimit

limit = RateLimit("100/minute")
allowance = limit.take("203.0.113.7")
status, headers = (200 if allowance.allowed else 429), allowance.headers()
```
"""

from __future__ import annotations

import enum
import functools
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import attrs

from orderkit.resilience import conditions
from orderkit.resilience.deadlines import time_left
from orderkit.resilience.events import CallRejected, Listener
from orderkit.resilience.keys import named
from orderkit.resilience.layers import InvalidPolicy, Invocation, Layer, Rank, Step, checked, counted, listening, plain
from orderkit.resilience.redis import Audience, Listeners, RedisConnection, Unreachable, tell_degraded
from orderkit.resilience.rejections import RateLimited
from orderkit.resilience.runtimes import LOOP, THREAD, Runtime, drive

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.aio.storage import Storage

    from orderkit.resilience.windows import Strategy

T = TypeVar("T")

_LEAST_WAIT = 0.001
"""Seconds that are waited at least, so that rounding never makes a wait a busy one."""


class RateStrategy(enum.StrEnum):
    """How calls are counted.

    `MOVING_WINDOW` remembers the moment of every call: at no time are there more in a window that ends then.
    `FIXED_WINDOW` counts from the first call on and forgets all at once, so that twice as many may come around that
    moment. `SLIDING_WINDOW_COUNTER` lies between them: two counters, whatever the limit.
    """

    MOVING_WINDOW = "moving-window"
    FIXED_WINDOW = "fixed-window"
    SLIDING_WINDOW_COUNTER = "sliding-window-counter"


@attrs.frozen(kw_only=True)
class Allowance:
    """What a rate limit has answered.

    Attributes:
        allowed: Whether there was enough left; only then was anything taken.
        limit: How much there is in a window.
        window: Seconds that a window lasts.
        remaining: How much is left.
        retry_after: Seconds after which so much is free as was asked for, if it was not allowed; 0 otherwise.
        reset_after: Seconds after which more is free than now.
    """

    allowed: bool
    limit: int
    window: int
    remaining: int
    retry_after: float
    reset_after: float

    def headers(self, policy: str = "default") -> dict[str, str]:
        """Return the fields that tell a client of HTTP its limit.

        They are those of draft-ietf-httpapi-ratelimit-headers since its revision 08, and `Retry-After` (RFC 9110) for
        a refusal.

        Args:
            policy: The name of the limit in them.

        Example:
            >>> Allowance(allowed=True, limit=100, window=60, remaining=99, retry_after=0, reset_after=60).headers()
            {'RateLimit-Policy': '"default";q=100;w=60', 'RateLimit': '"default";r=99;t=60'}
        """
        name = '"' + policy.replace("\\", "\\\\").replace('"', '\\"') + '"'
        fields = {
            "RateLimit-Policy": f"{name};q={self.limit};w={self.window}",
            "RateLimit": f"{name};r={self.remaining};t={math.ceil(self.reset_after)}",
        }
        if not self.allowed:
            fields["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        return fields


class RateLimit(Layer):
    """Let so many calls pass in a time; reject the others, or have them wait a little.

    Where a Redis is shared, all processes count together that use the same prefix, key, rate and strategy, threads and
    event loops alike. While it is not reached, each goes on counting for itself.

    Args:
        rate: How many, such as `100/second`, `5 per minute` or `1000/2 hours`.
        strategy: How they are counted.
        key: What is counted by itself: a name, or a function of the call's arguments that returns one.
        cost: How much a call takes.
        max_wait: Seconds that a call waits at most; a deadline counts as well. Those who wait have no order.
        max_keys: How many keys are counted at once in this process; of more, the least recently used ones begin anew.
        shared: The Redis in which several processes count; none, by default.
        prefix: What its keys begin with.
        listeners: Who is told when Redis is not reached, where there is no policy.

    Raises:
        InvalidPolicy: The rate or the strategy is unknown, or a call takes more than there is.
    """

    rank: ClassVar[Rank] = Rank.LIMIT
    kind: ClassVar[str] = "rate_limit"
    holds: ClassVar[bool] = True

    def __init__(
        self,
        rate: str,
        *,
        strategy: RateStrategy | str = RateStrategy.MOVING_WINDOW,
        key: str | Callable[..., str] | None = None,
        cost: int = 1,
        max_wait: float = 0.0,
        max_keys: int = 100_000,
        shared: RedisConnection | None = None,
        prefix: str = "orderkit:rate",
        listeners: Sequence[Listener] = (),
    ) -> None:
        self._rate = rate
        self._item = _parsed(rate)
        self._strategy = _named(strategy)
        if key is not None and not isinstance(key, str):
            plain(key, "The key of a rate limit")
        self._key = key
        self._cost = self._affordable(cost)
        self._max_wait = checked(max_wait, "The longest wait for a rate limit", above=False)
        self._max_keys = counted(max_keys, "The keys of a rate limit")
        self._shared = _shareable(shared, key)
        self._prefix = prefix
        self._listeners = listening(listeners)
        from orderkit.resilience.windows import LocalWindows

        self._local = self._limiter(LocalWindows(max_keys))

    def _affordable(self, cost: int) -> int:
        if counted(cost, "The cost of a call") > self._item.amount:
            raise InvalidPolicy(f"A call that takes {cost} would never pass a limit of {self._rate!r}.")
        return cost

    def _limiter(self, windows: Storage) -> Strategy:
        from orderkit.resilience.windows import STRATEGIES

        return STRATEGIES[self._strategy](windows)

    # --- the layer ------------------------------------------------------------------------------

    async def around(self, invocation: Invocation[T], inner: Step) -> T:
        """Let a call pass when its turn has come."""
        key = self._key
        if callable(key):
            key = named(key(*invocation.args, **invocation.kwargs), "The key of a rate limit")
        await self._pass(invocation, key or "")
        result: T = await inner(invocation)
        return result

    async def _pass(self, invocation: Invocation[Any], key: str) -> None:
        """Wait for a call's turn.

        Raises:
            RateLimited: It does not come in time.
        """
        ask = functools.partial(self._wait, key=key)
        until = conditions.present.monotonic() + self._max_wait
        while wait := await self._counted(invocation.runtime, invocation, ask):
            left, patience = time_left(), until - conditions.present.monotonic()
            if wait > (patience if left is None else min(patience, left)):
                invocation.tell(CallRejected(policy=invocation.policy, layer=self.kind, retry_after=wait))
                raise RateLimited(invocation.policy, wait)
            await invocation.runtime.sleep(wait)

    async def _wait(self, limiter: Strategy, key: str) -> float:
        """Count a call; return 0, or the seconds after which it may be tried again."""
        if await limiter.hit(self._item, self._strategy, key, cost=self._cost):
            return 0.0
        return await self._time_to_come(limiter, key, self._cost)

    async def _time_to_come(self, limiter: Strategy, key: str, cost: int) -> float:
        return max(_LEAST_WAIT, await limiter.wait_for(self._item, self._strategy, key, cost=cost))

    # --- by itself ------------------------------------------------------------------------------

    def take(self, key: str | None = None, *, cost: int = 1) -> Allowance:
        """Take from what is left under a key, if there is enough, and tell what is left then.

        Args:
            key: What is counted by itself; where absent, the limit's own key, if that is no function.
            cost: How much is taken.

        Raises:
            InvalidPolicy: It is more than there ever is.
        """
        return drive(self.take_in(THREAD, key, cost=cost))

    @property
    def asynchronous(self) -> AsyncRateLimit:
        """The same limit for event loops."""
        return AsyncRateLimit(self)

    async def take_in(self, runtime: Runtime, key: str | None = None, *, cost: int = 1) -> Allowance:
        """Take as `take` does, in a thread or in an event loop."""
        own = self._key if isinstance(self._key, str) else ""
        ask = functools.partial(self._taken, key=own if key is None else key, cost=self._affordable(cost))
        return await self._counted(runtime, Listeners(self.kind, self._listeners), ask)

    async def _taken(self, limiter: Strategy, key: str, cost: int) -> Allowance:
        allowed = await limiter.hit(self._item, self._strategy, key, cost=cost)
        stats = await limiter.get_window_stats(self._item, self._strategy, key)
        return Allowance(
            allowed=allowed,
            limit=self._item.amount,
            window=self._item.get_expiry(),
            remaining=max(0, stats.remaining),
            retry_after=0.0 if allowed else await self._time_to_come(limiter, key, cost),
            reset_after=_seconds_until(stats.reset_time),
        )

    async def _counted(self, runtime: Runtime, audience: Audience, ask: Callable[[Strategy], Awaitable[T]]) -> T:
        """Ask where all processes count, or here while that is not reached."""
        if self._shared is not None:
            from orderkit.resilience.windows import RedisWindows

            try:
                return await ask(self._limiter(RedisWindows(self._shared, runtime, self._prefix)))
            except Unreachable as error:
                tell_degraded(audience, self.kind, error)
        return await ask(self._local)

    # --- telling --------------------------------------------------------------------------------

    def settings(self) -> Mapping[str, object]:
        """Return what it was built with."""
        return {
            "rate": self._rate,
            "strategy": self._strategy.value,
            "key": getattr(self._key, "__name__", self._key),
            "cost": self._cost,
            "max_wait": self._max_wait,
            "max_keys": self._max_keys,
            "shared": self._shared is not None,
        }

    def for_target(self, name: str) -> RateLimit:
        """Return a limit with the same settings that counts for one target."""
        return RateLimit(
            self._rate,
            strategy=self._strategy,
            key=_scoped(self._key, name),
            cost=self._cost,
            max_wait=self._max_wait,
            max_keys=self._max_keys,
            shared=self._shared,
            prefix=self._prefix,
            listeners=self._listeners,
        )


@attrs.frozen
class AsyncRateLimit:
    """A rate limit as an event loop uses it by itself.

    Args:
        limit: What counts, for threads as well.
    """

    _limit: RateLimit

    async def take(self, key: str | None = None, *, cost: int = 1) -> Allowance:
        """Take from what is left under a key, if there is enough, and tell what is left then; see `RateLimit.take`.

        Raises:
            InvalidPolicy: It is more than there ever is.
        """
        return await self._limit.take_in(LOOP, key, cost=cost)


def _seconds_until(moment: float) -> float:
    """Return the seconds until a time that limits has told, as it does: since the epoch."""
    return max(0.0, moment - time.time())


def _parsed(rate: str) -> RateLimitItem:
    from limits import parse_many

    try:
        items = parse_many(rate)
    except ValueError:
        items = []
    # limits would take no seconds for one.
    if len(items) != 1 or 0 in map(int, re.findall(r"\d+", rate)):
        raise InvalidPolicy(f"{rate!r} is no rate: give one such as '100/second' or '5 per 10 minutes'.")
    return items[0]


def _shareable(shared: RedisConnection | None, key: object) -> RedisConnection | None:
    if shared is None:
        return None
    if not isinstance(shared, RedisConnection):
        raise InvalidPolicy(f"A rate limit is shared through a `RedisConnection`, not through {shared!r}.")
    if key is None:
        raise InvalidPolicy("A rate limit that is shared needs a `key`: others of the same rate would count with it.")
    return shared


def _named(strategy: RateStrategy | str) -> RateStrategy:
    try:
        return RateStrategy(strategy)
    except ValueError:
        known = ", ".join(RateStrategy)
        raise InvalidPolicy(f"{strategy!r} is no strategy of a rate limit; there are {known}.") from None


def _scoped(key: str | Callable[..., str] | None, name: str) -> str | Callable[..., str]:
    if callable(key):
        return lambda *args, **kwargs: f"{name}:{key(*args, **kwargs)}"
    return name if key is None else f"{name}:{key}"
