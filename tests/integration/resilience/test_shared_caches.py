"""Caches that processes share through a real Redis: nothing outdated is ever kept."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis as redis_py

from orderkit.resilience import (
    Cache,
    CacheAnswered,
    Degraded,
    Operation,
    Policy,
    PolicyEvent,
    ReadThrough,
    RedisConnection,
    RedisStore,
)
from orderkit.resilience.runtimes import LOOP, THREAD, Runtime, drive
from tests.integration.kit.proxy import Cut, Proxy
from tests.integration.resilience.worlds import PATIENT, World


def dumps(value: object) -> bytes:
    return json.dumps(value).encode()


def store(connection: RedisConnection, prefix: str) -> RedisStore:
    return RedisStore(connection, dumps=dumps, loads=json.loads, prefix=prefix)


def cache_of(connection: RedisConnection, prefix: str, **settings: Any) -> ReadThrough:
    return ReadThrough(store(connection, prefix), ttl=60, **settings)


class Loads:
    """What is loaded from, and how often it was."""

    def __init__(self, *values: object) -> None:
        self.values = list(values)
        self.count = 0

    async def __call__(self) -> object:
        self.count += 1
        return self.values[min(self.count, len(self.values)) - 1]


def test_processes_share_what_one_has_loaded(world: World, connection: RedisConnection, prefix: str) -> None:
    load = Loads({"total": "12.00"}, None)

    async def main() -> list[object]:
        caches = [cache_of(connection, prefix) for _ in range(3)]
        found = [await cache.get(world.runtime, "key", load, tags=["tag"]) for cache in caches]
        await caches[1].invalidate(world.runtime, keys=["key"])
        return [*found, *[await cache.get(world.runtime, "key", load, tags=["tag"]) for cache in caches]]

    assert world.run(main(), connection) == [{"total": "12.00"}] * 3 + [None] * 3
    assert load.count == 2


Invalidate = Callable[[ReadThrough, Runtime], Coroutine[Any, Any, None]]

every_invalidation = pytest.mark.parametrize(
    "invalidate",
    [
        lambda cache, runtime: cache.invalidate(runtime, keys=["key"]),
        lambda cache, runtime: cache.invalidate(runtime, tags=["other", "tag"]),
        lambda cache, runtime: cache.clear(runtime),
    ],
    ids=["key", "tag", "clear"],
)


@every_invalidation
def test_a_load_that_began_before_an_invalidation_of_another_process_is_never_kept(
    invalidate: Invalidate, world: World, connection: RedisConnection, prefix: str
) -> None:
    mine, other = cache_of(connection, prefix), cache_of(connection, prefix)
    source = ["old"]

    async def load() -> str:
        value = source[0]
        if value == "old":
            source[0] = "new"
            await invalidate(other, world.runtime)
            # What the other loads now must not be overwritten either.
            assert await get(other) == "new"
        return value

    async def get(cache: ReadThrough) -> str:
        return await cache.get(world.runtime, "key", load, tags=["tag"])

    async def main() -> list[str]:
        return [await get(mine), await get(mine), await get(other)]

    assert world.run(main(), connection) == ["old", "new", "new"]


@every_invalidation
def test_what_is_kept_is_forgotten(
    invalidate: Invalidate, world: World, connection: RedisConnection, prefix: str
) -> None:
    cache, load = cache_of(connection, prefix), Loads(1, 2)

    async def main() -> list[object]:
        first = await cache.get(world.runtime, "key", load, tags=["tag"])
        await invalidate(cache_of(connection, prefix), world.runtime)
        return [first, *[await cache.get(world.runtime, "key", load, tags=["tag"]) for _ in range(2)]]

    assert world.run(main(), connection) == [1, 2, 2]


def test_processes_that_load_at_once_keep_what_one_of_them_loaded(
    world: World, connection: RedisConnection, prefix: str
) -> None:
    mine, other = cache_of(connection, prefix), cache_of(connection, prefix)
    load = Loads("other")

    async def slow() -> str:
        await other.get(world.runtime, "key", load)
        return "mine"

    async def main() -> list[object]:
        return [await mine.get(world.runtime, "key", slow), await other.get(world.runtime, "key", load)]

    assert world.run(main(), connection) == ["mine", "mine"]


def test_everything_in_redis_expires(
    world: World, connection: RedisConnection, prefix: str, plain: redis_py.Redis
) -> None:
    async def main() -> None:
        await cache_of(connection, prefix).get(world.runtime, "key", Loads("value"), tags=["a", "b"])

    world.run(main(), connection)
    keys = {key.decode(): plain.pttl(key) for key in plain.scan_iter(f"{prefix}*")}
    assert set(keys) == {f"{prefix}:{name}" for name in ("all", "key:key", "tag:a", "tag:b", "value:key")}
    assert 0 < keys.pop(f"{prefix}:value:key") <= 60_000
    # Generations outlive what was loaded under them.
    assert all(120_000 < left <= 240_000 for left in keys.values())


def test_a_value_that_cannot_be_read_is_loaded_anew(
    world: World, connection: RedisConnection, prefix: str, plain: redis_py.Redis
) -> None:
    cache, load = cache_of(connection, prefix), Loads("a", "b", "c", "d")
    key = f"{prefix}:value:key"

    async def get() -> object:
        return await cache.get(world.runtime, "key", load)

    async def main() -> list[object]:
        values = [await get()]
        header = bytes(plain.get(key) or b"").partition(b"\n")[0]
        for broken in (header + b"\n{", b"", b"not ours"):
            plain.set(key, broken)
            values += [await get(), await get()]
        return values

    assert world.run(main(), connection) == ["a", "b", "b", "c", "c", "d", "d"]


def test_a_key_that_holds_something_else_stops_nobody(
    world: World, connection: RedisConnection, prefix: str, plain: redis_py.Redis
) -> None:
    plain.lpush(f"{prefix}:value:key", "a list")
    events: list[PolicyEvent] = []
    cache = cache_of(connection, prefix, listeners=[events.append])

    async def main() -> object:
        return await cache.get(world.runtime, "key", Loads("value"))

    assert world.run(main(), connection) == "value"
    assert Degraded(policy="cache", layer="cache", error="ResponseError") in events


def test_a_thousand_tasks_and_many_threads_load_once(connection: RedisConnection, prefix: str) -> None:
    cache, count, release = cache_of(connection, prefix), [0], threading.Event()

    async def load() -> str:
        count[0] += 1
        release.wait()
        return "value"

    async def main() -> set[str]:
        async with connection:
            return set(await asyncio.gather(*(cache.get(LOOP, "key", load) for _ in range(1000))))

    with ThreadPoolExecutor(9) as pool:
        threads = [pool.submit(lambda: drive(cache.get(THREAD, "key", load))) for _ in range(8)]
        loop = pool.submit(asyncio.run, main())
        release.set()
        assert loop.result() == {"value"}
        assert {thread.result() for thread in threads} == {"value"}
    assert count == [1]


def test_when_redis_is_cut_off_every_call_is_made_and_later_redis_is_used_again(
    world: World, proxy: Proxy, cut_off: RedisConnection, prefix: str, seconds: list[float]
) -> None:
    events: list[PolicyEvent] = []
    cache, load = cache_of(cut_off, prefix, listeners=[events.append]), Loads(1, 2, 3, 4)

    async def get() -> object:
        return await cache.get(world.runtime, "key", load)

    async def main() -> list[object]:
        values = [await get(), await get()]
        proxy.cut_at(b"EVALSHA", Cut.BEFORE_ANSWER)
        values += [await get(), await get()]
        seconds[0] += 1.0
        return [*values, await get()]

    assert world.run(main(), cut_off) == [1, 1, 2, 3, 1]
    told = [event.outcome if isinstance(event, CacheAnswered) else type(event).__name__ for event in events]
    assert told == ["miss", "hit", "Degraded", "miss", "Degraded", "miss", "hit"]


def test_what_was_to_be_forgotten_while_redis_was_gone_is_not_found_afterwards(
    world: World, proxy: Proxy, cut_off: RedisConnection, prefix: str, seconds: list[float]
) -> None:
    cache, load = cache_of(cut_off, prefix), Loads("old", "new")

    async def get() -> object:
        return await cache.get(world.runtime, "key", load, tags=["tag"])

    async def main() -> list[object]:
        values = [await get()]
        proxy.cut_at(b"DEL", Cut.BEFORE_STATEMENT)
        await cache.invalidate(world.runtime, tags=["tag"])
        seconds[0] += 1.0
        return [*values, await get(), await get()]

    assert world.run(main(), cut_off) == ["old", "new", "new"]


def test_a_cut_while_a_value_is_stored_harms_nobody(
    world: World, proxy: Proxy, cut_off: RedisConnection, prefix: str, seconds: list[float]
) -> None:
    cache = cache_of(cut_off, prefix)

    async def load() -> str:
        proxy.cut_at(b"EVALSHA", Cut.BEFORE_ANSWER)
        return "value"

    async def main() -> str:
        return await cache.get(world.runtime, "key", load)

    assert world.run(main(), cut_off) == "value"


def test_the_layer_keeps_in_redis_and_targets_are_apart(connection: RedisConnection, prefix: str) -> None:
    cache = Cache(key=lambda: "key", ttl=60, store=store(connection, prefix))
    policy = Policy(cache, operation=Operation.SAFE)
    values = iter(range(10))

    def ask(policy: Policy) -> int:
        return policy.call(lambda: next(values))

    assert [ask(policy), ask(policy)] == [0, 0]
    cache.invalidate("key")
    assert [ask(policy), ask(policy.for_target("a")), ask(policy.for_target("b")), ask(policy)] == [1, 2, 3, 1]
    assert ask(policy.for_target("a")) == 2


@pytest.mark.slow
def test_processes_that_read_and_write_never_see_what_was_before_their_last_write(server: str, prefix: str) -> None:
    written, over = [0, 0], threading.Event()
    lock = threading.Lock()

    async def load() -> int:
        return written[0]

    def read() -> None:
        with RedisConnection(server, timeout=PATIENT) as connection:
            cache = cache_of(connection, prefix)
            while not over.is_set():
                least = written[1]
                assert drive(cache.get(THREAD, "key", load, tags=["tag"])) >= least

    def write(number: int) -> None:
        with RedisConnection(server, timeout=PATIENT) as connection:
            cache = cache_of(connection, prefix)
            for _ in range(500):
                with lock:
                    written[0] += 1
                    now = written[0]
                    names: dict[str, Any] = {"keys": ["key"]} if number else {"tags": ["tag"]}
                    drive(cache.invalidate(THREAD, **names))
                    written[1] = now

    with ThreadPoolExecutor(5) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        writers = [pool.submit(write, number) for number in range(2)]
        try:
            for writer in writers:
                writer.result()
        finally:
            over.set()
        for reader in readers:
            reader.result()
