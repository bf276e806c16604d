"""Where rate limits are counted, as storages of the limits package: in this process, or in Redis for several.

limits' own memory storage counts by the wall clock, starts a thread and forgets its locks while they are held. Here one
lock and the monotonic clock do. Only the asynchronous interface of limits is used: driven by hand, it serves threads
as well, so that both worlds count alike. limits takes times as seconds since the epoch; what is told of a window is
therefore turned into those.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import attrs
from limits import RateLimitItem, WindowStats
from limits.aio.storage import MovingWindowSupport, SlidingWindowCounterSupport, Storage
from limits.aio.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    SlidingWindowCounterRateLimiter,
)
from limits.storage import RedisStorage

from orderkit.forking import Guarded
from orderkit.resilience import conditions
from orderkit.resilience.redis import RedisConnection, Script, Unreachable

if TYPE_CHECKING:
    from orderkit.resilience.runtimes import Runtime


class _FixedWindow(FixedWindowRateLimiter):
    """A fixed window that does not count what it refuses: else one large cost would use up what is left for small."""

    async def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """Take a cost from what is left; tell whether there was enough."""
        if cost > 1 and not await self.test(item, *identifiers, cost=cost):
            return False
        return await super().hit(item, *identifiers, cost=cost)

    async def wait_for(self, item: RateLimitItem, *identifiers: str, cost: int) -> float:
        """Return the seconds after which a cost fits that was refused."""
        return await self.storage.get_expiry(item.key_for(*identifiers)) - time.time()


class _MovingWindow(MovingWindowRateLimiter):
    """A moving window that tells when a cost fits."""

    async def wait_for(self, item: RateLimitItem, *identifiers: str, cost: int) -> float:
        """Return the seconds after which a cost fits that was refused."""
        windows, expiry = cast("_Windows", self.storage), item.get_expiry()
        # Of the newest calls as many may stay as leave room for the cost; the one before those has to be over.
        newest = item.amount - cost + 1
        begun, count = await windows.get_moving_window(item.key_for(*identifiers), newest, expiry)
        return begun + expiry - time.time() if count >= newest else 0.0


class _SlidingWindow(SlidingWindowCounterRateLimiter):
    """A sliding window that tells when it frees something also at the very moment at which it begins."""

    async def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        """Return when something is free again, and how much is now."""
        expiry = item.get_expiry()
        before, before_left, count, left = await self._counted(item, *identifiers)
        weighted = before * before_left / expiry
        waits = [weighted % 1 * expiry / before] if before else []
        waits += [left - expiry] if count else []
        remaining = max(0, item.amount - int(weighted) - count)
        return WindowStats(time.time() + min(waits, default=0.0), remaining)

    async def wait_for(self, item: RateLimitItem, *identifiers: str, cost: int) -> float:
        """Return the seconds after which a cost fits that was refused."""
        expiry, room = item.get_expiry(), item.amount - cost
        before, before_left, count, left = await self._counted(item, *identifiers)
        if count <= room:
            return _until_no_more(room - count, before, before_left, expiry)
        # Not before this window is the one before, which then fades as that does.
        return left - expiry + _until_no_more(room, count, expiry, expiry)

    async def _counted(self, item: RateLimitItem, *identifiers: str) -> tuple[int, float, int, float]:
        windows = cast("_Windows", self.storage)
        return await windows.get_sliding_window(item.key_for(*identifiers), item.get_expiry())


def _until_no_more(most: int, before: int, before_left: float, expiry: int) -> float:
    """Return the seconds after which at most so many of the window before count, of which only whole ones do."""
    return max(0.0, before_left - (most + 1) * expiry / before) if before else 0.0


Strategy: TypeAlias = _MovingWindow | _FixedWindow | _SlidingWindow

STRATEGIES: Final[Mapping[str, type[Strategy]]] = {
    "moving-window": _MovingWindow,
    "fixed-window": _FixedWindow,
    "sliding-window-counter": _SlidingWindow,
}
"""The strategies of limits by name."""


class _Windows(Storage, MovingWindowSupport, SlidingWindowCounterSupport):
    """What limits asks of every storage, and what here nobody uses of it."""

    STORAGE_SCHEME = None

    @property
    def base_exceptions(self) -> type[Exception]:
        """What it raises."""
        return Unreachable

    async def check(self) -> bool:
        """Tell that it is there."""
        return True

    async def reset(self) -> int | None:
        """Refuse to forget everything: others may count here as well."""
        raise NotImplementedError

    async def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Forget what was counted."""
        await self.clear(key)


@attrs.define
class _Window:
    """What is counted under one key."""

    until: float
    count: int = 0
    before: int = 0
    entries: deque[float] = attrs.field(factory=deque)


class LocalWindows(_Windows, Guarded):
    """Count in this process, safely among threads; what has run out is forgotten on the way.

    Args:
        max_keys: How many keys are counted at most; of more, the least recently used ones are forgotten.
    """

    def __init__(self, max_keys: int) -> None:
        _Windows.__init__(self)
        self._max_keys = max_keys
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self._full = 1000
        Guarded.__init__(self)

    def _window(self, key: str, now: float) -> _Window:
        """Return what is counted under a key, or a new window that is over at once."""
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= self._full:
                self._windows = OrderedDict((name, its) for name, its in self._windows.items() if now < its.until)
                # It is looked through again when it has doubled, so that a call costs the same however many there are.
                self._full = max(1000, 2 * len(self._windows))
            if len(self._windows) >= self._max_keys:
                self._windows.popitem(last=False)
            window = self._windows[key] = _Window(now)
        self._windows.move_to_end(key)
        return window

    async def clear(self, key: str) -> None:
        """Forget what was counted."""
        with self._lock:
            self._windows.pop(key, None)

    # --- fixed windows --------------------------------------------------------------------------

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count, in a window that begins now if there is none; return the count."""
        now = conditions.present.monotonic()
        with self._lock:
            window = self._window(key, now)
            if now >= window.until:
                window.count, window.until = 0, now + expiry
            window.count += amount
            return window.count

    async def get(self, key: str) -> int:
        """Return the count."""
        now = conditions.present.monotonic()
        window = self._windows.get(key)
        return window.count if window is not None and now < window.until else 0

    async def get_expiry(self, key: str) -> float:
        """Return when the window ends."""
        window = self._windows.get(key)
        left = 0.0 if window is None else window.until - conditions.present.monotonic()
        return time.time() + max(0.0, left)

    # --- moving windows -------------------------------------------------------------------------

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count calls at their moments, if there is room for all of them."""
        now = conditions.present.monotonic()
        with self._lock:
            window = self._moving(key, expiry, now)
            if len(window.entries) + amount > limit:
                return False
            window.entries.extend([now] * amount)
            window.until = now + expiry
            return True

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Return when the oldest of the newest calls was that still count, and how many of so many there are."""
        now = conditions.present.monotonic()
        with self._lock:
            entries = self._moving(key, expiry, now).entries
            # Where nothing counts, the whole of it is there at once.
            age = now - entries[max(0, len(entries) - limit)] if entries else expiry
            return time.time() - age, min(limit, len(entries))

    def _moving(self, key: str, expiry: int, now: float) -> _Window:
        window = self._window(key, now)
        entries = window.entries
        while entries and now >= entries[0] + expiry:
            entries.popleft()
        return window

    # --- sliding windows ------------------------------------------------------------------------

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count if there is room beside the part of the window before that still counts."""
        now = conditions.present.monotonic()
        with self._lock:
            before, before_left, count, _ = self._slide(key, expiry, now)
            if int(before * before_left / expiry) + count + amount > limit:
                return False
            self._windows[key].count += amount
            return True

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Return the counts of the window before and of this one, and for how many seconds each still counts."""
        now = conditions.present.monotonic()
        with self._lock:
            return self._slide(key, expiry, now)

    def _slide(self, key: str, expiry: int, now: float) -> tuple[int, float, int, float]:
        window = self._window(key, now)
        if now >= window.until:
            window.count, window.until = 0, now + 2 * expiry
            window.before = 0
        elif now >= window.until - expiry:
            window.before, window.count = window.count, 0
            window.until += expiry
        left = window.until - now
        return window.before, left - expiry, window.count, left


_CLOCK = "local clock = redis.call('TIME')\nlocal now = clock[1] + clock[2] / 1000000\n"
"""The clocks of machines differ, so that the time is Redis's own; limits would pass that of whoever calls."""

_INCREMENT = Script(RedisStorage.SCRIPT_INCR_EXPIRE.decode())
_ACQUIRE_MOVING = Script(f"{_CLOCK}ARGV[1] = now\n{RedisStorage.SCRIPT_ACQUIRE_MOVING_WINDOW.decode()}")
_MOVING = Script(
    f"{_CLOCK}ARGV[1] = now - ARGV[1]\nlocal function window()\n{RedisStorage.SCRIPT_MOVING_WINDOW.decode()}\nend\n"
    "local found = window()\nif found then return {tostring(now - found[1]), found[2]} end"
)
_ACQUIRE_SLIDING = Script(RedisStorage.SCRIPT_ACQUIRE_SLIDING_WINDOW.decode())
_SLIDING = Script(RedisStorage.SCRIPT_SLIDING_WINDOW.decode())


class RedisWindows(_Windows):
    """Count in Redis, by the programs of limits, for every process that uses the same prefix.

    Args:
        connection: The way to Redis.
        runtime: How to wait for it.
        prefix: What its keys begin with.
    """

    def __init__(self, connection: RedisConnection, runtime: Runtime, prefix: str) -> None:
        super().__init__()
        self._connection = connection
        self._runtime = runtime
        self._prefix = prefix

    def _keys(self, key: str) -> tuple[str, str]:
        """Return the keys of the sliding window before and of this one, in one slot of a cluster."""
        name = f"{{{self._prefix}:{key}}}"
        return f"{name}/-1", name

    async def _number(self, *words: str) -> int:
        return cast("int", await self._connection.run(self._runtime, *words) or 0)

    async def clear(self, key: str) -> None:
        """Forget what was counted."""
        await self._number("DEL", f"{self._prefix}:{key}", *self._keys(key))

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count, in a window that begins now if there is none; return the count."""
        keys = [f"{self._prefix}:{key}"]
        return cast("int", await self._connection.evaluate(self._runtime, _INCREMENT, keys, expiry, amount))

    async def get(self, key: str) -> int:
        """Return the count."""
        return int(await self._number("GET", f"{self._prefix}:{key}"))

    async def get_expiry(self, key: str) -> float:
        """Return when the window ends."""
        return time.time() + max(0, await self._number("PTTL", f"{self._prefix}:{key}")) / 1000

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count calls at their moments, if there is room for all of them."""
        keys = [f"{self._prefix}:{key}"]
        words = (0, limit, expiry, amount)
        return bool(await self._connection.evaluate(self._runtime, _ACQUIRE_MOVING, keys, *words))

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Return when the oldest of the newest calls was that still count, and how many of so many there are."""
        keys = [f"{self._prefix}:{key}"]
        found = await self._connection.evaluate(self._runtime, _MOVING, keys, expiry, limit)
        age, count = cast("tuple[bytes, int]", found or (b"%d" % expiry, 0))
        return time.time() - float(age), count

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count if there is room beside the part of the window before that still counts."""
        words = (limit, expiry, amount)
        return bool(await self._connection.evaluate(self._runtime, _ACQUIRE_SLIDING, self._keys(key), *words))

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Return the counts of the window before and of this one, and for how many seconds each still counts."""
        found = await self._connection.evaluate(self._runtime, _SLIDING, self._keys(key), expiry)
        before, before_left, count, left = (
            max(0, int(value or 0)) for value in cast("list[bytes | int | None]", found)
        )
        return before, before_left / 1000, count, left / 1000
