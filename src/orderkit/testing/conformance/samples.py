"""Rows at the edge of what their columns may hold."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import NoneType
from typing import Any, NamedTuple, TypeVar, get_args, get_type_hints

from hypothesis import strategies as st

from orderkit.messaging.outbox import BUCKETS, OUTBOX, OutboxRow
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
from orderkit.testing.conformance.base import key_of
from orderkit.unit_of_work.changes import Row, Table

RowT = TypeVar("RowT")

TEXTS = (
    "",
    " ",
    " padded ",
    "İıſßẞ",
    "tea 🫖 𝒯𐍈 \U0010ffff",
    "e\u0301 e\u0327\u0301 \u00e9",
    "مرحبا \u202eשלום\u202c",
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

TIMES = (
    datetime(1, 1, 2, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2026, 3, 29, 1, 30, 0, 1, tzinfo=UTC),
    datetime(9999, 12, 30, 23, 59, 59, 999999, tzinfo=UTC),
)

_texts = st.sampled_from(TEXTS) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
_identifiers = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
_json = st.builds(lambda text: json.dumps({"text": text}, ensure_ascii=False), _texts)
_narrow = st.sampled_from([0, 1, 2**31 - 1]) | st.integers(0, 2**31 - 1)
_wide = st.sampled_from(WIDE) | st.integers(-(2**63), 2**63 - 1)
_times = st.sampled_from(TIMES) | st.datetimes(
    min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)
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
    hints = get_type_hints(row_type)
    chosen = {name: columns.get(name) or _BY_COLUMN.get(name) or _by_type(hint) for name, hint in hints.items()}
    return st.builds(row_type, **chosen)


def _by_type(hint: object) -> st.SearchStrategy[Any]:
    return st.one_of([_BY_TYPE[option] for option in get_args(hint) or (hint,)])


class Kind(NamedTuple):
    """A table and the type of its rows."""

    table: Table
    row_type: type[Any]


KINDS = (
    Kind(ORDERS, OrderRow),
    Kind(LINES, LineRow),
    Kind(EVENTS, EventRow),
    Kind(PERSONAL, PersonalRow),
    Kind(LABELS, LabelRow),
    Kind(OUTBOX, OutboxRow),
)


@st.composite
def table_rows(draw: st.DrawFn, tenant: str) -> dict[Table, list[Row]]:
    """Generate a tenant's rows for every table, none of them in another's way."""
    rows: dict[Table, list[Row]] = {ORDERS: draw(_orders(tenant))}
    owners = st.sampled_from([order[1] for order in rows[ORDERS]])
    for table, row_type in KINDS[1:]:
        like = rows_like(row_type, tenant=st.just(tenant), order_id=owners)
        rows[table] = draw(st.lists(like, max_size=3, unique_by=lambda row, table=table: key_of(table, row)))  # type: ignore[misc]  # mypy cannot infer a lambda's default
    return rows


def _orders(tenant: str) -> st.SearchStrategy[list[Row]]:
    def number_of(order: OrderRow) -> tuple[bool, str]:
        return (False, order.id) if order.number is None else (True, order.number)

    orders = rows_like(OrderRow, tenant=st.just(tenant))
    return st.lists(orders, min_size=1, max_size=3, unique_by=(lambda order: order.id, number_of))
