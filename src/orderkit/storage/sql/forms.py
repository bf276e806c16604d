"""Statements of MariaDB and MySQL for any number of rows, and the rows that one statement carries."""

# ruff: noqa: S608 - statements are made of the names of tables and columns, never of values

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from orderkit.unit_of_work.changes import Row, Table

_MOST_ROWS = 500
MOST_CHARACTERS = 1 << 20
"""How much one statement carries at most: a server takes no more than `max_allowed_packet` at once."""


class Form(NamedTuple):
    """A statement for any number of rows: what comes before them, each of them, what comes after."""

    head: str
    group: str
    tail: str = ""
    separator: str = ", "


RowT = TypeVar("RowT", bound=Row)


def portions(rows: Sequence[RowT]) -> Iterator[Sequence[RowT]]:
    """Yield rows, as many at a time as one statement carries."""
    if len(rows) == 1:
        yield rows
        return
    start = characters = 0
    for position, row in enumerate(rows):
        length = sum(len(value) for value in row if isinstance(value, str))
        if position > start and (position - start == _MOST_ROWS or characters + length > MOST_CHARACTERS):
            yield rows[start:position]
            start, characters = position, 0
        characters += length
    if start < len(rows):
        yield rows[start:]


@functools.cache
def key_of(table: Table) -> Callable[[Row], Row]:
    """Return the function that takes the primary key of a row."""
    return _picker([table.columns.index(column) for column in table.key])


@functools.cache
def values_of(table: Table) -> Callable[[Row], Row]:
    """Return the function that takes of a row what is not its primary key."""
    return _picker([position for position, column in enumerate(table.columns) if column not in table.key])


def _picker(positions: Sequence[int]) -> Callable[[Row], Row]:
    return lambda row: tuple([row[position] for position in positions])


def _group(columns: Sequence[str]) -> str:
    return f"({', '.join(['%s'] * len(columns))})"


def matching(table: str, key: Sequence[str], select: str, lock: str) -> Form:
    """Return a statement about the rows with any of several primary keys."""
    return Form(f"{select} FROM {{{table}}} WHERE ({', '.join(key)}) IN (", _group(key), f"){lock}")


@functools.cache
def present(table: Table) -> Form:
    """Return the statement that reads which rows are there, by their primary keys, and locks them."""
    return matching(table.name, table.key, f"SELECT {', '.join(table.key)}", " FOR UPDATE")


@functools.cache
def deleting(table: Table) -> Form:
    """Return the statement that removes rows by their primary keys.

    Looked up one by one, whatever the optimizer thinks: for a list of one row it would read the whole table, and wait
    for every row that others have locked.
    """
    row = "SELECT " + ", ".join(f"%s AS {column}" for column in table.key)
    matching = " AND ".join(f"t.{column} = v.{column}" for column in table.key)
    return Form("DELETE t FROM (", row, f") AS v STRAIGHT_JOIN {{{table.name}}} AS t ON {matching}", " UNION ALL ")


@functools.cache
def inserting(table: Table) -> Form:
    """Return the statement that inserts rows."""
    return Form(f"INSERT INTO {{{table.name}}} ({', '.join(table.columns)}) VALUES ", _group(table.columns))


@functools.cache
def upserting(table: Table) -> Form:
    """Return the statement that inserts rows or replaces whatever is in their way."""
    assigned = [column for column in table.columns if column not in table.key] or table.key[:1]
    values = ", ".join(f"{column} = VALUES({column})" for column in assigned)
    return inserting(table)._replace(tail=f" ON DUPLICATE KEY UPDATE {values}")


@functools.cache
def updating_one(table: Table) -> Form:
    """Return the statement that replaces one row; its primary key is given last."""
    assigned = ", ".join(f"{column} = %s" for column in table.columns if column not in table.key)
    matching = " AND ".join(f"{column} = %s" for column in table.key)
    return Form(f"UPDATE {{{table.name}}} SET {assigned} WHERE {matching}", "")


@functools.cache
def updating_many(table: Table) -> Form:
    """Return the statement that replaces rows that exist.

    Looked up one by one, whatever the optimizer thinks: a scan would wait for every row that others have locked.
    """
    row = "SELECT " + ", ".join(f"%s AS {column}" for column in table.columns)
    assigned = ", ".join(f"t.{column} = v.{column}" for column in table.columns if column not in table.key)
    matching = " AND ".join(f"t.{column} = v.{column}" for column in table.key)
    tail = f") AS v STRAIGHT_JOIN {{{table.name}}} AS t ON {matching} SET {assigned}"
    return Form("UPDATE (", row, tail, " UNION ALL ")
