"""The life of a placed order: confirm, hold, release, cancel, complete, reopen, expire."""

from __future__ import annotations

from datetime import datetime

from pydantic_core import PydanticCustomError

from orderkit.domain.commands import (
    CancelLines,
    CancelOrder,
    CompleteOrder,
    ConfirmOrder,
    ExpireOrder,
    HoldOrder,
    LineQuantity,
    ReleaseOrder,
    ReopenOrder,
    SetSubstate,
)
from orderkit.domain.events import (
    Event,
    LineCancellation,
    LinesCancelled,
    OrderCancelled,
    OrderCompleted,
    OrderConfirmed,
    OrderExpired,
    OrderHeld,
    OrderReleased,
    OrderReopened,
    SubstateSet,
)
from orderkit.domain.lines import OrderLine, units_of
from orderkit.domain.order import Hold, Order
from orderkit.domain.rules import Rule, Situation, states
from orderkit.domain.status import OrderStatus
from orderkit.errors import Refused

DRAFT, PENDING, OPEN = OrderStatus.DRAFT, OrderStatus.PENDING, OrderStatus.OPEN
COMPLETED, CANCELLED, EXPIRED = OrderStatus.COMPLETED, OrderStatus.CANCELLED, OrderStatus.EXPIRED


class OrderOnHold(Refused):
    """A hold stands in the way.

    Attributes:
        holds: The names of the holds that stand.
    """

    code = "order_on_hold"

    def __init__(self, holds: tuple[str, ...]) -> None:
        self.holds = holds
        super().__init__(f"The order is on hold ({', '.join(holds)}); it is unchanged. Release the hold first.")


class HoldRefused(Refused):
    """The hold is set already, or is not set."""

    code = "hold_refused"


class NotExpiredYet(Refused):
    """The order's time is not over, or it has all the time there is.

    Attributes:
        expires_at: When it will be over, in UTC; None if it never will.
    """

    code = "not_expired_yet"

    def __init__(self, expires_at: datetime | None) -> None:
        self.expires_at = expires_at
        if expires_at is None:
            super().__init__("The order has no time to expire at; it is unchanged. Cancel it instead.")
        else:
            super().__init__(f"The order expires at {expires_at.isoformat()}, not before; it is unchanged.")


class CancellationRefused(Refused):
    """The units cannot be cancelled: no such line, or not that many left of it.

    Attributes:
        line_id: The line.
        open_units: How many units of it can still be cancelled.
    """

    code = "cancellation_refused"

    def __init__(self, line_id: str, open_units: int, reason: str) -> None:
        self.line_id = line_id
        self.open_units = open_units
        super().__init__(f"Line {line_id!r} cannot be cancelled as asked: {reason}. The order is unchanged.")


def _no_hold(order: Order, _now: datetime) -> Refused | None:
    return OrderOnHold(tuple(hold.name for hold in order.holds)) if order.holds else None


def _some_hold(order: Order, _now: datetime) -> Refused | None:
    return None if order.holds else HoldRefused("No hold is set; the order is unchanged.")


def _time_is_over(order: Order, now: datetime) -> Refused | None:
    return NotExpiredYet(order.expires_at) if order.expires_at is None or now < order.expires_at else None


def _confirm(_order: Order, _command: ConfirmOrder, situation: Situation) -> tuple[Event, ...]:
    return (OrderConfirmed(situation.now),)


def _hold(order: Order, command: HoldOrder, situation: Situation) -> tuple[Event, ...]:
    if any(hold.name == command.name for hold in order.holds):
        raise HoldRefused(f"The hold {command.name!r} is set already; the order is unchanged.")
    return (OrderHeld(situation.now, Hold(command.name, command.reason, situation.now)),)


def _release(order: Order, command: ReleaseOrder, situation: Situation) -> tuple[Event, ...]:
    if all(hold.name != command.name for hold in order.holds):
        raise HoldRefused(f"The hold {command.name!r} is not set; the order is unchanged.")
    return (OrderReleased(situation.now, command.name),)


def _cancel(order: Order, command: CancelOrder, situation: Situation) -> tuple[Event, ...]:
    return (OrderCancelled(situation.now, order.totals.total - order.totals.cancelled, command.reason),)


def _cancel_lines(order: Order, command: CancelLines, situation: Situation) -> tuple[Event, ...]:
    taken: dict[str, int] = {}
    cancellations = tuple(_cancellation(order, wanted, taken) for wanted in command.lines)
    amount = sum(cancellation.amount for cancellation in cancellations)
    cancelled = LinesCancelled(situation.now, cancellations, amount, command.reason)
    if any(line.open_units > taken.get(line.id, 0) for line in order.lines):
        return (cancelled,)
    rest = order.totals.total - order.totals.cancelled - amount
    return (cancelled, OrderCancelled(situation.now, rest, command.reason))


def _cancellation(order: Order, wanted: LineQuantity, taken: dict[str, int]) -> LineCancellation:
    """Return one cancellation and add its units to what the command has taken of the line so far."""
    line = order.line(wanted.line_id)
    if line is None:
        raise CancellationRefused(wanted.line_id, 0, "the order has no such line")
    units = _units_to_cancel(line, wanted)
    before = taken.get(line.id, 0)
    if units > line.open_units - before:
        raise CancellationRefused(line.id, line.open_units - before, f"{line.open_units - before} units are left of it")
    start = line.cancelled + before
    taken[line.id] = before + units
    return LineCancellation(line.id, units, line.part(start, start + units).total)


def _units_to_cancel(line: OrderLine, wanted: LineQuantity) -> int:
    try:
        return units_of(wanted.quantity, line.precision)
    except PydanticCustomError as error:
        raise CancellationRefused(line.id, line.open_units, error.message()) from None


def _complete(_order: Order, _command: CompleteOrder, situation: Situation) -> tuple[Event, ...]:
    return (OrderCompleted(situation.now),)


def _reopen(_order: Order, command: ReopenOrder, situation: Situation) -> tuple[Event, ...]:
    return (OrderReopened(situation.now, command.reason),)


def _expire(_order: Order, _command: ExpireOrder, situation: Situation) -> tuple[Event, ...]:
    return (OrderExpired(situation.now),)


def _set_substate(order: Order, command: SetSubstate, situation: Situation) -> tuple[Event, ...]:
    return () if order.substate == command.substate else (SubstateSet(situation.now, command.substate),)


RULES = (
    Rule(ConfirmOrder, _confirm, states(PENDING), states(OPEN), guards=(_no_hold,)),
    Rule(HoldOrder, _hold, states(PENDING, OPEN)),
    Rule(ReleaseOrder, _release, states(PENDING, OPEN), guards=(_some_hold,)),
    Rule(CancelOrder, _cancel, states(PENDING, OPEN), states(CANCELLED)),
    Rule(CancelLines, _cancel_lines, states(PENDING, OPEN), states(CANCELLED)),
    Rule(CompleteOrder, _complete, states(OPEN), states(COMPLETED), guards=(_no_hold,)),
    Rule(ReopenOrder, _reopen, states(COMPLETED), states(OPEN)),
    Rule(ExpireOrder, _expire, states(PENDING), states(EXPIRED), guards=(_time_is_over,)),
    Rule(SetSubstate, _set_substate, states(DRAFT, PENDING, OPEN, COMPLETED)),
)
"""The rules of a placed order's life."""
