"""The cache: one caller loads, the others wait for it, and nothing outdated is ever kept."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import attrs
import cachetools
import pytest

from orderkit.resilience import (
    Cache,
    CacheAnswered,
    Deadline,
    DeadlineExceeded,
    InvalidPolicy,
    LocalStore,
    Operation,
    Policy,
    PolicyEvent,
    ReadThrough,
)
from orderkit.resilience.conditions import Conditions, replaced
from orderkit.resilience.runtimes import LOOP, THREAD, Runtime, drive

T = TypeVar("T")

SAFE = Operation.SAFE


@attrs.frozen
class World:
    """A way to run what is written once for both worlds."""

    runtime: Runtime
    run: Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=["thread", "loop"])
def world(request: pytest.FixtureRequest) -> World:
    return World(THREAD, drive) if request.param == "thread" else World(LOOP, asyncio.run)


@pytest.fixture
def seconds() -> Iterator[list[float]]:
    """The time of a clock that stands still, to be changed."""
    now = [1000.0]
    with replaced(Conditions(monotonic=lambda: now[0])):
        yield now


class Loads:
    """What is loaded from, and how often it was."""

    def __init__(self, *values: object) -> None:
        self.values = list(values)
        self.count = 0

    async def __call__(self) -> object:
        self.count += 1
        value = self.values[min(self.count, len(self.values)) - 1]
        if isinstance(value, BaseException):
            raise value
        return value


def local(max_entries: int = 1000, ttl: float = 60) -> ReadThrough:
    return ReadThrough(LocalStore(max_entries=max_entries), ttl=ttl)


# --- keeping --------------------------------------------------------------------------------------


def test_a_value_is_loaded_once_for_as_long_as_it_holds(world: World, seconds: list[float]) -> None:
    cache, load = local(ttl=60), Loads("a", "b")

    def get() -> object:
        return world.run(cache.get(world.runtime, "key", load))

    assert [get(), get()] == ["a", "a"]
    seconds[0] += 59.9
    assert get() == "a"
    seconds[0] += 0.1
    assert get() == "b"
    assert load.count == 2


def test_nothing_is_a_value_too(world: World) -> None:
    cache, load = local(), Loads(None)
    assert [world.run(cache.get(world.runtime, "key", load)) for _ in range(2)] == [None, None]
    assert load.count == 1


def test_no_more_is_kept_than_there_is_room_for(world: World) -> None:
    cache, load = local(max_entries=10), Loads("value")
    for number in range(1000):
        world.run(cache.get(world.runtime, str(number), load, tags=["all", f"tag {number}"]))
    gc.collect()
    store = cache._store
    assert isinstance(store, LocalStore)
    assert len(store._entries) == 10
    # One for the whole, one for the common tag, and two for each entry.
    assert len(store._generations) == 22


def test_what_is_used_stays(world: World) -> None:
    cache, load = local(max_entries=2), Loads("value")
    for key in ("a", "b", "a", "c", "a"):
        world.run(cache.get(world.runtime, key, load))
    assert load.count == 3


def test_an_error_is_raised_and_not_kept(world: World) -> None:
    cache, load = local(), Loads(OSError("down"), "value")
    with pytest.raises(OSError, match="down"):
        world.run(cache.get(world.runtime, "key", load))
    assert world.run(cache.get(world.runtime, "key", load)) == "value"


@pytest.mark.parametrize("tag", ["orders", "customers"])
def test_what_is_invalidated_is_loaded_anew(world: World, tag: str) -> None:
    cache, load = local(), Loads(1, 2, 3, 4)

    async def main() -> list[object]:
        async def get() -> object:
            return await cache.get(world.runtime, "key", load, tags=["orders", "customers"])

        values = [await get()]
        await cache.invalidate(world.runtime, keys=["key"])
        values += [await get(), await get()]
        await cache.invalidate(world.runtime, tags=[tag])
        values += [await get(), await get()]
        await cache.clear(world.runtime)
        values += [await get(), await get()]
        await cache.invalidate(world.runtime, keys=["other"], tags=["other"])
        return [*values, await get()]

    assert world.run(main()) == [1, 2, 2, 3, 3, 4, 4, 4]


def test_a_cache_tells_what_it_did(world: World) -> None:
    events: list[PolicyEvent] = []
    cache = ReadThrough(LocalStore(), ttl=60, name="orders", listeners=[events.append])
    for _ in range(2):
        world.run(cache.get(world.runtime, "key", Loads("value")))
    assert events == [CacheAnswered(policy="orders", outcome=outcome) for outcome in ("miss", "hit")]


# --- one loads ------------------------------------------------------------------------------------


def test_a_stampede_of_threads_loads_once_where_cachetools_with_a_lock_loads_for_each() -> None:
    count, arrived = [0], threading.Barrier(9)
    everybody_waits = threading.Event()

    def load(_key: str) -> str:
        count[0] += 1
        everybody_waits.wait()
        return "value"

    events: list[PolicyEvent] = []
    cache = Cache(key=str, ttl=60)
    wrapped = Policy(cache, operation=SAFE, listeners=[events.append])(load)

    def call(function: Callable[[str], str]) -> str:
        arrived.wait()
        return function("key")

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(call, wrapped) for _ in range(8)]
        arrived.wait()
        _wait_for(lambda: _waiting(cache) == 7)
        everybody_waits.set()
        assert {future.result() for future in futures} == {"value"}
    assert count == [1]
    assert sorted(event.outcome for event in events if isinstance(event, CacheAnswered)) == ["joined"] * 7 + ["miss"]

    count[0] = 0
    everybody_waits.clear()
    theirs = cachetools.cached(cachetools.TTLCache(10, 60), lock=threading.Lock())(load)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(call, theirs) for _ in range(8)]
        arrived.wait()
        _wait_for(lambda: count == [8])
        everybody_waits.set()
        assert {future.result() for future in futures} == {"value"}


def _waiting(cache: Cache) -> int:
    return sum(len(flight._signals) for flight in list(cache._core._flights._under_way.values()))


def _wait_for(condition: Callable[[], bool]) -> None:
    """Return as soon as other threads have come so far; there is nothing else by which to know that they wait."""
    tick = threading.Event()
    while not condition():
        tick.wait(0.001)


def test_a_thousand_tasks_load_once() -> None:
    cache, count = local(), [0]

    async def load() -> str:
        count[0] += 1
        await asyncio.sleep(0)
        return "value"

    async def main() -> set[str]:
        return set(await asyncio.gather(*(cache.get(LOOP, "key", load) for _ in range(1000))))

    assert asyncio.run(main()) == {"value"}
    assert count == [1]


def test_threads_and_tasks_of_several_loops_meet_in_one_load() -> None:
    cache, count, release = Cache(key=lambda: "key", ttl=60), [0], threading.Event()
    policy = Policy(cache, operation=SAFE)

    def load() -> str:
        count[0] += 1
        release.wait()
        return "value"

    async def load_in_a_loop() -> str:
        return load()

    load_in_a_loop.__qualname__ = load.__qualname__  # by which they are the same to the cache

    async def many() -> set[str]:
        return set(await asyncio.gather(*(policy(load_in_a_loop)() for _ in range(50))))

    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(policy(load))
        _wait_for(lambda: count == [1])
        others = [pool.submit(policy(load)) for _ in range(4)]
        loops = [pool.submit(asyncio.run, many()) for _ in range(4)]
        _wait_for(lambda: _waiting(cache) == 4 + 4 * 50)
        release.set()
        assert {first.result(), *(other.result() for other in others)} == {"value"}
        assert all(loop.result() == {"value"} for loop in loops)
    assert count == [1]


def test_all_get_the_error_of_the_one_that_loads() -> None:
    cache, error, count = local(), OSError("down"), [0]

    async def load() -> str:
        count[0] += 1
        await asyncio.sleep(0)
        raise error

    async def main() -> list[object]:
        return await asyncio.gather(*(cache.get(LOOP, "key", load) for _ in range(1000)), return_exceptions=True)

    assert all(result is error for result in asyncio.run(main()))
    assert count == [1]
    depth, traceback = 0, error.__traceback__
    while traceback is not None:
        depth, traceback = depth + 1, traceback.tb_next
    assert depth < 20


# --- who loads is broken off ----------------------------------------------------------------------


@pytest.mark.parametrize("followers", [1, 1000])
def test_when_the_task_that_loads_is_cancelled_another_loads(followers: int) -> None:
    cache, count = local(), [0]

    async def main() -> None:
        again, release = asyncio.Event(), asyncio.Event()

        async def load() -> str:
            count[0] += 1
            if count[0] > 1:
                again.set()
            await release.wait()
            return "value"

        leader = asyncio.create_task(cache.get(LOOP, "key", load))
        await asyncio.sleep(0)
        others = [asyncio.create_task(cache.get(LOOP, "key", load)) for _ in range(followers)]
        await asyncio.sleep(0)
        assert count == [1]
        leader.cancel()
        await again.wait()
        release.set()
        assert set(await asyncio.gather(*others)) == {"value"}
        assert leader.cancelled()
        assert count == [2]

    asyncio.run(main())


def test_a_cancelled_one_that_waits_harms_nobody() -> None:
    cache = local()

    async def main() -> None:
        release = asyncio.Event()

        async def load() -> str:
            await release.wait()
            return "value"

        tasks = [asyncio.create_task(cache.get(LOOP, "key", load)) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.wait([tasks[1]])
        release.set()
        assert await tasks[0] == await tasks[2] == "value"

    asyncio.run(main())


def test_when_the_loop_of_the_one_that_loads_ends_a_thread_loads() -> None:
    cache, policy_cache = [0], Cache(key=lambda: "key", ttl=60)
    policy = Policy(policy_cache, operation=SAFE)
    stop = threading.Event()

    async def hang() -> str:
        await asyncio.get_running_loop().run_in_executor(None, stop.wait)
        await asyncio.sleep(3600)
        return "never"

    def load() -> str:
        cache[0] += 1
        return "value"

    hang.__qualname__ = load.__qualname__  # by which they are the same to the cache

    async def main() -> None:
        task = asyncio.create_task(policy.call(hang))
        await asyncio.get_running_loop().run_in_executor(None, _wait_for, lambda: _waiting(policy_cache) == 1)
        stop.set()
        del task  # which `run` cancels with its loop

    with ThreadPoolExecutor(2) as pool:
        loop = pool.submit(asyncio.run, main())
        _wait_for(lambda: bool(policy_cache._core._flights._under_way))
        thread = pool.submit(policy.call, load)
        loop.result()
        assert thread.result() == "value"
    assert cache == [1]


def test_who_may_wait_no_longer_calls_by_itself() -> None:
    cache = Cache(key=lambda: "key", ttl=60)
    policy, outer = Policy(cache, operation=SAFE), Policy(Deadline(0.05))
    release = threading.Event()

    def load() -> str:
        release.wait()
        return "value"

    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(policy(load))
        _wait_for(lambda: bool(cache._core._flights._under_way))
        assert outer.call(policy(lambda: "own")) == "own"
        release.set()
        assert leader.result() == "value"


def test_when_the_deadline_of_the_one_that_loads_is_over_another_task_loads() -> None:
    inner = Policy(Cache(key=str, ttl=60), Deadline(30), operation=SAFE)
    hurried, count = Policy(Deadline(0.05)), [0]

    async def load(key: str) -> str:
        count[0] += 1
        if count[0] == 1:
            await asyncio.sleep(30)
        return key

    async def main() -> None:
        leader = asyncio.create_task(hurried.call(inner(load), "key"))
        await asyncio.sleep(0)
        follower = asyncio.create_task(inner.call(load, "key"))
        with pytest.raises(DeadlineExceeded):
            await leader
        assert await follower == "key"

    asyncio.run(main())
    assert count == [2]


def test_when_the_deadline_of_the_one_that_loads_is_over_another_thread_loads(seconds: list[float]) -> None:
    cache = Cache(key=str, ttl=60)
    policy, hurried, release, count = Policy(cache, operation=SAFE), Policy(Deadline(1)), threading.Event(), [0]

    def load(key: str) -> str:
        count[0] += 1
        if count[0] == 1:
            release.wait()
            raise TimeoutError
        return key

    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(hurried.call, policy(load), "key")
        _wait_for(lambda: count == [1])
        follower = pool.submit(policy.call, load, "key")
        _wait_for(lambda: _waiting(cache) == 1)
        seconds[0] += 2
        release.set()
        with pytest.raises(TimeoutError):
            leader.result()
        assert follower.result() == "key"


# --- nobody waits for himself ---------------------------------------------------------------------


RING = {"a": "b", "b": "c", "c": "a"}


def test_threads_whose_loads_want_what_the_others_load_do_not_wait_for_each_other() -> None:
    caches = {key: local() for key in RING}
    all_load = threading.Barrier(len(RING))

    def ask(key: str) -> str:
        async def leaf() -> str:
            return "leaf"

        async def load() -> str:
            all_load.wait()
            return await caches[RING[key]].get(THREAD, RING[key], leaf)

        return drive(caches[key].get(THREAD, key, load))

    with ThreadPoolExecutor(len(RING)) as pool:
        futures = [pool.submit(ask, key) for key in RING]
        assert {future.result(30) for future in futures} == {"leaf"}


def test_tasks_whose_loads_want_what_the_others_load_do_not_wait_for_each_other() -> None:
    cache = local()

    async def leaf() -> str:
        return "leaf"

    async def ask(key: str) -> str:
        async def load() -> str:
            await asyncio.sleep(0)
            # Inside of an inner load, for which the outer one waits as well.
            return await cache.get(LOOP, f"inside {key}", lambda: cache.get(LOOP, RING[key], leaf))

        return await cache.get(LOOP, key, load)

    async def main() -> list[str]:
        async with asyncio.timeout(30):
            return await asyncio.gather(*map(ask, RING))

    assert set(asyncio.run(main())) == {"leaf"}


def test_two_loads_may_wait_for_the_same_third() -> None:
    cache, count = local(), [0]

    async def shared() -> str:
        count[0] += 1
        await asyncio.sleep(0.01)
        return "shared"

    async def ask(key: str) -> str:
        return await cache.get(LOOP, key, lambda: cache.get(LOOP, "shared", shared))

    async def main() -> list[str]:
        return await asyncio.gather(*map(ask, RING))

    assert set(asyncio.run(main())) == {"shared"}
    assert count == [1]


def test_a_load_that_asks_for_its_own_key_does_not_wait_for_itself(world: World) -> None:
    cache = local()

    async def inner() -> str:
        return "inner"

    async def load() -> str:
        return await cache.get(world.runtime, "key", inner)

    assert world.run(cache.get(world.runtime, "key", load)) == "inner"


def test_a_call_that_blocks_the_loop_does_not_wait_for_a_task_of_it() -> None:
    cache = local()

    async def main() -> tuple[str, str]:
        release = asyncio.Event()

        async def load() -> str:
            await release.wait()
            return "loaded"

        async def direct() -> str:
            return "direct"

        task = asyncio.create_task(cache.get(LOOP, "key", load))
        await asyncio.sleep(0)
        found = drive(cache.get(THREAD, "key", direct))
        release.set()
        return await task, found

    assert asyncio.run(main()) == ("loaded", "direct")


# --- invalidation against a load ------------------------------------------------------------------


Invalidate = Callable[[ReadThrough, Runtime], Coroutine[Any, Any, None]]

every_invalidation = pytest.mark.parametrize(
    "invalidate",
    [
        lambda cache, runtime: cache.invalidate(runtime, keys=["key"]),
        lambda cache, runtime: cache.invalidate(runtime, tags=["tag"]),
        lambda cache, runtime: cache.clear(runtime),
    ],
    ids=["key", "tag", "clear"],
)


@every_invalidation
def test_a_load_that_began_before_an_invalidation_is_never_kept(world: World, invalidate: Invalidate) -> None:
    cache, source = local(), ["old"]

    async def load() -> str:
        value = source[0]
        if value == "old":
            source[0] = "new"
            await invalidate(cache, world.runtime)
        return value

    async def main() -> list[str]:
        return [await cache.get(world.runtime, "key", load, tags=["tag"]) for _ in range(3)]

    assert world.run(main()) == ["old", "new", "new"]


@every_invalidation
def test_who_asks_after_an_invalidation_does_not_join_a_load_from_before(invalidate: Invalidate) -> None:
    cache = local()

    async def main() -> None:
        release = asyncio.Event()

        async def slow() -> str:
            await release.wait()
            return "old"

        async def get(load: Callable[[], Awaitable[str]]) -> str:
            return await cache.get(LOOP, "key", load, tags=["tag"])

        async def fresh() -> str:
            return "new"

        before = [asyncio.create_task(get(slow)) for _ in range(2)]
        await asyncio.sleep(0)
        await invalidate(cache, LOOP)
        assert await get(fresh) == "new"
        release.set()
        # They asked before.
        assert await asyncio.gather(*before) == ["old", "old"]
        assert await get(slow) == "new"

    asyncio.run(main())


@pytest.mark.slow
def test_threads_that_read_and_write_never_see_what_was_before_their_last_write() -> None:
    cache, written = Cache(key=lambda: "key", ttl=60, tags=["tag"]), [0]
    policy = Policy(cache, operation=SAFE)
    lock, over = threading.Lock(), threading.Event()

    @policy
    def read() -> int:
        return written[0]

    def check() -> None:
        while not over.is_set():
            least = written[1] if len(written) > 1 else 0
            assert read() >= least

    written.append(0)

    def write() -> None:
        for number in range(3000):
            with lock:
                written[0] += 1
                now = written[0]
                (cache.invalidate if number % 2 else lambda _key: cache.invalidate_tag("tag"))("key")
                # What is announced here was invalidated before.
                written[1] = now

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(check) for _ in range(4)]
        writers = [pool.submit(write) for _ in range(2)]
        try:
            for writer in writers:
                writer.result()
        finally:
            over.set()
        for reader in readers:
            reader.result()
    assert written[0] == 6000


# --- what cannot be kept --------------------------------------------------------------------------


def test_tkem_cachetools_92_a_cached_coroutine_function_can_be_awaited_again() -> None:
    @cachetools.cached({})
    async def theirs() -> str:
        return "value"

    @Policy(Cache(key=lambda: "key", ttl=60), operation=SAFE)
    async def ours() -> str:
        return "value"

    async def main() -> None:
        assert [await theirs(), await ours(), await ours()] == ["value"] * 3
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await theirs()

    asyncio.run(main())


def test_what_can_be_used_only_once_is_refused_rather_than_kept(world: World) -> None:
    async def coroutine() -> None: ...

    def generator() -> Generator[int]:
        yield 1

    cache = local()
    for lazy in (coroutine, generator):

        async def load(make: Callable[[], object] = lazy) -> object:
            return make()

        for _ in range(2):
            with pytest.raises(InvalidPolicy):
                world.run(cache.get(world.runtime, "key", load))


# --- the layer ------------------------------------------------------------------------------------


def test_the_layer_answers_by_key_and_forgets_by_key_and_tag() -> None:
    cache = Cache(key=lambda shop, _number: str(shop), ttl=60, tags=lambda _shop, number: [str(number)])
    policy, count = Policy(cache, operation=SAFE), iter(range(10))

    def ask() -> int:
        return policy.call(lambda _shop, _number: next(count), "a", 1)

    values = [ask(), ask()]
    cache.invalidate("a")
    values += [ask(), ask()]
    cache.invalidate_tag("1")
    values += [ask(), ask()]
    cache.clear()
    assert [*values, ask()] == [0, 0, 1, 1, 2, 2, 3]


def test_functions_that_share_a_cache_are_kept_apart_and_invalidated_together() -> None:
    cache = Cache(key=lambda *_words: "key", ttl=60, tags=["tag"])
    policy, count = Policy(cache, operation=SAFE), iter(range(100))

    def price() -> tuple[str, int]:
        return "price", next(count)

    def stock() -> tuple[str, int]:
        return "stock", next(count)

    def ask() -> list[tuple[str, int]]:
        return [policy.call(price), policy.call(stock), policy.call(functools.partial(price))]

    values = [ask(), ask()]
    for forget in (lambda: cache.invalidate("key"), lambda: cache.invalidate_tag("tag"), cache.clear):
        forget()
        values += [ask(), ask()]
    assert values == [[("price", n), ("stock", n + 1), ("price", n)] for n in (0, 0, 2, 2, 4, 4, 6, 6)]


def test_a_key_that_is_called_as_a_tag_is_no_tag() -> None:
    cache = Cache(key=lambda: "a", ttl=60, tags=["b"])
    policy, count = Policy(cache, operation=SAFE), iter(range(100)).__next__
    values = [policy.call(count)]
    cache.invalidate("b")
    cache.invalidate_tag("a")
    assert [*values, policy.call(count)] == [0, 0]


def test_an_event_loop_forgets_in_the_same_words() -> None:
    cache = Cache(key=lambda: "key", ttl=60, tags=["tag"])
    count = iter(range(10))

    @Policy(cache, operation=SAFE)
    async def ask() -> int:
        return next(count)

    async def main() -> list[int]:
        values = [await ask(), await ask()]
        await cache.asynchronous.invalidate("key")
        values += [await ask(), await ask()]
        await cache.asynchronous.invalidate_tag("tag")
        values += [await ask(), await ask()]
        await cache.asynchronous.clear()
        return [*values, await ask()]

    assert asyncio.run(main()) == [0, 0, 1, 1, 2, 2, 3]


def test_targets_are_kept_apart() -> None:
    policy = Policy(Cache(key=lambda: "key", ttl=60), operation=SAFE)
    assert policy.for_target("a").call(lambda: 1) == 1
    assert policy.for_target("b").call(lambda: 2) == 2


@pytest.mark.parametrize("operation", [None, Operation.IDEMPOTENT, Operation.KEYED, Operation.UNSAFE])
def test_only_what_reads_is_cached(operation: Operation | None) -> None:
    with pytest.raises(InvalidPolicy, match="SAFE"):
        Policy(Cache(key=str, ttl=60), operation=operation)


def test_settings_that_cannot_be_are_refused_at_build() -> None:
    for ttl in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InvalidPolicy):
            Cache(key=str, ttl=ttl)
    with pytest.raises(InvalidPolicy):
        Cache(key="key", ttl=1)
    with pytest.raises(InvalidPolicy):
        LocalStore(max_entries=0)
    with pytest.raises(InvalidPolicy, match="LocalStore"):
        Cache(key=str, ttl=1, store={})


async def later(*_words: object) -> str:
    return "later"


class Later:
    async def __call__(self, *_words: object) -> str:
        return "later"


@pytest.mark.parametrize("function", [later, Later(), functools.partial(later, 1)])
def test_nothing_is_awaited_for_a_key_or_a_tag(function: Any) -> None:
    for settings in ({"key": function}, {"key": str, "tags": function}):
        with pytest.raises(InvalidPolicy, match="async"):
            Cache(ttl=1, **settings)


def test_one_word_is_no_list_of_tags() -> None:
    with pytest.raises(InvalidPolicy, match="list"):
        Cache(key=str, ttl=1, tags="merchant")
    with pytest.raises(InvalidPolicy, match="list"):
        Policy(Cache(key=str, ttl=1, tags=lambda _number: "merchant"), operation=SAFE).call(abs, 1)


def test_a_key_that_is_no_string_is_refused() -> None:
    policy = Policy(Cache(key=lambda number: number, ttl=60), operation=SAFE)
    with pytest.raises(InvalidPolicy, match="int"):
        policy.call(abs, 1)


def test_a_cached_call_cannot_be_a_block() -> None:
    with pytest.raises(InvalidPolicy), Policy(Cache(key=str, ttl=60), operation=SAFE):
        pass
