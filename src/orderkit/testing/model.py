"""A second opinion on orders: what commands make of them, written without the rules that are enforced."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import attrs
import msgspec

from orderkit.domain.commands import (
    AddCharge,
    AddDiscount,
    AddLine,
    AddNote,
    CancelLines,
    CancelOrder,
    ChangeLine,
    ChangeMetadata,
    ChangeTags,
    CompleteOrder,
    ConfirmOrder,
    DiscardDraft,
    ErasePersonalData,
    ExpireOrder,
    HoldOrder,
    OrderCommand,
    PlaceDraft,
    ReleaseOrder,
    RemoveCharge,
    RemoveDiscount,
    RemoveLine,
    ReopenOrder,
    SetAddress,
    SetContact,
    SetCustomer,
    SetExternalReference,
    SetSubstate,
)
from orderkit.domain.events import Event, OrderPlaced
from orderkit.domain.lines import OrderCharge, OrderLine, units_of
from orderkit.domain.order import Order
from orderkit.domain.status import OrderStatus
from orderkit.orders.reading import PersonalData

canonical: Final = msgspec.json.Encoder(decimal_format="string", order="sorted").encode
"""Encode a value so that two values look alike if, and only if, they are stored alike."""


_MINTED: Final = re.compile(rb'"[a-z]+_[0-9a-f]{32}"')


class Handle(NamedTuple):
    """An order of a tenant."""

    tenant: str
    order_id: str


@attrs.frozen
class Use:
    """The first use of an idempotency key, and what came of it."""

    handle: Handle | None
    command: OrderCommand
    result: Order
    expires_at: datetime

    def answers(self, handle: Handle | None, command: OrderCommand) -> bool:
        """Tell whether the same was asked."""
        return self.handle == handle and self.command.model_dump_json() == command.model_dump_json()


@attrs.frozen
class LineFigures:
    """What is expected of a line."""

    id: str
    sku: str
    units: int
    precision: int
    cancelled: int = 0


@attrs.frozen
class Expectation:
    """What is expected of an order after a command.

    Attributes:
        version: The number of events.
        discounts: What each discount applies to, by its id.
        personal: The contact, addresses and notes that can still be read.
    """

    version: int
    status: str
    expires_at: datetime | None
    substate: str | None
    customer: str | None
    holds: frozenset[str]
    lines: tuple[LineFigures, ...]
    charges: tuple[str, ...]
    discounts: Mapping[str, tuple[str, ...]]
    notes: int
    personal: frozenset[str]
    tags: frozenset[str]
    references: Mapping[str, str]
    metadata: Mapping[str, object]

    @classmethod
    def of(cls, order: Order) -> Expectation:
        """Return what is seen of an order."""
        return cls(
            order.version,
            order.status.value,
            order.expires_at,
            order.substate,
            order.customer,
            frozenset(hold.name for hold in order.holds),
            tuple(LineFigures(line.id, line.sku, line.units, line.precision, line.cancelled) for line in order.lines),
            tuple(charge.id for charge in order.charges),
            {discount.id: discount.applies_to for discount in order.discounts},
            len(order.notes),
            frozenset(slot for slot, reference in references_of(order).items() if reference not in order.erased),
            frozenset(order.tags),
            order.external_references,
            order.metadata,
        )

    def allows(self, command: OrderCommand, now: datetime) -> bool:
        """Tell whether a command is allowed at a time, whatever its contents."""
        if isinstance(command, ConfirmOrder | CompleteOrder) and self.holds:
            return False
        if isinstance(command, ReleaseOrder) and not self.holds:
            return False
        if isinstance(command, ExpireOrder) and (self.expires_at is None or now < self.expires_at):
            return False
        if isinstance(command, PlaceDraft) and not self.lines:
            return False
        return self.status in _POSSIBLE.get(type(command), _ANY).split()

    def after(self, command: OrderCommand, actual: Order) -> Expectation:
        """Return what is expected after a command that was accepted.

        Args:
            command: The command.
            actual: The order as it is said to be since, for the ids that were minted.
        """
        changed = attrs.evolve(self, **_EFFECTS[type(command)](self, command, actual))
        if type(command) in _IDLE and canonical(changed) == canonical(self):
            return self
        events = 2 if isinstance(command, CancelLines) and changed.status == "cancelled" else 1
        return attrs.evolve(changed, version=self.version + events)


_Effect = Callable[[Expectation, Any, Order], dict[str, Any]]

_ANY: Final = "draft pending open completed cancelled expired discarded"
_POSSIBLE: Final[Mapping[type[OrderCommand], str]] = {
    **dict.fromkeys((AddLine, ChangeLine, RemoveLine, AddCharge, RemoveCharge, AddDiscount, RemoveDiscount), "draft"),
    **dict.fromkeys((PlaceDraft, DiscardDraft), "draft"),
    **dict.fromkeys((ConfirmOrder, ExpireOrder), "pending"),
    **dict.fromkeys((HoldOrder, ReleaseOrder, CancelOrder, CancelLines), "pending open"),
    **dict.fromkeys((SetCustomer, SetContact, SetAddress), "draft pending open"),
    CompleteOrder: "open",
    ReopenOrder: "completed",
    SetSubstate: "draft pending open completed",
}
_IDLE: Final = (SetSubstate, SetCustomer, ErasePersonalData, ChangeTags, ChangeMetadata, SetExternalReference)
"""Commands that, asking for what is already so, lead to no event."""


def _to(status: str) -> _Effect:
    return lambda _before, _command, _actual: {"status": status, "substate": None}


def _ended(status: str) -> _Effect:
    return lambda _before, _command, _actual: {"status": status, "substate": None, "holds": frozenset[str]()}


def _added_line(before: Expectation, command: AddLine, actual: Order) -> dict[str, Any]:
    line = command.line
    return {"lines": (*before.lines, LineFigures(actual.lines[-1].id, line.sku, line.units, line.precision))}


def _changed_line(before: Expectation, command: ChangeLine, _actual: Order) -> dict[str, Any]:
    line = command.line
    changed = LineFigures(command.line_id, line.sku, line.units, line.precision)
    return {"lines": tuple(changed if known.id == command.line_id else known for known in before.lines)}


def _without(before: Expectation, item_id: str) -> dict[str, Any]:
    """Take a line or charge away, and with it every discount that applied to nothing else."""
    return {
        "lines": tuple(line for line in before.lines if line.id != item_id),
        "charges": tuple(charge for charge in before.charges if charge != item_id),
        "discounts": {
            discount_id: tuple(target for target in targets if target != item_id)
            for discount_id, targets in before.discounts.items()
            if targets != (item_id,)
        },
    }


def _added_discount(before: Expectation, command: AddDiscount, actual: Order) -> dict[str, Any]:
    return {"discounts": {**before.discounts, actual.discounts[-1].id: command.discount.applies_to}}


def _removed_discount(before: Expectation, command: RemoveDiscount, _actual: Order) -> dict[str, Any]:
    return {"discounts": {key: value for key, value in before.discounts.items() if key != command.discount_id}}


def _cancelled(before: Expectation, _command: CancelOrder, _actual: Order) -> dict[str, Any]:
    gone = tuple(attrs.evolve(line, cancelled=line.units) for line in before.lines)
    return {"status": "cancelled", "substate": None, "holds": frozenset[str](), "lines": gone}


def _cancelled_lines(before: Expectation, command: CancelLines, _actual: Order) -> dict[str, Any]:
    lines = {line.id: line for line in before.lines}
    for wanted in command.lines:
        line = lines[wanted.line_id]
        cancelled = line.cancelled + units_of(wanted.quantity, line.precision)
        lines[line.id] = attrs.evolve(line, cancelled=cancelled)
    if all(line.cancelled == line.units for line in lines.values()):
        return _cancelled(before, CancelOrder(), _actual)
    return {"lines": tuple(lines.values())}


def _merged(before: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in {**before, **changes}.items() if name not in changes or value is not None}


_EFFECTS: Final[Mapping[type[OrderCommand], _Effect]] = {
    PlaceDraft: lambda before, command, _: {"status": "open" if command.confirmed else "pending", "substate": None},
    DiscardDraft: _ended("discarded"),
    AddLine: _added_line,
    ChangeLine: _changed_line,
    RemoveLine: lambda before, command, _: _without(before, command.line_id),
    AddCharge: lambda before, _, actual: {"charges": (*before.charges, actual.charges[-1].id)},
    RemoveCharge: lambda before, command, _: _without(before, command.charge_id),
    AddDiscount: _added_discount,
    RemoveDiscount: _removed_discount,
    ConfirmOrder: _to("open"),
    HoldOrder: lambda before, command, _: {"holds": before.holds | {command.name}},
    ReleaseOrder: lambda before, command, _: {"holds": before.holds - {command.name}},
    CancelOrder: _cancelled,
    CancelLines: _cancelled_lines,
    CompleteOrder: _to("completed"),
    ReopenOrder: _to("open"),
    ExpireOrder: _ended("expired"),
    SetSubstate: lambda _before, command, _: {"substate": command.substate},
    SetCustomer: lambda _before, command, _: {"customer": command.customer},
    SetContact: lambda before, _command, _: {"personal": before.personal | {"contact"}},
    SetAddress: lambda before, command, _: {"personal": before.personal | {command.slot}},
    AddNote: lambda before, _command, _: {
        "notes": before.notes + 1,
        "personal": before.personal | {f"note {before.notes}"},
    },
    ErasePersonalData: lambda _before, _command, _: {"personal": frozenset[str]()},
    ChangeTags: lambda before, command, _: {"tags": before.tags - set(command.remove) | set(command.add)},
    ChangeMetadata: lambda before, command, _: {"metadata": _merged(before.metadata, command.metadata)},
    SetExternalReference: lambda before, command, _: {
        "references": _merged(before.references, {command.system: command.reference})
    },
}


def references_of(order: Order) -> dict[str, str]:
    """Return every reference of an order to personal data, by slot; notes are counted."""
    return {**order.personal, **{f"note {number}": note.reference for number, note in enumerate(order.notes)}}


def check_personal(order: Order, kept: Mapping[str, PersonalData]) -> None:
    """Assert that what an order says of its personal data is so."""
    references = set(references_of(order).values())
    assert set(order.erased) <= references <= kept.keys()
    assert {reference for reference in references if kept[reference].value is None} == set(order.erased)
    assert all((data.value is None) is (data.erased_at is not None) for data in kept.values())
    if references == set(order.erased):
        assert all(data.value is None for data in kept.values()), "what was replaced is erased with the rest"


def check_figures(order: Order) -> None:
    """Assert what holds of the money and the quantities of every order."""
    assert all(0 <= line.cancelled <= line.units for line in order.lines)
    items: tuple[OrderLine | OrderCharge, ...] = (*order.lines, *order.charges)
    added = 0 if order.rules.prices_include_tax else 1
    assert all(item.total == item.gross - item.discount + added * item.tax for item in items)
    assert all(0 <= item.discount <= item.gross for item in items)
    totals = order.totals
    assert totals.total == sum(item.total for item in items)
    assert totals.total == totals.gross - totals.discount + added * totals.tax
    assert totals.discount == sum(adjustment.amount for adjustment in order.adjustments)
    for adjustment in order.adjustments:
        assert adjustment.amount == sum(allocation.amount for allocation in adjustment.allocations)
    assert totals.tax == sum(tax.amount for tax in order.taxes) == sum(item.tax for item in items)
    assert order.current_total == order.total - order.cancelled_total
    assert 0 <= order.current_total.minor <= totals.total
    if order.status is OrderStatus.CANCELLED:
        assert not order.current_total
    else:
        assert totals.cancelled == sum(line.part(0, line.cancelled).total for line in order.lines)


def told(after: Order, events: Sequence[Event], before: bytes) -> bytes:
    """Encode what a command did, with a running number for each id minted by it, and without the order's number."""
    minted: dict[bytes, bytes] = {}

    def rename(found: re.Match[bytes]) -> bytes:
        return found[0] if found[0] in before else minted.setdefault(found[0], b"%d" % len(minted))

    placed = [attrs.evolve(event.order, number=None) for event in events if isinstance(event, OrderPlaced)]
    others = [event for event in events if not isinstance(event, OrderPlaced)]
    return _MINTED.sub(rename, canonical([attrs.evolve(after, number=None), placed, others]))
