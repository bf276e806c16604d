"""The order: the aggregate as it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import attrs

from orderkit.domain.composition import Totals
from orderkit.domain.lines import OrderCharge, OrderLine
from orderkit.domain.money import Money
from orderkit.domain.pricing import Adjustment, OrderDiscount, PricingRules, Tax
from orderkit.domain.status import OrderStatus


@attrs.frozen
class Hold:
    """A named reason for which an order is not confirmed or completed."""

    name: str
    reason: str | None
    at: datetime


@attrs.frozen
class Note:
    """A note: who said it, when, and the reference of the row that holds the text."""

    reference: str
    author: str
    at: datetime


@attrs.frozen
class Order:
    """An order at one version.

    Attributes:
        id: Its id, `order_` and a UUIDv7.
        version: The number of events so far.
        status: Where it stands.
        currency: The ISO 4217 code of every amount in it.
        rules: How it was priced.
        totals: Its sums in minor units; `total` and its companions give them as `Money`.
        personal: References to the rows that hold contact and addresses, by slot.
        erased: Those of its references, to contact, addresses and notes, whose data was erased.
        metadata: The application's own JSON object.
        substate: The application's own refinement of the status.
    """

    id: str
    version: int
    status: OrderStatus
    currency: str
    created_at: datetime
    updated_at: datetime
    lines: tuple[OrderLine, ...]
    charges: tuple[OrderCharge, ...]
    discounts: tuple[OrderDiscount, ...]
    adjustments: tuple[Adjustment, ...]
    taxes: tuple[Tax, ...]
    totals: Totals
    rules: PricingRules
    number: str | None = None
    customer: str | None = None
    placed_at: datetime | None = None
    expires_at: datetime | None = None
    substate: str | None = None
    holds: tuple[Hold, ...] = ()
    notes: tuple[Note, ...] = ()
    tags: tuple[str, ...] = ()
    personal: Mapping[str, str] = attrs.Factory(dict)
    external_references: Mapping[str, str] = attrs.Factory(dict)
    metadata: Mapping[str, object] = attrs.Factory(dict)
    erased: tuple[str, ...] = ()

    @property
    def total(self) -> Money:
        """What the order cost as placed."""
        return self.money(self.totals.total)

    @property
    def cancelled_total(self) -> Money:
        """How much of the total was cancelled."""
        return self.money(self.totals.cancelled)

    @property
    def current_total(self) -> Money:
        """What the order costs now: the total without what was cancelled."""
        return self.money(self.totals.total - self.totals.cancelled)

    @property
    def tax_total(self) -> Money:
        """All taxes as placed, inside the prices or added to them."""
        return self.money(self.totals.tax)

    @property
    def discount_total(self) -> Money:
        """All discounts as placed."""
        return self.money(self.totals.discount)

    def money(self, minor: int) -> Money:
        """Return an amount of a line, a charge or an adjustment, which is in minor units, as money."""
        return Money.from_minor(minor, self.currency)

    @property
    def guest(self) -> bool:
        """Whether it was ordered without a customer account."""
        return self.customer is None

    @property
    def held(self) -> bool:
        """Whether any hold stands."""
        return bool(self.holds)

    def line(self, line_id: str) -> OrderLine | None:
        """Return the line with this id, or None."""
        return next((line for line in self.lines if line.id == line_id), None)
