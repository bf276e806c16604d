"""Erasing what is personal in an order: when, what is told of it, and what is left."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given

from orderkit.domain.codec import decode_event, encode_event
from orderkit.domain.commands import (
    AddNote,
    CancelOrder,
    CompleteOrder,
    ConfirmOrder,
    DiscardDraft,
    ErasePersonalData,
    OrderCommand,
    PlaceDraft,
    SetAddress,
    SetContact,
)
from orderkit.domain.decisions import decide
from orderkit.domain.events import PersonalDataErased
from orderkit.domain.evolution import replay
from orderkit.domain.order import Order
from orderkit.domain.parties import Address, Contact, NoteText
from orderkit.testing.clock import SequentialIds
from orderkit.testing.model import references_of
from orderkit.testing.strategies import orders
from tests.unit.domain.stories import BRIEF, Story, drafted, line, placed

ADDRESS = Address(name="Ada", lines=("1 Road",), city="London", country="GB")
CONTACT = Contact(email="ada@example.org")
NOTE = AddNote(note=NoteText(text="Ring twice."))
ERASE = ErasePersonalData()


def known() -> Story:
    story = placed(contact=CONTACT, shipping_address=ADDRESS)
    story.do(NOTE)
    return story


def test_it_names_everything_the_order_refers_to_and_says_why() -> None:
    story = known()
    (erased,) = story.do(ErasePersonalData(reason="gdpr-art-17"))
    assert isinstance(erased, PersonalDataErased)
    assert set(erased.references) == {*story.order.personal.values(), story.order.notes[0].reference}
    assert len(erased.references) == 3
    assert erased.reason == "gdpr-art-17"
    assert set(story.order.erased) == set(erased.references)
    assert decode_event(erased.type, erased.schema_version, encode_event(erased)) == erased


def test_where_nothing_is_left_nothing_happens() -> None:
    assert placed().do(ERASE) == ()
    story = known()
    assert len(story.do(ERASE)) == 1
    assert story.do(ERASE) == ()


def test_an_order_that_is_not_closed_takes_new_personal_data() -> None:
    story = known()
    story.do(ERASE)
    kept = story.order.personal["shipping_address"]
    story.do(SetContact(contact=CONTACT))
    assert story.order.personal["contact"] not in story.order.erased
    assert kept in story.order.erased
    assert len(story.order.erased) == 2, "what is not referred to any more is not remembered"
    (erased,) = story.do(ERASE)
    assert isinstance(erased, PersonalDataErased)
    assert erased.references == (story.order.personal["contact"],)
    story.do(NOTE)
    assert len(story.do(ERASE)) == 1


def test_a_draft_that_is_placed_stays_erased() -> None:
    story = drafted(line(), contact=CONTACT)
    story.do(SetAddress(slot="billing_address", address=ADDRESS))
    story.do(ERASE)
    story.do(PlaceDraft())
    assert set(story.order.erased) == set(story.order.personal.values())
    assert story.do(ERASE) == ()


@pytest.mark.parametrize(
    "path",
    [
        (),
        (ConfirmOrder(),),
        (ConfirmOrder(), CompleteOrder()),
        (CancelOrder(),),
    ],
    ids=lambda path: "-".join(command.kind for command in path) or "pending",
)
def test_every_state_allows_it(path: tuple[OrderCommand, ...]) -> None:
    story = known()
    for command in path:
        story.do(command)
    before = story.order
    assert story.allowed()["erase_personal_data"]
    story.do(ERASE)
    assert story.order.status is before.status


def test_a_draft_given_up_allows_it_too() -> None:
    story = drafted(contact=CONTACT)
    story.do(DiscardDraft())
    assert len(story.do(ERASE)) == 1


@BRIEF
@given(orders())
def test_of_any_order_everything_else_stays(order: Order) -> None:
    events = decide(order, ERASE, now=order.updated_at, ids=SequentialIds())
    after = replay(events, order)
    assert set(after.erased) == set(references_of(after).values())
    assert attrs.evolve(after, erased=order.erased, version=order.version, updated_at=order.updated_at) == order
    assert decide(after, ERASE, now=after.updated_at, ids=SequentialIds()) == ()
