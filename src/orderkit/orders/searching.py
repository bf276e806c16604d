"""Searching orders: filters, sorts and pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal, get_args

import attrs
import msgspec
from pydantic import Field, StrictBool, StrictInt

from orderkit.domain.inputs import Input, Name, Telling, UtcTime
from orderkit.domain.money import Money
from orderkit.domain.order import Order
from orderkit.domain.status import OrderStatus
from orderkit.errors import InvalidQuery
from orderkit.orders.cursors import Cursors, Position
from orderkit.orders.ports import Among, Between, Condition, Found, HasLabel, HasLine, Search
from orderkit.orders.rows import metadata_label
from orderkit.orders.scripts import OrderUnit
from orderkit.unit_of_work.changes import Value

MAX_PAGE = 500
MAX_LABELS = 20
"""How many tags, external references or metadata values one search asks for at most."""

Label = Annotated[
    Name | StrictBool | Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)],
    Telling(
        "invalid_metadata_value", "metadata is found by text of 1 to 255 characters, an integer, or true and false"
    ),
]
"""A value by which metadata is found."""

Sort = Literal[
    "created_at",
    "-created_at",
    "placed_at",
    "-placed_at",
    "updated_at",
    "-updated_at",
    "total",
    "-total",
    "number",
    "-number",
]
"""What a list is sorted by; a minus sign puts the greatest first. Drafts have no `placed_at` and no `number`."""


class OrderFilter(Input):
    """Which orders are wanted: all that is given must hold.

    Ranges include their lower end and exclude their upper one.

    Example:
        >>> OrderFilter(status=("open",), customer="cust-42").customer
        'cust-42'
    """

    status: tuple[OrderStatus, ...] = Field(default=(), description="One of these states.")
    substate: Name | None = Field(default=None, description="The application's own state.")
    held: StrictBool | None = Field(default=None, description="Whether a hold stands.")
    customer: Name | None = Field(default=None, description="Whose order.")
    guest: StrictBool | None = Field(default=None, description="Whether it has no customer.")
    sku: Name | None = Field(default=None, description="Has a line with this SKU.")
    number: Name | None = Field(default=None, description="Its number.")
    external_references: dict[Name, Name] = Field(
        default={}, max_length=MAX_LABELS, description="Has these ids in these systems."
    )
    tags: tuple[Name, ...] = Field(default=(), max_length=MAX_LABELS, description="Has all of these tags.")
    metadata: dict[Name, Label] = Field(
        default={},
        max_length=MAX_LABELS,
        description="Has these values under these names at the top level of its metadata.",
    )
    placed_from: UtcTime | None = Field(default=None, description="Placed at or after.")
    placed_until: UtcTime | None = Field(default=None, description="Placed before.")
    created_from: UtcTime | None = Field(default=None, description="Created at or after.")
    created_until: UtcTime | None = Field(default=None, description="Created before.")
    updated_from: UtcTime | None = Field(default=None, description="Changed last at or after.")
    updated_until: UtcTime | None = Field(default=None, description="Changed last before.")
    expires_until: UtcTime | None = Field(default=None, description="Has a time to expire, before this one.")
    total_from: Money | None = Field(default=None, description="Current total of at least this.")
    total_until: Money | None = Field(default=None, description="Current total of less than this.")

    def conditions(self) -> tuple[Condition, ...]:
        """Return what the storage is asked for.

        Raises:
            InvalidQuery: The filter contradicts itself.
        """
        return tuple(self._plain()) + tuple(self._ranges()) + tuple(self._labels())

    def _plain(self) -> Iterator[Condition]:
        if self.status:
            yield Among("status", tuple(status.value for status in self.status))
        for column in ("substate", "held", "customer", "number"):
            value: Value = getattr(self, column)
            if value is not None:
                yield Among(column, (value,))
        if self.guest is True:
            yield Among("customer", (None,))
        elif self.guest is False:
            yield Between("customer")
        if self.sku is not None:
            yield HasLine(self.sku)

    def _ranges(self) -> Iterator[Condition]:
        for name in ("placed", "created", "updated"):
            lower, upper = getattr(self, f"{name}_from"), getattr(self, f"{name}_until")
            if lower is not None or upper is not None:
                yield Between(f"{name}_at", lower, upper)
        if self.expires_until is not None:
            yield Between("expires_at", None, self.expires_until)
        totals = [total for total in (self.total_from, self.total_until) if total is not None]
        if len({total.currency for total in totals}) > 1:
            raise InvalidQuery("Both ends of a range of totals have one currency; nothing was read.")
        if totals:
            yield Among("currency", (totals[0].currency,))
            lower = None if self.total_from is None else self.total_from.minor
            upper = None if self.total_until is None else self.total_until.minor
            yield Between("current_total", lower, upper)

    def _labels(self) -> Iterator[Condition]:
        for tag in self.tags:
            yield HasLabel("tag", "", tag)
        for system, reference in self.external_references.items():
            yield HasLabel("external", system, reference)
        for name, value in self.metadata.items():
            label = metadata_label(value)
            if label is None:
                raise InvalidQuery(f"Metadata is found by values of at most 255 characters; {name!r} has more.")
            yield HasLabel("metadata", name, label)


@attrs.frozen
class Page:
    """A page of orders.

    Attributes:
        items: The orders, in the order of the list.
        next: The cursor of the page behind it; None on the last.
        previous: The cursor of the page before it; None on the first.
    """

    items: tuple[Order, ...]
    next: str | None
    previous: str | None


@attrs.frozen
class Query:
    """A search as asked: filter, sort and page size, checked.

    Raises:
        InvalidQuery: The sort is not known or the page size is out of range.
    """

    filter: OrderFilter
    sort: Sort = "-created_at"
    limit: int = 50

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.filter, OrderFilter):
            raise InvalidQuery(
                "A search takes an OrderFilter; nothing was read. `OrderFilter.parse` makes one of a mapping."
            )
        if self.sort not in get_args(Sort):
            raise InvalidQuery(f"Orders cannot be sorted like that; nothing was read. Choose of {get_args(Sort)}.")
        if type(self.limit) is not int or not 1 <= self.limit <= MAX_PAGE:
            raise InvalidQuery(f"A page has 1 to {MAX_PAGE} orders; nothing was read.")

    @property
    def identity(self) -> bytes:
        """What a cursor is bound to: filter and sort, not the page size."""
        return msgspec.json.encode([self.filter.model_dump(exclude_defaults=True), self.sort], order="sorted")

    @property
    def column(self) -> str:
        """The column that is sorted by."""
        name = self.sort.removeprefix("-")
        return "current_total" if name == "total" else name

    def search(self, tenant: str, position: Position | None, limit: int) -> Search:
        """Return what the storage is asked for."""
        return Search(
            tenant,
            self.filter.conditions(),
            self.column,
            self.sort.startswith("-"),
            limit,
            None if position is None else (position.value, position.order_id),
            position is not None and position.backwards,
        )


def page(query: Query, cursor: str | None, cursors: Cursors) -> Callable[[OrderUnit], Page]:
    """Return the script that reads one page."""

    def script(unit: OrderUnit) -> Page:
        unit.settle()
        position = None if cursor is None else cursors.read(cursor, unit.tenant, query.identity)
        found = unit.storage.search(query.search(unit.tenant, position, query.limit + 1))
        return _page(unit, query, cursors, position, found)

    return script


def _page(unit: OrderUnit, query: Query, cursors: Cursors, position: Position | None, found: list[Found]) -> Page:
    """Cut off the one order too many, which only tells that there is more in the direction of the walk."""
    backwards = position is not None and position.backwards
    more = len(found) > query.limit
    if more:
        found = found[1:] if backwards else found[:-1]
    has_next = backwards or more
    has_previous = more if backwards else position is not None

    def cursor(edge: Found, to_previous: bool) -> str:
        at = Position.at(edge.sort_value, edge.order_id, backwards=to_previous)
        return cursors.write(at, unit.tenant, query.identity)

    return Page(
        tuple(unit.decode(hit.order_id, hit.record) for hit in found),
        cursor(found[-1], False) if found and has_next else None,
        cursor(found[0], True) if found and has_previous else None,
    )


Batch = tuple[tuple[Order, ...], Position | None]
"""Some orders of a stream, and where the rest begins; None when there is no more."""


def batch(query: Query, position: Position | None) -> Callable[[OrderUnit], Batch]:
    """Return the script that reads the next orders of a stream."""

    def script(unit: OrderUnit) -> Batch:
        unit.settle()
        found = unit.storage.search(query.search(unit.tenant, position, query.limit))
        orders = tuple(unit.decode(hit.order_id, hit.record) for hit in found)
        if len(found) < query.limit:
            return orders, None
        return orders, Position.at(found[-1].sort_value, found[-1].order_id, backwards=False)

    return script
