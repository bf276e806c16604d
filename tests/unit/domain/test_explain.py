"""An explanation adds up, step by step, to the total it explains."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import attrs
from hypothesis import given
from hypothesis import strategies as st

from orderkit.domain.explain import Explanation, Step, explain
from orderkit.domain.money import Money, Rounding, exponent_of
from orderkit.domain.pricing import OrderDiscount, Priceable, PricingRules, Tax, TaxLevel, TaxRate, price

VAT = TaxRate("VAT", Decimal("0.19"))
REDUCED = TaxRate("VAT", Decimal("0.07"))


@attrs.frozen
class Line:
    """A priced line."""

    id: str
    sku: str
    units: int
    precision: int
    unit_price: Decimal
    gross: int
    taxes: tuple[Tax, ...]
    total: int


@attrs.frozen
class Charge:
    """A priced charge."""

    id: str
    kind: str
    label: str | None
    gross: int
    taxes: tuple[Tax, ...]
    total: int


def explained(
    items: list[Priceable], discounts: list[OrderDiscount], rules: PricingRules, currency: str
) -> tuple[int, Explanation]:
    """Price and explain; return the total beside the explanation."""
    priced = price(items, discounts, rules)
    lines, charges = [], []
    for item, result in zip(items, priced.items, strict=True):
        if item.is_charge:
            charges.append(Charge(item.id, "shipping", None, result.gross, result.taxes, result.total))
        else:
            measures = (item.units, item.precision, item.unit_price)
            lines.append(Line(item.id, item.id.upper(), *measures, result.gross, result.taxes, result.total))
    return priced.total, explain(lines, charges, priced.adjustments, rules=rules, currency=currency)


def steps(step: Step) -> Iterator[Step]:
    yield step
    for child in step.children:
        yield from steps(child)


@st.composite
def explanations(draw: st.DrawFn) -> tuple[int, str, Explanation]:
    currency = draw(st.sampled_from(["JPY", "EUR", "KWD", "CLF"]))
    rules = PricingRules(
        draw(st.sampled_from(Rounding)), draw(st.booleans()), draw(st.sampled_from([TaxLevel.LINE, TaxLevel.TOTAL]))
    )
    rates = st.sampled_from([(), (VAT,), (REDUCED, TaxRate("GST", Decimal("0.05")))])
    items = [
        Priceable(
            f"line_{number}",
            draw(st.decimals(0, 100, places=4)),
            exponent_of(currency),
            draw(st.integers(1, 500)),
            draw(st.integers(0, 2)),
            draw(rates),
        )
        for number in range(draw(st.integers(0, 4)))
    ]
    items += [
        Priceable.charge(f"charge_{number}", draw(st.integers(0, 900)), draw(rates))
        for number in range(draw(st.integers(0, 2)))
    ]
    targets = st.lists(st.sampled_from([item.id for item in items]), unique=True) if items else st.just([])
    discounts = [
        OrderDiscount(f"d{number}", f"Offer {number}", amount=amount, percent=percent, applies_to=tuple(draw(targets)))
        for number, (amount, percent) in enumerate(
            draw(st.lists(st.sampled_from([(7, None), (5000, None), (None, Decimal(10))]), max_size=3))
        )
    ]
    total, explanation = explained(items, discounts, rules, currency)
    return total, currency, explanation


@given(explanations())
def test_children_add_up_to_their_parent(case: tuple[int, str, Explanation]) -> None:
    total, currency, explanation = case
    assert explanation.root.amount == Money.from_minor(total, currency)
    for step in steps(explanation.root):
        if step.children or step is explanation.root:
            assert sum((child.amount for child in step.children), start=Money(0, currency)) == step.amount


@given(explanations())
def test_the_text_shows_every_step_aligned(case: tuple[int, str, Explanation]) -> None:
    _, _, explanation = case
    rows = str(explanation).split("\n")
    told = list(steps(explanation.root))
    assert len(rows) == len(told)
    assert len({len(row) for row in rows}) == 1
    for row, step in zip(rows, told, strict=True):
        assert row.endswith(f" {step.amount}")
        assert step.label in row
        assert step.formula in row


def test_an_explanation_reads_like_a_receipt() -> None:
    items = [
        Priceable("tea", Decimal("4.50"), 2, 2, 0, (REDUCED,)),
        Priceable("rice", Decimal("1.3335"), 2, 1250, 3),
        Priceable.charge("delivery", 390, (VAT,)),
    ]
    discounts = [
        OrderDiscount("d1", "Spring sale", percent=Decimal(10)),
        OrderDiscount("d2", "Free delivery", amount=500, applies_to=("delivery",)),
    ]
    _, explanation = explained(items, discounts, PricingRules(), "EUR")
    assert str(explanation) == (
        "total                                                  10.17 EUR\n"
        "├─ TEA                                                  8.67 EUR\n"
        "│  ├─ price          2 × 4.50                           9.00 EUR\n"  # noqa: RUF001  # written for people
        "│  ├─ Spring sale    share of 10 % = 1.07              -0.90 EUR\n"
        "│  └─ VAT            7 % of 8.10                        0.57 EUR\n"
        "├─ RICE                                                 1.50 EUR\n"
        "│  ├─ price          1.25 × 1.3335, rounded half even   1.67 EUR\n"  # noqa: RUF001  # written for people
        "│  └─ Spring sale    share of 10 % = 1.07              -0.17 EUR\n"
        "└─ shipping                                             0.00 EUR\n"
        "   ├─ price                                             3.90 EUR\n"
        "   ├─ Free delivery  3.90, all that was left of 5.00   -3.90 EUR\n"
        "   └─ VAT            19 % of 0.00                       0.00 EUR"
    )


def test_tax_inside_the_prices_is_told_but_not_added() -> None:
    items = [Priceable("tea", Decimal("4.50"), 2, 2, 0, (REDUCED,))]
    for level, ending in [
        (TaxLevel.LINE, ""),
        (TaxLevel.UNIT, ", rounded for each unit"),
        (TaxLevel.TOTAL, ", rounded once for the order"),
    ]:
        rules = PricingRules(prices_include_tax=True, tax_level=level)
        _, explanation = explained(items, [], rules, "EUR")
        tax = "0.58" if level is TaxLevel.UNIT else "0.59"
        (tea,) = explanation.root.children
        assert tea.children == ()
        assert tea.formula == f"2 × 4.50, includes {tax} VAT (7 % in 9.00{ending})"  # noqa: RUF001  # written for people
