"""Putting an order together and taking it: drafts, their edits, and the placing of orders."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import attrs

from orderkit.domain.commands import (
    AddCharge,
    AddDiscount,
    AddLine,
    ChangeLine,
    CreateDraft,
    DiscardDraft,
    ImportOrder,
    OrderCommand,
    PlaceDraft,
    PlaceOrder,
    RemoveCharge,
    RemoveDiscount,
    RemoveLine,
    kind_of,
)
from orderkit.domain.composition import Composition, compose, currency_of, new_discount
from orderkit.domain.events import DraftCreated, DraftDiscarded, DraftEdited, Event, OrderPlaced
from orderkit.domain.lines import OrderCharge, OrderLine, new_charge, new_line
from orderkit.domain.money import CurrencyMismatch
from orderkit.domain.order import Order
from orderkit.domain.pricing import OrderDiscount
from orderkit.domain.rules import Rule, Situation, states
from orderkit.domain.status import OrderStatus
from orderkit.errors import FieldError, InvalidCommand, Refused

CommandT = TypeVar("CommandT", bound=OrderCommand)
DRAFT = OrderStatus.DRAFT

EARLIEST_PLACED_AT: Final = datetime(1900, 1, 1, tzinfo=UTC)
"""No order is older; a date before it is a mistake in the data."""

CLOCK_TOLERANCE: Final = timedelta(days=1)
"""How far the clock of whoever took the order may be ahead of ours."""


class OrderEmpty(Refused):
    """The order has no line."""

    code = "order_empty"

    def __init__(self) -> None:
        super().__init__("The order has no line; it is unchanged. Add one first.")


class UnknownItem(Refused):
    """The draft has no line, charge or discount with this id.

    Attributes:
        item_id: The id that was named.
    """

    code = "unknown_item"

    def __init__(self, item_id: str) -> None:
        self.item_id = item_id
        super().__init__(f"The draft has no line, charge or discount {item_id!r}; it is unchanged.")


def create(command: CreateDraft | PlaceOrder, situation: Situation) -> tuple[Event, ...]:
    """Decide what follows from a command that makes a new order."""
    if isinstance(command, CreateDraft):
        return (DraftCreated(situation.now, new_order(command, situation, DRAFT, None)),)
    status = OrderStatus.OPEN if command.confirmed else OrderStatus.PENDING
    placed_at = command.placed_at or situation.now
    return (OrderPlaced(situation.now, new_order(command, situation, status, placed_at)),)


def new_order(
    command: CreateDraft | PlaceOrder | ImportOrder,
    situation: Situation,
    status: OrderStatus,
    placed_at: datetime | None,
) -> Order:
    """Return the order that a command makes."""
    now, ids, rules = situation.now, situation.ids, command.rules
    _check_times(now, command.expires_at, placed_at)
    currency = currency_of(command.lines, command.charges, command.discounts, command.currency)
    made_of = compose(
        tuple([new_line(line, line.id or ids.new("line")) for line in command.lines]),
        tuple([new_charge(charge, charge.id or ids.new("charge")) for charge in command.charges]),
        tuple([new_discount(discount, discount.id or ids.new("discount")) for discount in command.discounts]),
        rules,
        currency,
    )
    return Order(
        id=command.id or ids.new("order"),
        version=1,
        status=status,
        currency=currency,
        created_at=now,
        updated_at=now,
        **made_of.fields(),
        rules=rules,
        number=None if isinstance(command, CreateDraft) else command.number or situation.number(),
        customer=command.customer,
        placed_at=placed_at,
        expires_at=command.expires_at,
        tags=command.tags,
        personal={slot: ids.new("personal") for slot in command.personal()},
        external_references=command.external_references,
        metadata=command.metadata,
    )


def _check_times(now: datetime, expires_at: datetime | None, placed_at: datetime | None = None) -> None:
    """Refuse an order that would have expired already, or was placed at no time an order can have been."""
    errors = []
    if expires_at is not None and expires_at <= now:
        errors.append(FieldError("expires_at", "expires_in_the_past", "an order expires in the future, or never"))
    if placed_at is not None and not EARLIEST_PLACED_AT <= placed_at <= now + CLOCK_TOLERANCE:
        message = f"an order was placed in {EARLIEST_PLACED_AT.year} or later, and not in the future"
        errors.append(FieldError("placed_at", "placed_at_out_of_range", message))
    if errors:
        raise InvalidCommand("the order", tuple(errors))


def _place_draft(order: Order, command: PlaceDraft, situation: Situation) -> tuple[Event, ...]:
    expires_at = command.expires_at or order.expires_at
    _check_times(situation.now, expires_at)
    placed = attrs.evolve(
        order,
        version=order.version + 1,
        status=OrderStatus.OPEN if command.confirmed else OrderStatus.PENDING,
        substate=None,
        number=command.number or situation.number(),
        placed_at=situation.now,
        updated_at=situation.now,
        expires_at=expires_at,
    )
    return (OrderPlaced(situation.now, placed),)


def _discard(_order: Order, _command: DiscardDraft, situation: Situation) -> tuple[Event, ...]:
    return (DraftDiscarded(situation.now),)


def _not_empty(order: Order, _now: datetime) -> Refused | None:
    return None if order.lines else OrderEmpty()


@attrs.frozen
class _Items:
    """The parts of a draft that its edits change."""

    lines: tuple[OrderLine, ...]
    charges: tuple[OrderCharge, ...]
    discounts: tuple[OrderDiscount, ...]

    def priced(self, order: Order) -> Composition:
        """Return what the draft is made of with these parts."""
        return compose(self.lines, self.charges, self.discounts, order.rules, order.currency)


Edit = Callable[[Order, CommandT, Situation], tuple[str, _Items]]


def _editing(edit: Edit[CommandT]) -> Callable[[Order, CommandT, Situation], tuple[Event, ...]]:
    """Make the decision of an edit: the parts it leaves, priced again as a whole."""

    def decide(order: Order, command: CommandT, situation: Situation) -> tuple[Event, ...]:
        item_id, items = edit(order, command, situation)
        return (DraftEdited(situation.now, kind_of(type(command)), item_id, items.priced(order)),)

    return decide


def _items(order: Order) -> _Items:
    return _Items(order.lines, order.charges, order.discounts)


def _check_currency(order: Order, currency: str) -> None:
    if currency != order.currency:
        raise CurrencyMismatch(order.currency, currency)


def _add_line(order: Order, command: AddLine, situation: Situation) -> tuple[str, _Items]:
    _check_currency(order, command.line.price.currency)
    line = new_line(command.line, command.line.id or situation.ids.new("line"))
    return line.id, attrs.evolve(_items(order), lines=(*order.lines, line))


def _change_line(order: Order, command: ChangeLine, _situation: Situation) -> tuple[str, _Items]:
    _check_currency(order, command.line.price.currency)
    if order.line(command.line_id) is None:
        raise UnknownItem(command.line_id)
    changed = attrs.evolve(new_line(command.line, command.line_id), id=command.line_id)
    lines = tuple(changed if line.id == command.line_id else line for line in order.lines)
    return command.line_id, attrs.evolve(_items(order), lines=lines)


def _remove_line(order: Order, command: RemoveLine, _situation: Situation) -> tuple[str, _Items]:
    lines = tuple(line for line in order.lines if line.id != command.line_id)
    if len(lines) == len(order.lines):
        raise UnknownItem(command.line_id)
    discounts = _without_target(order.discounts, command.line_id)
    return command.line_id, attrs.evolve(_items(order), lines=lines, discounts=discounts)


def _add_charge(order: Order, command: AddCharge, situation: Situation) -> tuple[str, _Items]:
    _check_currency(order, command.charge.amount.currency)
    charge = new_charge(command.charge, command.charge.id or situation.ids.new("charge"))
    return charge.id, attrs.evolve(_items(order), charges=(*order.charges, charge))


def _remove_charge(order: Order, command: RemoveCharge, _situation: Situation) -> tuple[str, _Items]:
    charges = tuple(charge for charge in order.charges if charge.id != command.charge_id)
    if len(charges) == len(order.charges):
        raise UnknownItem(command.charge_id)
    discounts = _without_target(order.discounts, command.charge_id)
    return command.charge_id, attrs.evolve(_items(order), charges=charges, discounts=discounts)


def _add_discount(order: Order, command: AddDiscount, situation: Situation) -> tuple[str, _Items]:
    if command.discount.amount is not None:
        _check_currency(order, command.discount.amount.currency)
    discount = new_discount(command.discount, command.discount.id or situation.ids.new("discount"))
    return discount.id, attrs.evolve(_items(order), discounts=(*order.discounts, discount))


def _remove_discount(order: Order, command: RemoveDiscount, _situation: Situation) -> tuple[str, _Items]:
    discounts = tuple(discount for discount in order.discounts if discount.id != command.discount_id)
    if len(discounts) == len(order.discounts):
        raise UnknownItem(command.discount_id)
    return command.discount_id, attrs.evolve(_items(order), discounts=discounts)


def _without_target(discounts: tuple[OrderDiscount, ...], item_id: str) -> tuple[OrderDiscount, ...]:
    """Return the discounts without an item; one that applied to nothing else goes with it."""
    kept = []
    for discount in discounts:
        targets = tuple(target for target in discount.applies_to if target != item_id)
        if targets or not discount.applies_to:
            kept.append(attrs.evolve(discount, applies_to=targets))
    return tuple(kept)


_PLACED = states(OrderStatus.PENDING, OrderStatus.OPEN)

RULES = (
    Rule(PlaceDraft, _place_draft, states(DRAFT), _PLACED, guards=(_not_empty,)),
    Rule(DiscardDraft, _discard, states(DRAFT), states(OrderStatus.DISCARDED)),
    Rule(AddLine, _editing(_add_line), states(DRAFT)),
    Rule(ChangeLine, _editing(_change_line), states(DRAFT)),
    Rule(RemoveLine, _editing(_remove_line), states(DRAFT)),
    Rule(AddCharge, _editing(_add_charge), states(DRAFT)),
    Rule(RemoveCharge, _editing(_remove_charge), states(DRAFT)),
    Rule(AddDiscount, _editing(_add_discount), states(DRAFT)),
    Rule(RemoveDiscount, _editing(_remove_discount), states(DRAFT)),
)
"""The rules of drafts and of placing them."""
