"""The way to a real Redis, and what it costs when that is gone."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import cast

import pytest
import redis as redis_py

from orderkit.errors import ConfigurationError
from orderkit.resilience import (
    RedisClients,
    RedisConnection,
)
from orderkit.resilience.redis import Script, Unreachable
from orderkit.resilience.runtimes import LOOP, THREAD, drive
from tests.integration.kit.proxy import Cut, Proxy
from tests.integration.resilience.worlds import PATIENT, World


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_has_connections_of_its_own_and_leaves_those_of_its_parent_alone(world: World, server: str) -> None:
    connection = RedisConnection(server, timeout=PATIENT)

    async def ask() -> int:
        return cast("int", await connection.run(world.runtime, "CLIENT", "ID"))

    def in_a_child(mine: int) -> int:
        pid = os.fork()
        if pid == 0:
            is_own = False
            try:
                gc.collect()
                is_own = drive(connection.run(THREAD, "CLIENT", "ID")) != mine
            finally:
                os._exit(0 if is_own else 1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    async def main() -> None:
        mine = await ask()
        assert in_a_child(mine) == 0
        assert await ask() == mine

    world.run(main(), connection)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://127.0.0.1",
        "127.0.0.1:6379",
        "shop:secret@127.0.0.1:6379",
        "redis:/shop:secret@127.0.0.1",
        "redis://user:secret@host:port/0",
        "redis://shop:se/secret@127.0.0.1:6379/0",
        "redis://127.0.0.1:6379/0?db=secret",
        "redis://[secret@127.0.0.1",
    ],
)
def test_a_url_of_something_else_is_refused_and_never_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisConnection(url)
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@127.0.0.1:6379/0",
        "rediss://user:secret@127.0.0.1",
        "redis://127.0.0.1?password=secret&db=1",
        "unix:///tmp/redis.sock?db=1&password=secret",
        "rediss://127.0.0.1?ssl_password=secret",
        "rediss://127.0.0.1?PassWord=secret",
        "redis://127.0.0.1?pass%77ord=secret",
        "redis://shop:1/secret@127.0.0.1",
        "redis://shop:1#secret@127.0.0.1",
        "redis://shop:1?secret@127.0.0.1",
    ],
)
def test_the_password_is_not_shown(url: str) -> None:
    connection = RedisConnection(url)
    shown = repr(connection)
    assert "secret" not in shown + repr(connection._source)
    assert "***" in shown


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigurationError, match=r"orderkit\[redis\]"):
        RedisConnection("redis://127.0.0.1")
