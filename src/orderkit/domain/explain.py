"""Where each minor unit of a total comes from, as a tree that adds up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final, Protocol

import attrs

from orderkit.domain.money import Money, exponent_of
from orderkit.domain.pricing import Adjustment, PricingRules, Tax, TaxLevel


class ExplainedItem(Protocol):
    """A line or a charge that was priced; amounts in minor units."""

    @property
    def id(self) -> str:
        """The id that allocations refer to."""
        ...

    @property
    def gross(self) -> int:
        """The amount before discounts."""
        ...

    @property
    def taxes(self) -> Sequence[Tax]:
        """The item's share of each tax."""
        ...

    @property
    def total(self) -> int:
        """What the item costs."""
        ...


class ExplainedLine(ExplainedItem, Protocol):
    """A line that was priced."""

    @property
    def sku(self) -> str:
        """What was ordered."""
        ...

    @property
    def units(self) -> int:
        """The quantity, in units of ten to the power of minus `precision`."""
        ...

    @property
    def precision(self) -> int:
        """The decimal places of the quantity."""
        ...

    @property
    def unit_price(self) -> Decimal:
        """The price of one in major units."""
        ...


class ExplainedCharge(ExplainedItem, Protocol):
    """A charge that was priced."""

    @property
    def kind(self) -> str:
        """What it is for."""
        ...

    @property
    def label(self) -> str | None:
        """What people call it."""
        ...


@attrs.frozen
class Step:
    """One amount, and what it is made of.

    Attributes:
        label: What it is.
        formula: How it was computed, for people; empty for a plain sum.
        amount: The amount. Where there are children, their amounts add up to it.
        children: What it is the sum of.
    """

    label: str
    formula: str
    amount: Money
    children: tuple[Step, ...] = ()


@attrs.frozen
class Explanation:
    """A total, step by step; as text it is an aligned tree.

    Attributes:
        root: The total itself.
    """

    root: Step

    def __str__(self) -> str:
        rows = list(_rows(self.root, "", ""))
        wide = [max(len(row[column]) for row in rows) for column in range(3)]
        return "\n".join(
            f"{label:<{wide[0]}}  {formula:<{wide[1]}}  {amount:>{wide[2]}}" for label, formula, amount in rows
        )


def explain(
    lines: Sequence[ExplainedLine],
    charges: Sequence[ExplainedCharge] = (),
    adjustments: Sequence[Adjustment] = (),
    *,
    rules: PricingRules,
    currency: str,
) -> Explanation:
    """Explain the total of priced lines and charges.

    Each line and charge is a step. Below it stand its price, its share of each discount, and its share of
    each tax that is added; a tax inside the price adds nothing and is told in the formula.
    """
    explainer = _Explainer(rules, currency, _shares(adjustments))
    steps = [
        *(explainer.step(line, line.sku, explainer.multiplication(line)) for line in lines),
        *(explainer.step(charge, charge.label or charge.kind, "") for charge in charges),
    ]
    total = sum(item.total for items in (lines, charges) for item in items)
    return Explanation(Step("total", "", explainer.money(total), tuple(steps)))


Share = tuple[Adjustment, int]
"""An adjustment, and how many minor units of it fall on an item."""


def _shares(adjustments: Sequence[Adjustment]) -> dict[str, list[Share]]:
    """Return the shares of each item, by its id."""
    shares: dict[str, list[Share]] = {}
    for adjustment in adjustments:
        for allocation in adjustment.allocations:
            shares.setdefault(allocation.item_id, []).append((adjustment, allocation.amount))
    return shares


@attrs.frozen
class _Explainer:
    """Make the steps of one order."""

    rules: PricingRules
    currency: str
    shares: Mapping[str, Sequence[Share]]

    def money(self, minor: int) -> Money:
        return Money.from_minor(minor, self.currency)

    def step(self, item: ExplainedItem, label: str, formula: str) -> Step:
        """Return the step of an item: a leaf where its price is all there is."""
        children = [self.reduction(adjustment, amount) for adjustment, amount in self.shares.get(item.id, ())]
        base = item.gross + sum(child.amount.minor for child in children)
        taxes = [(tax, self.taxation(tax, base)) for tax in item.taxes]
        inside = ""
        if self.rules.prices_include_tax:
            inside = ", ".join(f"includes {self.money(tax.amount).amount:f} {tax.name} ({how})" for tax, how in taxes)
        else:
            children += [Step(tax.name, how, self.money(tax.amount)) for tax, how in taxes]
        if children:
            price = Step("price", formula, self.money(item.gross))
            return Step(label, inside, self.money(item.total), (price, *children))
        return Step(label, ", ".join(filter(None, (formula, inside))), self.money(item.total))

    def multiplication(self, line: ExplainedLine) -> str:
        """Return how the price of a line was computed, and rounded if it was."""
        exponent = exponent_of(self.currency)
        formula = f"{_decimal(line.units, line.precision)} × {line.unit_price:f}"  # noqa: RUF001  # written for people
        numerator, denominator = line.unit_price.as_integer_ratio()
        exact = line.units * numerator * 10**exponent == line.gross * denominator * 10**line.precision
        return formula if exact else f"{formula}, rounded {self.rules.rounding.replace('_', ' ')}"

    def reduction(self, adjustment: Adjustment, amount: int) -> Step:
        """Return the step of an item's share of an adjustment."""
        whole = f"{self.money(adjustment.amount).amount:f}"
        formula = whole if adjustment.percent is None else f"{adjustment.percent:f} % = {whole}"
        if adjustment.requested > adjustment.amount:
            formula += f", all that was left of {self.money(adjustment.requested).amount:f}"
        if amount != adjustment.amount:
            formula = f"share of {formula}"
        return Step(adjustment.label, formula, self.money(-amount))

    def taxation(self, tax: Tax, base: int) -> str:
        """Return how a tax was computed, of what, and where it was rounded."""
        relation = "in" if self.rules.prices_include_tax else "of"
        formula = f"{_decimal(*_percentage(tax.rate))} % {relation} {self.money(base).amount:f}"
        return formula + _ROUNDED[self.rules.tax_level]


_ROUNDED: Final[Mapping[TaxLevel, str]] = {
    TaxLevel.UNIT: ", rounded for each unit",
    TaxLevel.LINE: "",
    TaxLevel.TOTAL: ", rounded once for the order",
}


def _percentage(rate: Decimal) -> tuple[int, int]:
    """Return a rate as a percentage: an integer and how many of its digits are decimal places."""
    numerator, denominator = rate.as_integer_ratio()
    return numerator * (10**10 // denominator), 8


def _decimal(scaled: int, places: int) -> str:
    """Write an integer with a point before its last places, without trailing zeros."""
    whole, part = divmod(scaled, 10**places)
    return f"{whole}.{part:0{places}d}".rstrip("0").rstrip(".") if part else str(whole)


def _rows(step: Step, first: str, rest: str) -> Iterator[tuple[str, str, str]]:
    yield first + step.label, step.formula, str(step.amount)
    for position, child in enumerate(step.children, start=1):
        last = position == len(step.children)
        yield from _rows(child, f"{rest}{'└─ ' if last else '├─ '}", f"{rest}{'   ' if last else '│  '}")
