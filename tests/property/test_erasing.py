"""Whatever was done with an order: once erased, nothing that was personal in it stands anywhere."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from orderkit import Address, Contact, Order, OrderKit
from orderkit.domain.commands import (
    AddNote,
    CreateDraft,
    ErasePersonalData,
    OrderCommand,
    PlaceOrder,
    SetAddress,
    SetContact,
)
from orderkit.domain.evolution import replay
from orderkit.domain.parties import NoteText
from orderkit.errors import OrderKitError
from orderkit.messaging.outbox import OUTBOX
from orderkit.orders.tables import EVENTS, LABELS, LINES, ORDERS, PERSONAL, OrderRow
from orderkit.storage.memory import MemoryBackend
from orderkit.testing.clock import ManualClock, SequentialIds
from orderkit.testing.model import canonical, check_figures, check_personal
from orderkit.testing.strategies import commands, create_drafts, names, place_orders
from orderkit.unit_of_work.changes import KEYS
from tests.effort import examples

BRIEF = settings(max_examples=examples(60), deadline=None)
TENANT: Final = "acme"
PLANT: Final = "planted"
TABLES: Final = (ORDERS, LINES, EVENTS, PERSONAL, LABELS, OUTBOX, KEYS)
NOW: Final = ManualClock().now()

TEXTS: Final = names().map(lambda text: f"{PLANT} {text[:200]}")
ADDRESSES: Final = st.builds(
    Address,
    name=TEXTS,
    lines=st.lists(TEXTS, min_size=1, max_size=3).map(tuple),
    city=TEXTS,
    country=st.just("GB"),
    postal_code=st.none() | TEXTS,
    region=st.none() | TEXTS,
    company=st.none() | TEXTS,
    phone=st.none() | TEXTS,
)
CONTACTS: Final = st.builds(
    Contact, email=st.just(f"{PLANT}@example.org"), phone=st.none() | TEXTS, name=TEXTS, locale=st.none() | TEXTS
)
NOTES: Final = st.builds(AddNote, note=st.builds(NoteText, text=TEXTS), author=st.sampled_from(("customer", "staff")))
PERSONAL_COMMANDS: Final[st.SearchStrategy[OrderCommand]] = st.one_of(
    st.builds(SetContact, contact=CONTACTS),
    st.builds(SetAddress, slot=st.sampled_from(("billing_address", "shipping_address")), address=ADDRESSES),
    NOTES,
    st.just(ErasePersonalData()),
)


@st.composite
def new_orders(draw: st.DrawFn) -> PlaceOrder | CreateDraft:
    """Draw an order or a draft whose personal data is planted."""
    parties = {
        "contact": draw(st.none() | CONTACTS),
        "billing_address": draw(st.none() | ADDRESSES),
        "shipping_address": draw(st.none() | ADDRESSES),
    }
    return draw(place_orders(NOW) | create_drafts(NOW)).model_copy(update={"customer": "cust-42", **parties})


class Life:
    """An order of a customer in memory, and all that is kept of it."""

    def __init__(self, command: PlaceOrder | CreateDraft) -> None:
        self.backend, self.clock = MemoryBackend(), ManualClock()
        self.kit = OrderKit.from_backend(self.backend, clock=self.clock, ids=SequentialIds()).for_tenant(TENANT)
        self.order = self.kit.orders.create(command, idempotency_key="create")

    def go_on(self, data: st.DataObject) -> None:
        """Do something with the order, as a rule something that brings or takes personal data."""
        self.clock.advance(timedelta(hours=1))
        command = data.draw(PERSONAL_COMMANDS | commands(self.order, self.clock.now()))
        if isinstance(command, SetContact | SetAddress | AddNote) and PLANT not in command.model_dump_json():
            return
        try:
            self.order = self.kit.orders.execute(self.order.id, command)
        except OrderKitError:
            self.order = self.kit.orders.get(self.order.id)

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        return {table.name: self.backend.rows(table, TENANT) for table in TABLES}


def facts(row: tuple[Any, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return everything an order's row says but its version and what of it was erased."""
    columns = OrderRow._make(row)._asdict()
    document = json.loads(columns.pop("document"))
    for changing in ("version", "updated_at"):
        del columns[changing], document[changing]
    del document["erased"]
    return columns, document


@BRIEF
@given(new_orders(), st.data())
def test_no_personal_text_is_left_in_any_table(command: PlaceOrder | CreateDraft, data: st.DataObject) -> None:
    life = Life(command)
    for _ in range(data.draw(st.integers(0, 6))):
        life.go_on(data)
    before = life.rows()
    erased = life.kit.customers.erase("cust-42") if life.order.customer == "cust-42" else None
    life.kit.orders.erase_personal_data(life.order.id)
    assert erased is None or erased.pieces == sum(row[-1] is None for row in before["personal"])
    after = life.rows()
    assert [table for table, rows in after.items() if PLANT in repr(rows)] == []
    assert_facts_kept(before, after)
    assert_adds_up(life.kit, life.kit.orders.get(life.order.id))


def assert_facts_kept(before: dict[str, list[tuple[Any, ...]]], after: dict[str, list[tuple[Any, ...]]]) -> None:
    for table in ("order_lines", "order_labels", "idempotency_keys"):
        assert after[table] == before[table], table
    for table in ("events", "outbox"):
        assert after[table][: len(before[table])] == before[table], table
    assert list(map(facts, after["orders"])) == list(map(facts, before["orders"]))
    assert [row[:4] for row in after["personal"]] == [row[:4] for row in before["personal"]]


def assert_adds_up(kit: OrderKit, order: Order) -> None:
    events = [record.event for record in kit.orders.history(order.id)]
    assert canonical(replay(events)) == canonical(order)
    check_figures(order)
    check_personal(order, kit.orders.personal(order.id))
    assert all(data.value is None for data in kit.orders.personal(order.id).values())
    for version in range(1, order.version + 1):
        assert canonical(kit.orders.as_of(order.id, version=version)) == canonical(replay(events[:version]))
    assert kit.orders.erase_personal_data(order.id).version == order.version
