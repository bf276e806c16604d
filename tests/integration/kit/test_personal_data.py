"""Personal data stands in rows of its own and nowhere else: not in documents, events, messages, keys or logs."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable

import pytest

from orderkit import Address, Contact, Order, OrderKit
from orderkit.domain.commands import AddNote, PlaceDraft, SetAddress, SetContact
from orderkit.domain.parties import NoteText
from orderkit.errors import InvalidCommand, OrderKitError
from tests.integration.kit.places import TABLES, TEA, Place, assert_whole, each

PLANT = "planted"


def address(where: str) -> Address:
    """Return an address with the plant in every field that may hold it."""
    return Address(
        name=f"{PLANT} {where} name",
        lines=(f"{PLANT} {where} street", f"{PLANT} {where} floor"),
        city=f"{PLANT} {where} city",
        country="GB",
        postal_code=f"{PLANT}-1",
        region=f"{PLANT} {where} region",
        company=f"{PLANT} {where} company",
        phone=f"{PLANT} {where} phone",
    )


def contact(where: str) -> Contact:
    return Contact(email=f"{PLANT}@{where}.example", phone=f"{PLANT} {where}", name=f"{PLANT} {where}", locale="en-GB")


def live(kit: OrderKit) -> list[Order]:
    """Take an order through everything that brings personal data with it, each by its own door."""
    placed = kit.orders.place(
        lines=TEA,
        contact=contact("placed"),
        billing_address=address("billing"),
        shipping_address=address("shipping"),
        idempotency_key="place",
    )
    draft = kit.orders.draft(lines=TEA, contact=contact("drafted"), shipping_address=address("draft"))
    note = AddNote(note=NoteText(text=f"{PLANT} note\nwith a second line"), author="customer")
    with kit.transaction() as tx:
        tx.orders.execute(draft.id, SetContact(contact=contact("corrected")))
        tx.orders.execute(draft.id, SetAddress(slot="billing_address", address=address("added")))
    return [
        kit.orders.execute(placed.id, note, idempotency_key="note"),
        kit.orders.execute(placed.id, note, idempotency_key="note"),
        kit.run(lambda tx: tx.orders.execute(placed.id, SetContact(contact=contact("changed")))),
        kit.orders.execute(draft.id, PlaceDraft()),
    ]


def test_personal_data_stands_in_its_own_rows_alone(kit: OrderKit, place: Place, tenant: str) -> None:
    live(kit)
    kept = {table: place.rows(table, tenant) for table in TABLES}
    assert all(kept.values()) or not kept["order_labels"]
    assert all(PLANT in row["data"] for row in kept["personal"])
    assert len(kept["personal"]) == 9
    for table, rows in kept.items():
        if table != "personal":
            assert [row for row in rows if PLANT in repr(row)] == [], table
    assert_whole(place, tenant)


def test_personal_data_is_found_by_reference(kit: OrderKit) -> None:
    order = live(kit)[-2]
    personal = kit.orders.personal(order.id)
    assert personal[order.personal["contact"]].value == contact("changed")
    assert personal[order.personal["shipping_address"]].value == address("shipping")
    assert personal[order.notes[0].reference].value == NoteText(text=f"{PLANT} note\nwith a second line")
    before = kit.orders.as_of(order.id, version=1)
    assert personal[before.personal["contact"]].value == contact("placed")


def test_personal_data_is_in_no_repr(kit: OrderKit) -> None:
    orders = live(kit)
    shown: list[object] = [*orders, *kit.orders.search().items, contact("x"), address("x"), NoteText(text=PLANT)]
    for order in orders:
        shown += kit.orders.history(order.id)
        shown += kit.orders.personal(order.id).values()
        shown += [kit.orders.explain(order.id), kit.orders.preview(order.id, SetContact(contact=contact("y")))]
    shown += [SetContact(contact=contact("x")), AddNote(note=NoteText(text=PLANT))]
    assert [type(thing) for thing in shown if PLANT in repr(thing) or PLANT in str(thing)] == []


def test_personal_data_is_in_no_log(kit: OrderKit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    live(kit)
    assert PLANT not in caplog.text


WRONG: dict[str, Callable[[OrderKit], object]] = {
    "an e-mail without a domain": lambda kit: kit.orders.place(lines=TEA, contact=Contact(email=f"{PLANT} no domain")),
    "a name with a line break": lambda kit: kit.orders.place(lines=TEA, contact=Contact(name=f"{PLANT}\n{PLANT}")),
    "a name that is too long": lambda kit: kit.orders.place(lines=TEA, contact=Contact(name=PLANT * 50)),
    "a country that is none": lambda kit: Address.parse(
        {"name": PLANT, "lines": [PLANT], "city": PLANT, "country": PLANT}
    ),
    "an unknown field": lambda kit: Contact.parse({"email": f"{PLANT}@example.org", PLANT.upper(): PLANT}),
    "a note that is too long": lambda kit: kit.orders.execute(
        kit.orders.place(lines=TEA).id, AddNote(note=NoteText(text=PLANT * 5_000))
    ),
    "contact as text": lambda kit: kit.orders.place(lines=TEA, contact=f"{PLANT}@example.org"),  # type: ignore[arg-type]  # on purpose
    "an address with an empty city": lambda kit: Address(name=PLANT, lines=(PLANT,), city="", country="GB"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("place", ["memory"], indirect=True)
def test_personal_data_is_in_no_complaint_about_it(kit: OrderKit, wrong: Callable[[OrderKit], object]) -> None:
    with pytest.raises(InvalidCommand) as raised:
        wrong(kit)
    error = raised.value
    told = str(error) + repr(error) + repr(error.errors)
    assert PLANT not in told
    assert PLANT not in "".join(line for line in exception_texts(error))


def exception_texts(error: BaseException | None) -> list[str]:
    """Return what an error and everything that led to it say, without the lines of source around them."""
    texts = []
    while error is not None:
        texts += traceback.format_exception_only(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return texts


def test_personal_data_is_in_no_refusal(kit: OrderKit) -> None:
    order = kit.orders.place(lines=TEA, contact=contact("x"), id="order-1")
    kit.orders.cancel(order.id)
    for attempt in each(
        lambda: kit.orders.place(lines=TEA, contact=contact("x"), id="order-1"),
        lambda: kit.orders.place(lines=TEA, contact=contact("x"), number=order.number),
        lambda: kit.orders.execute(order.id, SetAddress(slot="shipping_address", address=address("x"))),
        lambda: kit.orders.execute(order.id, SetContact(contact=contact("x")), expected_version=9),
    ):
        with pytest.raises(OrderKitError) as raised:
            attempt()
        assert PLANT not in str(raised.value) + repr(raised.value)
