"""Rows and their indexes, laid over other rows until they are kept or dropped."""

from __future__ import annotations

from functools import cache

from orderkit.errors import AlreadyExists, StorageFailed
from orderkit.orders.tables import ORDERS
from orderkit.unit_of_work.changes import Row, Table

Slot = tuple[object, ...]
"""The name of an index: a table; a table and one owner of rows; a table and a unique set of columns."""


class Layer:
    """Rows over those of a parent, which stays untouched until this layer is merged into it."""

    def __init__(self, parent: Layer | None = None) -> None:
        self._parent = parent
        # None in place of a row hides the parent's.
        self._slots: dict[Slot, dict[Row, Row | None]] = {}

    def get(self, slot: Slot, key: Row) -> Row | None:
        """Return what an index holds under a key."""
        own = self._slots.get(slot, {})
        if key in own or self._parent is None:
            return own.get(key)
        return self._parent.get(slot, key)

    def set(self, slot: Slot, key: Row, row: Row | None) -> None:
        """Let an index hold a row under a key, or nothing."""
        own = self._slots.setdefault(slot, {})
        if row is None and self._parent is None:
            own.pop(key, None)
        else:
            own[key] = row

    def all(self, *slot: object) -> list[Row]:
        """Return everything an index holds."""
        return [row for row in self.entries(slot).values() if row is not None]

    def entries(self, slot: Slot) -> dict[Row, Row | None]:
        """Return the entries of an index, the hidden ones as None."""
        inherited = {} if self._parent is None else self._parent.entries(slot)
        return {**inherited, **self._slots.get(slot, {})}

    def merge_into(self, parent: Layer) -> None:
        """Write everything into the parent."""
        for slot, rows in self._slots.items():
            for key, row in rows.items():
                parent.set(slot, key, row)

    def row(self, table: Table, key: Row) -> Row | None:
        """Return the row with this primary key."""
        return self.get((table,), tuple(key))

    def insert(self, table: Table, row: Row) -> None:
        """Add a row whose primary key must be free."""
        key = pick(table, table.key, row)
        if self.row(table, key) is not None:
            raise _taken(table, table.key, key)
        self.upsert(table, row)

    def update(self, table: Table, row: Row) -> None:
        """Replace the row with the same primary key, which must be there."""
        if self.row(table, pick(table, table.key, row)) is None:
            raise StorageFailed(
                f"A row of {table.name!r} that is to be updated is not there; nothing was written. Insert or upsert it."
            )
        self.upsert(table, row)

    def upsert(self, table: Table, row: Row) -> None:
        """Add a row or replace the one with the same primary key."""
        key = pick(table, table.key, row)
        self.delete(table, key)
        for columns in table.unique:
            values = pick(table, columns, row)
            if self.get((table, columns), values) is not None:
                raise _taken(table, columns, values)
            if None not in values:
                self.set((table, columns), values, key)
        self.set((table,), key, row)
        self.set(_owner(table, row), key, row)

    def delete(self, table: Table, key: Row) -> None:
        """Remove the row with this primary key, if there is one."""
        row = self.row(table, key)
        if row is None:
            return
        for columns in table.unique:
            self.set((table, columns), pick(table, columns, row), None)
        self.set((table,), tuple(key), None)
        self.set(_owner(table, row), tuple(key), None)


def pick(table: Table, columns: tuple[str, ...], row: Row) -> Row:
    """Return some columns of a row."""
    return tuple(row[position] for position in _positions(table, columns))


@cache
def _positions(table: Table, columns: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(table.columns.index(column) for column in columns)


def _owner(table: Table, row: Row) -> Slot:
    """Return the index of the rows of one order, or of one tenant where a table knows no order."""
    columns = tuple(column for column in ("tenant", "order_id") if column in table.columns)
    return (table, *pick(table, columns, row))


def _taken(table: Table, columns: tuple[str, ...], values: Row) -> AlreadyExists | StorageFailed:
    if table is ORDERS:
        return AlreadyExists("order_id" if columns == table.key else columns[-1], str(values[-1]))
    return StorageFailed(
        f"{table.name!r} has a row with the same {', '.join(columns)} already; nothing was written. "
        "Insert it once, or upsert it."
    )
