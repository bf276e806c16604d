"""A tenant sees and writes nothing of another's, through no door."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orderkit import Contact, Order, OrderFilter, OrderKit, Settings, Transaction
from orderkit.domain.commands import ChangeTags, ConfirmOrder, LineQuantity
from orderkit.errors import InvalidCursor, InvalidKey, OrderKitError, OrderNotFound
from orderkit.kit.orders import Orders
from tests.integration.kit.places import TABLES, TEA, OpenKit, Place, assert_whole, new_tenant, outcome

BY_ID: dict[str, Callable[[Any, Order], object]] = {
    "get": lambda orders, order: orders.get(order.id),
    "execute": lambda orders, order: orders.execute(order.id, ChangeTags(add=("foreign",))),
    "confirm": lambda orders, order: orders.confirm(order.id),
    "hold": lambda orders, order: orders.hold(order.id, "fraud"),
    "release": lambda orders, order: orders.release(order.id, "fraud"),
    "cancel": lambda orders, order: orders.cancel(order.id),
    "cancel_lines": lambda orders, order: orders.cancel_lines(
        order.id, [LineQuantity(line_id=order.lines[0].id, quantity=1)]
    ),
    "complete": lambda orders, order: orders.complete(order.id),
    "reopen": lambda orders, order: orders.reopen(order.id),
    "expire": lambda orders, order: orders.expire(order.id),
    "discard": lambda orders, order: orders.discard(order.id),
    "as_of": lambda orders, order: orders.as_of(order.id, version=1),
    "history": lambda orders, order: orders.history(order.id),
    "personal": lambda orders, order: orders.personal(order.id),
    "preview": lambda orders, order: orders.preview(order.id, ConfirmOrder()),
    "allowed": lambda orders, order: orders.allowed(order.id),
    "explain": lambda orders, order: orders.explain(order.id),
    "erase_personal_data": lambda orders, order: orders.erase_personal_data(order.id),
    "execute_many": lambda orders, order: next(iter(orders.execute_many([(order.id, ConfirmOrder())]))).unwrap(),
}
"""Every method that takes the id of an order."""

WITHOUT_ID = {"create", "place", "draft", "search", "stream", "place_many", "import_orders", "forget"}
"""What takes no id, or reads and writes no order by it."""


def test_every_method_is_looked_at() -> None:
    methods = {name for name, _ in inspect.getmembers(Orders, inspect.isfunction) if not name.startswith("_")}
    assert methods == BY_ID.keys() | WITHOUT_ID


@pytest.fixture
def two(open_kit: OpenKit) -> tuple[OrderKit, OrderKit, str, str]:
    """Two tenants of one kit."""
    kit = open_kit()
    ours, theirs = new_tenant(), new_tenant()
    return kit.for_tenant(ours), kit.for_tenant(theirs), ours, theirs


def test_another_tenants_order_is_not_found(two: tuple[OrderKit, OrderKit, str, str], place: Place) -> None:
    mine, foreign, ours, theirs = two
    order = mine.orders.place(lines=TEA, contact=Contact(email="ada@example.org"), tags=("x",))
    for name, method in BY_ID.items():
        for error in (
            outcome(partial(method, foreign.orders, order)),
            outcome(partial(in_a_run, foreign, method, order)),
        ):
            assert isinstance(error, OrderNotFound), name
            assert (error.code, error.order_id) == ("order_not_found", order.id)
    with foreign.transaction() as tx:
        for name, method in BY_ID.items():
            assert isinstance(outcome(partial(method, tx.orders, order)), OrderNotFound), name
    with pytest.raises(OrderNotFound):
        foreign.orders.as_of(order.id, time=datetime(2999, 1, 1, tzinfo=UTC))
    assert mine.orders.get(order.id) == order
    assert set(place.counts(theirs).values()) == {0}
    assert assert_whole(place, ours)["orders"] == 1


def in_a_run(kit: OrderKit, method: Callable[[Any, Order], object], order: Order) -> object:
    return kit.run(lambda tx: method(tx.orders, order))


def test_the_unknown_and_the_foreign_look_the_same(two: tuple[OrderKit, OrderKit, str, str]) -> None:
    mine, foreign, _, _ = two
    order = mine.orders.place(lines=TEA)
    told = [str(outcome(partial(foreign.orders.get, known))) for known in (order.id, "order_absent")]
    assert told[0].replace(order.id, "order_absent") == told[1]


def test_ids_and_numbers_are_the_tenants_own(two: tuple[OrderKit, OrderKit, str, str], place: Place) -> None:
    mine, foreign, ours, theirs = two
    first = mine.orders.place(lines=TEA, id="order-1", number="2026-1", customer="cust-1")
    second = foreign.orders.place(lines=TEA, id="order-1", number="2026-1", customer="cust-2")
    mine.orders.confirm("order-1")
    assert foreign.orders.get("order-1") == second
    assert (first.customer, mine.orders.get("order-1").version) == ("cust-1", 2)
    assert [event.version for event in foreign.orders.history("order-1")] == [1]
    assert_whole(place, ours)
    assert_whole(place, theirs)


def test_a_cursor_is_of_no_use_to_another_tenant(two: tuple[OrderKit, OrderKit, str, str]) -> None:
    mine, foreign, _, _ = two
    for kit in (mine, foreign):
        for _ in range(3):
            kit.orders.place(lines=TEA)
    page = mine.orders.search(limit=2)
    assert page.next is not None
    with pytest.raises(InvalidCursor):
        foreign.orders.search(limit=2, cursor=page.next)
    assert len(mine.orders.search(limit=2, cursor=page.next).items) == 1


@pytest.mark.parametrize("tenant", ["", "x" * 256, "two\nlines", "nul\0", "lone \ud800 surrogate", "\x7f"])
@pytest.mark.parametrize("place", ["memory"], indirect=True)
def test_a_tenant_that_cannot_be_is_refused(open_kit: OpenKit, tenant: str) -> None:
    with pytest.raises(InvalidKey):
        open_kit().for_tenant(tenant)


@pytest.mark.parametrize("tenant", ["acme", "ACME", "a'; DROP TABLE x; --", "caf\u00e9", "cafe\u0301", "%_", "default"])
@pytest.mark.parametrize("place", ["sqlite", "psycopg", "asyncpg"], indirect=True)
def test_tenants_are_told_apart_to_the_letter(open_kit: OpenKit, tenant: str) -> None:
    kit, suffix = open_kit(), uuid4().hex[:20]
    mine = kit.for_tenant(tenant + suffix)
    order = mine.orders.place(lines=TEA, tags=("x",))
    for lookalike in ("Acme", "cafe", "%", "_", tenant.title() + " ", ""):
        other = kit.for_tenant(lookalike + suffix)
        assert other.orders.search(OrderFilter(tags=("x",))).items == ()
        with pytest.raises(OrderNotFound):
            other.orders.get(order.id)
    assert mine.orders.search(OrderFilter(tags=("x",))).items == (order,)


# --------------------------------------------------------------------------------------------
# Whatever two tenants do
# --------------------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.sampled_from([0, 1]),
        st.sampled_from(["place", "confirm", "cancel", "tag", "run", "sweep", "draft"]),
        st.sampled_from(["order-1", "order-2"]),
        st.sampled_from([None, "key-1", "key-2"]),
    ),
    max_size=14,
)


def take(kit: OrderKit, step: tuple[int, str, str, str | None]) -> object:
    _, verb, order, key = step
    if verb == "place":
        contact = Contact(email=f"{verb}@example.org")
        return kit.orders.place(lines=TEA, id=order, number=order, contact=contact, idempotency_key=key, tags=("x",))
    if verb == "draft":
        return kit.orders.draft(lines=TEA, idempotency_key=key, id=order)
    if verb == "confirm":
        return kit.orders.confirm(order, idempotency_key=key)
    if verb == "cancel":
        return kit.orders.cancel(order, idempotency_key=key)
    if verb == "tag":
        return kit.orders.execute(order, ChangeTags(add=("y",)), idempotency_key=key)
    if verb == "run":

        def work(tx: Transaction) -> Order:
            tx.orders.execute(order, ChangeTags(add=("z",)))
            return tx.orders.confirm(order)

        return kit.run(work)
    return kit.sweep()


def seen(kit: OrderKit) -> object:
    """Return everything a tenant can see, without what is minted anew every time."""
    return [
        (
            order.id,
            order.version,
            order.status,
            order.tags,
            [event.event.type for event in kit.orders.history(order.id)],
            [data.value for data in kit.orders.personal(order.id).values()],
        )
        for order in kit.orders.search(sort="created_at").items
    ]


@pytest.mark.parametrize("place", ["memory", "sqlite", "psycopg"], indirect=True)
def test_what_another_tenant_does_changes_nothing_for_this_one(place: Place) -> None:
    """Two tenants who share a database see what each would see alone, whatever the other does."""
    owner = place.kit(settings=Settings(durable=False))

    @settings(max_examples=40 if place.shell == "memory" else 12, deadline=None)
    @given(steps)
    def check(taken: list[tuple[int, str, str, str | None]]) -> None:
        together = [owner.for_tenant(new_tenant()) for _ in range(2)]
        alone = [owner.for_tenant(new_tenant()) for _ in range(2)]
        told = [describe(outcome(partial(take, together[step[0]], step))) for step in taken]
        expected: dict[int, object] = {}
        for tenant in range(2):  # one after the other, so that neither can be in the other's way
            for position, step in enumerate(taken):
                if step[0] == tenant:
                    expected[position] = describe(outcome(partial(take, alone[step[0]], step)))
        assert told == [expected[position] for position in range(len(taken))]
        assert [seen(kit) for kit in together] == [seen(kit) for kit in alone]

    with owner:
        check()


def describe(result: object) -> object:
    if isinstance(result, OrderKitError):
        return result.code
    return (result.id, result.version, result.status) if isinstance(result, Order) else None


def test_no_table_is_without_its_tenant() -> None:
    assert all("tenant" in table.columns for table in TABLES.values())
