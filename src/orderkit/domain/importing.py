"""Taking over orders from elsewhere: the events they would have had here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import attrs

from orderkit.domain.commands import ImportOrder
from orderkit.domain.drafting import CLOCK_TOLERANCE, new_order
from orderkit.domain.events import Event, OrderCancelled, OrderCompleted, OrderExpired, OrderPlaced
from orderkit.domain.order import Order
from orderkit.domain.rules import Situation
from orderkit.domain.status import OrderStatus
from orderkit.errors import FieldError, InvalidCommand

_FIRST: Mapping[str, OrderStatus] = {"pending": OrderStatus.PENDING, "expired": OrderStatus.PENDING}
"""In which state an order was before it became what it is; open where it is not named."""


def import_order(command: ImportOrder, situation: Situation) -> tuple[Event, ...]:
    """Decide what happened to an order that is taken over.

    Raises:
        InvalidCommand: Its times contradict each other, or lie in the future.
    """
    _check_times(command, situation.now)
    first = _FIRST.get(command.status, OrderStatus.OPEN)
    then = attrs.evolve(situation, now=command.placed_at)
    order = new_order(command, then, first, command.placed_at)
    return (OrderPlaced(command.placed_at, order), *_closing(command, order))


def _closing(command: ImportOrder, order: Order) -> tuple[Event, ...]:
    at = command.closed_at or command.placed_at
    if command.status == "completed":
        return (OrderCompleted(at),)
    if command.status == "cancelled":
        return (OrderCancelled(at, order.totals.total, command.reason),)
    if command.status == "expired":
        return (OrderExpired(command.closed_at or command.expires_at or at),)
    return ()


def _check_times(command: ImportOrder, now: datetime) -> None:
    errors = []
    if command.placed_at > now + CLOCK_TOLERANCE:
        errors.append(FieldError("placed_at", "placed_in_the_future", "an order that is taken over was placed before"))
    if command.closed_at is not None and command.status in {"pending", "open"}:
        errors.append(FieldError("closed_at", "not_closed", f"an order that is {command.status} is not closed"))
    elif command.closed_at is not None and not command.placed_at <= command.closed_at <= now + CLOCK_TOLERANCE:
        errors.append(FieldError("closed_at", "closed_at_no_time", "an order is closed after it is placed, and by now"))
    if command.status == "expired" and command.expires_at is None:
        errors.append(FieldError("expires_at", "field_missing", "an order that has expired had a time to expire at"))
    elif command.status == "expired" and not _expired_by(command.expires_at, command.closed_at or now):
        errors.append(FieldError("expires_at", "not_expired_yet", "an order that has expired did so when it was time"))
    if command.reason is not None and command.status != "cancelled":
        errors.append(FieldError("reason", "not_cancelled", "only an order that was cancelled has a reason for it"))
    if errors:
        raise InvalidCommand("the order", tuple(errors))


def _expired_by(expires_at: datetime | None, time: datetime) -> bool:
    return expires_at is not None and expires_at <= time
