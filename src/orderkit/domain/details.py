"""What is known about an order besides what was ordered: whose it is, notes, tags, metadata, references."""

from __future__ import annotations

from typing import Final

import msgspec
from pydantic_core import PydanticCustomError

from orderkit.domain.commands import (
    AddNote,
    ChangeMetadata,
    ChangeTags,
    ErasePersonalData,
    SetAddress,
    SetContact,
    SetCustomer,
    SetExternalReference,
)
from orderkit.domain.events import (
    CustomerSet,
    Event,
    ExternalReferenceSet,
    MetadataChanged,
    NoteAdded,
    PersonalDataErased,
    PersonalDataSet,
    TagsChanged,
)
from orderkit.domain.inputs import check_metadata
from orderkit.domain.order import Note, Order
from orderkit.domain.rules import ANY_STATE, Rule, Situation, states
from orderkit.domain.status import OrderStatus
from orderkit.errors import FieldError, InvalidCommand

_NOT_CLOSED = states(OrderStatus.DRAFT, OrderStatus.PENDING, OrderStatus.OPEN)


def _set_customer(order: Order, command: SetCustomer, situation: Situation) -> tuple[Event, ...]:
    return () if order.customer == command.customer else (CustomerSet(situation.now, command.customer),)


def _set_contact(_order: Order, _command: SetContact, situation: Situation) -> tuple[Event, ...]:
    return (PersonalDataSet(situation.now, "contact", situation.ids.new("personal")),)


def _set_address(_order: Order, command: SetAddress, situation: Situation) -> tuple[Event, ...]:
    return (PersonalDataSet(situation.now, command.slot, situation.ids.new("personal")),)


def _add_note(_order: Order, command: AddNote, situation: Situation) -> tuple[Event, ...]:
    return (NoteAdded(situation.now, Note(situation.ids.new("personal"), command.author, situation.now)),)


def _erase_personal_data(order: Order, command: ErasePersonalData, situation: Situation) -> tuple[Event, ...]:
    # Whatever these have replaced was there before them: where they are erased, so is that.
    references = (*order.personal.values(), *(note.reference for note in order.notes))
    erased = set(order.erased)
    left = tuple(reference for reference in references if reference not in erased)
    return (PersonalDataErased(situation.now, left, command.reason),) if left else ()


MAX_TAGS: Final = 100
"""How many tags an order has at most."""

MAX_EXTERNAL_REFERENCES: Final = 100
"""In how many other systems an order is known at most."""


def _beyond(field: str, code: str, message: str) -> InvalidCommand:
    """Return the error of a change that would make the order carry more than it may."""
    return InvalidCommand("the order", (FieldError(field, code, message),))


def _change_tags(order: Order, command: ChangeTags, situation: Situation) -> tuple[Event, ...]:
    have = set(order.tags)
    removed = have & set(command.remove) - set(command.add)
    added = set(command.add) - have
    if not (added or removed):
        return ()
    if len(have - removed | added) > MAX_TAGS:
        raise _beyond("tags", "too_many_tags", f"an order has at most {MAX_TAGS} tags")
    return (TagsChanged(situation.now, tuple(sorted(added)), tuple(sorted(removed))),)


def _change_metadata(order: Order, command: ChangeMetadata, situation: Situation) -> tuple[Event, ...]:
    removed = tuple(name for name, value in command.metadata.items() if value is None and name in order.metadata)
    changed = {
        name: value
        for name, value in command.metadata.items()
        if value is not None and (name not in order.metadata or _json(order.metadata[name]) != _json(value))
    }
    if not (changed or removed):
        return ()
    try:
        check_metadata({name: value for name, value in order.metadata.items() if name not in removed} | changed)
    except PydanticCustomError as error:
        raise _beyond("metadata", error.type, error.message()) from None
    return (MetadataChanged(situation.now, changed, removed),)


# Values are compared as what is stored: in Python, 1 equals 1.0 and True.
_json = msgspec.json.Encoder(order="sorted").encode


def _set_external_reference(order: Order, command: SetExternalReference, situation: Situation) -> tuple[Event, ...]:
    if order.external_references.get(command.system) == command.reference:
        return ()
    if command.system not in order.external_references and len(order.external_references) >= MAX_EXTERNAL_REFERENCES:
        message = f"an order is known in at most {MAX_EXTERNAL_REFERENCES} other systems"
        raise _beyond("external_references", "too_many_external_references", message)
    return (ExternalReferenceSet(situation.now, command.system, command.reference),)


RULES = (
    Rule(SetCustomer, _set_customer, _NOT_CLOSED),
    Rule(SetContact, _set_contact, _NOT_CLOSED),
    Rule(SetAddress, _set_address, _NOT_CLOSED),
    Rule(AddNote, _add_note, ANY_STATE),
    Rule(ErasePersonalData, _erase_personal_data, ANY_STATE),
    Rule(ChangeTags, _change_tags, ANY_STATE),
    Rule(ChangeMetadata, _change_metadata, ANY_STATE),
    Rule(SetExternalReference, _set_external_reference, ANY_STATE),
)
"""The rules of what is known about an order."""
