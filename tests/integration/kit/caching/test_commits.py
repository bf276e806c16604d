"""After any kind of commit nobody gets what was there before it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from orderkit import BulkResult, IdempotentOperation, Order, OrderCache, OrderKit, Settings, Transaction
from orderkit.domain.commands import ChangeMetadata, ChangeTags, ConfirmOrder, LineQuantity, SetContact
from orderkit.errors import CommitUnknown, OrderNotFound
from orderkit.testing.clock import ManualClock
from tests.integration.kit.caching.kits import Heard
from tests.integration.kit.places import DURABLE, SERVERS, TEA, OpenAt, OpenKit, Place, race
from tests.integration.kit.proxy import Cut, Proxy
from tests.integration.kit.test_faults import the_commit
from tests.integration.kit.test_personal_data import contact


def test_what_was_looked_up_is_kept(kit: OrderKit, plain: OrderKit, heard: Heard) -> None:
    order = kit.orders.place(lines=TEA, metadata={"channel": "web"}, contact=contact("a"))
    looks = [heard.during(lambda: kit.orders.get(order.id)) for _ in range(3)]
    assert [outcomes for _, outcomes in looks] == [["miss"], ["hit"], ["hit"]]
    assert all(found == order == plain.orders.get(order.id) for found, _ in looks)


def test_after_any_verb_its_result_is_what_is_found(
    kit: OrderKit, plain: OrderKit, warm: Callable[[str], Order], clock: ManualClock
) -> None:
    def follow(order: Order, *steps: Callable[[str], Order]) -> None:
        for step in steps:
            before = warm(order.id)
            changed = step(order.id)
            assert changed.version > before.version
            assert kit.orders.get(order.id) == changed == plain.orders.get(order.id)

    do = kit.orders
    placed = do.place(lines=TEA, contact=contact("a"))
    one_unit = LineQuantity(line_id=placed.lines[0].id, quantity=1)
    follow(
        placed,
        do.confirm,
        lambda order: do.hold(order, "fraud"),
        lambda order: do.release(order, "fraud"),
        lambda order: do.execute(order, ChangeMetadata(metadata={"a": 1})),
        lambda order: do.execute(order, ChangeTags(add=("gift",))),
        lambda order: do.execute(order, SetContact(contact=contact("b"))),
        lambda order: do.cancel_lines(order, [one_unit]),
        do.complete,
        do.reopen,
        do.erase_personal_data,
        do.cancel,
    )
    follow(do.draft(currency="EUR"), do.discard)
    expiring = do.place(lines=TEA, expires_at=clock.now() + timedelta(hours=1))
    clock.advance(timedelta(hours=2))
    follow(expiring, do.expire)


def test_after_bulk_runs_their_results_are_what_is_found(kit: OrderKit, plain: OrderKit, clock: ManualClock) -> None:
    ids = [f"order-{number}" for number in range(6)]
    for order_id in ids:
        with pytest.raises(OrderNotFound):
            kit.orders.get(order_id)
    news = [{"lines": TEA, "id": order_id} for order_id in ids]
    placed = results_of(kit.orders.place_many(news[:4], batch_size=3))
    imported = results_of(kit.orders.import_orders({**new, "placed_at": clock.now()} for new in news[4:]))
    assert [kit.orders.get(order_id) for order_id in ids] == [*placed, *imported]
    changed = results_of(kit.orders.execute_many([(order_id, ConfirmOrder()) for order_id in ids[:4]], batch_size=3))
    assert [order.version for order in changed] == [2] * 4
    assert [kit.orders.get(order.id) for order in changed] == changed == [plain.orders.get(each.id) for each in changed]


def results_of(run: Iterable[BulkResult]) -> list[Order]:
    orders = [result.order for result in run if result.order is not None]
    assert orders
    return orders


def test_after_a_run_its_results_are_what_is_found(
    kit: OrderKit, plain: OrderKit, warm: Callable[[str], Order]
) -> None:
    first, second = (kit.orders.place(lines=TEA) for _ in range(2))
    warm(first.id)
    warm(second.id)

    def work(tx: Transaction) -> str:
        tx.orders.confirm(first.id)
        tx.orders.hold(second.id, "fraud")
        return tx.orders.place(lines=TEA).id

    made = kit.run(work)
    found = [kit.orders.get(order_id) for order_id in (first.id, second.id, made)]
    assert found == [plain.orders.get(order_id) for order_id in (first.id, second.id, made)]
    assert [order.version for order in found] == [2, 2, 1]


def test_a_transaction_is_seen_from_its_commit_on(kit: OrderKit, plain: OrderKit, warm: Callable[[str], Order]) -> None:
    order = kit.orders.place(lines=TEA)
    warm(order.id)
    with kit.transaction() as tx:
        assert tx.orders.confirm(order.id).version == 2
        assert tx.orders.get(order.id).version == 2
        assert kit.orders.get(order.id).version == 1
    assert kit.orders.get(order.id) == plain.orders.get(order.id)
    assert kit.orders.get(order.id).version == 2


def test_a_transaction_that_is_taken_back_is_never_seen(kit: OrderKit, warm: Callable[[str], Order]) -> None:
    order = kit.orders.place(lines=TEA)
    warm(order.id)
    with suppress(KeyError), kit.transaction() as tx:
        tx.orders.confirm(order.id)
        made = tx.orders.place(lines=TEA)
        raise KeyError
    assert kit.orders.get(order.id).version == 1
    with pytest.raises(OrderNotFound):
        kit.orders.get(made.id)


@pytest.mark.parametrize("place", DURABLE, indirect=True)
def test_commits_that_are_shared_are_seen_by_all(open_kit: OpenKit, cache: OrderCache, tenant: str) -> None:
    kit = open_kit(cache=cache, settings=Settings(group_commit=True, create_tables=True)).for_tenant(tenant)

    def change(_client: int) -> None:
        order = kit.orders.place(lines=TEA)
        for name in ("a", "b", "c"):
            assert kit.orders.get(order.id) == order
            order = kit.orders.hold(order.id, name)
        assert kit.orders.get(order.id) == order

    race(8, change)


@pytest.mark.parametrize("place", SERVERS, indirect=True)
def test_a_commit_that_is_lost_sight_of_is_seen_all_the_same(
    place: Place, proxied: Place, proxy: Proxy, open_at: OpenAt, cache: OrderCache, plain: OrderKit, tenant: str
) -> None:
    kit = open_at(proxied, cache=cache).bound(actor="marked-actor").for_tenant(tenant)
    order = plain.orders.place(lines=TEA)
    assert kit.orders.get(order.id).version == 1
    proxy.cut_at(the_commit(place), Cut.BEFORE_ANSWER)
    with pytest.raises(CommitUnknown):
        kit.orders.confirm(order.id)
    assert kit.orders.get(order.id) == plain.orders.get(order.id)
    assert kit.orders.get(order.id).version == 2


def test_what_was_erased_does_not_come_back(kit: OrderKit, plain: OrderKit, warm: Callable[[str], Order]) -> None:
    orders = [kit.orders.place(lines=TEA, customer="cust-1", contact=contact("a")) for _ in range(3)]
    assert all(warm(order.id).personal for order in orders)
    kit.orders.erase_personal_data(orders[0].id)
    kit.customers.erase("cust-1")
    for order in orders:
        found = kit.orders.get(order.id)
        assert found == plain.orders.get(order.id)
        assert found.version == 2


def test_orders_that_a_sweep_expires_are_found_expired(
    kit: OrderKit, plain: OrderKit, warm: Callable[[str], Order], clock: ManualClock
) -> None:
    order = kit.orders.place(lines=TEA, expires_at=clock.now() + timedelta(hours=1))
    warm(order.id)
    clock.advance(timedelta(hours=2))
    kit.sweep()
    found = kit.orders.get(order.id)
    assert (found, found.status) == (plain.orders.get(order.id), "expired")


@pytest.mark.parametrize("place", ["memory", "sqlite", "psycopg", "pymysql"], indirect=True)
def test_what_an_operation_commits_is_found(kit: OrderKit, plain: OrderKit, warm: Callable[[str], Order]) -> None:
    order = kit.orders.place(lines=TEA)
    warm(order.id)

    def work(run: Any) -> int:
        run.commit("confirm", lambda tx: tx.orders.confirm(order.id).version)
        assert kit.orders.get(order.id).version == 2
        warm(order.id)
        return int(run.complete(lambda tx: tx.orders.hold(order.id, "fraud").version))

    assert kit.operations.run(IdempotentOperation("work", work), key="k") == 3
    assert kit.orders.get(order.id) == plain.orders.get(order.id)
    assert kit.orders.get(order.id).version == 3


@pytest.mark.parametrize("place", ["memory-async", "sqlite-async", "asyncpg", "aiomysql"], indirect=True)
def test_what_an_asynchronous_operation_commits_is_found(place: Place, cache: OrderCache, tenant: str) -> None:
    async def main() -> None:
        async with place.async_kit(cache=cache) as owner:
            kit = owner.for_tenant(tenant)
            order = await kit.orders.place(lines=TEA)
            await kit.orders.get(order.id)

            async def work(run: Any) -> int:
                await run.commit("confirm", lambda tx: tx.orders.confirm(order.id).version)
                assert (await kit.orders.get(order.id)).version == 2
                return int(await run.complete(lambda tx: tx.orders.hold(order.id, "fraud").version))

            assert await kit.operations.run(IdempotentOperation("work", work), key="k") == 3
            assert (await kit.orders.get(order.id)).version == 3

    asyncio.run(main())
