"""Where a cache keeps its values: in this process, or in Redis for several.

A value holds as long as everything it was loaded under: its key, each of its tags, and the cache as a whole have a
*generation*, and a new one begins with every invalidation. A load notes the generations before it begins; what it
gives is stored only while they last, and is found only while they last. So a value whose load began before an
invalidation is never seen after it, however the two race. (Leases: Nishtala et al., "Scaling Memcache at Facebook",
2013.)
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol, cast, runtime_checkable
from weakref import WeakValueDictionary

import attrs

from orderkit.forking import Guarded
from orderkit.resilience import conditions
from orderkit.resilience.layers import InvalidPolicy, counted
from orderkit.resilience.redis import RedisConnection, Script
from orderkit.resilience.runtimes import Runtime

if TYPE_CHECKING:
    from cachetools import TLRUCache


@attrs.frozen
class Found:
    """A value that holds.

    Attributes:
        value: The value.
    """

    value: object


@attrs.frozen
class Lease:
    """The right to store what is loaded from now on, while the generations noted here last.

    Attributes:
        key: What is loaded.
        ttl: Seconds for which it holds.
        generations: Under what; what each is, only its store knows.
    """

    key: str
    ttl: float
    generations: Sequence[object]


@runtime_checkable
class Store(Protocol):
    """Keep values of a cache. Safe for any number of threads and event loops.

    Attributes:
        is_shared: Whether other processes invalidate what is in it.
    """

    is_shared: ClassVar[bool]

    def glance(self, key: str) -> Found | None:
        """Return a value that is here, without waiting for anything."""
        ...

    async def look(self, runtime: Runtime, key: str, tags: Sequence[str], ttl: float) -> Found | Lease:
        """Return a value, or the lease with which it may be loaded.

        Raises:
            Unreachable: The store was not reached.
        """
        ...

    async def keep(self, runtime: Runtime, lease: Lease, value: object) -> None:
        """Store a value, unless its lease is over.

        Raises:
            Unreachable: The store was not reached.
        """
        ...

    async def forget(self, runtime: Runtime, keys: Sequence[str], tags: Sequence[str]) -> None:
        """Begin new generations of keys and tags, so that nothing loaded before is found again.

        Raises:
            Unreachable: The store was not reached. What is owed is done before this process reads from it again.
        """
        ...

    async def clear(self, runtime: Runtime) -> None:
        """Begin a new generation of everything.

        Raises:
            Unreachable: As for `forget`.
        """
        ...

    def for_target(self, name: str) -> Store:
        """Return a store for one of several targets, whose keys are apart."""
        ...


_EVERYTHING = "all"


def _names(key: str, tags: Sequence[str]) -> list[str]:
    """Return the names of the generations that a value is loaded under."""
    return [_EVERYTHING, f"key:{key}", *(f"tag:{tag}" for tag in tags)]


class _Generation:
    """Alive while anything loaded under it is: a lease, or a value."""

    __slots__ = ("__weakref__", "over")

    def __init__(self) -> None:
        self.over = False


@attrs.frozen
class _Entry:
    value: object
    until: float
    generations: Sequence[_Generation]

    @property
    def holds(self) -> bool:
        return not any(generation.over for generation in self.generations)


def _now() -> float:
    """Return the time of the conditions that hold at each call, which a test may replace."""
    return conditions.present.monotonic()


class LocalStore(Guarded):
    """Keep values in this process, the most recently used ones.

    All callers get the same object: what is cached must not be changed.

    Args:
        max_entries: How many are kept.
    """

    is_shared: ClassVar[bool] = False

    def __init__(self, *, max_entries: int = 1000) -> None:
        self._max_entries = counted(max_entries, "The entries of a cache")
        self._begin()
        super().__init__()

    def _begin(self) -> None:
        from cachetools import TLRUCache

        self._entries: TLRUCache[str, _Entry] = TLRUCache(
            self._max_entries, ttu=lambda _key, entry, _now: entry.until, timer=_now
        )
        # Weak, so that there are never more of them than what is kept and loaded needs.
        self._generations: WeakValueDictionary[str, _Generation] = WeakValueDictionary()

    def renew(self) -> None:
        """Have a lock of its own in a child after a fork; begin anew if a thread was in the middle of a change."""
        if self._lock.locked():
            self._begin()
        # In any case: whoever has just been given the lock does not count as its holder yet.
        super().renew()

    def glance(self, key: str) -> Found | None:
        """Return a value that is here."""
        with self._lock:
            entry = self._entries.get(key)
            return Found(entry.value) if entry is not None and entry.holds else None

    async def look(self, runtime: Runtime, key: str, tags: Sequence[str], ttl: float) -> Found | Lease:
        """Return a value, or the lease with which it may be loaded."""
        found = self.glance(key)
        if found is not None:
            return found
        with self._lock:
            return Lease(key, ttl, [self._generations.setdefault(name, _Generation()) for name in _names(key, tags)])

    async def keep(self, runtime: Runtime, lease: Lease, value: object) -> None:
        """Store a value, unless its lease is over."""
        until = conditions.present.monotonic() + lease.ttl
        entry = _Entry(value, until, cast("Sequence[_Generation]", lease.generations))
        with self._lock:
            if entry.holds:
                self._entries[lease.key] = entry

    async def forget(self, runtime: Runtime, keys: Sequence[str], tags: Sequence[str]) -> None:
        """Begin new generations of keys and tags."""
        with self._lock:
            for key in keys:
                self._entries.pop(key, None)
                self._end(f"key:{key}")
            for tag in tags:
                self._end(f"tag:{tag}")

    async def clear(self, runtime: Runtime) -> None:
        """Begin a new generation of everything."""
        with self._lock:
            self._entries.clear()
            self._end(_EVERYTHING)

    def _end(self, name: str) -> None:
        generation = self._generations.pop(name, None)
        if generation is not None:
            generation.over = True

    def for_target(self, name: str) -> LocalStore:
        """Return a store of the same size, which is empty."""
        return LocalStore(max_entries=self._max_entries)

    def __repr__(self) -> str:
        return f"LocalStore(max_entries={self._max_entries})"


# The generations of a value are written before it, so that one that is over is known without reading the value.
_LOOK = Script(
    """
    local generations = {}
    for i = 2, #KEYS do
        local generation = redis.call('GET', KEYS[i])
        if not generation then
            generation = ARGV[1]
            redis.call('SET', KEYS[i], generation, 'PX', 2 * ARGV[2])
        elseif redis.call('PTTL', KEYS[i]) < tonumber(ARGV[2]) then
            redis.call('PEXPIRE', KEYS[i], 2 * ARGV[2])
        end
        generations[i - 1] = generation
    end
    local header = table.concat(generations, ' ') .. '\\n'
    local value = redis.call('GET', KEYS[1])
    if value and string.sub(value, 1, #header) == header then
        return {header, string.sub(value, #header + 1)}
    end
    return {header}
    """
)
_KEEP = Script(
    """
    local generations = {}
    for i = 2, #KEYS do
        generations[i - 1] = redis.call('GET', KEYS[i]) or ''
    end
    if table.concat(generations, ' ') .. '\\n' == ARGV[1] then
        redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
    end
    """
)

_LONGEST_LOAD = 60.0
"""Seconds for which generations last beyond their values; what takes longer to load may not be stored."""

_MOST_OWED = 10_000


class RedisStore(Guarded):
    """Keep values in Redis, for every process that uses the same prefix.

    Values are turned into bytes and back by the application: what a hit gives must equal what was loaded. What cannot
    be read back counts as absent.

    Args:
        connection: The way to Redis.
        dumps: Turn a value into bytes.
        loads: Turn bytes into the value.
        prefix: What its keys begin with; in a cluster, something in braces, which puts all of them into one slot.
    """

    is_shared: ClassVar[bool] = True

    def __init__(
        self,
        connection: RedisConnection,
        *,
        dumps: Callable[..., bytes],
        loads: Callable[[bytes], object],
        prefix: str = "orderkit:cache",
    ) -> None:
        if not callable(dumps) or not callable(loads):
            raise InvalidPolicy(
                "A cache in Redis needs `dumps` and `loads`, which turn its values into bytes and back."
            )
        self._connection = connection
        self._dumps = dumps
        self._loads = loads
        self._prefix = prefix
        self._owed: dict[str, object] = {}
        super().__init__()

    def glance(self, key: str) -> None:
        """Return nothing: a value that is here may be over elsewhere."""

    async def look(self, runtime: Runtime, key: str, tags: Sequence[str], ttl: float) -> Found | Lease:
        """Return a value, or the lease with which it may be loaded."""
        if self._owed:
            await self._settle(runtime)
        names = _names(key, tags)
        lasts = int((ttl + _LONGEST_LOAD) * 1000)
        keys = self._keys(key, names)
        answer = await self._connection.evaluate(runtime, _LOOK, keys, secrets.token_hex(8), lasts)
        header, *values = cast("list[bytes]", answer)
        lease = Lease(key, ttl, [header, *names])
        return self._read(values[0]) or lease if values else lease

    def _read(self, value: bytes) -> Found | None:
        try:
            return Found(self._loads(value))
        except Exception:  # noqa: BLE001 - written by an earlier version, or by somebody else: it is loaded anew
            return None

    async def keep(self, runtime: Runtime, lease: Lease, value: object) -> None:
        """Store a value, unless its lease is over."""
        header, *names = cast("list[bytes | str]", lease.generations)
        ttl = max(1, int(lease.ttl * 1000))
        keys = self._keys(lease.key, cast("list[str]", names))
        await self._connection.evaluate(runtime, _KEEP, keys, header, self._dumps(value), ttl)

    async def forget(self, runtime: Runtime, keys: Sequence[str], tags: Sequence[str]) -> None:
        """Begin new generations of keys and tags."""
        values = (f"value:{key}" for key in keys)
        await self._end(runtime, [*(f"key:{key}" for key in keys), *values, *(f"tag:{tag}" for tag in tags)])

    async def clear(self, runtime: Runtime) -> None:
        """Begin a new generation of everything; the values are dropped when their time is over."""
        await self._end(runtime, [_EVERYTHING])

    async def _end(self, runtime: Runtime, names: Sequence[str]) -> None:
        ticket = object()
        with self._lock:
            self._owed.update(dict.fromkeys(names, ticket))
            if len(self._owed) > _MOST_OWED:
                self._owed = {_EVERYTHING: ticket}
        await self._settle(runtime)

    async def _settle(self, runtime: Runtime) -> None:
        """Do what is owed since Redis was not reached, before anything is read that was to be forgotten."""
        with self._lock:
            owed = dict(self._owed)
        if not owed:
            return
        await self._connection.run(runtime, "DEL", *(f"{self._prefix}:{name}" for name in owed))
        with self._lock:
            for name, ticket in owed.items():
                # What was owed anew meanwhile may have been loaded after this was done.
                if self._owed.get(name) is ticket:
                    del self._owed[name]

    def _keys(self, key: str, names: Sequence[str]) -> list[str]:
        return [f"{self._prefix}:value:{key}", *(f"{self._prefix}:{name}" for name in names)]

    def for_target(self, name: str) -> RedisStore:
        """Return a store on the same Redis whose keys are apart."""
        return RedisStore(
            self._connection, dumps=self._dumps, loads=self._loads, prefix=f"{self._prefix}:target:{name}"
        )

    def __repr__(self) -> str:
        return f"RedisStore({self._connection!r}, prefix={self._prefix!r})"
