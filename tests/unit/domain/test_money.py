"""Money is exact: what is read, computed, shared, stored and printed is the amount, or an error."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from decimal import (
    ROUND_CEILING,
    ROUND_DOWN,
    ROUND_FLOOR,
    ROUND_HALF_DOWN,
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    ROUND_UP,
    Context,
    Decimal,
    localcontext,
)
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from orderkit.domain.currencies import MINOR_UNITS
from orderkit.domain.money import (
    MAX_MINOR,
    CurrencyMismatch,
    FloatMoney,
    InvalidMoney,
    Money,
    MoneyOutOfRange,
    Rounding,
    UnitPrice,
    UnknownCurrency,
    WrongExponent,
    allocate,
    apportion,
    exponent_of,
    round_division,
    share,
)

ORACLES = {
    Rounding.HALF_EVEN: ROUND_HALF_EVEN,
    Rounding.HALF_UP: ROUND_HALF_UP,
    Rounding.HALF_DOWN: ROUND_HALF_DOWN,
    Rounding.UP: ROUND_UP,
    Rounding.DOWN: ROUND_DOWN,
    Rounding.CEILING: ROUND_CEILING,
    Rounding.FLOOR: ROUND_FLOOR,
}

# One of each exponent, and all the rest now and then.
currencies = st.sampled_from(["EUR", "JPY", "KWD", "CLF"]) | st.sampled_from(
    sorted(code for code, exponent in MINOR_UNITS.items() if exponent is not None)
)
minors = st.integers(-MAX_MINOR, MAX_MINOR)
monies = st.builds(Money.from_minor, minors, currencies)
unit_prices = st.builds(
    UnitPrice, st.decimals(min_value=-(10**12), max_value=10**12, places=12, allow_nan=False), currencies
)


# --------------------------------------------------------------------------------------------
# Rounding and sharing
# --------------------------------------------------------------------------------------------


@given(st.integers(-(10**20), 10**20), st.integers(1, 10**9), st.sampled_from(Rounding))
def test_division_rounds_like_decimal(numerator: int, denominator: int, mode: Rounding) -> None:
    exact = Context(prec=200).divide(Decimal(numerator), Decimal(denominator))
    assert round_division(numerator, denominator, mode) == int(exact.to_integral_value(ORACLES[mode]))


@given(st.integers(-(10**6), 10**6), st.sampled_from(Rounding))
def test_division_rounds_ties_like_decimal(odd: int, mode: Rounding) -> None:
    expected = int((Decimal(2 * odd + 1) / 2).to_integral_value(ORACLES[mode]))
    assert round_division(2 * odd + 1, 2, mode) == expected
    assert round_division(5 * (2 * odd + 1), 10, mode) == expected


weights = st.lists(st.integers(0, 10**9), max_size=30)


@given(st.integers(-(10**15), 10**15), weights.filter(any))
def test_an_allocation_sums_exactly_and_every_share_is_fair(total: int, over: list[int]) -> None:
    shares = allocate(total, over)
    assert sum(shares) == total
    for part, weight in zip(shares, over, strict=True):
        assert abs(part - Fraction(total * weight, sum(over))) < 1
        assert weight or part == 0


@given(weights.filter(any), st.data())
def test_no_share_exceeds_its_weight(over: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(over)))
    assert all(part <= weight for part, weight in zip(allocate(total, over), over, strict=True))


@given(st.integers(0, 10**15), weights.filter(any))
def test_a_negative_allocation_is_the_mirror_image(total: int, over: list[int]) -> None:
    assert allocate(-total, over) == tuple(-part for part in allocate(total, over))


@given(st.integers(0, 10**9), st.integers(1, 30), st.integers(1, 10**6))
def test_equal_weights_are_served_from_the_left(total: int, count: int, weight: int) -> None:
    shares = allocate(total, [weight] * count)
    assert list(shares) == sorted(shares, reverse=True)
    assert shares[0] - shares[-1] <= 1


@pytest.mark.parametrize(("total", "over"), [(1, [0, 0]), (-1, [0]), (1, []), (0, [1, -1]), (5, [3, -1])])
def test_nothing_is_shared_over_no_weight_or_a_negative_one(total: int, over: list[int]) -> None:
    with pytest.raises(InvalidMoney) as caught:
        allocate(total, over)
    assert caught.value.code == "invalid_money"


def test_nothing_can_be_shared_over_nothing() -> None:
    assert allocate(0, [0, 0]) == (0, 0)
    assert allocate(0, []) == ()


@given(st.lists(st.integers(-(10**9), 10**9), max_size=20), st.integers(1, 10**6), st.sampled_from(Rounding))
def test_quotas_of_any_sign_are_rounded_to_their_rounded_sum(quotas: list[int], divisor: int, mode: Rounding) -> None:
    total = round_division(sum(quotas), divisor, mode)
    shares = apportion(total, quotas, divisor)
    assert sum(shares) == total
    for part, quota in zip(shares, quotas, strict=True):
        assert abs(part - Fraction(quota, divisor)) < 1


@given(st.integers(-(10**15), 10**15), st.integers(1, 2**31 - 1), st.data())
def test_any_partition_of_the_units_sums_exactly(total: int, units: int, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, units), max_size=10)) | {0, units})
    parts = [share(total, start, stop, units) for start, stop in itertools.pairwise(cuts)]
    assert sum(parts) == total
    for part, (start, stop) in zip(parts, itertools.pairwise(cuts), strict=True):
        assert abs(part - Fraction(total * (stop - start), units)) <= 1


@pytest.mark.parametrize(("start", "stop", "of"), [(-1, 1, 2), (1, 0, 2), (0, 3, 2), (0, 0, 0), (0, 0, -1)])
def test_a_part_lies_within_the_units(start: int, stop: int, of: int) -> None:
    with pytest.raises(InvalidMoney):
        share(100, start, stop, of)


# --------------------------------------------------------------------------------------------
# Reading amounts
# --------------------------------------------------------------------------------------------


@given(monies)
def test_an_amount_read_back_is_the_same_amount(money: Money) -> None:
    assert Money(money.amount, money.currency) == money
    assert Money(str(money.amount), money.currency) == money
    text, currency = str(money).split()
    assert Money(text, currency) == money
    assert eval(repr(money)) == money
    assert hash(Money(text, currency)) == hash(money)
    assert money.amount.as_tuple().exponent == -exponent_of(currency)
    assert money.amount * 10 ** exponent_of(currency) == money.minor


@given(st.integers(-(10**11), 10**11), currencies)
def test_an_integer_is_an_amount_in_major_units(amount: int, currency: str) -> None:
    assert Money(amount, currency).minor == amount * 10 ** exponent_of(currency)


@given(monies, unit_prices)
def test_the_decimal_context_of_the_application_does_not_matter(money: Money, price: UnitPrice) -> None:
    with localcontext(Context(prec=1, rounding=ROUND_UP, traps=[])):
        assert Money(str(money.amount), money.currency) == money
        assert repr(UnitPrice(f"{price.amount:f}", price.currency)) == repr(price)
        with pytest.raises(MoneyOutOfRange):
            UnitPrice("1000000000000.01", "EUR")


@given(st.decimals(allow_nan=True, allow_infinity=True), currencies)
def test_a_decimal_is_read_exactly_or_refused(amount: Decimal, currency: str) -> None:
    try:
        money = Money(amount, currency)
    except InvalidMoney:
        scaled = Fraction(amount) * 10 ** exponent_of(currency) if amount.is_finite() else None
        assert scaled is None or scaled.denominator > 1 or abs(scaled) > MAX_MINOR or abs(amount.adjusted()) >= 20
    else:
        assert Fraction(money.minor, 10 ** exponent_of(currency)) == Fraction(amount)


@given(st.text() | st.from_regex(r"[-+]?[0-9_]*\.?[0-9_]*([eE][0-9]{1,9})?", fullmatch=True))
def test_text_is_a_plain_number_or_refused(text: str) -> None:
    try:
        minor = Money(text, "EUR").minor
    except InvalidMoney:
        return
    assert set(text) <= set("-0123456789.")
    assert Fraction(text) == Fraction(minor, 100)


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [("4.50", "EUR", 450), ("4.5", "EUR", 450), ("1200", "JPY", 1200), ("1.234", "KWD", 1234), ("-0.0001", "CLF", -1)],
)
def test_every_exponent(amount: str, currency: str, minor: int) -> None:
    assert Money(amount, currency) == Money.from_minor(minor, currency)


def test_trailing_zeros_lose_nothing_and_are_no_error() -> None:
    assert Money("100.00", "JPY").minor == 100
    assert Money(Decimal("1E+2"), "EUR") == Money(100, "EUR")


@pytest.mark.parametrize(("amount", "currency"), [("1.999", "USD"), ("100.5", "JPY"), (Decimal("0.0001"), "KWD")])
def test_an_amount_finer_than_its_currency_is_never_rounded(amount: str | Decimal, currency: str) -> None:
    with pytest.raises(WrongExponent) as caught:
        Money(amount, currency)
    assert caught.value.code == "wrong_exponent"


@pytest.mark.parametrize("amount", [4.5, 4.0, float("nan"), float("inf")])
def test_a_float_is_refused(amount: float) -> None:
    for read in (Money, UnitPrice, Money.from_minor):
        with pytest.raises(FloatMoney) as caught:
            read(amount, "EUR")  # type: ignore[arg-type]  # refused by type checkers as well
        assert caught.value.code == "float_money"


@pytest.mark.parametrize(
    "amount",
    [
        "",
        " 1",
        "1 ",
        "1\n",
        "+1",
        ".5",
        "5.",
        "1,50",
        "1_000",
        "1e3",
        "1e999999999",
        "NaN",
        "Infinity",
        "٣",
        "1\x00",
        "9" * 1_000_000,
        "0." + "0" * 1_000_000,
        True,
        None,
        b"1",
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("-Infinity"),
        Decimal("1e999999999"),
        Decimal("1e-999999999"),
        Decimal("0e999999999"),
    ],
    ids=lambda amount: repr(amount)[:20],
)
def test_what_is_no_plain_number_is_refused_at_once(amount: object) -> None:
    for read in (Money, UnitPrice):
        with pytest.raises(InvalidMoney) as caught:
            read(amount, "EUR")  # type: ignore[arg-type]  # refused by type checkers as well
        assert caught.value.code == "invalid_money"


def test_minor_units_are_integers() -> None:
    for wrong in ("450", True, None, Decimal(450)):
        with pytest.raises(InvalidMoney):
            Money.from_minor(wrong, "EUR")  # type: ignore[arg-type]  # refused by type checkers as well


@pytest.mark.parametrize("currency", ["eur", "EURO", "ZZZ", "", "E\x00R", "€", None, 978, ["EUR"], "X" * 1_000_000])
def test_only_codes_of_the_standard_are_currencies(currency: object) -> None:
    with pytest.raises(UnknownCurrency) as caught:
        Money(1, currency)  # type: ignore[arg-type]  # refused by type checkers as well
    assert caught.value.code == "unknown_currency"
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("currency", ["XXX", "XAU", "XDR"])
def test_a_code_without_minor_unit_says_so(currency: str) -> None:
    with pytest.raises(UnknownCurrency, match=f"{currency} has no minor unit"):
        Money(1, currency)


def test_the_table_is_that_of_the_standard() -> None:
    assert {exponent_of(code) for code in ("EUR", "USD", "JPY", "KRW", "KWD", "TND", "CLF", "UYW")} == {0, 2, 3, 4}
    assert len(MINOR_UNITS) > 170
    assert all(len(code) == 3 and code.isascii() and code.isupper() for code in MINOR_UNITS)
    assert set(MINOR_UNITS.values()) == {None, 0, 2, 3, 4}


@pytest.mark.parametrize("read", [lambda: Money(10**15, "JPY"), lambda: Money.from_minor(-MAX_MINOR, "EUR")])
def test_the_limit_is_within_the_range(read: Callable[[], Money]) -> None:
    assert abs(read().minor) == MAX_MINOR
    assert MAX_MINOR < 2**63 / 9000


@pytest.mark.parametrize(
    "read",
    [
        lambda: Money(10**15 + 1, "JPY"),
        lambda: Money(10**14, "EUR"),
        lambda: Money("10000000000000.01", "EUR"),
        lambda: Money(10**100_000, "EUR"),
        lambda: Money.from_minor(-MAX_MINOR - 1, "EUR"),
        lambda: Money.from_minor(MAX_MINOR, "EUR") + Money("0.01", "EUR"),
        lambda: Money.from_minor(MAX_MINOR, "EUR") * 2,
        lambda: UnitPrice(10**12 + 1, "EUR"),
    ],
)
def test_beyond_the_limit_is_out_of_range(read: Callable[[], object]) -> None:
    with pytest.raises(MoneyOutOfRange) as caught:
        read()
    assert caught.value.code == "money_out_of_range"


# --------------------------------------------------------------------------------------------
# Arithmetic
# --------------------------------------------------------------------------------------------

small = st.integers(-(10**12), 10**12)


@given(small, small, st.integers(-100, 100), currencies)
def test_arithmetic_is_that_of_minor_units(one: int, other: int, factor: int, currency: str) -> None:
    a, b = Money.from_minor(one, currency), Money.from_minor(other, currency)
    assert (a + b).minor == one + other
    assert (a - b).minor == one - other
    assert (-a).minor == -one
    assert (a * factor).minor == (factor * a).minor == one * factor
    assert bool(a) is bool(one)
    assert (a == b, a != b, a < b, a <= b, a > b, a >= b) == (
        one == other,
        one != other,
        one < other,
        one <= other,
        one > other,
        one >= other,
    )


@given(monies, monies)
def test_currencies_never_mix(a: Money, b: Money) -> None:
    if a.currency == b.currency:
        return
    assert a != b
    attempts: list[Callable[[], object]] = [
        lambda: a + b,
        lambda: a - b,
        lambda: a < b,
        lambda: a <= b,
        lambda: a > b,
        lambda: a >= b,
    ]
    for attempt in attempts:
        with pytest.raises(CurrencyMismatch) as caught:
            attempt()
        error = caught.value
        assert (error.code, error.expected, error.actual) == ("currency_mismatch", a.currency, b.currency)


def test_there_is_no_zero_without_a_currency_and_no_other_operand() -> None:
    euro = Money(1, "EUR")
    assert sum([euro, euro], start=Money(0, "EUR")) == Money(2, "EUR")
    attempts: list[Callable[[], object]] = [
        lambda: sum([euro, euro]),  # type: ignore[list-item]  # the point of the test
        lambda: euro + 0,  # type: ignore[operator]
        lambda: euro - 1,  # type: ignore[operator]
        lambda: euro * 1.5,  # type: ignore[operator]
        lambda: euro * Decimal(2),  # type: ignore[operator]
        lambda: euro * True,
        lambda: euro * euro,  # type: ignore[operator]
        lambda: euro < 2,  # type: ignore[operator]
    ]
    for attempt in attempts:
        with pytest.raises(TypeError):
            attempt()
    others: list[object] = [1, UnitPrice(1, "EUR"), "1.00 EUR", None]
    assert euro not in others


# --------------------------------------------------------------------------------------------
# Unit prices
# --------------------------------------------------------------------------------------------


@given(unit_prices)
def test_a_unit_price_is_exact_and_looks_alike_when_it_is_equal(price: UnitPrice) -> None:
    assert eval(repr(price)) == price
    longer = UnitPrice(f"{price.amount:f}" + ("0" if "." in f"{price.amount:f}" else ".0"), price.currency)
    assert longer == price
    assert repr(longer) == repr(price)
    assert hash(longer) == hash(price)
    assert "e" not in repr(price).lower().split(",")[0].removeprefix("unitprice(")


@given(st.integers(-(10**24), 10**24), currencies)
def test_a_unit_price_is_the_price_that_was_given(scaled: int, currency: str) -> None:
    exact = Decimal(scaled).scaleb(-12)
    assert UnitPrice(exact, currency).amount == exact
    assert UnitPrice(f"{exact:f}", currency).amount == exact


@given(monies.filter(lambda money: abs(money.amount) <= 10**12))
def test_money_is_a_unit_price(money: Money) -> None:
    assert UnitPrice.of(money).amount == money.amount
    assert str(UnitPrice.of(money)) == str(money)


def test_a_unit_price_may_be_finer_than_its_currency_within_reason() -> None:
    assert str(UnitPrice("0.000000000001", "JPY")) == "0.000000000001 JPY"
    assert repr(UnitPrice("-0.000", "EUR")) == "UnitPrice('0.00', 'EUR')"
    with pytest.raises(WrongExponent):
        UnitPrice("0.0000000000001", "JPY")


# --------------------------------------------------------------------------------------------
# Coming in and going out
# --------------------------------------------------------------------------------------------


class Priced(BaseModel):
    """A model as commands have them."""

    price: UnitPrice
    amount: Money


@given(monies, unit_prices)
def test_json_brings_back_what_was_stored(money: Money, price: UnitPrice) -> None:
    assert json.loads(msgspec.json.encode(money)) == {"minor": money.minor, "currency": money.currency}
    assert msgspec.json.decode(msgspec.json.encode(money), type=Money) == money
    assert msgspec.json.decode(msgspec.json.encode(price), type=UnitPrice) == price
    model = Priced(price=price, amount=money)
    assert Priced.model_validate_json(model.model_dump_json()) == model
    assert Priced.model_validate(model.model_dump()) == model


@given(monies, unit_prices)
def test_values_can_be_copied_and_pickled(money: Money, price: UnitPrice) -> None:
    for value in (money, price):
        assert copy.deepcopy(value) == value
        assert pickle.loads(pickle.dumps(value)) == value


def test_values_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Money(1, "EUR").minor = 2  # type: ignore[misc]  # the point of the test
    with pytest.raises(AttributeError):
        UnitPrice(1, "EUR").amount = Decimal(2)  # type: ignore[misc]  # the point of the test


def test_pydantic_takes_values_and_objects_and_money_for_a_unit_price() -> None:
    model = Priced.model_validate(
        {
            "price": Money("4.50", "EUR"),
            "amount": {"amount": 3, "currency": "EUR"},
        }
    )
    assert model == Priced(price=UnitPrice("4.50", "EUR"), amount=Money("3.00", "EUR"))
    assert json.loads(model.model_dump_json()) == {
        "price": {"amount": "4.50", "currency": "EUR"},
        "amount": {"amount": "3.00", "currency": "EUR"},
    }


@pytest.mark.parametrize(
    ("given_amount", "code"),
    [
        ('{"amount": 4.5, "currency": "EUR"}', "float_money"),
        ("4.5", "float_money"),
        ("450", "invalid_money"),
        ('"4.50 EUR"', "invalid_money"),
        ("null", "invalid_money"),
        ("[]", "invalid_money"),
        ('{"amount": "4.50"}', "invalid_money"),
        ('{"amount": "4.50", "currency": "EUR", "minor": 450}', "invalid_money"),
        ('{"amount": "1.999", "currency": "EUR"}', "wrong_exponent"),
        ('{"amount": "1", "currency": "usdx"}', "unknown_currency"),
        ('{"amount": "99999999999999999999", "currency": "EUR"}', "money_out_of_range"),
    ],
)
def test_pydantic_says_what_is_wrong_by_our_code_and_repeats_no_value(given_amount: str, code: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Priced.model_validate_json(f'{{"price": {{"amount": "1", "currency": "EUR"}}, "amount": {given_amount}}}')
    (error,) = caught.value.errors()
    assert (error["type"], error["loc"]) == (code, ("amount",))
    assert "usdx" not in error["msg"]


def test_the_json_schema_describes_itself() -> None:
    schema = Priced.model_json_schema()
    assert schema == Priced.model_json_schema(mode="serialization")
    money = schema["$defs"]["Money"]
    assert money["description"] == "An exact amount of a currency."
    assert money["examples"] == [{"amount": "4.50", "currency": "EUR"}]
    assert money["required"] == ["amount", "currency"]
    assert schema["properties"] == {
        "price": {"$ref": "#/$defs/UnitPrice"},
        "amount": {"$ref": "#/$defs/Money"},
    }


def test_importing_money_is_cheap() -> None:
    heavy = "{'pydantic', 'pydantic_core', 'msgspec', 'sqlalchemy', 'asyncio', 'httpx', 'jinja2'}"
    program = f"import sys, orderkit.domain.money, orderkit.domain.pricing; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
