"""A caller that is cancelled in the middle of its work leaves all of it behind, or nothing; the key tells which."""

# pyright: reportPrivateUsage=false
# The pool is looked at from inside.

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy.pool import QueuePool

from orderkit import AsyncOrderKit, Order, Settings, Transaction
from orderkit.domain.commands import ChangeTags
from orderkit.storage.sql import AsyncSqlBackend
from tests.integration.kit.places import TEA, Place, assert_whole

SHELLS = ("sqlite-async", "psycopg-async", "asyncpg", "aiomysql")
CANCELLATIONS = 64
AT_ONCE = 8

Work = Callable[[AsyncOrderKit, int], Awaitable[Order]]


async def place_one(kit: AsyncOrderKit, number: int) -> Order:
    return await kit.orders.place(lines=TEA, idempotency_key=f"place-{number}", tags=("x",))


async def place_in_a_transaction(kit: AsyncOrderKit, number: int) -> Order:
    async with kit.transaction() as tx:
        order = await tx.orders.place(lines=TEA, idempotency_key=f"place-{number}")
        return await tx.orders.confirm(order.id, idempotency_key=f"confirm-{number}")


async def place_in_a_run(kit: AsyncOrderKit, number: int) -> Order:
    def work(tx: Transaction) -> Order:
        order = tx.orders.place(lines=TEA, idempotency_key=f"place-{number}")
        tx.orders.search(limit=1)
        return tx.orders.confirm(order.id, idempotency_key=f"confirm-{number}")

    return await kit.run(work)


async def place_and_confirm(kit: AsyncOrderKit, number: int) -> Order:
    order = await kit.orders.place(lines=TEA, idempotency_key=f"place-{number}")
    return await kit.orders.confirm(order.id, idempotency_key=f"confirm-{number}")


WORKS = {work.__name__: work for work in (place_one, place_and_confirm, place_in_a_transaction, place_in_a_run)}


@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS.keys())
@pytest.mark.parametrize("place", SHELLS, indirect=True)
def test_cancelled_work_is_done_wholly_or_not_at_all(
    place: Place, tenant: str, work: Work, record_property: Callable[[str, object], None]
) -> None:
    async def scenario() -> None:
        async with place.async_kit(settings=Settings(pool_size=AT_ONCE)) as owner:
            kit = owner.for_tenant(tenant)
            usual = await duration(kit, work)
            results = await cancelled_at_random(kit, work, usual)
            assert {type(result) for result in results} <= {Order, asyncio.CancelledError}
            assert any(isinstance(result, asyncio.CancelledError) for result in results)
            assert_nothing_is_left(owner)
            assert_whole(place, tenant)
            await assert_settled_by_repeating(kit, place, tenant, work, results, record_property)

    asyncio.run(scenario())


async def duration(kit: AsyncOrderKit, work: Work) -> float:
    """Return how many seconds the work usually takes when several are at it."""
    taken = []
    for warm in range(5):
        started = time.perf_counter()
        await asyncio.gather(*(work(kit, -1 - warm * AT_ONCE - other) for other in range(AT_ONCE)))
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


async def cancelled_at_random(kit: AsyncOrderKit, work: Work, usual: float) -> list[Order | BaseException]:
    """Do the work many times, several at once, each cancelled once or twice somewhere on its way."""
    results: list[Order | BaseException] = []

    async def cancelled(number: int) -> Order | BaseException:
        task = asyncio.ensure_future(work(kit, number))
        await asyncio.sleep(random.uniform(0, 1.2 * usual))
        task.cancel()
        if number % 4 == 0:
            await asyncio.sleep(random.uniform(0, 0.2 * usual))
            task.cancel()
        return (await asyncio.gather(task, return_exceptions=True))[0]

    for first in range(0, CANCELLATIONS, AT_ONCE):
        results += await asyncio.gather(*(cancelled(first + other) for other in range(AT_ONCE)))
    return results


def assert_nothing_is_left(kit: AsyncOrderKit) -> None:
    """Insist that every connection is back in its pool and that no task is still at work."""
    backend = kit._backend
    assert isinstance(backend, AsyncSqlBackend)
    pool = backend._backend._engine.pool
    assert isinstance(pool, QueuePool)
    assert pool.checkedout() == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def assert_settled_by_repeating(
    kit: AsyncOrderKit,
    place: Place,
    tenant: str,
    work: Work,
    results: list[Order | BaseException],
    record_property: Callable[[str, object], None],
) -> None:
    """Insist that repeating gives the very orders that were made, and makes each that was not."""
    before = {row["id"] for row in place.rows("orders", tenant)}
    settled = [await work(kit, number) for number in range(len(results))]
    for result, order in zip(results, settled, strict=True):
        assert isinstance(result, asyncio.CancelledError) or result == order
    kept = assert_whole(place, tenant)
    assert kept["orders"] == len({order.id for order in settled}) + 5 * AT_ONCE
    told = Counter((type(result).__name__, order.id in before) for result, order in zip(results, settled, strict=True))
    record_property("results, and whether the order was there", dict(told))


@pytest.mark.parametrize("place", SHELLS, indirect=True)
def test_a_block_that_is_cancelled_is_rolled_back(place: Place, tenant: str) -> None:
    async def scenario() -> None:
        async with place.async_kit() as owner:
            kit = owner.for_tenant(tenant)
            order = await kit.orders.place(lines=TEA)
            entered = asyncio.Event()

            async def block() -> None:
                async with kit.transaction() as tx:
                    await tx.orders.place(lines=TEA)
                    await tx.orders.confirm(order.id)
                    entered.set()
                    await asyncio.Event().wait()

            task = asyncio.create_task(block())
            await entered.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await kit.orders.get(order.id) == order
            assert_nothing_is_left(owner)
            assert assert_whole(place, tenant)["orders"] == 1
            assert (await kit.orders.confirm(order.id)).version == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("place", SHELLS, indirect=True)
def test_a_caller_that_waits_for_a_lock_can_be_cancelled(place: Place, tenant: str) -> None:
    """Nobody who gives up waiting keeps the one who is waited for, or anyone behind them, from going on."""

    async def scenario() -> None:
        async with place.async_kit() as owner:
            kit = owner.for_tenant(tenant)
            order = await kit.orders.place(lines=TEA)
            async with kit.transaction() as tx:
                await tx.orders.hold(order.id, "fraud")
                waiting = [
                    asyncio.create_task(kit.orders.execute(order.id, ChangeTags(add=(f"t{number}",))))
                    for number in range(6)
                ]
                await asyncio.wait(waiting, timeout=0.05)
                for task in waiting[:3]:
                    task.cancel()
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(result, Order | asyncio.CancelledError) for result in results[:3])
            assert all(isinstance(result, Order) for result in results[3:])
            found = await kit.orders.get(order.id)
            assert {"t3", "t4", "t5"} <= set(found.tags)
            assert found.version == 2 + len(found.tags)
            assert_nothing_is_left(owner)
            assert_whole(place, tenant)

    asyncio.run(scenario())


@pytest.mark.parametrize("place", SHELLS, indirect=True)
def test_a_time_out_leaves_the_kit_usable(place: Place, tenant: str) -> None:
    async def scenario() -> None:
        async with place.async_kit() as owner:
            kit = owner.for_tenant(tenant)
            await kit.orders.place(lines=TEA)
            for number in range(20):
                try:
                    async with asyncio.timeout(random.uniform(0, 0.004)):
                        await kit.orders.place(lines=TEA, idempotency_key=f"k-{number}")
                except TimeoutError:
                    pass
            orders = [await kit.orders.place(lines=TEA, idempotency_key=f"k-{number}") for number in range(20)]
            assert len({order.id for order in orders}) == 20
            assert_nothing_is_left(owner)
            assert assert_whole(place, tenant)["orders"] == 21

    asyncio.run(scenario())
