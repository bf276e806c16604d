"""What is known about an order besides what was ordered: whose it is, notes, tags, metadata, references."""

from __future__ import annotations

from orderkit.domain.commands import (
    AddNote,
    ChangeMetadata,
    ChangeTags,
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
    PersonalDataSet,
    TagsChanged,
)
from orderkit.domain.order import Note, Order
from orderkit.domain.rules import ANY_STATE, Rule, Situation, states
from orderkit.domain.status import OrderStatus

_NOT_CLOSED = states(OrderStatus.DRAFT, OrderStatus.PENDING, OrderStatus.OPEN)


def _set_customer(order: Order, command: SetCustomer, situation: Situation) -> tuple[Event, ...]:
    return () if order.customer == command.customer else (CustomerSet(situation.now, command.customer),)


def _set_contact(_order: Order, _command: SetContact, situation: Situation) -> tuple[Event, ...]:
    return (PersonalDataSet(situation.now, "contact", situation.ids.new("personal")),)


def _set_address(_order: Order, command: SetAddress, situation: Situation) -> tuple[Event, ...]:
    return (PersonalDataSet(situation.now, command.slot, situation.ids.new("personal")),)


def _add_note(_order: Order, command: AddNote, situation: Situation) -> tuple[Event, ...]:
    return (NoteAdded(situation.now, Note(situation.ids.new("personal"), command.author, situation.now)),)


def _change_tags(order: Order, command: ChangeTags, situation: Situation) -> tuple[Event, ...]:
    have = set(order.tags)
    removed = have & set(command.remove) - set(command.add)
    added = set(command.add) - have
    if not (added or removed):
        return ()
    return (TagsChanged(situation.now, tuple(sorted(added)), tuple(sorted(removed))),)


def _change_metadata(order: Order, command: ChangeMetadata, situation: Situation) -> tuple[Event, ...]:
    removed = tuple(name for name, value in command.metadata.items() if value is None and name in order.metadata)
    changed = {
        name: value
        for name, value in command.metadata.items()
        if value is not None and (name not in order.metadata or order.metadata[name] != value)
    }
    return (MetadataChanged(situation.now, changed, removed),) if changed or removed else ()


def _set_external_reference(order: Order, command: SetExternalReference, situation: Situation) -> tuple[Event, ...]:
    if order.external_references.get(command.system) == command.reference:
        return ()
    return (ExternalReferenceSet(situation.now, command.system, command.reference),)


RULES = (
    Rule(SetCustomer, _set_customer, _NOT_CLOSED),
    Rule(SetContact, _set_contact, _NOT_CLOSED),
    Rule(SetAddress, _set_address, _NOT_CLOSED),
    Rule(AddNote, _add_note, ANY_STATE),
    Rule(ChangeTags, _change_tags, ANY_STATE),
    Rule(ChangeMetadata, _change_metadata, ANY_STATE),
    Rule(SetExternalReference, _set_external_reference, ANY_STATE),
)
"""The rules of what is known about an order."""
