"""Pricing is exact: every sum holds to the minor unit, whatever is rounded where."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from decimal import Decimal
from fractions import Fraction

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from orderkit.domain.money import MoneyOutOfRange, Rounding, exponent_of, round_division, share
from orderkit.domain.pricing import (
    InvalidDiscount,
    InvalidTaxRate,
    OrderDiscount,
    Priceable,
    PricedItem,
    Pricing,
    PricingRules,
    Tax,
    TaxLevel,
    TaxRate,
    UnitTaxNeedsWholeQuantity,
    price,
)

EXPONENTS = sorted({exponent_of(currency) for currency in ("JPY", "EUR", "KWD", "CLF")})
RATES = tuple(
    TaxRate(name, Decimal(rate))
    for name, rate in [
        ("VAT", "0.19"),
        ("VAT", "0.07"),
        ("VAT", "0"),
        ("GST", "0.05"),
        ("QST", "0.09975"),
        ("X", "0.33333333"),
    ]
)

rules = st.builds(PricingRules, st.sampled_from(Rounding), st.booleans(), st.sampled_from(TaxLevel))
tax_rates = st.lists(st.sampled_from(RATES), max_size=3, unique=True).map(tuple)


@st.composite
def lines(draw: st.DrawFn, exponent: int, whole: bool) -> Priceable:
    places = draw(st.sampled_from([0, exponent, exponent + 3]))
    return Priceable(
        "",
        draw(st.decimals(0, 1000, places=places, allow_nan=False)),
        exponent,
        draw(st.integers(1, 50) | st.integers(1, 10_000)),
        0 if whole else draw(st.integers(0, 4)),
        draw(tax_rates),
    )


charges = st.builds(Priceable.charge, st.just(""), st.integers(0, 5000), tax_rates)


@st.composite
def discounts(draw: st.DrawFn, item_ids: tuple[str, ...]) -> OrderDiscount:
    applies_to = draw(st.lists(st.sampled_from(item_ids), unique=True).map(tuple)) if item_ids else ()
    if draw(st.booleans()):
        return OrderDiscount("", "off", amount=draw(st.integers(1, 100) | st.integers(1, 10**6)), applies_to=applies_to)
    percent = draw(st.decimals("0.000001", 100, places=6) | st.sampled_from([Decimal(10), Decimal(100)]))
    return OrderDiscount("", "off", "CODE", percent=percent, applies_to=applies_to)


@attrs.frozen
class Case:
    """An order to be priced, of any currency and rules."""

    items: tuple[Priceable, ...]
    discounts: tuple[OrderDiscount, ...]
    rules: PricingRules

    def price(self) -> Pricing:
        return price(self.items, self.discounts, self.rules)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    order_rules = draw(rules)
    line = lines(draw(st.sampled_from(EXPONENTS)), order_rules.tax_level is TaxLevel.UNIT)
    drawn = draw(st.lists(line, max_size=6)) + draw(st.lists(charges, max_size=2))
    ids = draw(st.permutations([f"item_{number}" for number in range(len(drawn))]))
    items = tuple(attrs.evolve(item, id=item_id) for item, item_id in zip(drawn, ids, strict=True))
    order_discounts = draw(st.lists(discounts(tuple(ids)), max_size=3))
    numbered = tuple(attrs.evolve(discount, id=f"d{number}") for number, discount in enumerate(order_discounts))
    return Case(items, numbered, order_rules)


def rounded(exact: Fraction, mode: Rounding) -> int:
    return round_division(exact.numerator, exact.denominator, mode)


# --------------------------------------------------------------------------------------------
# Sums
# --------------------------------------------------------------------------------------------


@given(cases())
def test_the_total_is_lines_and_charges_less_discounts_plus_added_tax(case: Case) -> None:
    priced = case.price()
    added = 0 if case.rules.prices_include_tax else priced.tax
    assert priced.total == priced.gross - priced.discount + added
    for figure in ("gross", "discount", "tax", "total"):
        assert getattr(priced, figure) == sum(getattr(item, figure) for item in priced.items)
    assert priced.discount == sum(adjustment.amount for adjustment in priced.adjustments)
    assert priced.tax == sum(tax.amount for tax in priced.taxes)
    assert [item.id for item in priced.items] == [item.id for item in case.items]
    assert [adjustment.id for adjustment in priced.adjustments] == [discount.id for discount in case.discounts]


@given(cases())
def test_every_item_adds_up(case: Case) -> None:
    for item in case.price().items:
        assert item.tax == sum(tax.amount for tax in item.taxes)
        assert item.total == item.gross - item.discount + (0 if case.rules.prices_include_tax else item.tax)
        assert 0 <= item.discount <= item.gross


@given(cases())
def test_the_taxes_of_the_order_are_those_of_its_items(case: Case) -> None:
    priced = case.price()
    by_rate: dict[tuple[str, Decimal], int] = defaultdict(int)
    for tax in itertools.chain.from_iterable(item.taxes for item in priced.items):
        by_rate[tax.name, tax.rate] += tax.amount
    assert [((tax.name, tax.rate), tax.amount) for tax in priced.taxes] == sorted(by_rate.items())


@given(cases(), st.data())
def test_any_partition_of_an_item_sums_exactly(case: Case, data: st.DataObject) -> None:
    for priceable, item in zip(case.items, case.price().items, strict=True):
        cuts = sorted(data.draw(st.sets(st.integers(0, priceable.units), max_size=5)) | {0, priceable.units})
        for whole in (item.gross, item.discount, item.tax, *(tax.amount for tax in item.taxes)):
            parts = [share(whole, start, stop, priceable.units) for start, stop in itertools.pairwise(cuts)]
            assert sum(parts) == whole


def totals(priced: Pricing) -> Pricing:
    """Return a pricing without its items and with its allocations sorted."""
    adjustments = tuple(
        attrs.evolve(adjustment, allocations=tuple(sorted(adjustment.allocations, key=lambda part: part.item_id)))
        for adjustment in priced.adjustments
    )
    return attrs.evolve(priced, items=(), adjustments=adjustments)


@given(cases(), st.data())
def test_the_order_of_the_lines_changes_nothing(case: Case, data: st.DataObject) -> None:
    shuffled = tuple(data.draw(st.permutations(case.items)))
    priced, again = case.price(), attrs.evolve(case, items=shuffled).price()
    assert totals(again) == totals(priced)
    assert {item.id: item for item in again.items} == {item.id: item for item in priced.items}


# --------------------------------------------------------------------------------------------
# Gross
# --------------------------------------------------------------------------------------------


@given(
    st.decimals(-(10**6), 10**6, places=8),
    st.sampled_from(EXPONENTS),
    st.integers(1, 10**4),
    st.integers(0, 6),
    st.sampled_from(Rounding),
)
def test_a_line_is_quantity_times_price_rounded_once(
    unit_price: Decimal, exponent: int, units: int, precision: int, mode: Rounding
) -> None:
    line = Priceable("line", unit_price, exponent, units, precision)
    exact = Fraction(unit_price) * Fraction(units, 10**precision) * 10**exponent
    priced = price([line], [], PricingRules(mode))
    gross = rounded(exact, mode)
    assert priced == Pricing((PricedItem("line", gross, 0, (), 0, gross),), (), (), gross, 0, 0, gross)


@given(st.integers(-(10**12), 10**12), rules)
def test_a_charge_costs_what_it_says(amount: int, order_rules: PricingRules) -> None:
    assert price([Priceable.charge("charge", amount)], [], order_rules).total == amount


def test_nothing_costs_nothing() -> None:
    assert price([], [], PricingRules()) == Pricing((), (), (), 0, 0, 0, 0)


@pytest.mark.parametrize(
    "items",
    [
        [Priceable("line", Decimal(10**12), 2, 2**31 - 1)],
        [Priceable.charge("a", 10**15), Priceable.charge("b", 1)],
        [Priceable.charge("a", 6 * 10**14, (TaxRate("VAT", Decimal(1)),))],
    ],
)
def test_what_cannot_be_kept_is_refused(items: list[Priceable]) -> None:
    with pytest.raises(MoneyOutOfRange):
        price(items, [], PricingRules())


# --------------------------------------------------------------------------------------------
# Discounts
# --------------------------------------------------------------------------------------------


@given(cases())
def test_the_shares_of_an_adjustment_sum_to_it_and_bear_no_more_than_there_is(case: Case) -> None:
    priced = case.price()
    left = {item.id: item.gross for item in priced.items}
    lines_only = {item.id for item in case.items if not item.is_charge}
    for discount, adjustment in zip(case.discounts, priced.adjustments, strict=True):
        targets = set(discount.applies_to) or lines_only
        available = sum(left[item_id] for item_id in targets)
        assert adjustment.amount == sum(part.amount for part in adjustment.allocations)
        assert adjustment.amount == min(adjustment.requested, available)
        assert {part.item_id for part in adjustment.allocations} <= targets
        for part in adjustment.allocations:
            fair = Fraction(adjustment.amount * left[part.item_id], available)
            assert part.amount > 0
            assert abs(part.amount - fair) < 1
        for part in adjustment.allocations:
            left[part.item_id] -= part.amount
            assert left[part.item_id] >= 0
    assert left == {item.id: item.gross - item.discount for item in priced.items}


@given(cases())
def test_a_percentage_is_taken_of_what_is_left(case: Case) -> None:
    priced = case.price()
    left = {item.id: item.gross for item in priced.items}
    for discount, adjustment in zip(case.discounts, priced.adjustments, strict=True):
        targets = discount.applies_to or tuple(item.id for item in case.items if not item.is_charge)
        if discount.percent is None:
            assert adjustment.requested == discount.amount
        else:
            exact = Fraction(discount.percent) / 100 * sum(left[item_id] for item_id in targets)
            assert adjustment.requested == adjustment.amount == rounded(exact, case.rules.rounding)
        for part in adjustment.allocations:
            left[part.item_id] -= part.amount


def test_what_a_discount_cannot_take_is_told() -> None:
    line = Priceable("line", Decimal("4.50"), 2)
    free = Priceable("free", Decimal(0), 2)
    priced = price([line, free], [OrderDiscount("d", "Voucher", "V1", amount=500)], PricingRules())
    (adjustment,) = priced.adjustments
    assert (adjustment.requested, adjustment.amount, priced.total) == (500, 450, 0)
    assert [(part.item_id, part.amount) for part in adjustment.allocations] == [("line", 450)]


def test_a_discount_that_names_nothing_leaves_charges_alone() -> None:
    items = [Priceable("line", Decimal(10), 2), Priceable.charge("shipping", 390)]
    priced = price(items, [OrderDiscount("d", "All free", percent=Decimal(100))], PricingRules())
    assert [item.total for item in priced.items] == [0, 390]
    named = OrderDiscount("d", "Free delivery", percent=Decimal(100), applies_to=("shipping", "gone"))
    assert [item.total for item in price(items, [named], PricingRules()).items] == [1000, 0]


def test_a_negative_line_bears_no_discount_but_its_tax() -> None:
    items = [Priceable("a", Decimal(10), 2, tax_rates=RATES[:1]), Priceable("b", Decimal(-5), 2, tax_rates=RATES[:1])]
    for level in TaxLevel:
        priced = price(items, [OrderDiscount("d", "off", amount=700)], PricingRules(tax_level=level))
        assert [item.discount for item in priced.items] == [700, 0]
        assert [item.tax for item in priced.items] == [57, -95]


@pytest.mark.parametrize(
    ("amount", "percent"),
    [
        (None, None),
        (100, Decimal(10)),
        (0, None),
        (-1, None),
        (True, None),
        (1.5, None),
        (None, Decimal(0)),
        (None, Decimal("100.1")),
        (None, Decimal("NaN")),
        (None, Decimal("1e-999999999")),
        (None, Decimal("0.000000001")),
        (None, 10.0),
        (None, 10),
    ],
)
def test_a_discount_is_one_positive_amount_or_percentage(amount: int | None, percent: Decimal | None) -> None:
    with pytest.raises(InvalidDiscount) as caught:
        OrderDiscount("d", "off", amount=amount, percent=percent)
    assert caught.value.code == "invalid_discount"


# --------------------------------------------------------------------------------------------
# Taxes
# --------------------------------------------------------------------------------------------


def exact_tax(priceable: Priceable, item: PricedItem, rate: TaxRate, included: bool) -> Fraction:
    whole = 1 + sum(Fraction(each.rate) for each in priceable.tax_rates) if included else Fraction(1)
    return (item.gross - item.discount) * Fraction(rate.rate) / whole


@given(cases())
def test_tax_is_rounded_where_the_rules_say(case: Case) -> None:
    priced, mode, included = case.price(), case.rules.rounding, case.rules.prices_include_tax
    sums: dict[tuple[str, Decimal], Fraction] = defaultdict(Fraction)
    for priceable, item in zip(case.items, priced.items, strict=True):
        found = {(tax.name, tax.rate): tax.amount for tax in item.taxes}
        assert set(found) == {(rate.name, rate.rate) for rate in priceable.tax_rates}
        for rate in priceable.tax_rates:
            exact = exact_tax(priceable, item, rate, included)
            amount = found[rate.name, rate.rate]
            sums[rate.name, rate.rate] += exact
            if included and item.tax == item.total:
                continue  # the price holds no more; see the next test
            if case.rules.tax_level is TaxLevel.LINE:
                assert amount == rounded(exact, mode)
            elif case.rules.tax_level is TaxLevel.UNIT:
                assert amount == priceable.units * rounded(exact / priceable.units, mode)
            else:
                assert abs(amount - exact) < 1
    if case.rules.tax_level is TaxLevel.TOTAL and not (
        included and any(item.tax == item.total for item in priced.items)
    ):
        assert {(tax.name, tax.rate): tax.amount for tax in priced.taxes} == {
            key: rounded(exact, mode) for key, exact in sums.items()
        }


@given(cases())
def test_tax_inside_the_prices_stays_inside(case: Case) -> None:
    included = attrs.evolve(case, rules=attrs.evolve(case.rules, prices_include_tax=True))
    priced = included.price()
    assert priced.total == priced.gross - priced.discount
    for item in priced.items:
        assert item.total == item.gross - item.discount
        assert 0 <= item.tax <= item.total
        assert all(tax.amount >= 0 for tax in item.taxes)


PENNY = Priceable("penny", Decimal("0.01"), 2, tax_rates=(TaxRate("GST", "0.05"), TaxRate("QST", "0.09975")))
CRUMBS = Priceable("crumbs", Decimal("0.003"), 2, 10, tax_rates=(TaxRate("VAT", "0.19"),))


@pytest.mark.parametrize(
    ("item", "level", "amounts"),
    [
        (PENNY, TaxLevel.LINE, [1, 0]),
        (PENNY, TaxLevel.TOTAL, [1, 0]),
        (PENNY, TaxLevel.UNIT, [1, 0]),
        (attrs.evolve(PENNY, unit_price=Decimal("0.02")), TaxLevel.LINE, [1, 1]),
        (CRUMBS, TaxLevel.UNIT, [3]),  # 10 minor units of tax, each rounded up, in a price of 3
        (CRUMBS, TaxLevel.LINE, [1]),
    ],
)
def test_taxes_that_are_rounded_up_beyond_their_price_share_it(
    item: Priceable, level: TaxLevel, amounts: list[int]
) -> None:
    priced = price([item], [], PricingRules(Rounding.UP, prices_include_tax=True, tax_level=level))
    assert [tax.amount for tax in priced.items[0].taxes] == amounts
    assert priced.tax == sum(amounts) <= priced.total
    added = price([item], [], PricingRules(Rounding.UP, tax_level=level))
    assert added.tax >= priced.tax, "added to a price, taxes are what their rounding makes of them"


def test_the_levels_differ_by_what_they_round() -> None:
    seven = (TaxRate("VAT", Decimal("0.07")),)
    items = [Priceable("a", Decimal("0.99"), 2, 3, 0, seven), Priceable("b", Decimal("1.05"), 2, 1, 0, seven)]

    def tax(level: TaxLevel) -> list[int]:
        return [item.tax for item in price(items, [], PricingRules(tax_level=level)).items]

    assert tax(TaxLevel.UNIT) == [3 * 7, 7]  # 6.93 each, 7.35
    assert tax(TaxLevel.LINE) == [21, 7]  # 20.79, 7.35
    assert tax(TaxLevel.TOTAL) == [21, 7]  # 28.14
    assert price(items, [], PricingRules(Rounding.UP, tax_level=TaxLevel.TOTAL)).tax == 29


def test_equal_rates_are_one_tax_however_they_are_written() -> None:
    items = [
        Priceable("a", Decimal(1), 2, tax_rates=(TaxRate("VAT", "0.2"),)),
        Priceable("b", Decimal(1), 2, tax_rates=(TaxRate("VAT", "0.20"), TaxRate("ECO", "0.2"))),
    ]
    for level in TaxLevel:
        assert price(items, [], PricingRules(tax_level=level)).taxes == (
            Tax("ECO", Decimal("0.2"), 20),
            Tax("VAT", Decimal("0.2"), 40),
        )


def test_tax_by_unit_needs_whole_quantities() -> None:
    weighed = Priceable("rice", Decimal(3), 2, 125, 2, RATES[:1])
    by_unit = PricingRules(tax_level=TaxLevel.UNIT)
    with pytest.raises(UnitTaxNeedsWholeQuantity, match="rice") as caught:
        price([weighed], [], by_unit)
    assert caught.value.code == "unit_tax_needs_whole_quantity"
    untaxed = attrs.evolve(weighed, tax_rates=())
    counted = Priceable("tea", Decimal(3), 2, 2, 0, RATES[:1])
    assert price([untaxed, counted], [], by_unit).tax == 2 * 57


@pytest.mark.parametrize(
    "rate",
    ["-0.01", "10.1", "0.000000001", "NaN", "19%", "", 0.19, None, True, Decimal("NaN"), Decimal("1e-999999999")],
)
def test_a_tax_rate_is_an_exact_fraction(rate: str) -> None:
    with pytest.raises(InvalidTaxRate) as caught:
        TaxRate("VAT", rate)
    assert caught.value.code == "invalid_tax_rate"


@pytest.mark.parametrize("name", ["", "x" * 256, "V\x00T", "V\nT", None, 7])
def test_a_tax_has_a_name(name: str) -> None:
    with pytest.raises(InvalidTaxRate):
        TaxRate(name, Decimal(0))


# --------------------------------------------------------------------------------------------
# Coming in and going out
# --------------------------------------------------------------------------------------------


@given(cases())
def test_json_brings_back_what_was_stored(case: Case) -> None:
    priced = case.price()
    assert msgspec.json.decode(msgspec.json.encode(priced), type=Pricing) == priced
    assert msgspec.json.decode(msgspec.json.encode(case.rules), type=PricingRules) == case.rules
    stored = msgspec.json.encode(case.discounts)
    assert msgspec.json.decode(stored, type=tuple[OrderDiscount, ...]) == case.discounts


def test_pydantic_takes_a_tax_rate_or_an_object() -> None:
    adapter = TypeAdapter(TaxRate)
    vat = TaxRate("VAT", "0.19")
    assert adapter.validate_python(vat) is vat
    assert adapter.validate_json('{"name": "VAT", "rate": "0.19"}') == vat
    assert json.loads(adapter.dump_json(vat)) == {"name": "VAT", "rate": "0.19"}
    assert adapter.json_schema()["examples"] == [{"name": "VAT", "rate": "0.19"}]


@pytest.mark.parametrize("text", ['{"name": "VAT", "rate": 0.19}', '{"name": "VAT"}', '"0.19"', "0.19"])
def test_pydantic_says_what_is_wrong_with_a_tax_rate(text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(TaxRate).validate_json(text)
    assert [error["type"] for error in caught.value.errors()] == ["invalid_tax_rate"]
