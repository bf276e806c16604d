"""`evolve`: apply an event to an order. Pure and total: it computes nothing that an event does not say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from orderkit.domain.events import (
    CustomerSet,
    DraftCreated,
    DraftDiscarded,
    DraftEdited,
    Event,
    ExternalReferenceSet,
    LinesCancelled,
    MetadataChanged,
    NoteAdded,
    OrderCancelled,
    OrderCompleted,
    OrderConfirmed,
    OrderExpired,
    OrderHeld,
    OrderPlaced,
    OrderReleased,
    OrderReopened,
    PersonalDataErased,
    PersonalDataSet,
    SubstateSet,
    TagsChanged,
)
from orderkit.domain.order import Order
from orderkit.domain.status import OrderStatus

# Fields of an order by name; `attrs.evolve` knows no more about them than that.
Changes = Mapping[str, Any]


def evolve(order: Order | None, event: Event) -> Order:
    """Return the order as it is after an event.

    Args:
        order: The order before it; None before the event that made it.
        event: What happened next.
    """
    if isinstance(event, DraftCreated | OrderPlaced):
        return event.order
    if order is None:
        raise ValueError(f"a history begins with a new order, not with {event.type!r}")
    changes = _CHANGES[type(event)](order, event)
    return attrs.evolve(order, version=order.version + 1, updated_at=event.at, **changes)


def replay(events: tuple[Event, ...] | list[Event], order: Order | None = None) -> Order:
    """Return the order after all of these events, in order.

    Raises:
        ValueError: There is no event and no order to start from.
    """
    for event in events:
        order = evolve(order, event)
    if order is None:
        raise ValueError("an empty history has no order")
    return order


def _to(status: OrderStatus) -> Callable[[Order, object], Changes]:
    """Return the changes of a mere transition: a state of the application's own ends with the state it refined."""
    return lambda _order, _event: {"status": status, "substate": None}


def _ended(status: OrderStatus) -> Callable[[Order, object], Changes]:
    return lambda _order, _event: {"status": status, "substate": None, "holds": ()}


def _edited(_order: Order, event: DraftEdited) -> Changes:
    return event.composition.fields()


def _lines_cancelled(order: Order, event: LinesCancelled) -> Changes:
    units = dict.fromkeys((cancelled.line_id for cancelled in event.lines), 0)
    for cancelled in event.lines:
        units[cancelled.line_id] += cancelled.units
    return {
        "lines": tuple(
            attrs.evolve(line, cancelled=line.cancelled + units[line.id]) if line.id in units else line
            for line in order.lines
        ),
        "totals": attrs.evolve(order.totals, cancelled=order.totals.cancelled + event.amount),
    }


def _cancelled(order: Order, event: OrderCancelled) -> Changes:
    return {
        "status": OrderStatus.CANCELLED,
        "substate": None,
        "holds": (),
        "lines": tuple(attrs.evolve(line, cancelled=line.units) for line in order.lines),
        "totals": attrs.evolve(order.totals, cancelled=order.totals.cancelled + event.amount),
    }


def _tags_changed(order: Order, event: TagsChanged) -> Changes:
    return {"tags": tuple(sorted((set(order.tags) - set(event.removed)) | set(event.added)))}


def _metadata_changed(order: Order, event: MetadataChanged) -> Changes:
    kept = {name: value for name, value in order.metadata.items() if name not in event.removed}
    return {"metadata": kept | dict(event.changed)}


def _external_reference_set(order: Order, event: ExternalReferenceSet) -> Changes:
    references = {system: known for system, known in order.external_references.items() if system != event.system}
    if event.reference is not None:
        references[event.system] = event.reference
    return {"external_references": references}


def _personal_data_set(order: Order, event: PersonalDataSet) -> Changes:
    replaced = order.personal.get(event.slot)
    return {
        "personal": dict(order.personal) | {event.slot: event.reference},
        "erased": tuple(reference for reference in order.erased if reference != replaced),
    }


def _personal_data_erased(order: Order, event: PersonalDataErased) -> Changes:
    return {"erased": (*order.erased, *event.references)}


def _held(order: Order, event: OrderHeld) -> Changes:
    return {"holds": (*order.holds, event.hold)}


def _released(order: Order, event: OrderReleased) -> Changes:
    return {"holds": tuple(hold for hold in order.holds if hold.name != event.name)}


def _substate_set(_order: Order, event: SubstateSet) -> Changes:
    return {"substate": event.substate}


def _customer_set(_order: Order, event: CustomerSet) -> Changes:
    return {"customer": event.customer}


def _note_added(order: Order, event: NoteAdded) -> Changes:
    return {"notes": (*order.notes, event.note)}


# Each function takes exactly the event type it stands under; the mapping is the dispatch by type.
_CHANGES: Mapping[type, Callable[[Order, Any], Changes]] = {
    DraftEdited: _edited,
    DraftDiscarded: _ended(OrderStatus.DISCARDED),
    OrderConfirmed: _to(OrderStatus.OPEN),
    OrderHeld: _held,
    OrderReleased: _released,
    LinesCancelled: _lines_cancelled,
    OrderCancelled: _cancelled,
    OrderCompleted: _to(OrderStatus.COMPLETED),
    OrderReopened: _to(OrderStatus.OPEN),
    OrderExpired: _ended(OrderStatus.EXPIRED),
    SubstateSet: _substate_set,
    CustomerSet: _customer_set,
    PersonalDataSet: _personal_data_set,
    NoteAdded: _note_added,
    PersonalDataErased: _personal_data_erased,
    TagsChanged: _tags_changed,
    MetadataChanged: _metadata_changed,
    ExternalReferenceSet: _external_reference_set,
}
