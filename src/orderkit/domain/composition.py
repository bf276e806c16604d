"""What an order is made of, checked and priced as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from orderkit.domain.lines import Charge, Discount, Line, OrderCharge, OrderLine
from orderkit.domain.money import CurrencyMismatch, exponent_of
from orderkit.domain.pricing import Adjustment, OrderDiscount, Priceable, PricingRules, Tax, price
from orderkit.errors import FieldError, InvalidCommand


@attrs.frozen
class Totals:
    """The sums of an order, in minor units of its currency, as placed.

    Attributes:
        gross: Lines and charges before discounts.
        discount: All discounts.
        tax: All taxes, whether inside the prices or added to them.
        total: What the order costs as placed.
        cancelled: How much of `total` was cancelled since.
    """

    gross: int = 0
    discount: int = 0
    tax: int = 0
    total: int = 0
    cancelled: int = 0


@attrs.frozen
class Composition:
    """What an order is made of, priced."""

    lines: tuple[OrderLine, ...]
    charges: tuple[OrderCharge, ...]
    discounts: tuple[OrderDiscount, ...]
    adjustments: tuple[Adjustment, ...]
    taxes: tuple[Tax, ...]
    totals: Totals

    # The names of an order's fields, of types that differ: `Any` is all that can be said of them.
    def fields(self) -> dict[str, Any]:
        """Return the fields of an order that this is made of."""
        return {
            "lines": self.lines,
            "charges": self.charges,
            "discounts": self.discounts,
            "adjustments": self.adjustments,
            "taxes": self.taxes,
            "totals": self.totals,
        }


def compose(
    lines: tuple[OrderLine, ...],
    charges: tuple[OrderCharge, ...],
    discounts: tuple[OrderDiscount, ...],
    rules: PricingRules,
    currency: str,
) -> Composition:
    """Price lines and charges as a whole, whatever amounts they carried before.

    Raises:
        InvalidCommand: An id stands twice, or a discount applies to nothing that is there.
        InvalidMoney: A sum is too great to be kept.
    """
    _check_ids(lines, charges, discounts)
    exponent = exponent_of(currency)
    items = [
        Priceable(line.id, line.unit_price, exponent, line.units, line.precision, line.tax_rates) for line in lines
    ]
    items += [Priceable.charge(charge.id, charge.gross, charge.tax_rates) for charge in charges]
    priced = price(items, discounts, rules)
    count = len(lines)
    return Composition(
        tuple([line.priced(item) for line, item in zip(lines, priced.items[:count], strict=True)]),
        tuple([charge.priced(item) for charge, item in zip(charges, priced.items[count:], strict=True)]),
        discounts,
        priced.adjustments,
        priced.taxes,
        Totals(priced.gross, priced.discount, priced.tax, priced.total),
    )


def new_discount(discount: Discount, discount_id: str) -> OrderDiscount:
    """Return the state of a discount."""
    amount = None if discount.amount is None else discount.amount.minor
    return OrderDiscount(
        discount.id or discount_id, discount.label, discount.code, amount, discount.percent, discount.applies_to
    )


def currency_of(
    lines: Sequence[Line], charges: Sequence[Charge], discounts: Sequence[Discount], declared: str | None
) -> str:
    """Return the one currency of everything in an order.

    Raises:
        CurrencyMismatch: There is more than one.
        InvalidCommand: There is none.
    """
    found = [] if declared is None else [declared]
    found += [line.unit_price.currency for line in lines]
    found += [charge.amount.currency for charge in charges]
    found += [discount.amount.currency for discount in discounts if discount.amount is not None]
    if not found:
        missing = FieldError("currency", "currency_missing", "an order without a price needs its currency")
        raise InvalidCommand("the order", (missing,))
    for other in found:
        if other != found[0]:
            raise CurrencyMismatch(found[0], other)
    return found[0]


def _check_ids(lines: Sequence[OrderLine], charges: Sequence[OrderCharge], discounts: Sequence[OrderDiscount]) -> None:
    """Refuse ids that stand twice and discounts on what is not there, so that every allocation has one target."""
    ids = [line.id for line in lines]
    ids += [charge.id for charge in charges]
    known = set(ids)
    errors = []
    if len(known) != len(ids):
        errors.append(FieldError("lines", "duplicate_line_id", "every line and charge has an id of its own"))
    if len({discount.id for discount in discounts}) != len(discounts):
        errors.append(FieldError("discounts", "duplicate_discount_id", "every discount has an id of its own"))
    if any(target not in known for discount in discounts for target in discount.applies_to):
        errors.append(FieldError("discounts", "unknown_item", "a discount applies to lines and charges of the order"))
    if errors:
        raise InvalidCommand("the order", tuple(errors))
