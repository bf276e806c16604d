"""The cache: one caller loads, those who come meanwhile wait for it, and nothing outdated is ever stored."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar, cast

import attrs

from orderkit.resilience.deadlines import time_left
from orderkit.resilience.events import CacheAnswered, Listener
from orderkit.resilience.keys import name_of, named
from orderkit.resilience.layers import InvalidPolicy, Invocation, Layer, Rank, Step, checked, listening, plain
from orderkit.resilience.operations import Operation
from orderkit.resilience.redis import Audience, Listeners, Unreachable, tell_degraded
from orderkit.resilience.runtimes import EAGER, LOOP, THREAD, Runtime, drive, refuse_lazy
from orderkit.resilience.single_flight import ABANDONED, Failed, Flight, Flights, Landed, Outcome, flown_here
from orderkit.resilience.stores import Found, LocalStore, Store

T = TypeVar("T")

_KIND = "cache"


class ReadThrough:
    """Return what is kept, or load it and keep it: the cache without a policy around it.

    Both worlds drive the same coroutines: `drive(cache.get(THREAD, ...))`, or `await cache.get(LOOP, ...)`.

    Args:
        store: Where values are kept; not shared with another cache of this process.
        ttl: Seconds for which a value holds.
        name: What it is called in events.
        listeners: Who is told.
    """

    def __init__(self, store: Store, *, ttl: float, name: str = _KIND, listeners: Sequence[Listener] = ()) -> None:
        self._store = store
        self._ttl = checked(ttl, "The seconds for which a cache keeps")
        self._flights = Flights()
        self._audience = Listeners(name, listening(listeners))

    async def get(
        self,
        runtime: Runtime,
        key: str,
        load: Callable[[], Awaitable[T]],
        *,
        tags: Sequence[str] = (),
        audience: Audience | None = None,
    ) -> T:
        """Return the value of a key.

        Whoever waits for the load of another gets its value, or the error it failed with. If the other is cancelled,
        or its deadline was over when it failed, one of those who wait loads instead. Where loads would wait for each
        other, or one for itself, the value is loaded twice.

        Args:
            runtime: How to wait.
            key: What is wanted.
            load: Load the value.
            tags: By what it may be invalidated beside its key; the same ones for each call of a key.
            audience: Who is told, if not the listeners of the cache.

        Raises:
            Exception: What `load` raised.
            InvalidPolicy: It returned a coroutine or a generator, which could be used only once.
        """
        audience = audience or self._audience
        found = self._store.glance(key)
        if found is not None:
            _tell(audience, "hit")
            return cast("T", found.value)
        # A flight that is under way may have found what another process has changed before this caller came: only here
        # is a flight detached by what is invalidated meanwhile.
        is_late = self._store.is_shared
        while True:
            flight, is_ours = self._flights.join(key, tags)
            if is_ours:
                return await self._fly(flight, self._fetch(runtime, key, load, tags, audience))
            outcome = await flight.wait(runtime)
            if outcome is None:
                return await load()
            if outcome is not ABANDONED and not is_late:
                _tell(audience, "joined")
                return cast("T", _result(outcome))
            is_late = False

    async def _fly(self, flight: Flight, fetch: Awaitable[T]) -> T:
        """Fetch for all who have joined."""
        outer = flown_here.get()
        outcome: Outcome = ABANDONED
        flown_here.set((*outer, flight))
        try:
            value = await fetch
            outcome = Landed(value)
        except Exception as error:
            # Whoever has no time left fails by that alone, and others may have more.
            if time_left() != 0:
                outcome = Failed(error, error.__traceback__)
            raise
        finally:
            flown_here.set(outer)
            self._flights.land(flight, outcome)
        return value

    async def _fetch(
        self, runtime: Runtime, key: str, load: Callable[[], Awaitable[T]], tags: Sequence[str], audience: Audience
    ) -> T:
        lease = None
        try:
            answer = await self._store.look(runtime, key, tags, self._ttl)
        except Unreachable as error:
            tell_degraded(audience, _KIND, error)
        else:
            if isinstance(answer, Found):
                _tell(audience, "hit")
                return cast("T", answer.value)
            lease = answer
        _tell(audience, "miss")
        value = await load()
        if type(value) not in EAGER:
            refuse_lazy(value)
        if lease is not None:
            try:
                await self._store.keep(runtime, lease, value)
            except Unreachable as error:
                tell_degraded(audience, _KIND, error)
        return value

    async def invalidate(self, runtime: Runtime, *, keys: Sequence[str] = (), tags: Sequence[str] = ()) -> None:
        """Forget values: whoever asks from now on gets what is loaded from now on.

        Args:
            runtime: How to wait.
            keys: Of which keys.
            tags: Of which tags.
        """
        self._flights.detach(keys, tags)
        try:
            await self._store.forget(runtime, keys, tags)
        except Unreachable as error:
            tell_degraded(self._audience, _KIND, error)

    async def clear(self, runtime: Runtime) -> None:
        """Forget all values."""
        self._flights.detach_all()
        try:
            await self._store.clear(runtime)
        except Unreachable as error:
            tell_degraded(self._audience, _KIND, error)


def _result(outcome: Landed | Failed) -> object:
    if isinstance(outcome, Failed):
        raise outcome.error.with_traceback(outcome.traceback)
    return outcome.value


def _tell(audience: Audience, outcome: str) -> None:
    audience.tell(CacheAnswered(policy=audience.policy, outcome=outcome))


def _listed(tags: Iterable[str]) -> tuple[str, ...]:
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise InvalidPolicy("The tags of a cache are a list of strings, or a function that returns one.")
    return tuple(tags)


def _by_key(*keys: str) -> list[str]:
    return [f"key:{key}" for key in keys]


def _by_tag(*tags: str) -> list[str]:
    return [f"tag:{tag}" for tag in tags]


class Cache(Layer):
    """Answer from what was returned before; of several callers at once one calls, and the others wait for it.

    For calls that only read. Errors are not kept, nor is what can be used only once. What was called before an
    invalidation is never kept after it; with a store in Redis that holds for all processes. While Redis is not reached
    every call is made.

    Several functions may share a cache, and what they return is kept apart, by the module and the qualified name of
    each. What is invalidated is so for all of them.

    Args:
        key: Return what tells a call from others of the same function, from its arguments.
        ttl: Seconds for which a result holds.
        store: Where results are kept; in this process, by default. A store belongs to one cache.
        tags: By what results may be invalidated beside their key: some, or a function of the arguments.

    Example:
        >>> from orderkit.resilience import Cache, Operation, Policy
        >>> cache = Cache(key=str, ttl=60)
        >>> policy = Policy(cache, operation=Operation.SAFE)
        >>> policy.call(abs, -5), policy.call(abs, -5)
        (5, 5)
        >>> cache.invalidate("-5")
    """

    rank: ClassVar[Rank] = Rank.CACHE
    kind: ClassVar[str] = _KIND

    def __init__(
        self,
        *,
        key: Callable[..., str],
        ttl: float,
        store: Store | None = None,
        tags: Callable[..., Iterable[str]] | Iterable[str] = (),
    ) -> None:
        plain(key, "The key of a cache")
        if callable(tags):
            plain(tags, "What returns the tags of a cache")
        if store is not None and not isinstance(store, Store):
            raise InvalidPolicy(f"A cache keeps its values in a `LocalStore` or a `RedisStore`, not in {store!r}.")
        self._key = key
        self._ttl = ttl
        self._tags = tags if callable(tags) else _listed(tags)
        self._store = LocalStore() if store is None else store
        self._core = ReadThrough(self._store, ttl=ttl)

    async def around(self, invocation: Invocation[T], inner: Step) -> T:
        """Return what is kept for a call, or what is surrounded gives."""
        args, kwargs = invocation.args, invocation.kwargs
        key = named(self._key(*args, **kwargs), "The key of a cache")
        tags = _listed(self._tags(*args, **kwargs)) if callable(self._tags) else self._tags
        load: Callable[[], Awaitable[Any]] = functools.partial(inner, invocation)
        # A key alone is one of the tags, by which it is invalidated for every function.
        apart, by = f"{name_of(invocation.function)}:{key}", (*_by_key(key), *_by_tag(*tags))
        result: T = await self._core.get(invocation.runtime, apart, load, tags=by, audience=invocation)
        return result

    # --- forgetting -----------------------------------------------------------------------------

    def invalidate(self, *keys: str) -> None:
        """Forget the results of keys, of whichever function."""
        drive(self._core.invalidate(THREAD, tags=_by_key(*keys)))

    def invalidate_tag(self, *tags: str) -> None:
        """Forget the results with any of these tags."""
        drive(self._core.invalidate(THREAD, tags=_by_tag(*tags)))

    def clear(self) -> None:
        """Forget all results."""
        drive(self._core.clear(THREAD))

    @property
    def asynchronous(self) -> AsyncCache:
        """The same cache for event loops."""
        return AsyncCache(self._core)

    # --- telling --------------------------------------------------------------------------------

    def settings(self) -> Mapping[str, object]:
        """Return what it was built with."""
        tags = getattr(self._tags, "__name__", self._tags)
        return {
            "key": getattr(self._key, "__name__", repr(self._key)),
            "ttl": self._ttl,
            "store": repr(self._store),
            "tags": tags,
        }

    def check(self, operation: Operation, others: Sequence[Layer]) -> None:
        """Refuse calls that do more than read: what is answered from a cache is not done."""
        if operation is not Operation.SAFE:
            raise InvalidPolicy(
                f"A cache answers in place of a call, so that it is for {Operation.SAFE!r} operations only: "
                "`operation=Operation.SAFE`."
            )

    def for_target(self, name: str) -> Cache:
        """Return a cache with the same settings for one target, whose results are apart."""
        return Cache(key=self._key, ttl=self._ttl, store=self._store.for_target(name), tags=self._tags)


@attrs.frozen
class AsyncCache:
    """A cache as an event loop invalidates it; with a store in this process that of threads will do as well."""

    _core: ReadThrough

    async def invalidate(self, *keys: str) -> None:
        """Forget the results of keys, of whichever function."""
        await self._core.invalidate(LOOP, tags=_by_key(*keys))

    async def invalidate_tag(self, *tags: str) -> None:
        """Forget the results with any of these tags."""
        await self._core.invalidate(LOOP, tags=_by_tag(*tags))

    async def clear(self) -> None:
        """Forget all results."""
        await self._core.clear(LOOP)
