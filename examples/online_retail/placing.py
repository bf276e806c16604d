"""Place invoices as orders, each once, and read back what is stored."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from amounts import add, rounded
from kinds import CHARGES, IN_ORDERS, Kind, kind_of
from reading import Invoice, Row

from orderkit import Charge, Discount, Line, Money, Order, OrderFilter, OrderKit, UnitPrice
from orderkit.errors import AlreadyExists, IdempotencyMismatch, InvalidInput
from orderkit.orders.fields import PlaceFields

CURRENCY: Final = "GBP"
TAG: Final = "online-retail"
"""What the orders of this program are found by, in a database that may hold others."""

_SHOP_CLOCK: Final = ZoneInfo("Europe/London")


@dataclass(frozen=True)
class Plan:
    """What becomes of the rows of an invoice.

    Attributes:
        rest: Rows that stay outside of the order, each with its kind.
    """

    lines: list[Row] = field(default_factory=list)
    charges: list[Row] = field(default_factory=list)
    discounts: list[Row] = field(default_factory=list)
    rest: list[tuple[Kind, Row]] = field(default_factory=list)

    @property
    def in_order(self) -> list[Row]:
        """The rows the order is made of; empty if there is none."""
        return [*self.lines, *self.charges, *self.discounts]


@dataclass(frozen=True)
class Placed:
    """What became of an invoice.

    Attributes:
        rest: Rows that are in no order, each with its kind.
        is_new: Whether an order was placed just now.
        problem: The code of the error for which no order was placed.
    """

    rest: list[tuple[Kind, Row]]
    is_new: bool = False
    problem: str | None = None


def plan(invoice: Invoice) -> Plan:
    """Sort the rows of an invoice into lines, charges, discounts, and what is in no order."""
    planned = Plan()
    for row in invoice.rows:
        kind = kind_of(row)
        if kind not in IN_ORDERS:
            planned.rest.append((kind, row))
        elif row.amount < 0:
            planned.discounts.append(row)
        elif kind in CHARGES and row.amount == rounded(row.amount):
            planned.charges.append(row)
        else:
            planned.lines.append(row)
    if not planned.lines:
        # Where nothing else was ordered, carriage or the fee is what was ordered.
        planned.lines.extend(planned.charges)
        planned.charges.clear()
    _take_discounts(planned)
    return planned


def _take_discounts(planned: Plan) -> None:
    """Keep the discounts that the lines have room for, so that none is cut short silently."""
    room = Decimal(0)
    for line in planned.lines:
        room = add(room, rounded(line.amount))
    wanted = planned.discounts[:]
    planned.discounts.clear()
    for row in wanted:
        left = add(room, row.amount)
        if left >= 0 and row.amount == rounded(row.amount):
            room = left
            planned.discounts.append(row)
        else:
            planned.rest.append((Kind.DISCOUNTS_NOT_TAKEN, row))


def place(kit: OrderKit, invoice: Invoice, began_at: datetime) -> Placed:
    """Place an invoice as an order, unless it is there already.

    Args:
        kit: Where.
        invoice: What.
        began_at: When this run began: an order that is older was there before.
    """
    planned = plan(invoice)
    if not planned.in_order:
        return Placed(planned.rest)
    try:
        order = kit.orders.place(**fields_of(invoice, planned), idempotency_key=f"{TAG}/{invoice.number}")
    except InvalidInput as error:
        refused = [(Kind.REFUSED, row) for row in planned.in_order]
        return Placed(planned.rest + refused, problem=error.code)
    except (AlreadyExists, IdempotencyMismatch) as error:
        return Placed(planned.rest, problem=error.code)
    return Placed(planned.rest, is_new=order.created_at >= began_at)


def fields_of(invoice: Invoice, planned: Plan) -> PlaceFields:
    """Return what is ordered, as `place` takes it."""
    return {
        "number": invoice.number,
        "placed_at": invoice.invoiced_at.replace(tzinfo=_SHOP_CLOCK),
        "customer": invoice.customer,
        "currency": CURRENCY,
        "lines": [_line(row) for row in planned.lines],
        "charges": [_charge(row) for row in planned.charges],
        "discounts": [_discount(row) for row in planned.discounts],
        "confirmed": True,
        "tags": [TAG],
        "metadata": {"country": invoice.rows[0].country},
    }


def _line(row: Row) -> Line:
    price = UnitPrice(row.unit_price, CURRENCY)
    return Line(sku=row.stock_code, quantity=row.quantity, unit_price=price, description=_words(row))


def _charge(row: Row) -> Charge:
    return Charge(kind=CHARGES[kind_of(row)], amount=Money(row.amount, CURRENCY), label=_words(row))


def _discount(row: Row) -> Discount:
    return Discount(label=_words(row) or row.stock_code, amount=Money(-row.amount, CURRENCY))


def _words(row: Row) -> str | None:
    return row.description[:255] or None


def stored_orders(kit: OrderKit, numbers: Container[str | None]) -> Iterator[Order]:
    """Yield the orders this program placed under these numbers, as the database has them."""
    for order in kit.orders.stream(OrderFilter(tags=(TAG,))):
        if order.number in numbers:
            yield order
