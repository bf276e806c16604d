"""What is known about an order besides what was ordered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderkit.domain.commands import (
    AddNote,
    CancelOrder,
    ChangeMetadata,
    ChangeTags,
    OrderCommand,
    SetAddress,
    SetContact,
    SetCustomer,
    SetExternalReference,
)
from orderkit.domain.events import MetadataChanged, NoteAdded, PersonalDataSet, TagsChanged
from orderkit.domain.parties import Address, Contact, NoteText
from orderkit.domain.rules import IllegalTransition
from orderkit.errors import InvalidCommand
from orderkit.testing.strategies import metadata, names
from tests.unit.domain.stories import BRIEF, Story, placed

ADDRESS = Address(name="Ada", lines=("1 Road",), city="London", country="GB")


def beyond(story: Story, command: OrderCommand, code: str) -> None:
    before = story.order
    with pytest.raises(InvalidCommand, match="nothing was changed") as caught:
        story.do(command)
    assert caught.value.code == code
    assert story.order == before


@pytest.mark.parametrize(
    "command",
    [
        SetCustomer(customer="ada"),
        ChangeTags(add=("gift",)),
        ChangeMetadata(metadata={"channel": "web"}),
        SetExternalReference(system="erp", reference="1"),
    ],
)
def test_what_is_so_already_leads_to_no_event(command: OrderCommand) -> None:
    story = placed()
    assert len(story.do(command)) == 1
    assert story.do(command) == ()


def test_personal_data_is_referred_to_and_never_told() -> None:
    story = placed()
    events = [
        *story.do(SetContact(contact=Contact(email="ada@example.org"))),
        *story.do(SetAddress(slot="billing_address", address=ADDRESS)),
        *story.do(AddNote(note=NoteText(text="Ring twice"), author="customer")),
    ]
    assert [type(event) for event in events] == [PersonalDataSet, PersonalDataSet, NoteAdded]
    assert set(story.order.personal) == {"contact", "billing_address"}
    assert [note.author for note in story.order.notes] == ["customer"]
    told = repr(events) + repr(story.order)
    assert not any(secret in told for secret in ("ada@example.org", "Ring twice", "Road"))


@pytest.mark.parametrize(
    "command",
    [SetCustomer(customer="ada"), SetContact(contact=Contact()), SetAddress(slot="shipping_address", address=ADDRESS)],
)
def test_whose_order_it_is_stands_once_it_is_closed(command: OrderCommand) -> None:
    story = placed()
    story.do(CancelOrder())
    with pytest.raises(IllegalTransition):
        story.do(command)


@BRIEF
@given(st.lists(st.tuples(st.lists(names(), max_size=3), st.lists(names(), max_size=3)), max_size=4))
def test_tags_are_a_set_and_what_is_added_wins(changes: list[tuple[list[str], list[str]]]) -> None:
    story, expected = placed(), set[str]()
    for add, remove in changes:
        events = story.do(ChangeTags(add=tuple(add), remove=tuple(remove)))
        after = expected - set(remove) | set(add)
        assert len(events) == (after != expected)
        for event in events:
            assert isinstance(event, TagsChanged)
            assert (set(event.added), set(event.removed)) == (after - expected, expected - after)
        expected = after
        assert story.order.tags == tuple(sorted(expected))


@BRIEF
@given(metadata(), st.lists(metadata(), max_size=3))
def test_metadata_is_merged_at_the_top_and_null_removes(first: dict[str, Any], changes: list[dict[str, Any]]) -> None:
    story, expected = placed(metadata=first), dict(first)
    for change in changes:
        story.do(ChangeMetadata(metadata=change))
        expected |= change
        expected = {name: value for name, value in expected.items() if name not in change or value is not None}
        assert json.dumps(story.order.metadata, sort_keys=True) == json.dumps(expected, sort_keys=True)


@pytest.mark.parametrize(("before", "after"), [(1, True), (True, 1), (1, 1.0), (0, False), ([1], [True]), ("1", 1)])
def test_values_that_python_takes_for_equal_are_not_what_is_stored(before: object, after: object) -> None:
    story = placed(metadata={"a": before})
    (event,) = story.do(ChangeMetadata.parse({"metadata": {"a": after}}))
    assert isinstance(event, MetadataChanged)
    assert json.dumps(story.order.metadata) == json.dumps({"a": after})
    assert story.do(ChangeMetadata.parse({"metadata": {"a": after}})) == ()


def test_metadata_does_not_outgrow_its_limit_by_changes() -> None:
    story = placed(metadata={"a": "x" * 60_000})
    beyond(story, ChangeMetadata(metadata={"b": "y" * 10_000}), "metadata_too_large")
    story.do(ChangeMetadata(metadata={"a": None}))
    story.do(ChangeMetadata(metadata={"b": "y" * 10_000}))


def test_tags_do_not_outgrow_their_limit_by_changes() -> None:
    story = placed(tags=[f"tag-{number}" for number in range(100)])
    beyond(story, ChangeTags(add=("one-more",)), "too_many_tags")
    story.do(ChangeTags(add=("one-more",), remove=("tag-0",)))
    assert len(story.order.tags) == 100


def test_external_references_do_not_outgrow_their_limit_by_changes() -> None:
    story = placed(external_references={f"system-{number}": "1" for number in range(100)})
    beyond(story, SetExternalReference(system="one-more", reference="1"), "too_many_external_references")
    story.do(SetExternalReference(system="system-0", reference="2"))
    story.do(SetExternalReference(system="system-1", reference=None))
    story.do(SetExternalReference(system="one-more", reference="1"))
    assert story.order.external_references["one-more"] == "1"
