"""Pricing: gross, discounts, taxes and totals of lines and charges, in integers of minor units.

Everything is exact until it is rounded, and it is rounded in three places only: the gross of a line, the
amount of a percentage discount, and a tax at the level the rules name. What is rounded once for several
items is shared over them by largest remainder, so every sum holds to the minor unit. Shares go by the id of
an item, not by its place: the order in which lines are listed changes no total. Taxes inside a price that
would, rounded up, come to more than the price share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal
from enum import StrEnum
from functools import lru_cache
from itertools import chain
from math import lcm
from typing import TYPE_CHECKING, Final, NoReturn

import attrs

from orderkit.domain.money import InvalidMoney, check_range, places_of, read_decimal
from orderkit.domain.rounding import Rounding, allocate, apportion, round_division
from orderkit.domain.values import EXACT_NUMBER, JsonSchema, value_json_schema, value_schema
from orderkit.errors import InvalidInput

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

_EXACT: Final = Context(prec=40)
_PLACES: Final = 8
"""How many decimal places a tax rate or a percentage may have."""

_ONE: Final = 10**_PLACES
"""A rate of 1, in the integers taxes are computed with."""


class InvalidTaxRate(InvalidInput):
    """A tax rate is no exact number from 0 to 10 with at most 8 decimal places, or has no name."""

    code = "invalid_tax_rate"


class InvalidDiscount(InvalidInput):
    """A discount is neither a positive amount nor a percentage above 0 up to 100, or it is both."""

    code = "invalid_discount"


class UnitTaxNeedsWholeQuantity(InvalidInput):
    """Tax per unit was asked for, of a quantity that is not counted in whole units."""

    code = "unit_tax_needs_whole_quantity"


class TaxLevel(StrEnum):
    """Where a tax is rounded: for each unit, for each line or charge, or once for the order."""

    UNIT = "unit"
    LINE = "line"
    TOTAL = "total"


@attrs.frozen
class PricingRules:
    """How an order is priced.

    Attributes:
        rounding: How an exact value becomes whole minor units.
        prices_include_tax: Whether tax is inside the unit prices (gross prices), or added to them.
        tax_level: Where tax is rounded.
    """

    rounding: Rounding = Rounding.HALF_EVEN
    prices_include_tax: bool = False
    tax_level: TaxLevel = TaxLevel.LINE


def _read_rate(rate: str | int | Decimal) -> Decimal:
    try:
        exact = read_decimal(rate)
    except InvalidMoney:
        exact = None
    if exact is None or not 0 <= exact <= 10 or places_of(exact) > _PLACES:
        raise InvalidTaxRate(
            f"A tax rate is a fraction from 0 to 10 with at most {_PLACES} decimal places, such as '0.19'. "
            "Give it as text, an integer or a Decimal, never as a float."
        )
    # The same rate is always the same text, without zeros at its end and without an exponent.
    return _EXACT.add(exact.normalize(_EXACT), Decimal(0))


@attrs.frozen
class TaxRate:
    """A tax that applies to a line or a charge.

    Attributes:
        name: What people call it. Taxes of one name and rate are one tax of the order.
        rate: The rate as a fraction: 0.19 is 19 %. From 0 to 10, at most 8 decimal places.

    Raises:
        InvalidTaxRate: The rate is no such number, or the name is not 1 to 255 characters of one line.
    """

    name: str
    rate: Decimal = attrs.field(converter=_read_rate)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.name, str) or not 0 < len(self.name) <= 255 or not self.name.isprintable():
            raise InvalidTaxRate("A tax has a name of 1 to 255 printable characters, such as 'VAT'.")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        def refuse(_value: object) -> NoReturn:
            raise InvalidTaxRate("Expected an object with a name and a rate, such as {'name': 'VAT', 'rate': '0.19'}.")

        return value_schema(cls, ("name", "rate"), refuse)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        properties: dict[str, JsonSchema] = {
            "name": {"type": "string", "minLength": 1, "maxLength": 255},
            "rate": {**EXACT_NUMBER, "description": "As a fraction, from 0 to 10; never a float."},
        }
        return value_json_schema(cls, properties, {"name": "VAT", "rate": "0.19"})


@attrs.frozen
class Tax:
    """What a tax amounts to, in minor units."""

    name: str
    rate: Decimal
    amount: int


@attrs.frozen
class Priceable:
    """A line or a charge as it comes to be priced.

    Attributes:
        id: Unique within the order.
        unit_price: The price of one, in units of ten to the power of minus `exponent` minor units.
        exponent: The decimal places of the currency, where the unit price is in major units.
        units: The quantity, in units of ten to the power of minus `precision`.
        precision: The decimal places of the quantity.
        tax_rates: The taxes that apply, each name and rate once.
        is_charge: A charge; discounts that name nothing leave it alone.
    """

    id: str
    unit_price: Decimal
    exponent: int
    units: int = 1
    precision: int = 0
    tax_rates: tuple[TaxRate, ...] = ()
    is_charge: bool = False

    @classmethod
    def charge(cls, charge_id: str, amount: int, tax_rates: tuple[TaxRate, ...] = ()) -> Priceable:
        """Return a charge of a fixed amount in minor units: one unit, at a price that needs no exponent."""
        return cls(charge_id, Decimal(amount), 0, tax_rates=tax_rates, is_charge=True)


def _is_percentage(percent: object) -> bool:
    return isinstance(percent, Decimal) and percent.is_finite() and 0 < percent <= 100 and places_of(percent) <= _PLACES


@attrs.frozen
class OrderDiscount:
    """A reduction of what is left of some items: either an amount in minor units or a percentage.

    Attributes:
        applies_to: Ids of lines or charges; empty means all lines. An id that is not there is passed over.

    Raises:
        InvalidDiscount: There is not exactly one of amount and percentage, or it is out of range.
    """

    id: str
    label: str
    code: str | None = None
    amount: int | None = None
    percent: Decimal | None = None
    applies_to: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        if self.percent is None:
            valid = isinstance(self.amount, int) and not isinstance(self.amount, bool) and self.amount > 0
        else:
            valid = self.amount is None and _is_percentage(self.percent)
        if not valid:
            raise InvalidDiscount(
                "A discount is either an amount greater than zero, in minor units, or an exact percentage "
                f"greater than 0 and at most 100, with at most {_PLACES} decimal places."
            )


@attrs.frozen
class Allocation:
    """The part of an adjustment that falls on one item, in minor units."""

    item_id: str
    amount: int


@attrs.frozen
class Adjustment:
    """What a discount took off, frozen when the order is priced.

    Attributes:
        requested: What was asked for, in minor units.
        amount: What was taken off: no more than was left. The allocations add up to it.
        allocations: On which items it falls; those that bear nothing are left out.
    """

    id: str
    label: str
    code: str | None
    percent: Decimal | None
    requested: int
    amount: int
    allocations: tuple[Allocation, ...]


@attrs.frozen
class PricedItem:
    """The price of a line or a charge, in minor units.

    Attributes:
        total: `gross - discount`, plus `tax` where prices exclude it.
    """

    id: str
    gross: int
    discount: int
    taxes: tuple[Tax, ...]
    tax: int
    total: int


@attrs.frozen
class Pricing:
    """The price of an order, in minor units: every figure is the sum of the items' figures.

    Attributes:
        items: In the order in which they were given.
        adjustments: In the order in which the discounts were applied.
        taxes: One for each name and rate, sorted by them.
    """

    items: tuple[PricedItem, ...]
    adjustments: tuple[Adjustment, ...]
    taxes: tuple[Tax, ...]
    gross: int
    discount: int
    tax: int
    total: int


def price(items: Sequence[Priceable], discounts: Sequence[OrderDiscount], rules: PricingRules) -> Pricing:
    """Price an order: gross, then discounts one after the other on what is left, then taxes.

    Raises:
        MoneyOutOfRange: A sum is too great to be kept.
        UnitTaxNeedsWholeQuantity: Tax is rounded by unit, but a taxed quantity has a precision.

    Example:
        >>> tea = Priceable("tea", Decimal("4.50"), 2, units=2, tax_rates=(TaxRate("VAT", Decimal("0.07")),))
        >>> price([tea], [OrderDiscount("d1", "Spring", percent=Decimal(10))], PricingRules()).total
        867
    """
    gross = [_gross(item, rules.rounding) for item in items]
    net = gross.copy()
    adjustments = tuple([_apply(discount, items, net, rules.rounding) for discount in discounts])
    taxes = _taxes(items, net, rules)
    added = not rules.prices_include_tax
    priced = []
    for position, item in enumerate(items):
        item_taxes = taxes[position] if taxes else ()
        tax = sum(part.amount for part in item_taxes) if item_taxes else 0
        before, left = gross[position], net[position]
        if tax > left >= 0 and not added:
            shares = zip(item_taxes, allocate(left, [part.amount for part in item_taxes]), strict=True)
            taxes[position] = item_taxes = tuple([Tax(part.name, part.rate, amount) for part, amount in shares])
            tax = left
        priced.append(PricedItem(item.id, before, before - left, item_taxes, tax, left + tax if added else left))
    tax = sum(item.tax for item in priced) if taxes else 0
    before, left = check_range(sum(gross)), sum(net)
    total = check_range(left + tax if added else left)
    return Pricing(tuple(priced), adjustments, _total_taxes(taxes), before, before - left, check_range(tax), total)


def _gross(item: Priceable, rounding: Rounding) -> int:
    numerator, denominator = item.unit_price.as_integer_ratio()
    exact = item.units * numerator * 10**item.exponent
    return check_range(round_division(exact, denominator * 10**item.precision, rounding))


def _by_id(items: Sequence[Priceable]) -> list[int]:
    """Return the positions of the items, sorted by id, so that no share depends on a position."""
    return sorted(range(len(items)), key=lambda position: items[position].id)


def _apply(discount: OrderDiscount, items: Sequence[Priceable], left: list[int], rounding: Rounding) -> Adjustment:
    """Take a discount off what is left of the items it applies to."""
    chosen = [position for position in _by_id(items) if left[position] > 0 and _applies(discount, items[position])]
    weights = [left[position] for position in chosen]
    available = sum(weights)
    requested = _requested(discount, available, rounding)
    amount = min(requested, available)
    allocations = []
    for position, part in zip(chosen, allocate(amount, weights), strict=True):
        left[position] -= part
        if part:
            allocations.append(Allocation(items[position].id, part))
    return Adjustment(
        discount.id, discount.label, discount.code, discount.percent, requested, amount, tuple(allocations)
    )


def _applies(discount: OrderDiscount, item: Priceable) -> bool:
    return item.id in discount.applies_to if discount.applies_to else not item.is_charge


def _requested(discount: OrderDiscount, available: int, rounding: Rounding) -> int:
    if discount.percent is None:
        return discount.amount or 0
    numerator, denominator = discount.percent.as_integer_ratio()
    return round_division(available * numerator, denominator * 100, rounding)


def _taxes(items: Sequence[Priceable], bases: Sequence[int], rules: PricingRules) -> list[tuple[Tax, ...]]:
    """Return the taxes of each item, an empty list where nothing is taxed."""
    if not any(item.tax_rates for item in items):
        return []
    if rules.tax_level is TaxLevel.TOTAL:
        return _taxes_in_total(items, bases, rules)
    by_unit = rules.tax_level is TaxLevel.UNIT
    return [
        _taxes_of_item(item, base, _whole_quantity(item) if by_unit else 1, rules)
        for item, base in zip(items, bases, strict=True)
    ]


def _taxes_of_item(item: Priceable, base: int, quantity: int, rules: PricingRules) -> tuple[Tax, ...]:
    """Round each tax of an item: of the whole item, or of one unit and then times the quantity."""
    divisor = _divisor(item, rules) * quantity
    taxes = []
    for rate in item.tax_rates:
        amount = quantity * round_division(base * _scaled(rate.rate), divisor, rules.rounding)
        taxes.append(Tax(rate.name, rate.rate, amount))
    return tuple(taxes)


def _taxes_in_total(items: Sequence[Priceable], bases: Sequence[int], rules: PricingRules) -> list[tuple[Tax, ...]]:
    """Round each tax once, of the exact sum over its items, and share it over them."""
    bearers: dict[tuple[str, Decimal], list[int]] = {}
    for position in _by_id(items):
        for tax_rate in items[position].tax_rates:
            bearers.setdefault((tax_rate.name, tax_rate.rate), []).append(position)
    divisors = [_divisor(item, rules) for item in items]
    taxes: list[list[Tax]] = [[] for _ in items]
    for (name, rate), positions in bearers.items():
        common = lcm(*[divisors[position] for position in positions])
        quotas = [bases[position] * _scaled(rate) * (common // divisors[position]) for position in positions]
        total = round_division(sum(quotas), common, rules.rounding)
        for position, amount in zip(positions, apportion(total, quotas, common), strict=True):
            taxes[position].append(Tax(name, rate, amount))
    return [tuple(parts) for parts in taxes]


@lru_cache(maxsize=1024)
def _scaled(rate: Decimal) -> int:
    """Return a rate as an integer; the rates of a shop are few, and each is needed for every line."""
    numerator, denominator = rate.as_integer_ratio()
    return numerator * (_ONE // denominator)


def _divisor(item: Priceable, rules: PricingRules) -> int:
    """Return what base times rate is divided by: one, or one plus all rates of the item where they are inside it."""
    return _ONE + sum(_scaled(rate.rate) for rate in item.tax_rates) if rules.prices_include_tax else _ONE


def _whole_quantity(item: Priceable) -> int:
    if item.precision and item.tax_rates:
        raise UnitTaxNeedsWholeQuantity(
            f"Tax cannot be rounded by unit for item {item.id!r}: its quantity has {item.precision} decimal places; "
            "nothing was priced. Round tax by line or in total, or count the item in whole units."
        )
    return item.units


def _total_taxes(taxes: Sequence[tuple[Tax, ...]]) -> tuple[Tax, ...]:
    totals: dict[tuple[str, Decimal], int] = {}
    for tax in chain.from_iterable(taxes):
        key = (tax.name, tax.rate)
        totals[key] = totals.get(key, 0) + tax.amount
    return tuple([Tax(name, rate, amount) for (name, rate), amount in sorted(totals.items())])
