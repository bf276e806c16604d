"""The change set: everything one commit writes, gathered as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

import attrs

Value = str | int | bool | datetime | None
"""What a column of a row may hold. Documents are JSON text; times are aware and in UTC."""

Row = tuple[Value, ...]
"""A row: a named tuple whose fields are the columns of its table."""


@attrs.frozen(eq=False)
class Table:
    """Describe a table to whoever gathers rows for it and to whoever stores them.

    Tables are compared and hashed by identity: each is declared once, beside its row type.

    Attributes:
        name: The name without the prefix `orderkit_`.
        columns: The fields of the row type, in order.
        key: The columns of the primary key.
        unique: Further sets of columns whose values are unique where none of them is null.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    unique: tuple[tuple[str, ...], ...] = ()


class Guard(NamedTuple):
    """The version an order must still have when the change set is written."""

    tenant: str
    order_id: str
    version: int


class KeyReference(NamedTuple):
    """The primary key of an idempotency record: who used which key for which operation."""

    tenant: str
    scope: str
    key: str


class KeyClaim(NamedTuple):
    """An idempotency record to be inserted unless its key is taken: also the row of its table.

    The result of the operation is a reference, never a copy of personal data: the order and the version
    the operation left it at.
    """

    tenant: str
    scope: str
    key: str
    fingerprint: str
    order_id: str
    order_version: int
    created_at: datetime
    expires_at: datetime


KEYS = Table("idempotency_keys", KeyClaim._fields, key=("tenant", "scope", "key"))


class Advance(NamedTuple):
    """A leased operation that moves on with the commit, if its claim still holds it.

    Attributes:
        key: Which operation.
        owner: The random id of the claim.
        fence: The number of the claim.
        values: The columns that change.
        lapses: The columns that are times, each so much later than now.
        now: The time to be used in place of the storage's own clock.
    """

    key: KeyReference
    owner: str
    fence: int
    values: Mapping[str, Value]
    lapses: Mapping[str, timedelta]
    now: datetime | None = None


@attrs.define
class ChangeSet:
    """Gather what one commit writes: all of it or nothing.

    Attributes:
        guards: Orders that must still be at the version that was read.
        claim: An idempotency key that must still be free. At most one: a unit of work that claims
            another one writes this change set first, inside a transaction.
        advance: A leased operation that moves on, if its claim still holds it; not together with a claim.
        inserts: New rows by table.
        updates: Whole rows that replace the row with the same primary key, which exists.
        upserts: Whole rows that are inserted or replace the row with the same primary key.
        deletes: Primary keys of rows to remove, by table.
    """

    guards: list[Guard] = attrs.Factory(list)
    claim: KeyClaim | None = None
    advance: Advance | None = None
    inserts: dict[Table, list[Row]] = attrs.Factory(dict)
    updates: dict[Table, list[Row]] = attrs.Factory(dict)
    upserts: dict[Table, list[Row]] = attrs.Factory(dict)
    deletes: dict[Table, list[Row]] = attrs.Factory(dict)

    def __bool__(self) -> bool:
        """Tell whether there is anything to write or to check."""
        checked = self.guards or self.claim or self.advance
        return bool(checked or self.inserts or self.updates or self.upserts or self.deletes)

    def insert(self, table: Table, rows: Iterable[Row]) -> None:
        """Add new rows."""
        _extend(self.inserts, table, rows)

    def update(self, table: Table, rows: Iterable[Row]) -> None:
        """Replace rows that exist."""
        _extend(self.updates, table, rows)

    def upsert(self, table: Table, rows: Iterable[Row]) -> None:
        """Add or replace rows."""
        _extend(self.upserts, table, rows)

    def delete(self, table: Table, keys: Iterable[Row]) -> None:
        """Remove the rows with these primary keys."""
        _extend(self.deletes, table, keys)


def merged(parts: Iterable[ChangeSet]) -> ChangeSet:
    """Return one change set of all the rows that several write, without what each of them checks."""
    whole = ChangeSet()
    for part in parts:
        for target, rows_of in (
            (whole.inserts, part.inserts),
            (whole.updates, part.updates),
            (whole.upserts, part.upserts),
            (whole.deletes, part.deletes),
        ):
            for table, rows in rows_of.items():
                target.setdefault(table, []).extend(rows)
    return whole


def _extend(target: dict[Table, list[Row]], table: Table, rows: Iterable[Row]) -> None:
    """Append rows under a table; a table without rows leaves no empty part behind."""
    added = list(rows)
    if added:
        target.setdefault(table, []).extend(added)
