"""What the order use cases need of a storage, beyond reading and committing."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, Protocol

import attrs

from orderkit.idempotency.ports import KeyStorage
from orderkit.orders.tables import EventRow, PersonalRow
from orderkit.unit_of_work.changes import Value
from orderkit.unit_of_work.storage import OrderRecord, Storage


@attrs.frozen
class Among:
    """The column has one of these values; None among them stands for null."""

    column: str
    values: tuple[Value, ...]


@attrs.frozen
class Between:
    """The column is not null, not below `lower` and below `upper`; an open end is None."""

    column: str
    lower: Value = None
    upper: Value = None


@attrs.frozen
class HasLine:
    """The order has a line with this SKU, cancelled or not."""

    sku: str


@attrs.frozen
class HasLabel:
    """The order carries this label."""

    kind: str
    name: str
    value: str


Condition = Among | Between | HasLine | HasLabel


@attrs.frozen
class Search:
    """A page of orders to be found: all conditions hold, sorted by one column and then by id.

    Attributes:
        tenant: Whose orders.
        conditions: What all of them fulfil. Columns are those of the order's row.
        sort: The column to sort by; orders where it is null are not found.
        descending: Whether the greatest comes first; the id follows the same direction.
        limit: How many at most.
        after: Sort value and id of the order behind which the page starts.
        backwards: Walk from `after` towards the start of the list. The orders found still come in the
            order of the list.
    """

    tenant: str
    conditions: tuple[Condition, ...]
    sort: str
    descending: bool
    limit: int
    after: tuple[Value, str] | None = None
    backwards: bool = False


class Found(NamedTuple):
    """One order of a page, with what a cursor needs to continue from it."""

    order_id: str
    sort_value: Value
    record: OrderRecord


class OrderStorage(Storage, KeyStorage, Protocol):
    """Search orders, read their history and their personal data, count their numbers, forget keys."""

    def search(self, search: Search) -> list[Found]:
        """Return the orders of a page."""
        ...

    def history(
        self, tenant: str, order_id: str, *, version: int | None = None, time: datetime | None = None
    ) -> list[EventRow]:
        """Return the events of an order by version, up to and including a version or a time."""
        ...

    def personal(self, tenant: str, order_id: str) -> list[PersonalRow]:
        """Return the personal rows of an order, erased ones as tombstones with empty data."""
        ...

    def next_number(self, tenant: str) -> int:
        """Take the tenant's next order number: 1, 2, 3, … without gaps.

        The counter stays locked until the surrounding transaction ends and goes back with it.
        """
        ...
