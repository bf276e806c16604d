"""Rows at the edge of what their columns may hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from types import NoneType
from typing import Any, NamedTuple, TypeVar, get_args, get_type_hints

from hypothesis import strategies as st

from orderkit.messaging.outbox import BUCKETS, OUTBOX, OutboxRow, bucket_of
from orderkit.orders.tables import (
    EVENTS,
    LABELS,
    LINES,
    ORDERS,
    PERSONAL,
    EventRow,
    LabelRow,
    LineRow,
    OrderRow,
    PersonalRow,
)
from orderkit.testing.conformance.base import NOON, key_of, order_row
from orderkit.unit_of_work.changes import Row, Table, Value

RowT = TypeVar("RowT")

TEXTS = (
    "",
    " ",
    " padded ",
    "İıſßẞ",
    "tea 🫖 𝒯𐍈 \U0010ffff",
    "e\u0301 e\u0327\u0301 \u00e9",
    "مرحبا \u202eعليكم\u202c",
    "\u200b\ufeff\u00ad",
    "\t\r\n\x01\x1f\x7f\x85\u2028",
    "'; DROP TABLE orderkit_orders; --",
    "\\ \" ' % %s ? :name $1 {0} @x",
    "NULL",
)
"""Texts that storages have stumbled over."""

MEGABYTE = ("tea 🫖 é " * 100_000)[: 1 << 20]

WIDE = (-(2**63), -(2**31) - 1, -1, 0, 1, 2**31, 2**53 + 1, 2**63 - 1)
"""Integers of 64 bits, and the edges at which narrower ones break."""

DAY = timedelta(days=1)
TIMES = (
    datetime.min.replace(tzinfo=UTC) + DAY,
    datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2026, 3, 29, 1, 30, 0, 1, tzinfo=UTC),
    datetime.max.replace(tzinfo=UTC) - DAY,
)
"""The first and last moment but a day, so that they exist in every zone, and ordinary ones."""

_texts = st.sampled_from(TEXTS) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20
)
_identifiers = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
_json = st.builds(lambda text: json.dumps({"text": text}, ensure_ascii=False), _texts)
_narrow = st.sampled_from([0, 1, 2**31 - 1]) | st.integers(0, 2**31 - 1)
_wide = st.sampled_from(WIDE) | st.integers(-(2**63), 2**63 - 1)
_times = st.sampled_from(TIMES) | st.datetimes(
    TIMES[0].replace(tzinfo=None), TIMES[-1].replace(tzinfo=None), timezones=st.just(UTC)
)

_BY_TYPE: dict[object, st.SearchStrategy[Any]] = {
    str: _texts,
    int: _narrow,
    bool: st.booleans(),
    datetime: _times,
    NoneType: st.none(),
}
_BY_COLUMN: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("id", "line_id"), _identifiers),
    **dict.fromkeys(("document", "metadata", "data", "payload", "headers"), _json),
    **dict.fromkeys(("total", "current_total", "units", "cancelled"), _wide),
    "bucket": st.integers(0, BUCKETS - 1),
}


def rows_like(row_type: type[RowT], **columns: st.SearchStrategy[Any]) -> st.SearchStrategy[RowT]:
    """Generate rows of a type, each column by what it is, except for those that are given."""
    by_type = {name: _by_type(hint) for name, hint in get_type_hints(row_type).items()}
    chosen = {**by_type, **_BY_COLUMN, **columns}
    return st.builds(row_type, **{name: chosen[name] for name in by_type})


def _by_type(hint: object) -> st.SearchStrategy[Any]:
    return st.one_of([_BY_TYPE[option] for option in get_args(hint) or (hint,)])


def event_row(order: OrderRow, version: int = 1) -> EventRow:
    """Return the row of an event of an order, a minute later for each version."""
    return EventRow(
        tenant=order.tenant,
        order_id=order.id,
        version=version,
        id=f"event_{version}",
        type="order.placed",
        schema_version=1,
        occurred_at=NOON + timedelta(minutes=version),
        actor="clerk",
        correlation_id=None,
        causation_id=None,
        data='{"kind": "placed"}',
    )


def personal_row(order: OrderRow, personal_id: str = "personal_1") -> PersonalRow:
    """Return a personal row of an order."""
    return PersonalRow(order.tenant, personal_id, order.id, "address", '{"name": "Ada"}', NOON, None)


def line_row(order: OrderRow, line_id: str = "line_1", sku: str = "TEA-001") -> LineRow:
    """Return the row of a line of an order."""
    return LineRow(order.tenant, order.id, line_id, 1, sku, 2, 0, 0, "6.00", 1200)


def outbox_row(order: OrderRow, message_id: str = "message_1") -> OutboxRow:
    """Return the row of a message about an order."""
    return OutboxRow(
        tenant=order.tenant,
        id=message_id,
        bucket=bucket_of(order.id),
        topic="orders",
        key=order.id,
        aggregatetype="order",
        aggregateid=order.id,
        aggregate_version=order.version,
        type="order.placed",
        schema_version=1,
        source="orderkit",
        content_type="application/json",
        payload="{}",
        headers="{}",
        traceparent=None,
        occurred_at=NOON,
        available_at=NOON,
    )


class Kind(NamedTuple):
    """A table, the type of its rows, and a plain row of an order for each number."""

    table: Table
    row_type: type[Any]
    plain: Callable[[OrderRow, int], Row]

    def rows(self, tenant: str, count: int, *, first: int = 1) -> list[Row]:
        """Return plain rows of a tenant, counted from a number on."""
        return [self.plain(order_row(tenant, f"order_{n:04}"), n) for n in range(first, first + count)]

    def rewritten(self, rows: Iterable[Row]) -> list[Row]:
        """Return rows with the same keys in which everything else is another value."""
        hints = get_type_hints(self.row_type)
        return [
            self.row_type(
                *(
                    value if column in self.table.key else _another(hints[column], value)
                    for column, value in zip(self.table.columns, row, strict=True)
                )
            )
            for row in rows
        ]


KINDS = (
    Kind(ORDERS, OrderRow, lambda order, n: order),
    Kind(LINES, LineRow, lambda order, n: line_row(order)),
    Kind(EVENTS, EventRow, event_row),
    Kind(PERSONAL, PersonalRow, lambda order, n: personal_row(order, f"personal_{n}")),
    Kind(LABELS, LabelRow, lambda order, n: LabelRow(order.tenant, "tag", "season", "winter", order.id)),
    Kind(OUTBOX, OutboxRow, lambda order, n: outbox_row(order, f"message_{n}")),
)


def _another(hint: object, value: Value) -> Value:
    options = get_args(hint) or (hint,)
    if value is not None and NoneType in options:
        return None
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if datetime in options:
        return (value if isinstance(value, datetime) else NOON) + timedelta(microseconds=1)
    return '{"rewritten": "🫖"}'


@st.composite
def table_rows(draw: st.DrawFn, tenant: str) -> dict[Table, list[Row]]:
    """Generate a tenant's rows for every table, none of them in another's way."""
    orders = draw(_orders(tenant))
    owners = st.sampled_from([order.id for order in orders])
    rows: dict[Table, list[Row]] = {ORDERS: [*orders]}
    for table, row_type, _ in KINDS[1:]:
        like = rows_like(row_type, tenant=st.just(tenant), order_id=owners)
        rows[table] = draw(st.lists(like, max_size=3, unique_by=lambda row, table=table: key_of(table, row)))  # type: ignore[misc]  # mypy cannot infer a lambda's default
    return rows


def _orders(tenant: str) -> st.SearchStrategy[list[OrderRow]]:
    def number_of(order: OrderRow) -> tuple[bool, str]:
        return (False, order.id) if order.number is None else (True, order.number)

    def id_of(order: OrderRow) -> str:
        return order.id

    orders = rows_like(OrderRow, tenant=st.just(tenant))
    return st.lists(orders, min_size=1, max_size=3, unique_by=(id_of, number_of))
