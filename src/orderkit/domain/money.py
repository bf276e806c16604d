"""Money: exact amounts of a currency. How they are rounded and shared comes from `rounding`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Context, Decimal, Inexact
from functools import total_ordering
from typing import TYPE_CHECKING, Final, NoReturn, cast, final

import attrs

from orderkit.domain.currencies import MINOR_UNITS
from orderkit.domain.rounding import InvalidMoney, Rounding, allocate, apportion, round_division, share
from orderkit.domain.values import EXACT_NUMBER, JsonSchema, value_json_schema, value_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

__all__ = [
    "MAX_MINOR",
    "MAX_UNIT_PRICE",
    "MAX_UNIT_PRICE_PLACES",
    "CurrencyMismatch",
    "FloatMoney",
    "InvalidMoney",
    "Money",
    "MoneyOutOfRange",
    "Rounding",
    "UnitPrice",
    "UnknownCurrency",
    "WrongExponent",
    "allocate",
    "apportion",
    "check_range",
    "exponent_of",
    "places_of",
    "read_decimal",
    "round_division",
    "share",
]

MAX_MINOR: Final = 10**15
"""The greatest amount, in minor units: a sum of thousands still fits a signed 64-bit integer."""

MAX_UNIT_PRICE: Final = 10**12
"""The greatest unit price, in major units."""

MAX_UNIT_PRICE_PLACES: Final = 12
"""How many decimal places a unit price may have, whatever its currency has."""

# Decimal arithmetic that neither depends on the application's context nor ever rounds silently.
_EXACT: Final = Context(prec=100, traps=[Inexact])
_PLAIN_NUMBER: Final = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")
_ZERO: Final = Decimal(0)
_NO_FLOAT: Final = "A float is never exact, so it is refused. Give the amount as text, an integer or a Decimal."


class UnknownCurrency(InvalidMoney):
    """The code is not one of ISO 4217, or no price can be in it."""

    code = "unknown_currency"


class FloatMoney(InvalidMoney):
    """The amount is a float, which is never exact."""

    code = "float_money"


class WrongExponent(InvalidMoney):
    """The amount is finer than its currency, or a unit price finer than any may be."""

    code = "wrong_exponent"


class CurrencyMismatch(InvalidMoney):
    """Amounts of two currencies met where one currency was expected.

    Attributes:
        expected: The currency of the first amount.
        actual: The currency of the other.
    """

    code = "currency_mismatch"

    def __init__(self, expected: str, actual: str) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"{actual} met {expected}; nothing was converted or changed. Convert one of the amounts first."
        )


class MoneyOutOfRange(InvalidMoney):
    """The amount is greater than any that can be kept."""

    code = "money_out_of_range"


def exponent_of(currency: str) -> int:
    """Return how many decimal places a currency has.

    Raises:
        UnknownCurrency: It is not a code of ISO 4217 in capitals, or it has no minor unit.

    Example:
        >>> exponent_of("EUR"), exponent_of("JPY"), exponent_of("CLF")
        (2, 0, 4)
    """
    exponent = MINOR_UNITS.get(currency) if isinstance(currency, str) else None
    if exponent is not None:
        return exponent
    if isinstance(currency, str) and currency in MINOR_UNITS:
        raise UnknownCurrency(
            f"The code {currency} has no minor unit in ISO 4217, so no price can be in it. Use another."
        )
    raise UnknownCurrency("This is not a currency. Use a current code of ISO 4217 in capitals, such as 'EUR' or 'JPY'.")


def read_decimal(amount: object) -> Decimal:
    """Return an amount given as text, integer or decimal as an exact, finite Decimal of bounded size.

    Text is plain: an optional minus, digits, and a point between digits.

    Raises:
        FloatMoney: It is a float.
        MoneyOutOfRange: It is a greater integer than any amount.
        InvalidMoney: It is no number, or not finite, or of absurd length.
    """
    if isinstance(amount, str) and _PLAIN_NUMBER.fullmatch(amount):
        return Decimal(amount)
    if isinstance(amount, int) and not isinstance(amount, bool):
        return Decimal(check_range(amount))
    # The size is looked at before anything is computed: Decimal('1e999999999') is legal, and as an integer endless.
    if isinstance(amount, Decimal) and amount.is_finite() and amount.adjusted() < 20 and places_of(amount) <= 40:
        return amount
    if isinstance(amount, float):
        raise FloatMoney(_NO_FLOAT)
    raise InvalidMoney(
        "This is not an amount. Give a plain decimal number as text, such as '4.50', an integer or a finite Decimal, "
        "with at most 20 digits on either side of the point."
    )


_PROPERTIES: Final[Mapping[str, JsonSchema]] = {
    "amount": {**EXACT_NUMBER, "description": "In major units, as text or an integer; never a float."},
    "currency": {"type": "string", "pattern": "^[A-Z]{3}$", "description": "A code of ISO 4217."},
}


def places_of(amount: Decimal) -> int:
    """Return how many decimal places a finite decimal is written with; negative for 1E+3."""
    return -cast("int", amount.as_tuple().exponent)


def check_range(minor: int) -> int:
    """Return an amount in minor units, unless it is too great to be kept.

    Raises:
        MoneyOutOfRange: It is.
    """
    if not -MAX_MINOR <= minor <= MAX_MINOR:
        raise MoneyOutOfRange(f"An amount has at most {MAX_MINOR} minor units; nothing was changed.")
    return minor


def _refuse(value: object) -> NoReturn:
    """Refuse an input that is neither a value nor an object with an amount and a currency."""
    if isinstance(value, float):
        raise FloatMoney(_NO_FLOAT)
    raise InvalidMoney("Expected an amount and a currency, such as {'amount': '4.50', 'currency': 'EUR'}.")


@final
@total_ordering
@attrs.frozen(init=False, repr=False)
class Money:
    """An exact amount of a currency.

    Arithmetic and comparison stay within one currency; there is no zero without a currency, and a float
    is never accepted.

    Attributes:
        minor: The amount in minor units, such as cents.
        currency: The ISO 4217 code.

    Example:
        >>> 3 * Money("4.50", "EUR") - Money.from_minor(50, "EUR")
        Money('13.00', 'EUR')
        >>> print(Money(1200, "JPY"))
        1200 JPY
    """

    minor: int
    currency: str

    def __init__(self, amount: str | int | Decimal, currency: str) -> None:
        """Read an amount in major units.

        Raises:
            UnknownCurrency: The currency is not one of ISO 4217 that has a minor unit.
            WrongExponent: The amount is finer than the currency.
            MoneyOutOfRange: The amount is too great to be kept.
            FloatMoney: The amount is a float.
            InvalidMoney: The amount is no number.
        """
        exponent = exponent_of(currency)
        scaled = read_decimal(amount).scaleb(exponent, _EXACT)
        minor = int(scaled)
        if minor != scaled:
            raise WrongExponent(
                f"{currency} has {exponent} decimal places and the amount has more; nothing was rounded. "
                "Round it first, or use a UnitPrice for the price of one."
            )
        object.__setattr__(self, "minor", check_range(minor))
        object.__setattr__(self, "currency", currency)

    @classmethod
    def from_minor(cls, minor: int, currency: str) -> Money:
        """Return an amount given in minor units.

        Raises:
            InvalidMoney: It is no integer, too great, or of no known currency.

        Example:
            >>> Money.from_minor(450, "EUR")
            Money('4.50', 'EUR')
        """
        exponent_of(currency)
        if isinstance(minor, float):
            raise FloatMoney("A float is never exact, so it is refused. Give minor units as an integer.")
        if not isinstance(minor, int) or isinstance(minor, bool):
            raise InvalidMoney("Minor units are an integer. For an amount in major units use Money(amount, currency).")
        return _money(minor, currency)

    @property
    def amount(self) -> Decimal:
        """The amount in major units, with exactly the currency's decimal places."""
        return Decimal(self.minor).scaleb(-exponent_of(self.currency), _EXACT)

    def __str__(self) -> str:
        return f"{self.amount:f} {self.currency}"

    def __repr__(self) -> str:
        return f"Money('{self.amount:f}', '{self.currency}')"

    def __bool__(self) -> bool:
        return self.minor != 0

    def __add__(self, other: Money) -> Money:
        return _money(self.minor + self._minor_of(other), self.currency) if isinstance(other, Money) else NotImplemented

    def __sub__(self, other: Money) -> Money:
        return _money(self.minor - self._minor_of(other), self.currency) if isinstance(other, Money) else NotImplemented

    def __neg__(self) -> Money:
        return _money(-self.minor, self.currency)

    def __mul__(self, factor: int) -> Money:
        if not isinstance(factor, int) or isinstance(factor, bool):
            return NotImplemented
        return _money(self.minor * factor, self.currency)

    __rmul__ = __mul__

    def __lt__(self, other: Money) -> bool:
        return self.minor < self._minor_of(other) if isinstance(other, Money) else NotImplemented

    def _minor_of(self, other: Money) -> int:
        if other.currency != self.currency:
            raise CurrencyMismatch(self.currency, other.currency)
        return other.minor

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return value_schema(cls, ("amount", "currency"), _refuse)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        return value_json_schema(cls, _PROPERTIES, {"amount": "4.50", "currency": "EUR"})


def _money(minor: int, currency: str) -> Money:
    """Make an amount whose currency is known to be good."""
    money = object.__new__(Money)
    object.__setattr__(money, "minor", check_range(minor))
    object.__setattr__(money, "currency", currency)
    return money


@final
@attrs.frozen(init=False, repr=False)
class UnitPrice:
    """The exact price of one, which may be finer than its currency.

    It is multiplied by a quantity first and rounded once afterwards.

    Attributes:
        amount: The price in major units, without trailing zeros beyond the currency's decimal places.
        currency: The ISO 4217 code.

    Example:
        >>> UnitPrice("0.0125", "EUR")
        UnitPrice('0.0125', 'EUR')
    """

    amount: Decimal
    currency: str

    def __init__(self, amount: str | int | Decimal, currency: str) -> None:
        """Read a price in major units.

        Raises:
            UnknownCurrency: The currency is not one of ISO 4217 that has a minor unit.
            WrongExponent: The price has more than 12 decimal places.
            MoneyOutOfRange: The price is greater than 10 to the power of 12.
            FloatMoney: The price is a float.
            InvalidMoney: The price is no number.
        """
        exponent = exponent_of(currency)
        # Equal prices look alike: no minus zero, no trailing zeros, never fewer places than the currency has.
        exact = read_decimal(amount).normalize(_EXACT) or _ZERO
        places = places_of(exact)
        if places > MAX_UNIT_PRICE_PLACES:
            raise WrongExponent(
                f"A unit price has at most {MAX_UNIT_PRICE_PLACES} decimal places and this one has more; "
                "nothing was rounded. Round it first."
            )
        if not -MAX_UNIT_PRICE <= exact <= MAX_UNIT_PRICE:
            raise MoneyOutOfRange(f"A unit price is at most {MAX_UNIT_PRICE}; nothing was changed.")
        if places < exponent:
            exact = exact.quantize(Decimal((0, (1,), -exponent)), context=_EXACT)
        object.__setattr__(self, "amount", exact)
        object.__setattr__(self, "currency", currency)

    @classmethod
    def of(cls, money: Money) -> UnitPrice:
        """Return an amount of money as the price of one.

        Raises:
            MoneyOutOfRange: The price is greater than 10 to the power of 12.
        """
        amount = money.amount
        if not -MAX_UNIT_PRICE <= amount <= MAX_UNIT_PRICE:
            raise MoneyOutOfRange(f"A unit price is at most {MAX_UNIT_PRICE}; nothing was changed.")
        # Money is exact, and has its currency's decimal places: there is nothing left to read or to check.
        price = cls.__new__(cls)
        object.__setattr__(price, "amount", amount)
        object.__setattr__(price, "currency", money.currency)
        return price

    def __str__(self) -> str:
        return f"{self.amount:f} {self.currency}"

    def __repr__(self) -> str:
        return f"UnitPrice('{self.amount:f}', '{self.currency}')"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        def convert(value: object) -> UnitPrice:
            return cls.of(value) if isinstance(value, Money) else _refuse(value)

        return value_schema(cls, ("amount", "currency"), convert)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        return value_json_schema(cls, _PROPERTIES, {"amount": "0.0125", "currency": "EUR"})
