"""An order, told command by command, without a kit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import attrs
from hypothesis import settings

from orderkit.domain.commands import CreateDraft, OrderCommand, PlaceOrder
from orderkit.domain.decisions import Permission, allowed, decide
from orderkit.domain.events import Event
from orderkit.domain.evolution import replay
from orderkit.domain.lines import Charge, Discount, Line
from orderkit.domain.money import Money
from orderkit.domain.order import Order
from orderkit.domain.pricing import TaxRate
from orderkit.testing.clock import ManualClock, SequentialIds
from tests.effort import examples

# A busy machine is no failure, and a few dozen examples of such orders go a long way.
BRIEF = settings(max_examples=examples(40), deadline=None)

VAT = TaxRate("VAT", Decimal("0.19"))


def line(sku: str = "tea", quantity: int | Decimal = 2, price: str = "4.50", **fields: Any) -> Line:
    return Line(sku=sku, quantity=quantity, unit_price=Money(price, "EUR"), **fields)


def charge(amount: str = "3.90", **fields: Any) -> Charge:
    return Charge(kind="shipping", amount=Money(amount, "EUR"), **fields)


def discount(percent: int = 10, **fields: Any) -> Discount:
    return Discount(label="Spring", percent=Decimal(percent), **fields)


@attrs.define
class Story:
    """An order and everything that happened to it."""

    clock: ManualClock = attrs.Factory(ManualClock)
    ids: SequentialIds = attrs.Factory(SequentialIds)
    events: list[Event] = attrs.Factory(list)

    @property
    def order(self) -> Order:
        return replay(self.events)

    def do(self, command: OrderCommand) -> tuple[Event, ...]:
        """Give a command, and return the events that followed."""
        order = self.order if self.events else None
        happened = decide(order, command, now=self.clock.now(), ids=self.ids)
        self.events.extend(happened)
        return happened

    def allowed(self) -> dict[str, Permission]:
        return allowed(self.order, now=self.clock.now())


def placed(*lines: Line, **fields: Any) -> Story:
    story = Story()
    story.do(PlaceOrder(lines=lines or (line(),), **fields))
    return story


def drafted(*lines: Line, **fields: Any) -> Story:
    story = Story()
    story.do(CreateDraft(lines=lines, currency="EUR", **fields))
    return story
