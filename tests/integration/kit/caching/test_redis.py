"""Processes that share a Redis, and what becomes of it when Redis is gone."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import attrs
import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from orderkit import AsyncOrderKit, OrderCache, OrderKit
from orderkit.resilience import Degraded, RedisClients, RedisConnection
from orderkit.resilience.conditions import Conditions, replaced
from orderkit.resilience.single_flight import Flight, Flights
from tests.conftest import text_of
from tests.integration.kit.caching.kits import REDIS, WAITING, Heard, OpenCached, Paused
from tests.integration.kit.places import SHELLS, TEA, Place
from tests.integration.kit.proxy import Cut, Proxy

embedded = pytest.mark.parametrize("place", ["memory", "sqlite-async"], indirect=True)


def test_processes_that_share_redis_see_each_others_commits_at_once(
    place: Place, tenant: str, open_cached: OpenCached, redis_prefix: str, heard: Heard
) -> None:
    kits = [open_cached(place, redis_prefix).for_tenant(tenant) for _ in range(2)]
    order = kits[0].orders.place(lines=TEA, metadata={"a": "é"})
    for number in range(4):
        writer, reader = kits[number % 2], kits[1 - number % 2]
        assert reader.orders.get(order.id) == order
        assert heard.during(partial(writer.orders.get, order.id)) == (order, ["hit"])
        order = writer.orders.hold(order.id, f"hold-{number}")
    assert all(kit.orders.get(order.id) == order for kit in kits)


@embedded
def test_who_waits_for_a_look_that_began_before_a_commit_elsewhere_looks_again(
    place: Place, tenant: str, open_cached: OpenCached, redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit, elsewhere = (open_cached(place, redis_prefix).for_tenant(tenant) for _ in range(2))
    order = elsewhere.orders.place(lines=TEA)
    paused, waiting = Paused(monkeypatch), threading.Event()
    join = Flights.join

    def joining(*arguments: Any) -> tuple[Flight, bool]:
        flight, is_ours = join(*arguments)
        if not is_ours:
            waiting.set()
        return flight, is_ours

    monkeypatch.setattr(Flights, "join", joining)
    with ThreadPoolExecutor(2) as pool:
        early = pool.submit(kit.orders.get, order.id)
        assert paused.seen.wait(WAITING)
        elsewhere.orders.confirm(order.id)
        late = pool.submit(kit.orders.get, order.id)
        assert waiting.wait(WAITING)
        paused.go_on.set()
        assert early.result(WAITING).version == 1
        assert late.result(WAITING).version == 2


@pytest.mark.parametrize("place", ["memory", "sqlite", "psycopg", "pymysql"], indirect=True)
def test_threads_and_event_loops_share_one_redis(
    place: Place, tenant: str, open_cached: OpenCached, redis_prefix: str
) -> None:
    aside = {"memory": "memory-async", "sqlite": "sqlite-async", "psycopg": "psycopg-async", "pymysql": "aiomysql"}
    driver = {"pymysql": "mariadb+aiomysql"}.get(place.shell, place.url.drivername)
    beside = attrs.evolve(place, shell=aside[place.shell], url=place.url.set(drivername=driver))
    assert {place.shell, beside.shell} <= set(SHELLS)
    kits = [open_cached(where, redis_prefix).for_tenant(tenant) for where in (place, beside)]
    order = kits[0].orders.place(lines=TEA)
    for number in range(4):
        assert [kit.orders.get(order.id) for kit in kits] == [order, order]
        order = kits[number % 2].orders.hold(order.id, f"hold-{number}")


@embedded
def test_while_redis_is_gone_the_database_answers_and_after_it_nothing_old_does(
    place: Place, tenant: str, open_cached: OpenCached, redis_prefix: str, redis_proxy: Proxy, heard: Heard
) -> None:
    seconds = [1000.0]
    through = text_of(redis_proxy.url(make_url(REDIS)))
    with replaced(Conditions(monotonic=lambda: seconds[0])):
        kit, other = (open_cached(place, redis_prefix, url).for_tenant(tenant) for url in (through, REDIS))
        order = kit.orders.place(lines=TEA)
        assert heard.during(lambda: [kit.orders.get(order.id) for _ in range(2)])[1] == ["miss", "hit"]
        redis_proxy.cut_at(b"DEL", Cut.BEFORE_STATEMENT)
        assert kit.orders.confirm(order.id).version == 2
        assert [type(event) for event in heard.events][-1] is Degraded
        assert heard.during(lambda: kit.orders.get(order.id).version) == (2, ["miss"])
        seconds[0] += 60.0
        # What is owed to Redis is done before anything is read from it.
        assert [kit.orders.get(order.id).version for _ in range(2)] == [2, 2]
        assert other.orders.get(order.id).version == 2
        assert heard.during(lambda: kit.orders.get(order.id).version) == (2, ["hit"])


@embedded
def test_without_any_redis_a_kit_works_as_without_a_cache(place: Place, tenant: str, open_cached: OpenCached) -> None:
    kit = open_cached(place, "nobody", "redis://127.0.0.1:1/0").for_tenant(tenant)
    order = kit.orders.place(lines=TEA)
    for number in range(3):
        assert kit.orders.get(order.id) == order
        order = kit.orders.hold(order.id, f"hold-{number}")


class Held:
    """A Redis that holds every deletion up."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.deleted: list[object] = []

    async def execute_command(self, *words: Any) -> object:
        if words[0] != "DEL":
            return [b"header"]
        self.begun.set()
        await self.go_on.wait()
        self.deleted.extend(words[1:])
        return len(words) - 1


def test_a_cancellation_does_not_keep_redis_from_learning_of_a_commit(tenant: str) -> None:
    async def main() -> None:
        held = Held()
        shared = RedisConnection(RedisClients(asynchronous=lambda: held))
        async with AsyncOrderKit.from_url("memory://", cache=OrderCache(shared=shared)) as kit:
            held.go_on.set()
            order = await kit.orders.place(lines=TEA)
            held.go_on.clear()
            held.begun.clear()
            held.deleted.clear()
            task = asyncio.create_task(kit.orders.confirm(order.id))
            await held.begun.wait()
            task.cancel()
            await asyncio.sleep(0)
            assert not task.done()
            held.go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert any(order.id in str(name) for name in held.deleted)

    asyncio.run(main())


@pytest.mark.parametrize("place", ["psycopg"], indirect=True)
def test_what_an_asynchronous_session_of_theirs_commits_is_seen_by_all_once_it_returns(
    place: Place, plain: OrderKit, tenant: str, redis_prefix: str
) -> None:
    url = text_of(place.url.set(drivername="postgresql+psycopg"))
    plain.create_schema()
    order = plain.orders.place(lines=TEA)

    async def main() -> None:
        async with RedisConnection(REDIS, timeout=5.0) as connection:
            caches = [OrderCache(shared=connection, prefix=redis_prefix) for _ in range(2)]
            kits = [AsyncOrderKit.from_url(url, cache=cache) for cache in caches]
            async with kits[0] as one, kits[1] as two:
                await confirm_in_a_session(one.for_tenant(tenant), two.for_tenant(tenant))

    async def confirm_in_a_session(kit: AsyncOrderKit, other: AsyncOrderKit) -> None:
        engine = create_async_engine(url)
        async with AsyncSession(engine) as session:
            await kit.within(session).orders.confirm(order.id)
            assert (await other.orders.get(order.id)).version == 1
            await session.commit()
            assert (await other.orders.get(order.id)).version == 2
        await engine.dispose()

    asyncio.run(main())
