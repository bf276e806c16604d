"""What several processes share through a real Redis, and what becomes of it when Redis is gone."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any

import attrs
import pytest
import redis as redis_py
from sqlalchemy import make_url

from orderkit.errors import ConfigurationError
from orderkit.resilience import (
    BreakerMode,
    Cache,
    CacheAnswered,
    CircuitBreaker,
    CircuitState,
    ConsecutiveFailures,
    Degraded,
    EventCounter,
    Operation,
    Policy,
    PolicyEvent,
    RateLimit,
    RateLimited,
    RateStrategy,
    ReadThrough,
    RedisCircuits,
    RedisClients,
    RedisConnection,
    RedisStore,
)
from orderkit.resilience.conditions import Conditions, replaced
from orderkit.resilience.redis import Script, Unreachable, masked
from orderkit.resilience.rejections import CircuitOpen
from orderkit.resilience.runtimes import LOOP, THREAD, Runtime, drive
from tests.conftest import absent, text_of
from tests.integration.kit.proxy import Cut, Proxy

SERVER = os.environ.get("ORDERKIT_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
PATIENT = 5.0
"""Seconds that a test waits for a server on a busy machine."""


@attrs.frozen
class World:
    """A way to run what is written once for both worlds, with connections that are closed in the end."""

    runtime: Runtime
    run: Callable[..., Any]


def _in_a_thread(work: Coroutine[Any, Any, Any], *connections: RedisConnection) -> object:
    try:
        return drive(work)
    finally:
        for connection in connections:
            connection.close()


def _in_a_loop(work: Coroutine[Any, Any, Any], *connections: RedisConnection) -> object:
    async def main() -> object:
        try:
            return await work
        finally:
            for connection in connections:
                await connection.aclose()

    return asyncio.run(main())


@pytest.fixture(params=["thread", "loop"])
def world(request: pytest.FixtureRequest) -> World:
    return World(THREAD, _in_a_thread) if request.param == "thread" else World(LOOP, _in_a_loop)


@pytest.fixture(scope="session")
def server() -> str:
    with closing(redis_py.Redis.from_url(SERVER, socket_connect_timeout=3)) as client:
        try:
            client.ping()
        except redis_py.RedisError:
            absent(f"no Redis at {masked(SERVER)}; ORDERKIT_TEST_REDIS_URL names another")
    return SERVER


@pytest.fixture
def plain(server: str) -> Iterator[redis_py.Redis]:
    """A client that sees what is really there."""
    with closing(redis_py.Redis.from_url(server)) as client:
        yield client


@pytest.fixture
def prefix(plain: redis_py.Redis) -> Iterator[str]:
    name = f"orderkit-test:{secrets.token_hex(6)}"
    yield name
    for key in plain.scan_iter(f"*{name}*"):
        plain.delete(key)


@pytest.fixture
def connection(server: str) -> Iterator[RedisConnection]:
    with RedisConnection(server, timeout=PATIENT) as made:
        yield made


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    url = make_url(server)
    with Proxy(url.set(port=url.port or 6379)) as made:
        yield made


@pytest.fixture
def cut_off(proxy: Proxy, server: str) -> Iterator[RedisConnection]:
    """A connection that the proxy can cut."""
    with RedisConnection(text_of(proxy.url(make_url(server))), timeout=PATIENT) as made:
        yield made


@pytest.fixture
def seconds() -> Iterator[list[float]]:
    """The time of a clock that stands still, to be changed."""
    now = [1000.0]
    with replaced(Conditions(monotonic=lambda: now[0])):
        yield now


# --- the connection -------------------------------------------------------------------------------


def test_a_command_and_a_program_give_their_replies(world: World, connection: RedisConnection, prefix: str) -> None:
    program = Script(f"return redis.call('GET', KEYS[1]) .. ARGV[1] -- {prefix}")

    async def main() -> list[object]:
        await connection.run(world.runtime, "SET", prefix, "a", "PX", 60_000)
        # The first time Redis does not know the program yet.
        return [await connection.evaluate(world.runtime, program, [prefix], "b") for _ in range(2)]

    assert world.run(main(), connection) == [b"ab", b"ab"]


def test_every_event_loop_has_connections_of_its_own(connection: RedisConnection) -> None:
    async def main() -> object:
        async with connection:
            replies = await asyncio.gather(*(connection.run(LOOP, "ECHO", str(number)) for number in range(200)))
            return replies == [b"%d" % number for number in range(200)]

    with ThreadPoolExecutor(3) as pool:
        assert all(future.result() for future in [pool.submit(asyncio.run, main()) for _ in range(3)])
    assert asyncio.run(main())


def test_a_cancelled_command_leaves_no_reply_for_the_next(server: str) -> None:
    async def main() -> None:
        async with RedisConnection(server, timeout=PATIENT, connections=1) as connection:
            await connection.run(LOOP, "PING")
            for number in range(20):
                task = asyncio.create_task(connection.run(LOOP, "ECHO", f"cancelled {number}"))
                for _ in range(number):
                    await asyncio.sleep(0)
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                assert await connection.run(LOOP, "ECHO", str(number)) == b"%d" % number

    asyncio.run(main())


def test_a_server_that_does_not_answer_costs_one_time_out_and_then_nothing(world: World, seconds: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        host, port = deaf.getsockname()
        connection = RedisConnection(f"redis://{host}:{port}", timeout=0.05, rest=1.0)

        async def ask() -> str:
            with pytest.raises(Unreachable) as caught:
                await connection.run(world.runtime, "PING")
            return caught.value.cause

        async def main() -> None:
            assert await ask() == "TimeoutError"
            begun = time.perf_counter()
            assert [await ask() for _ in range(1000)] == ["TimeoutError"] * 1000
            assert time.perf_counter() - begun < 1000 * 0.05 / 5

        world.run(main(), connection)


def test_redis_is_tried_again_by_one_call_for_all(proxy: Proxy, cut_off: RedisConnection, seconds: list[float]) -> None:
    drive(cut_off.run(THREAD, "PING"))
    proxy.cut_at(b"PING", Cut.BEFORE_ANSWER)
    for _ in range(2):
        with pytest.raises(Unreachable):
            drive(cut_off.run(THREAD, "PING"))
    assert proxy.cuts == 1
    seconds[0] += 1.0
    assert drive(cut_off.run(THREAD, "PING"))


def test_those_who_wait_for_a_connection_do_not_each_wait_for_a_redis_that_is_gone() -> None:
    asked = [0]

    class Hanging:
        async def execute_command(self, *_words: object) -> object:
            asked[0] += 1
            await release.wait()
            raise redis_py.TimeoutError

    async def main() -> None:
        connection = RedisConnection(RedisClients(asynchronous=Hanging), connections=4)
        tasks = [asyncio.create_task(connection.run(LOOP, "PING")) for _ in range(1000)]
        await asyncio.sleep(0)
        release.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} == {Unreachable}

    release = asyncio.Event()
    asyncio.run(main())
    assert asked == [4]


def test_more_calls_than_connections_wait_for_one(server: str) -> None:
    async def main() -> list[object]:
        async with RedisConnection(server, timeout=PATIENT, connections=2) as connection:
            return await asyncio.gather(*(connection.run(LOOP, "ECHO", str(number)) for number in range(300)))

    assert asyncio.run(main()) == [b"%d" % number for number in range(300)]
    with RedisConnection(server, timeout=PATIENT, connections=2) as connection, ThreadPoolExecutor(16) as pool:
        replies = pool.map(lambda number: drive(connection.run(THREAD, "ECHO", str(number))), range(300))
        assert list(replies) == [b"%d" % number for number in range(300)]


def test_what_redis_answers_with_an_error_is_no_reason_to_leave_it_alone(
    world: World, connection: RedisConnection, prefix: str
) -> None:
    async def main() -> object:
        with pytest.raises(Unreachable, match="ResponseError"):
            await connection.run(world.runtime, "NONSENSE")
        return await connection.run(world.runtime, "ECHO", "there")

    assert world.run(main(), connection) == b"there"


def test_clients_of_the_application_are_used_and_left_open(server: str) -> None:
    with closing(redis_py.Redis.from_url(server)) as client:
        with RedisConnection(RedisClients(client)) as connection:
            assert drive(connection.run(THREAD, "ECHO", "a")) == b"a"
        assert client.ping()

    async def main() -> object:
        client = redis_py.asyncio.Redis.from_url(server)
        async with RedisConnection(RedisClients(asynchronous=lambda: client)) as connection:
            reply = await connection.run(LOOP, "ECHO", "b")
        assert await client.ping()
        await client.aclose()
        return reply

    assert asyncio.run(main()) == b"b"


def test_a_world_without_a_client_is_a_mistake(world: World) -> None:
    with pytest.raises(ConfigurationError, match="No client"):
        world.run(RedisConnection(RedisClients()).run(world.runtime, "PING"))


@pytest.mark.parametrize("url", ["http://127.0.0.1", "127.0.0.1:6379", "redis://user:secret@host:port/0", ""])
def test_a_url_of_something_else_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisConnection(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@127.0.0.1:6379/0",
        "rediss://user:secret@127.0.0.1",
        "redis://127.0.0.1?password=secret&db=1",
        "unix:///tmp/redis.sock?db=1&password=secret",
    ],
)
def test_the_password_is_not_shown(url: str) -> None:
    shown = repr(RedisConnection(url))
    assert "secret" not in shown
    assert "***" in shown


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigurationError, match=r"orderkit\[redis\]"):
        RedisConnection("redis://127.0.0.1")


# --- rate limits ----------------------------------------------------------------------------------

in_every_strategy = pytest.mark.parametrize("strategy", list(RateStrategy))


@in_every_strategy
def test_threads_tasks_and_processes_together_get_exactly_what_there_is(
    strategy: RateStrategy, server: str, prefix: str
) -> None:
    def limit(connection: RedisConnection) -> RateLimit:
        return RateLimit("150/hour", strategy=strategy, key="psp", shared=connection, prefix=prefix)

    def threads(connection: RedisConnection) -> int:
        mine = limit(connection)
        with ThreadPoolExecutor(4) as pool:
            return sum(allowance.allowed for allowance in pool.map(lambda _: mine.take("psp"), range(100)))

    async def tasks(connection: RedisConnection) -> int:
        mine = limit(connection)
        async with connection:
            allowances = await asyncio.gather(*(mine.asynchronous.take("psp") for _ in range(100)))
        return sum(allowance.allowed for allowance in allowances)

    # Each as a process of its own would have it.
    one, other = RedisConnection(server, timeout=PATIENT), RedisConnection(server, timeout=PATIENT)
    with one, ThreadPoolExecutor(2) as pool:
        counts = [pool.submit(threads, one), pool.submit(asyncio.run, tasks(other))]
        assert sum(count.result() for count in counts) == 150


@in_every_strategy
def test_what_is_told_of_a_shared_limit_is_what_a_local_one_tells(
    strategy: RateStrategy, world: World, connection: RedisConnection, prefix: str
) -> None:
    async def told(limit: RateLimit) -> list[object]:
        answers: list[object] = []
        for cost in (8, 5, 1, 1, 1):
            allowance = await limit.take_in(world.runtime, "a", cost=cost)
            assert allowance.reset_after == pytest.approx(3600, abs=60)
            answers.append((allowance.allowed, allowance.remaining))
        return answers

    shared = RateLimit("10/hour", strategy=strategy, key="a", shared=connection, prefix=prefix)
    here = [(True, 2), (False, 2), (True, 1), (True, 0), (False, 0)]
    assert world.run(told(RateLimit("10/hour", strategy=strategy))) == here
    assert world.run(told(shared), connection) == here


@pytest.mark.slow
@in_every_strategy
def test_what_was_told_to_wait_passes_after_that(
    strategy: RateStrategy, connection: RedisConnection, prefix: str
) -> None:
    policy = Policy(RateLimit("2/second", strategy=strategy, key="a", max_wait=30, shared=connection, prefix=prefix))
    begun = time.monotonic()
    assert [policy.call(lambda: 1) for _ in range(3)] == [1, 1, 1]
    assert time.monotonic() - begun >= 0.4


@in_every_strategy
def test_the_keys_of_limits_expire(
    strategy: RateStrategy, connection: RedisConnection, prefix: str, plain: redis_py.Redis
) -> None:
    RateLimit("2/minute", strategy=strategy, key="a", shared=connection, prefix=prefix).take("a")
    keys = list(plain.scan_iter(f"*{prefix}*"))
    assert keys
    assert all(0 < plain.pttl(key) <= 120_000 for key in keys)


def test_when_redis_is_cut_off_a_limit_counts_here_and_returns_to_redis(
    world: World, proxy: Proxy, cut_off: RedisConnection, prefix: str, seconds: list[float]
) -> None:
    events: list[PolicyEvent] = []
    limit = RateLimit("3/hour", key="psp", shared=cut_off, prefix=prefix, listeners=[events.append])

    async def main() -> None:
        async def take() -> int:
            return (await limit.take_in(world.runtime, "psp")).remaining

        assert [await take(), await take()] == [2, 1]
        proxy.cut_at(b"EVALSHA", Cut.BEFORE_STATEMENT)
        assert [await take(), await take()] == [2, 1]
        assert {type(event) for event in events} == {Degraded}
        assert proxy.cuts == 1
        seconds[0] += 1.0
        assert await take() == 0
        assert len(events) == 2

    world.run(main(), cut_off)


def test_when_redis_is_killed_a_policy_goes_on(
    world: World, proxy: Proxy, cut_off: RedisConnection, prefix: str
) -> None:
    counter = EventCounter()
    policy = Policy(RateLimit("5/hour", key="psp", shared=cut_off, prefix=prefix), name="psp", listeners=[counter])

    async def call() -> int:
        if world.runtime is THREAD:
            return policy.call(lambda: 1)

        async def function() -> int:
            return 1

        return await policy.call(function)

    async def main() -> None:
        assert await call() == 1
        proxy.stop()
        assert [await call() for _ in range(5)] == [1] * 5
        with pytest.raises(RateLimited):
            await call()
        assert counter.counts["Degraded", "psp"] == 6

    world.run(main(), cut_off)


# --- caches ---------------------------------------------------------------------------------------


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


# --- breakers -------------------------------------------------------------------------------------


def _fail() -> None:
    raise OSError


async def _fail_in_a_loop() -> None:
    raise OSError


async def _call(world: World, policy: Policy) -> None:
    if world.runtime is THREAD:
        policy.call(_fail)
    else:
        await policy.call(_fail_in_a_loop)


def breaker_of(connection: RedisConnection, prefix: str, name: str = "psp", **settings: Any) -> CircuitBreaker:
    shared = RedisCircuits(connection, prefix=prefix, **settings)
    return CircuitBreaker(name, ConsecutiveFailures(2), open_for=30, shared=shared)


async def _open(world: World, breaker: CircuitBreaker, *listeners: Callable[[PolicyEvent], object]) -> None:
    for _ in range(2):
        with pytest.raises(OSError):  # noqa: PT011 - it is the error of the call
            await _call(world, Policy(breaker, listeners=listeners))


def test_a_circuit_that_one_process_opens_is_open_for_the_others_for_the_rest_of_the_time(
    world: World, connection: RedisConnection, prefix: str, plain: redis_py.Redis
) -> None:
    mine, other = breaker_of(connection, prefix), breaker_of(connection, prefix)
    unrelated = breaker_of(connection, prefix, "bank")

    async def main() -> None:
        await _open(world, mine)
        assert 29_000 < plain.pttl(f"{prefix}:psp") <= 30_000
        plain.pexpire(f"{prefix}:psp", 10_000)
        with pytest.raises(CircuitOpen) as caught:
            await _call(world, Policy(other))
        assert caught.value.retry_after == pytest.approx(10, abs=PATIENT)
        with pytest.raises(OSError):  # noqa: PT011 - it is the error of the call
            await _call(world, Policy(unrelated))

    world.run(main(), connection)


def test_a_shorter_time_never_shortens_a_longer_one(
    world: World, connection: RedisConnection, prefix: str, plain: redis_py.Redis
) -> None:
    plain.set(f"{prefix}:psp", "open", px=300_000)

    async def main() -> None:
        breaker = breaker_of(connection, prefix)
        # Looked at before, so that it opens by its own failures.
        with replaced(Conditions(monotonic=lambda: 0.0)):
            breaker._shared._look_at[breaker] = 1000.0
            await _open(world, breaker)

    world.run(main(), connection)
    assert plain.pttl(f"{prefix}:psp") > 290_000


def test_others_are_looked_at_only_now_and_then(proxy: Proxy, cut_off: RedisConnection, prefix: str) -> None:
    now = [1000.0]
    policy = Policy(breaker_of(cut_off, prefix, refresh=1.0))
    with replaced(Conditions(monotonic=lambda: now[0])):
        policy.call(int)
        before = proxy.round_trips
        for _ in range(100):
            policy.call(int)
        assert proxy.round_trips == before
        now[0] += 1.0
        for _ in range(100):
            policy.call(int)
        assert proxy.round_trips == before + 1


def test_calls_that_fail_later_are_not_told_again(proxy: Proxy, cut_off: RedisConnection, prefix: str) -> None:
    breaker = breaker_of(cut_off, prefix)
    with replaced(Conditions(monotonic=lambda: 1000.0)):
        policy = Policy(breaker)

        def fail_inside() -> None:
            with suppress(OSError):
                policy.call(_fail)
            before = proxy.round_trips
            with suppress(OSError, CircuitOpen):
                policy.call(_fail)
            told.append(proxy.round_trips - before)
            raise OSError

        told: list[int] = []
        with pytest.raises(OSError):  # noqa: PT011 - it is the error of the call
            policy.call(fail_inside)
        before = proxy.round_trips
    assert told in ([1], [2])  # two, where Redis does not know the program yet
    assert proxy.round_trips == before
    assert breaker.state is CircuitState.OPEN


def test_without_redis_a_breaker_is_as_if_it_shared_nothing(
    world: World, proxy: Proxy, cut_off: RedisConnection, prefix: str
) -> None:
    breaker, counter = breaker_of(cut_off, prefix), EventCounter()
    proxy.stop()

    async def main() -> None:
        await _open(world, breaker, counter)
        with pytest.raises(CircuitOpen):
            await _call(world, Policy(breaker))

    world.run(main(), cut_off)
    # It has looked, and has told that it is open.
    assert counter.counts["Degraded", "psp"] == 2
    assert breaker.state is CircuitState.OPEN


def test_a_breaker_that_only_watches_opens_no_others(
    world: World, connection: RedisConnection, prefix: str, plain: redis_py.Redis
) -> None:
    breaker = breaker_of(connection, prefix)
    breaker.switch(BreakerMode.SHADOW)
    world.run(_open(world, breaker), connection)
    assert breaker.state is CircuitState.OPEN
    assert not plain.exists(f"{prefix}:psp")
