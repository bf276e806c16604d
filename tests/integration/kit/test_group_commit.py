"""Group commit: those who commit at the same time share a commit, and nobody notices but by the time it takes."""

from __future__ import annotations

import asyncio
import random

import pytest

from orderkit import Order, OrderKit, OrderStatus, Settings
from orderkit.errors import AlreadyExists, CommitUnknown, StorageBusy, StorageUnavailable, TransactionEnded
from orderkit.testing.conformance.base import order_row, placing
from tests.integration.kit.places import DURABLE, TEA, OpenAt, OpenKit, Place, assert_whole, outcome, race
from tests.integration.kit.proxy import Cut, Proxy

GROUPED = Settings(group_commit=True, pool_size=3, max_overflow=0)
"""Fewer connections than clients: whoever waits for a group holds none."""

CLIENTS = 32

everywhere = pytest.mark.parametrize("place", DURABLE, indirect=True)


@pytest.fixture
def kit(open_kit: OpenKit, tenant: str) -> OrderKit:
    kit = open_kit(settings=GROUPED).for_tenant(tenant)
    kit.create_schema()
    return kit


@everywhere
def test_each_waits_for_its_own_order(place: Place, kit: OrderKit, tenant: str) -> None:
    def take(client: int) -> list[Order]:
        orders = [kit.orders.place(lines=TEA, idempotency_key=f"{client}-{n}") for n in range(4)]
        assert [kit.orders.get(order.id) for order in orders] == orders
        return orders

    orders = [order for some in race(CLIENTS, take) for order in some]
    assert len({order.id for order in orders}) == assert_whole(place, tenant)["orders"] == CLIENTS * 4
    if place.is_postgresql:
        (row,) = place.query("SELECT count(DISTINCT xid) AS commits FROM orderkit_outbox WHERE tenant = %s", tenant)
        assert row["commits"] < CLIENTS * 4


@everywhere
def test_one_that_cannot_be_written_fails_alone(place: Place, kit: OrderKit, tenant: str) -> None:
    kit.orders.place(lines=TEA, id="order_taken", number="N-1")

    def take(client: int) -> object:
        if client % 8 == 3:
            return outcome(lambda: kit.orders.place(lines=TEA, id="order_taken"))
        if client % 8 == 5:
            return outcome(lambda: kit.orders.place(lines=TEA, number="N-1"))
        return kit.orders.place(lines=TEA)

    results = race(CLIENTS, take)
    assert [isinstance(result, AlreadyExists) for result in results] == [n % 8 in {3, 5} for n in range(CLIENTS)]
    assert assert_whole(place, tenant)["orders"] == CLIENTS * 6 // 8 + 1


@everywhere
def test_a_key_is_one_order_whoever_comes_with_it(place: Place, kit: OrderKit, tenant: str) -> None:
    orders = race(CLIENTS, lambda client: kit.orders.place(lines=TEA, idempotency_key=f"key-{client % 3}"))
    assert len({order.id for order in orders}) == assert_whole(place, tenant)["orders"] == 3


@everywhere
def test_all_write_one_order(place: Place, kit: OrderKit, tenant: str) -> None:
    order = kit.orders.place(lines=TEA)
    race(8, lambda client: kit.orders.hold(order.id, f"hold-{client}"))
    assert kit.orders.get(order.id).version == 9
    assert assert_whole(place, tenant)["events"] == 9


@everywhere
def test_transactions_are_what_they_were(place: Place, kit: OrderKit, tenant: str) -> None:
    def take(client: int) -> None:
        if client % 2:
            kit.run(lambda tx: [tx.orders.place(lines=TEA) for _ in range(2)])
        else:
            with kit.transaction() as tx:
                tx.orders.confirm(tx.orders.place(lines=TEA).id)

    race(8, take)
    assert assert_whole(place, tenant)["orders"] == 12
    assert sum(order.status is OrderStatus.OPEN for order in kit.orders.stream()) == 4


@pytest.mark.parametrize("place", ["psycopg", "psycopg-async", "asyncpg"], indirect=True)
def test_a_commit_that_is_cut_off_is_unknown_to_all_of_its_group(
    place: Place, proxied: Place, proxy: Proxy, open_at: OpenAt, tenant: str
) -> None:
    kit = open_at(proxied, settings=GROUPED).for_tenant(tenant)
    kit.orders.place(lines=TEA, idempotency_key="before")
    proxy.cut_at(b"COMMIT", Cut.BEFORE_ANSWER)

    def take(client: int) -> object:
        return outcome(lambda: kit.orders.place(lines=TEA, idempotency_key=f"key-{client}"))

    results = race(CLIENTS, take)
    assert all(isinstance(result, Order | CommitUnknown | StorageUnavailable) for result in results)
    settled = race(CLIENTS, lambda client: kit.orders.place(lines=TEA, idempotency_key=f"key-{client}"))
    known = {n: result.id for n, result in enumerate(results) if isinstance(result, Order)}
    assert {n: settled[n].id for n in known} == known
    assert assert_whole(place, tenant)["orders"] == CLIENTS + 1


@pytest.mark.parametrize("place", ["sqlite-async", "psycopg-async", "asyncpg", "aiomysql"], indirect=True)
def test_who_is_cancelled_leaves_the_others_alone(place: Place, tenant: str) -> None:
    async def run() -> tuple[set[str], int]:
        chance = random.Random(7)
        kit = place.async_kit(settings=GROUPED)
        orders = kit.for_tenant(tenant).orders
        await kit.create_schema()

        async def take(client: int) -> str:
            return (await orders.place(lines=TEA, idempotency_key=f"key-{client}")).id

        tasks = [asyncio.create_task(take(client)) for client in range(60)]
        for task in chance.sample(tasks, 30):
            await asyncio.sleep(chance.random() / 500)
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, str | asyncio.CancelledError) for result in results)
        again = [await take(client) for client in range(60)]
        kept = {result for result in results if isinstance(result, str)}
        assert kept <= set(again)
        await kit.close()
        return kept, len(set(again))

    kept, total = asyncio.run(run())
    assert len(kept) >= 30
    assert assert_whole(place, tenant)["orders"] == total == 60


@pytest.mark.slow
@pytest.mark.parametrize("place", ["psycopg", "pymysql"], indirect=True)
def test_an_order_that_is_locked_keeps_no_other_caller_waiting(place: Place, open_kit: OpenKit, tenant: str) -> None:
    kit = open_kit(settings=Settings(group_commit=True, lock_timeout=0.3)).for_tenant(tenant)
    order = kit.orders.place(lines=TEA)
    with place.kit() as other, other.for_tenant(tenant).transaction() as tx:
        tx.orders.hold(order.id, "elsewhere")
        results = race(8, lambda client: outcome(lambda: confirm_or_place(kit, order, client)))
    assert [isinstance(result, StorageBusy) for result in results] == [client == 0 for client in range(8)]


def confirm_or_place(kit: OrderKit, order: Order, client: int) -> Order:
    return kit.orders.place(lines=TEA) if client else kit.orders.confirm(order.id, expected_version=1)


@pytest.mark.parametrize("place", ["sqlite", "psycopg"], indirect=True)
def test_a_storage_is_of_no_use_after_its_block(kit: OrderKit, tenant: str) -> None:
    with kit._backend.connect() as storage:
        storage.read(tenant, "order_1")
    for late in (lambda: storage.read(tenant, "order_1"), lambda: storage.commit(placing(order_row(tenant)))):
        with pytest.raises(TransactionEnded):
            late()
