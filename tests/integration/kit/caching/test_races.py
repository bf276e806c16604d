"""Look-ups and commands at the same time."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import product

import pytest

from orderkit import Order, OrderCache, OrderKit
from orderkit.domain.commands import ChangeTags
from orderkit.errors import CommitUnknown, OrderNotFound
from orderkit.resilience import CacheAnswered
from tests.integration.kit.caching.kits import WAITING, Heard, OpenCached, Paused
from tests.integration.kit.places import TEA, Place, race

# What waits inside a greenlet keeps its whole event loop waiting.
in_threads = pytest.mark.parametrize("place", ["memory", "sqlite", "sqlite-async", "psycopg", "pymysql"], indirect=True)


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> Paused:
    return Paused(monkeypatch)


@in_threads
def test_a_look_that_began_before_a_commit_is_not_kept_after_it(kit: OrderKit, plain: OrderKit, paused: Paused) -> None:
    order = plain.orders.place(lines=TEA)
    with ThreadPoolExecutor(2) as pool:
        early = pool.submit(kit.orders.get, order.id)
        assert paused.seen.wait(WAITING)
        kit.orders.confirm(order.id)
        assert kit.orders.get(order.id).version == 2
        paused.go_on.set()
        assert early.result(WAITING).version == 1
    assert kit.orders.get(order.id).version == 2


@in_threads
def test_a_look_that_began_before_an_order_was_there_is_joined_by_nobody_after_it(
    kit: OrderKit, plain: OrderKit, paused: Paused
) -> None:
    plain.orders.search()  # so that tables are there
    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(kit.orders.get, "order-1")
        assert paused.seen.wait(WAITING)
        order = kit.orders.place(lines=TEA, id="order-1")
        assert kit.orders.get("order-1") == order
        paused.go_on.set()
        assert isinstance(early.exception(WAITING), OrderNotFound)
    assert kit.orders.get("order-1") == order


@in_threads
def test_of_many_who_want_an_order_one_reads_it(kit: OrderKit, plain: OrderKit, paused: Paused, heard: Heard) -> None:
    order = plain.orders.place(lines=TEA, metadata={"a": 1})

    def look(client: int) -> Order:
        if client == 0:
            assert paused.seen.wait(WAITING)
            paused.go_on.set()
        return kit.orders.get(order.id)

    found = race(32, look)
    outcomes = Counter(event.outcome for event in heard.events if isinstance(event, CacheAnswered))
    assert (paused.reads, outcomes["miss"], outcomes.total()) == (1, 1, 32)
    assert all(one == order for one in found)
    assert len({id(one.metadata) for one in found}) == 32


@pytest.mark.parametrize("shared", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["local", "redis"])
@pytest.mark.parametrize("place", ["memory", "sqlite-async", "psycopg", "asyncpg", "pymysql"], indirect=True)
def test_nobody_ever_finds_less_than_a_command_has_returned(
    place: Place, tenant: str, open_cached: OpenCached, redis_prefix: str, shared: bool
) -> None:
    kits = [open_cached(place, redis_prefix if shared else None).for_tenant(tenant)] * 2
    if shared:
        kits[1] = open_cached(place, redis_prefix).for_tenant(tenant)
    ids = [kits[0].orders.place(lines=TEA).id for _ in range(2)]
    returned: dict[tuple[int, str], int] = dict.fromkeys(product(map(id, kits), ids), 1)
    lock = threading.Lock()

    def work(client: int) -> None:
        chance, kit = random.Random(client), kits[client % 2]
        for number in range(12):
            order_id = chance.choice(ids)
            seen_by = id(kit), order_id
            if client < 2:
                changed = kit.orders.execute(order_id, ChangeTags(add=(f"t{client}-{number}",)))
                with lock:
                    returned[seen_by] = max(returned[seen_by], changed.version)
            for _ in range(4):
                least = returned[seen_by]
                assert kit.orders.get(order_id).version >= least

    race(6, work)
    for order_id in ids:
        newest = max(returned[id(kit), order_id] for kit in kits)
        assert [kit.orders.get(order_id).version for kit in kits] == [newest, newest]


@pytest.mark.parametrize("place", ["sqlite-async", "asyncpg", "psycopg-async", "aiomysql"], indirect=True)
def test_a_command_that_is_cancelled_is_seen_if_it_was_done(place: Place, tenant: str, cache: OrderCache) -> None:
    async def main() -> None:
        async with place.async_kit(cache=cache) as owner, place.async_kit() as other:
            kit, plain = owner.for_tenant(tenant), other.for_tenant(tenant)
            order = await kit.orders.place(lines=TEA)
            for number in range(24):
                await kit.orders.get(order.id)
                task = asyncio.create_task(kit.orders.execute(order.id, ChangeTags(add=(f"tag-{number}",))))
                for _ in range(number):
                    await asyncio.sleep(0)
                task.cancel()
                with suppress(asyncio.CancelledError, CommitUnknown):
                    await task
                assert await kit.orders.get(order.id) == await plain.orders.get(order.id)

    asyncio.run(main())
