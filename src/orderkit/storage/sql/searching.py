"""Search as SQL: conditions by parameters, pages by keyset.

A page starts behind a row by comparing rows, `(created_at, id) < (?, ?)`, which an index answers at any
depth; the same written with OR was measured at 142 times the time, an offset at 468 times. On MariaDB it is
the other way round: it reads every row before the page to compare rows, and answers OR from an index.
"""

# ruff: noqa: S608 - statements are made of the names of tables and columns, never of values

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never, cast

import attrs

from orderkit.errors import InvalidQuery
from orderkit.orders.ports import Among, Between, Condition, Found, HasLabel, HasLine, Search
from orderkit.orders.tables import ORDERS
from orderkit.storage.sql.dialect import Dialect
from orderkit.storage.sql.records import order_record, record_columns
from orderkit.storage.sql.tables import PREFIX, kind_of
from orderkit.unit_of_work.changes import Value

_DOCUMENTS = ("document", "metadata")
_KINDS = {column: kind_of("orders", column) for column in ORDERS.columns if column not in _DOCUMENTS}
_PYTHON: dict[str, type] = {"text": str, "integer": int, "bigint": int, "boolean": bool, "time": datetime}
_LARGEST = {"integer": 2**31 - 1, "bigint": 2**63 - 1}
_MOST_VALUES = 1_000
_MOST_PARTS = 8
_UNIQUE = {"id", *(columns[-1] for columns in ORDERS.unique)}
"""Columns of which no two orders of a tenant share a value: a second one would only be sorted by in vain."""


class _Statement:
    """A template that grows condition by condition, with its parameters beside it."""

    def __init__(self) -> None:
        self.conditions: list[str] = []
        self.parameters: list[Value] = []

    def add(self, condition: str, *parameters: Value) -> None:
        self.conditions.append(condition)
        self.parameters += parameters


def page(search: Search, *, compares_rows: bool = True, takes_hints: bool = False) -> tuple[str, Sequence[Value]]:
    """Return the template of a page and its parameters.

    Args:
        search: Which page.
        compares_rows: Whether an index of the database answers the comparison of rows.
        takes_hints: Whether the database takes hints about indexes, as MariaDB does.

    Raises:
        InvalidQuery: A column does not exist or cannot be compared, or a value does not fit its column.
    """
    arms = [_arm(part, compares_rows, takes_hints) for part in _parts(search)]
    if len(arms) == 1:
        return arms[0]
    direction = "DESC" if search.descending is not search.backwards else "ASC"
    union = " UNION ALL ".join(f"SELECT * FROM ({template}) AS a{number}" for number, (template, _) in enumerate(arms))
    parameters = [value for _, values in arms for value in values]
    return f"{union} ORDER BY 2 {direction}, 1 {direction} LIMIT :bigint", [*parameters, search.limit]


def _parts(search: Search) -> list[Search]:
    """Return the search, or one for each of several states: each of them is a list by creation in an index.

    As one list it would be read from its beginning, where what is under way is at its end.
    """
    states = [part for part in search.conditions if isinstance(part, Among) and part.column == "status"]
    others = [part for part in search.conditions if part not in states]
    if search.sort != "created_at" or len(states) != 1 or not all(isinstance(part, Between) for part in others):
        return [search]
    distinct = dict.fromkeys(states[0].values)
    if not 1 < len(distinct) <= _MOST_PARTS:
        return [search]
    return [attrs.evolve(search, conditions=(Among("status", (state,)), *others)) for state in distinct]


def _arm(search: Search, compares_rows: bool, takes_hints: bool) -> tuple[str, Sequence[Value]]:
    statement = _Statement()
    statement.add("o.tenant = :text", _checked("tenant", search.tenant))
    for condition in search.conditions:
        _add_condition(statement, search.tenant, condition)
    descends = search.descending is not search.backwards
    order = _add_keyset(statement, search, descends, compares_rows)
    hint = _hint(search) if takes_hints else ""
    template = (
        f"SELECT o.id AS found, o.{search.sort} AS sorted, {record_columns('o')} FROM {{orders}} AS o{hint} "
        f"WHERE {' AND '.join(statement.conditions)} ORDER BY {order} LIMIT :bigint"
    )
    return template, [*statement.parameters, search.limit]


_LISTED = {"status", "customer", "substate", "held"}
"""Columns of which each value has an index of its own of the list by creation."""


def _hint(search: Search) -> str:
    """Keep MariaDB from reading the whole list for the orders of one status.

    It does so where most orders have that status, be it that none of the latest twenty thousand has.
    """
    listed = any(
        isinstance(condition, Among) and condition.column in _LISTED and len(condition.values) == 1
        for condition in search.conditions
    )
    return f" IGNORE INDEX ({PREFIX}orders_created)" if listed and search.sort == "created_at" else ""


def found(dialect: Dialect, search: Search, rows: Sequence[Sequence[object]]) -> list[Found]:
    """Make the orders of a page of its rows, in the order of the list."""
    kind = _KINDS[search.sort]
    orders = [Found(str(row[0]), _decoded(dialect, kind, row[1]), order_record(row[2:])) for row in rows]
    return orders[::-1] if search.backwards else orders


def _decoded(dialect: Dialect, kind: str, value: object) -> Value:
    if kind == "time":
        return dialect.decode_time(value)
    return bool(value) if kind == "boolean" else cast("Value", value)


def _add_keyset(statement: _Statement, search: Search, descends: bool, compares_rows: bool) -> str:
    """Add where the page starts and return its order."""
    sort, kind = search.sort, _kind(search.sort)
    direction, comparison = ("DESC", "<") if descends else ("ASC", ">")
    statement.add(f"o.{sort} IS NOT NULL")
    values = () if search.after is None else (_checked(sort, search.after[0]), _checked("id", search.after[1]))
    if sort in _UNIQUE:
        if values:
            statement.add(f"o.{sort} {comparison} :{kind}", values[0])
        return f"o.{sort} {direction}"
    if values and compares_rows:
        statement.add(f"(o.{sort}, o.id) {comparison} (:{kind}, :text)", *values)
    elif values:
        later = f"o.{sort} {comparison} :{kind} OR (o.{sort} = :{kind} AND o.id {comparison} :text)"
        statement.add(f"({later})", values[0], *values)
    return f"o.{sort} {direction}, o.id {direction}"


def _add_condition(statement: _Statement, tenant: str, condition: Condition) -> None:
    match condition:
        case Among():
            _add_among(statement, condition)
        case Between(column, lower, upper):
            kind = _kind(column)
            statement.add(f"o.{column} IS NOT NULL")
            if lower is not None:
                statement.add(f"o.{column} >= :{kind}", _checked(column, lower))
            if upper is not None:
                statement.add(f"o.{column} < :{kind}", _checked(column, upper))
        case HasLine(sku):
            statement.add(_related("order_lines", "sku"), tenant, _text(sku))
        case HasLabel(label_kind, name, value):
            label = map(_text, (label_kind, name, value))
            statement.add(_related("order_labels", "kind", "name", "value"), tenant, *label)
        case _:
            assert_never(condition)


def _add_among(statement: _Statement, condition: Among) -> None:
    column, kind = condition.column, _kind(condition.column)
    if len(condition.values) > _MOST_VALUES:
        raise InvalidQuery(f"A condition on {column!r} may list at most {_MOST_VALUES} values.")
    values = [_checked(column, value) for value in condition.values if value is not None]
    alternatives = []
    if kind == "boolean":
        # Written out: an index of the few orders where it is true is of no use for a parameter.
        alternatives += [f"o.{column} = {str(bool(value)).lower()}" for value in values]
        values = []
    elif len(values) == 1:
        alternatives.append(f"o.{column} = :{kind}")
    elif values:
        alternatives.append(f"o.{column} IN ({', '.join([f':{kind}'] * len(values))})")
    if None in condition.values:
        alternatives.append(f"o.{column} IS NULL")
    statement.add(f"({' OR '.join(alternatives) or '1 = 0'})", *values)


def _related(table: str, *columns: str) -> str:
    """Return the condition that a row of another table of the tenant belongs to the order and has these columns.

    As a list of ids and not as EXISTS, which SQLite would ask of every order.
    """
    equal = " AND ".join(f"r.{column} = :text" for column in ("tenant", *columns))
    return f"o.id IN (SELECT r.order_id FROM {{{table}}} AS r WHERE {equal})"


def _kind(column: str) -> str:
    """Return how the values of a column travel."""
    kind = _KINDS.get(column)
    if kind is None:
        raise InvalidQuery(f"Orders cannot be searched or sorted by {column!r}. Use one of: {', '.join(_KINDS)}.")
    return kind


def _checked(column: str, value: Value) -> Value:
    """Return the value if it fits its column.

    Raises:
        InvalidQuery: It has another type, is out of range, has no time zone or cannot be text.
    """
    kind = _kind(column)
    fits = type(value) is _PYTHON[kind] or (kind == "time" and isinstance(value, datetime))
    if isinstance(value, datetime):
        fits = fits and value.tzinfo is not None
    if isinstance(value, int) and kind in _LARGEST:
        fits = fits and -_LARGEST[kind] - 1 <= value <= _LARGEST[kind]
    if not fits:
        raise InvalidQuery(f"A value given for {column!r} does not fit: it takes {_EXPECTED[kind]}.")
    return _text(value) if isinstance(value, str) else value


_EXPECTED = {
    "text": "text",
    "integer": "an integer of 32 bits",
    "bigint": "an integer of 64 bits",
    "boolean": "true or false",
    "time": "a time with its zone",
}


def _text(value: str) -> str:
    """Return the text if a database can hold it.

    Raises:
        InvalidQuery: It has a NUL character or half a surrogate pair.
    """
    if "\0" in value or (not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value)):
        raise InvalidQuery("A text searched for holds a character that no database keeps: NUL or a lone surrogate.")
    return value
