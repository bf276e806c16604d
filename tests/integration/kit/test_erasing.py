"""What is personal in a customer's orders is exported as a whole and erased everywhere; the orders stay."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from sqlalchemy import create_engine

from orderkit import Contact, Erasure, Order, OrderFilter, OrderKit
from orderkit.domain.commands import (
    AddNote,
    CancelOrder,
    ChangeTags,
    ErasePersonalData,
    SetContact,
    SetCustomer,
)
from orderkit.domain.events import PersonalDataErased
from orderkit.domain.parties import NoteText
from orderkit.errors import InvalidCommand, InvalidKey, OrderNotFound, VersionConflict
from orderkit.testing.model import canonical, check_personal
from tests.integration.kit.places import TABLES, TEA, OpenKit, Place, Record, assert_whole, meanwhile, outcome, race
from tests.integration.kit.test_personal_data import PLANT, address, contact

CUSTOMER = "cust-42"
KEPT = set(TABLES) - {"orders", "personal", "events", "outbox"}


def ordered(kit: OrderKit, customer: str | None = CUSTOMER) -> Order:
    """Take an order that everything personal is known about, some of it replaced since."""
    order = kit.orders.place(
        customer=customer,
        lines=TEA,
        contact=contact("first"),
        billing_address=address("billing"),
        shipping_address=address("shipping"),
        tags=("gift",),
        metadata={"channel": "web"},
        idempotency_key="place" if customer is None else None,
    )
    kit.orders.execute(order.id, SetContact(contact=contact("second")))
    return kit.orders.execute(order.id, AddNote(note=NoteText(text=f"{PLANT} note")))


def planted(place: Place, tenant: str) -> list[str]:
    """Return the tables in which anything personal stands."""
    return [table for table in TABLES if PLANT in repr(place.rows(table, tenant))]


def facts(row: Record) -> Record:
    """Return everything an order's row says but its version and what of it was erased."""
    document = json.loads(row["document"])
    changing = {"version", "updated_at", "erased"}
    kept = {name: value for name, value in row.items() if name not in {*changing, "document"}}
    return kept | {"document": {name: value for name, value in document.items() if name not in changing}}


def test_a_customer_is_erased_everywhere_and_their_orders_stay(kit: OrderKit, place: Place, tenant: str) -> None:
    orders = [ordered(kit) for _ in range(3)]
    kit.orders.cancel(orders[0].id, reason="customer")
    before = {table: place.rows(table, tenant) for table in TABLES}
    assert planted(place, tenant) == ["personal"]
    assert kit.customers.erase(CUSTOMER, reason="gdpr-art-17") == Erasure(orders=3, pieces=15)
    assert planted(place, tenant) == []
    after = {table: place.rows(table, tenant) for table in TABLES}
    assert {table: after[table] for table in KEPT} == {table: before[table] for table in KEPT}
    assert list(map(facts, after["orders"])) == list(map(facts, before["orders"]))
    for table in ("events", "outbox"):
        kept = {row["id"]: row for row in after[table]}
        assert [kept[row["id"]] for row in before[table]] == before[table]
    assert all(row["data"] == "" and row["erased_at"] is not None for row in after["personal"])
    assert_whole(place, tenant)


def test_what_was_erased_is_shown_as_erased(kit: OrderKit) -> None:
    order = ordered(kit)
    after = kit.orders.erase_personal_data(order.id, reason="asked")
    assert (after.version, after.total, after.tags) == (order.version + 1, order.total, ("gift",))
    personal = kit.orders.personal(order.id)
    assert len(personal) == 5
    assert {(data.value, data.erased_at) for data in personal.values()} == {(None, after.updated_at)}
    check_personal(after, personal)
    event = kit.orders.history(order.id)[-1].event
    assert isinstance(event, PersonalDataErased)
    assert (set(event.references), event.reason) == (set(after.erased), "asked")
    assert canonical(kit.orders.as_of(order.id, version=order.version)) == canonical(order)
    assert [found.id for found in kit.orders.stream(OrderFilter(customer=CUSTOMER, tags=("gift",)))] == [order.id]


def test_erasing_twice_is_erasing_once(kit: OrderKit, place: Place, tenant: str) -> None:
    ordered(kit)
    kit.customers.erase(CUSTOMER)
    kept = {table: place.rows(table, tenant) for table in TABLES}
    assert kit.customers.erase(CUSTOMER) == Erasure(orders=0, pieces=0)
    assert {table: place.rows(table, tenant) for table in TABLES} == kept


def test_what_comes_after_an_erasure_is_kept_until_the_next(kit: OrderKit) -> None:
    order = ordered(kit)
    kit.customers.erase(CUSTOMER)
    order = kit.orders.execute(order.id, SetContact(contact=contact("third")))
    assert kit.orders.personal(order.id)[order.personal["contact"]].value == contact("third")
    check_personal(order, kit.orders.personal(order.id))
    assert kit.customers.erase(CUSTOMER) == Erasure(orders=1, pieces=1)


def test_other_customers_guests_and_tenants_are_left_alone(kit: OrderKit, open_kit: OpenKit, tenant: str) -> None:
    other, guest = ordered(kit, "cust-43"), ordered(kit, None)
    neighbour = open_kit().for_tenant(f"{tenant}-2")
    theirs = ordered(neighbour)
    assert kit.customers.erase(CUSTOMER) == Erasure()
    for owner, order in ((kit, other), (kit, guest), (neighbour, theirs)):
        assert all(data.value is not None for data in owner.orders.personal(order.id).values())
        assert owner.orders.get(order.id).version == order.version


def test_a_guest_is_erased_by_order(kit: OrderKit, place: Place, tenant: str) -> None:
    guest = ordered(kit, None)
    erased = kit.orders.execute(guest.id, ErasePersonalData(), idempotency_key="erase")
    assert kit.orders.execute(guest.id, ErasePersonalData(), idempotency_key="erase") == erased
    assert planted(place, tenant) == []
    again = kit.orders.place(
        customer=None,
        lines=TEA,
        contact=contact("first"),
        billing_address=address("billing"),
        shipping_address=address("shipping"),
        tags=("gift",),
        metadata={"channel": "web"},
        idempotency_key="place",
    )
    assert (again.id, again.version) == (guest.id, 1)
    assert planted(place, tenant) == [], "an answer from a key brings nothing back"


@pytest.mark.parametrize("wrong", ["", "x" * 256, "two\nlines", "nul\x00", None, 42, ["cust-42"]])
def test_what_can_be_no_customer_is_refused(kit: OrderKit, wrong: object) -> None:
    order = ordered(kit)
    for asked in (kit.customers.export, kit.customers.erase, lambda it: list(kit.customers.export_orders(it))):
        with pytest.raises(InvalidKey, match="nothing was read or changed"):
            asked(wrong)  # type: ignore[arg-type]  # on purpose
    assert kit.orders.get(order.id).version == order.version


def test_a_reason_that_cannot_be_is_refused_before_anything_is_erased(kit: OrderKit) -> None:
    order = ordered(kit)
    with pytest.raises(InvalidCommand):
        kit.customers.erase(CUSTOMER, reason="two\nlines")
    assert kit.orders.get(order.id).version == order.version


def test_an_unknown_order_is_not_found(kit: OrderKit) -> None:
    with pytest.raises(OrderNotFound):
        kit.orders.erase_personal_data("order-unknown")
    with pytest.raises(InvalidKey):
        kit.orders.erase_personal_data("no order id")


# Export


def test_an_export_says_everything_that_is_kept(kit: OrderKit) -> None:
    order = ordered(kit.bound(actor="user:ada", correlation_id="req-1"))
    export = kit.customers.export(CUSTOMER)
    (exported,) = export.orders
    assert exported.order == kit.orders.get(order.id)
    assert exported.history == kit.orders.history(order.id)
    assert {data.reference: data for data in exported.personal} == kit.orders.personal(order.id)
    plain = json.loads(export.to_json())
    assert plain == export.to_plain()
    assert (plain["customer"], plain["orders"][0]["order"]["metadata"]) == (CUSTOMER, {"channel": "web"})
    assert [event["type"] for event in plain["orders"][0]["history"]] == [
        "order.placed",
        "order.personal_data_set",
        "order.note_added",
    ]
    assert {event["actor"] for event in plain["orders"][0]["history"]} == {"user:ada"}
    told = {entry["slot"]: entry["value"] for entry in plain["orders"][0]["personal"]}
    assert told["note"] == {"text": f"{PLANT} note"}
    assert told["shipping_address"]["city"] == address("shipping").city
    assert PLANT not in repr(export)


def test_an_export_of_what_was_erased_has_the_orders_and_nothing_personal(kit: OrderKit) -> None:
    ordered(kit)
    kit.customers.erase(CUSTOMER)
    text = kit.customers.export(CUSTOMER).to_json()
    assert PLANT not in text
    assert json.loads(text)["orders"][0]["order"]["totals"]["total"] == 900


def test_an_export_is_read_in_batches(kit: OrderKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orderkit.orders.customers.BATCH", 2)
    orders = [kit.orders.place(customer=CUSTOMER, lines=TEA) for _ in range(5)]
    assert [export.order.id for export in kit.customers.export_orders(CUSTOMER)] == [order.id for order in orders]
    assert kit.customers.erase(CUSTOMER) == Erasure(), "there was nothing personal in them"


def test_nobody_is_exported_as_nothing(kit: OrderKit) -> None:
    assert kit.customers.export("cust-unknown").orders == ()


# Together with others


def test_a_contact_set_meanwhile_is_erased_or_comes_after(kit: OrderKit, place: Place, tenant: str) -> None:
    order = ordered(kit)
    with place.kit() as other:
        command = SetContact(contact=contact("meanwhile"))
        with meanwhile(lambda: other.for_tenant(tenant).orders.execute(order.id, command)):
            kit.orders.erase_personal_data(order.id)
    assert planted(place, tenant) == []
    assert len(kit.orders.personal(order.id)) == 6
    assert_whole(place, tenant)


def test_a_stale_version_erases_nothing(kit: OrderKit) -> None:
    order = ordered(kit)
    with pytest.raises(VersionConflict):
        kit.orders.erase_personal_data(order.id, expected_version=order.version - 1)
    assert all(data.value is not None for data in kit.orders.personal(order.id).values())


def test_four_may_erase_at_once(kit: OrderKit, place: Place, tenant: str) -> None:
    for _ in range(6):
        ordered(kit)
    erasures = race(4, lambda _: kit.customers.erase(CUSTOMER))
    assert planted(place, tenant) == []
    assert (sum(each.orders for each in erasures), sum(each.pieces for each in erasures)) == (6, 30)
    assert_whole(place, tenant)


def test_erasing_and_changing_at_once_leaves_whole_orders(kit: OrderKit, place: Place, tenant: str) -> None:
    order = ordered(kit)

    def work(number: int) -> object:
        for step in range(4):
            if number % 2:
                kit.customers.erase(CUSTOMER)
            else:
                kit.orders.execute(order.id, SetContact(contact=contact(f"c{number}-{step}")))
        return None

    race(4, work)
    check_personal(kit.orders.get(order.id), kit.orders.personal(order.id))
    kit.customers.erase(CUSTOMER)
    assert planted(place, tenant) == []
    assert_whole(place, tenant)


def test_an_erasure_goes_on_where_one_that_failed_has_ended(kit: OrderKit, place: Place, tenant: str) -> None:
    orders = [ordered(kit) for _ in range(3)]

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("the process is over")

    kit.orders.erase_personal_data(orders[0].id)
    with meanwhile(fails), pytest.raises(RuntimeError):
        kit.customers.erase(CUSTOMER)
    assert kit.customers.erase(CUSTOMER) == Erasure(orders=2, pieces=10)
    assert planted(place, tenant) == []
    assert_whole(place, tenant)


Block = Callable[[OrderKit], object]


def by_run(kit: OrderKit) -> object:
    return kit.run(lambda tx: tx.customers.erase(CUSTOMER))


def by_transaction(kit: OrderKit) -> object:
    with kit.transaction() as tx:
        return tx.customers.erase(CUSTOMER)


@pytest.mark.parametrize("block", [by_run, by_transaction])
def test_a_customer_is_erased_inside_a_transaction(kit: OrderKit, place: Place, tenant: str, block: Block) -> None:
    for _ in range(2):
        ordered(kit)
    assert block(kit) == Erasure(orders=2, pieces=10)
    assert planted(place, tenant) == []
    assert_whole(place, tenant)


def test_a_transaction_that_fails_erases_nothing(kit: OrderKit, place: Place, tenant: str) -> None:
    order = ordered(kit)

    def leave() -> None:
        with kit.transaction() as tx:
            tx.customers.erase(CUSTOMER)
            raise KeyError

    assert isinstance(outcome(leave), KeyError)
    assert planted(place, tenant) == ["personal"]
    assert kit.orders.get(order.id).version == order.version


@pytest.mark.parametrize("place", ["sqlite", "psycopg", "pymysql"], indirect=True)
def test_erasing_inside_their_transaction_is_theirs_to_commit(kit: OrderKit, place: Place, tenant: str) -> None:
    for _ in range(2):
        ordered(kit)
    engine = create_engine(place.address)
    with engine.connect() as connection:
        theirs = kit.within(connection).customers
        assert theirs.erase(CUSTOMER) == Erasure(orders=2, pieces=10)
        assert all(data.value is None for order in theirs.export(CUSTOMER).orders for data in order.personal)
        connection.rollback()
        assert planted(place, tenant) == ["personal"]
        theirs.erase(CUSTOMER)
        connection.commit()
    engine.dispose()
    assert planted(place, tenant) == []
    assert_whole(place, tenant)


def test_what_was_set_in_the_same_transaction_is_erased_with_the_rest(kit: OrderKit, place: Place, tenant: str) -> None:
    order = ordered(kit)
    kit.run(
        lambda tx: [
            tx.orders.execute(order.id, SetContact(contact=contact("same"))),
            tx.orders.erase_personal_data(order.id),
            tx.orders.execute(order.id, ChangeTags(add=("erased",))),
        ]
    )
    assert planted(place, tenant) == []
    assert kit.orders.get(order.id).tags == ("erased", "gift")
    assert_whole(place, tenant)


def test_many_orders_are_erased_in_bulk(kit: OrderKit, place: Place, tenant: str) -> None:
    guests = [kit.orders.place(lines=TEA, contact=contact(f"guest-{number}")) for number in range(7)]
    commands = [(guests[0].id, SetContact(contact=contact("same-batch")))]
    results = kit.orders.execute_many([*commands, *((guest.id, ErasePersonalData()) for guest in guests)])
    assert [result.error for result in results] == [None] * 8
    assert planted(place, tenant) == []
    assert_whole(place, tenant)


def test_an_order_of_another_customer_by_now_is_found_under_the_new_one(kit: OrderKit) -> None:
    order = ordered(kit)
    kit.orders.execute(order.id, SetCustomer(customer="cust-43"))
    kit.orders.execute(order.id, CancelOrder())
    assert kit.customers.erase(CUSTOMER) == Erasure()
    assert kit.customers.erase("cust-43").orders == 1


def test_a_contact_of_nothing_is_a_piece_too(kit: OrderKit) -> None:
    kit.orders.place(customer=CUSTOMER, lines=TEA, contact=Contact())
    assert kit.customers.erase(CUSTOMER) == Erasure(orders=1, pieces=1)
