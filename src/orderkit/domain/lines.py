"""Lines and charges: `Line` and `Charge` are input, `OrderLine` and `OrderCharge` are state."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Literal, NamedTuple

import attrs
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetPydanticSchema,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from orderkit.domain.inputs import Input, Metadata, Name, Telling
from orderkit.domain.money import Money, UnitPrice, read_decimal, share
from orderkit.domain.pricing import PricedItem, Tax, TaxRate
from orderkit.errors import InvalidInput

MAX_UNITS = 2**31 - 1


def _exact(value: object) -> int | Decimal:
    """Accept a whole number or an exact decimal; text is read as a decimal, as JSON has no exact one."""
    if type(value) is int:
        return value
    try:
        return read_decimal(value)
    except InvalidInput:
        pass
    raise PydanticCustomError("quantity_not_exact", "a quantity is a whole number or an exact decimal, never a float")


def _told(quantity: int | Decimal) -> int | str:
    return f"{quantity:f}" if isinstance(quantity, Decimal) else quantity


Quantity = Annotated[
    int | Decimal,
    PlainValidator(_exact, json_schema_input_type=int | str),
    PlainSerializer(_told, return_type=int | str, when_used="json"),
]
"""How many, exactly: a whole number, or a decimal where a precision is declared."""


def units_of(quantity: int | Decimal, precision: int) -> int:
    """Return a quantity in units of ten to the power of minus `precision`.

    Raises:
        PydanticCustomError: It is not positive, too large, or finer than declared.
    """
    numerator, denominator = quantity.as_integer_ratio()
    scale: int = 10**precision
    units, rest = divmod(numerator * scale, denominator)
    if rest:
        raise PydanticCustomError(
            "quantity_too_precise", "the quantity has more decimal places than its precision of {p}", {"p": precision}
        )
    if units <= 0:
        raise PydanticCustomError("quantity_not_positive", "a quantity is greater than zero")
    if units > MAX_UNITS:
        raise PydanticCustomError("quantity_too_large", "a quantity is at most {n} units", {"n": MAX_UNITS})
    return units


def quantity_of(units: int, precision: int) -> int | Decimal:
    """Return units as a quantity of their precision: the same one is always the same number."""
    return units if precision == 0 else Decimal(f"{units}E-{precision}")


# Validated as a `UnitPrice`, which takes `Money` as well: as a union, every failure would be told twice.
Price = Annotated[UnitPrice | Money, GetPydanticSchema(lambda _source, handler: handler(UnitPrice))]
"""The price of one; `Money` becomes a `UnitPrice`."""


def _each_once(rates: tuple[TaxRate, ...]) -> tuple[TaxRate, ...]:
    if len(set(rates)) != len(rates):
        raise PydanticCustomError("duplicate_tax_rate", "a tax of one name and rate applies once")
    return rates


TaxRates = Annotated[tuple[TaxRate, ...], AfterValidator(_each_once)]
"""The taxes that apply to a line or a charge."""


class Line(Input):
    """Something ordered: so many of an SKU at a price each.

    Example:
        >>> Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR")).units
        2
        >>> Line(sku="RICE", quantity=Decimal("1.25"), precision=2, unit="kg", unit_price=Money("3.00", "EUR")).units
        125
    """

    # Validated before the quantity, which is checked against it.
    precision: int = Field(default=0, ge=0, le=6, strict=True, description="Decimal places of the quantity.")
    sku: Name = Field(description="What is ordered.", examples=["TEA-001"])
    quantity: Quantity = Field(description="How many, exactly.", examples=[2])
    unit_price: Price = Field(description="The price of one; may be finer than the currency.")
    id: Name | None = Field(default=None, description="The line's id; minted where absent.")
    description: Name | None = Field(default=None, description="What people call it.", examples=["Assam, 250 g"])
    unit: Name | None = Field(default=None, description="What is counted.", examples=["kg"])
    tax_rates: TaxRates = Field(default=(), max_length=8, description="The taxes that apply, each once.")
    attributes: Metadata = Field(default_factory=dict, description="The application's own JSON object.")

    @field_validator("quantity")
    @classmethod
    def _check_quantity(cls, quantity: int | Decimal, info: ValidationInfo) -> int | Decimal:
        precision = info.data.get("precision", 0)
        return quantity_of(units_of(quantity, precision), precision)

    @field_validator("unit_price")
    @classmethod
    def _check_price(cls, price: UnitPrice) -> UnitPrice:
        if price.amount < 0:
            raise PydanticCustomError("unit_price_negative", "a price is zero or more; a reduction is a discount")
        return price

    @property
    def units(self) -> int:
        """The quantity in units of ten to the power of minus `precision`."""
        return units_of(self.quantity, self.precision)

    @property
    def price(self) -> UnitPrice:
        """The unit price, whichever way it was given."""
        return UnitPrice.of(self.unit_price) if isinstance(self.unit_price, Money) else self.unit_price


class Charge(Input):
    """Something paid that is no line: shipping, a fee, gift wrapping.

    Example:
        >>> Charge(kind="shipping", amount=Money("3.90", "EUR")).kind
        'shipping'
    """

    amount: Money = Field(description="What it costs; zero or more.")
    kind: Literal["shipping", "handling", "gift_wrap", "fee", "surcharge", "other"] = Field(
        default="other", description="What it is for."
    )
    id: Name | None = Field(default=None, description="The charge's id; minted where absent.")
    label: Name | None = Field(default=None, description="What people call it.", examples=["DHL Express"])
    tax_rates: TaxRates = Field(default=(), max_length=8, description="The taxes that apply, each once.")

    @model_validator(mode="after")
    def _check_amount(self) -> Charge:
        if self.amount.minor < 0:
            raise PydanticCustomError("charge_negative", "a charge is zero or more; a reduction is a discount")
        return self


Percentage = Annotated[
    Decimal,
    Field(gt=0, le=100, decimal_places=6),
    BeforeValidator(read_decimal),
    Telling(
        "invalid_percentage", "a percentage is exact, greater than 0 and at most 100, with at most 6 decimal places"
    ),
]
"""How many of a hundred, exactly: text, an integer or a Decimal, never a float."""


class Discount(Input):
    """A reduction, as an amount or a percentage, over some or all of the order.

    Example:
        >>> Discount(label="Ten percent", percent=Decimal(10)).percent
        Decimal('10')
    """

    label: Name = Field(description="What people call it.", examples=["Spring sale"])
    amount: Money | None = Field(default=None, description="A fixed amount, shared over what it applies to.")
    percent: Percentage | None = Field(default=None, description="A percentage of what is left of what it applies to.")
    code: Name | None = Field(default=None, description="The code that was redeemed.", examples=["SPRING10"])
    applies_to: tuple[Name, ...] = Field(default=(), description="Ids of lines or charges; empty means all lines.")
    id: Name | None = Field(default=None, description="The discount's id; minted where absent.")

    @model_validator(mode="after")
    def _check_one(self) -> Discount:
        if (self.amount is None) == (self.percent is None):
            raise PydanticCustomError("discount_ambiguous", "a discount is either an amount or a percentage")
        if self.amount is not None and self.amount.minor <= 0:
            raise PydanticCustomError("discount_not_positive", "the amount of a discount is greater than zero")
        return self


class Part(NamedTuple):
    """The share of some units of a line, in minor units. The parts of a line sum exactly to the line."""

    gross: int
    discount: int
    tax: int
    total: int


@attrs.frozen
class OrderLine:
    """A line of an order as it is kept: amounts are frozen, in minor units of the order's currency.

    Attributes:
        units: What was ordered, in units of ten to the power of minus `precision`.
        gross: Quantity times unit price, rounded once.
        discount: The line's share of all discounts.
        taxes: The line's share of each tax.
        tax: Their sum.
        total: What the line costs: `gross - discount`, plus `tax` where prices exclude it.
        cancelled: Units cancelled so far.
    """

    id: str
    sku: str
    units: int
    precision: int
    unit_price: Decimal
    gross: int
    discount: int
    taxes: tuple[Tax, ...]
    tax: int
    total: int
    cancelled: int = 0
    description: str | None = None
    unit: str | None = None
    tax_rates: tuple[TaxRate, ...] = ()
    attributes: Mapping[str, object] = attrs.Factory(dict)

    @property
    def quantity(self) -> int | Decimal:
        """What was ordered, as a number of the declared precision."""
        return quantity_of(self.units, self.precision)

    @property
    def open_units(self) -> int:
        """What is ordered and not cancelled, in units."""
        return self.units - self.cancelled

    def part(self, start: int, stop: int) -> Part:
        """Return the share of the units from `start` up to, not including, `stop`.

        Units are counted in the order in which they leave the line, so that whatever partition
        cancellations and returns make of them, the parts sum exactly to the line.
        """
        # What is left after discounts is shared, not the discount: shared apart, their difference could be negative.
        gross = share(self.gross, start, stop, self.units)
        net = share(self.gross - self.discount, start, stop, self.units)
        tax = share(self.tax, start, stop, self.units)
        tax_is_added = self.total != self.gross - self.discount
        return Part(gross, gross - net, tax, net + (tax if tax_is_added else 0))

    def priced(self, price: PricedItem) -> OrderLine:
        """Return the line with the amounts of a pricing."""
        return OrderLine(
            self.id,
            self.sku,
            self.units,
            self.precision,
            self.unit_price,
            price.gross,
            price.discount,
            price.taxes,
            price.tax,
            price.total,
            self.cancelled,
            self.description,
            self.unit,
            self.tax_rates,
            self.attributes,
        )


@attrs.frozen
class OrderCharge:
    """A charge of an order as it is kept: amounts are frozen, in minor units of the order's currency."""

    id: str
    kind: str
    gross: int
    discount: int
    taxes: tuple[Tax, ...]
    tax: int
    total: int
    label: str | None = None
    tax_rates: tuple[TaxRate, ...] = ()

    def priced(self, price: PricedItem) -> OrderCharge:
        """Return the charge with the amounts of a pricing."""
        return attrs.evolve(self, discount=price.discount, taxes=price.taxes, tax=price.tax, total=price.total)


def new_line(line: Line, line_id: str) -> OrderLine:
    """Return the state of a line that has not been priced yet."""
    return OrderLine(
        line.id or line_id,
        line.sku,
        line.units,
        line.precision,
        line.price.amount,
        0,
        0,
        (),
        0,
        0,
        0,
        line.description,
        line.unit,
        line.tax_rates,
        line.attributes,
    )


def new_charge(charge: Charge, charge_id: str) -> OrderCharge:
    """Return the state of a charge that has not been priced yet."""
    gross = charge.amount.minor
    return OrderCharge(charge.id or charge_id, charge.kind, gross, 0, (), 0, gross, charge.label, charge.tax_rates)
