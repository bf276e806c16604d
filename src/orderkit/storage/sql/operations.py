"""Leased operations: each method is one statement where the database can do it in one, else a short transaction."""

# ruff: noqa: S608 - statements are made of the names of tables and columns, never of values

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import attrs

from orderkit.errors import StorageBusy
from orderkit.idempotency.leases import (
    OPERATIONS,
    Hold,
    NewOperation,
    OperationRow,
    Progress,
    StoredOperation,
    advance_of,
)
from orderkit.storage.sql.dialect import Dialect
from orderkit.storage.sql.execution import Executor, Rows
from orderkit.storage.sql.tables import kind_of
from orderkit.unit_of_work.changes import Advance, KeyReference, Value

T = TypeVar("T")

_TABLE = f"{{{OPERATIONS.name}}}"
_TIMES = frozenset(column for column in OPERATIONS.columns if kind_of(OPERATIONS.name, column) == "time")
_MATCHED = "tenant = :text AND scope = :text AND key = :text"
_HELD = f"{_MATCHED} AND state = 'in_progress' AND owner = :text AND fence = :integer"
_DELETE = f"DELETE FROM {_TABLE}"
_COLUMNS = ", ".join(OPERATIONS.columns)

_NOTHING = timedelta(0)
_MICROSECOND = timedelta(microseconds=1)

_LOOKS = 3
"""How often a key is found taken by a record that cannot be seen, before that is somebody else's affair."""


class Fetch(Protocol):
    """Run a template that reads, with its parameters."""

    def __call__(self, template: str, parameters: Iterable[Value], /) -> Rows:
        """Return what it finds."""
        ...


class Write(Protocol):
    """Run what writes as a commit of its own, or inside the transaction there is."""

    def __call__(self, write: Callable[[Executor], T], /) -> T:
        """Return what it returns."""
        ...


@attrs.frozen
class Clock:
    """The clock that leases are judged by: the database's own, or a time that was given.

    Attributes:
        time: The template of a time.
        bound: The template of a time to look rows up by, which is settled once for a statement.
        now: The time that was given.
    """

    time: str
    bound: str
    now: datetime | None

    def after(self, lapse: timedelta) -> Value:
        """Return the parameter for the time that is so much later than now."""
        return lapse // _MICROSECOND if self.now is None else self.now + lapse


class SqlOperations:
    """Keep leased operations in their table.

    Args:
        dialect: Speaks the database's SQL.
        fetch: Runs what only reads.
        write: Runs what writes.
    """

    def __init__(self, dialect: Dialect, fetch: Fetch, write: Write) -> None:
        self._dialect = dialect
        self._fetch = fetch
        self._write = write

    def start(
        self, operation: NewOperation, *, lease: timedelta, now: datetime | None = None
    ) -> StoredOperation | None:
        """Insert an operation, held under the fence 1, unless its key is taken; return what is there."""
        dialect, clock = self._dialect, self._clock(now)
        times = {"locked_until": lease, "expires_at": operation.retention}
        values = operation.values()
        row = [
            clock.after(times.get(column, _NOTHING)) if column in _TIMES else values[column]
            for column in OPERATIONS.columns
        ]
        read, wanted = self._reading(operation.reference, clock)

        def insert(executor: Executor) -> Rows | None:
            return dialect.insert_unless_taken(executor, _insert(clock.time), self._encoded(row), read, wanted)

        for _ in range(_LOOKS):
            rows = self._write(insert)
            if rows is None:
                return None
            if rows:
                return self._stored(rows[0], now)
        raise StorageBusy("The key is taken by what cannot be seen yet; nothing was written. Repeat it.")

    def read(self, key: KeyReference, *, now: datetime | None = None) -> StoredOperation | None:
        """Read an operation, expired or not."""
        rows = self._fetch(*self._reading(key, self._clock(now)))
        return self._stored(rows[0], now) if rows else None

    def take_over(
        self, hold: Hold, *, owner: str, lease: timedelta, now: datetime | None = None
    ) -> OperationRow | None:
        """Hold an operation whose lease has run out, under the next fence."""
        clock = self._clock(now)
        changes = "owner = :text, fence = fence + 1, attempts = attempts + 1"
        values = [owner, clock.after(lease), clock.after(_NOTHING)]
        template = f"UPDATE {_TABLE} SET {changes}, locked_until = {clock.time}, updated_at = {clock.time}"
        bounds = (*_named(hold), clock.after(_NOTHING))
        change = Change(template, values, f"{_HELD} AND locked_until <= {clock.time}", bounds, _COLUMNS)
        rows = self._write(lambda executor: change.perform(self._dialect, executor))
        return self._row(rows[0]) if rows else None

    def advance(self, hold: Hold, *, progress: Progress, lease: timedelta, now: datetime | None = None) -> bool:
        """Write how far an operation has come, and renew its lease."""
        change = advancing(self._dialect, advance_of(hold, progress, lease, now))
        return bool(self._write(lambda executor: change.perform(self._dialect, executor)))

    def renew(self, hold: Hold, *, lease: timedelta, now: datetime | None = None) -> bool:
        """Have the lease of an operation run out so long from now."""
        clock = self._clock(now)
        return self._change(_update(("locked_until",), clock.time), [clock.after(lease)], _HELD, _named(hold))

    def drop(self, hold: Hold) -> bool:
        """Remove an operation that had no effect yet, so that its key is free."""
        return self._change(_DELETE, (), _HELD, _named(hold))

    def forget(self, key: KeyReference, *, now: datetime | None = None) -> bool:
        """Remove an operation, if it has finished and expired; return whether that was so."""
        clock = self._clock(now)
        return self._change(_DELETE, (), f"{_MATCHED} AND {_expired(clock.time)}", (*key, clock.after(_NOTHING)))

    def stuck(
        self, scopes: Sequence[str], *, grace: timedelta, limit: int, now: datetime | None = None
    ) -> list[KeyReference]:
        """Find operations that are in progress although nobody is at work on them, the longest abandoned first."""
        if not scopes:
            return []
        clock = self._clock(now)
        rows = self._fetch(_stuck(len(scopes), clock.bound), [*scopes, clock.after(-grace), limit])
        return [KeyReference._make(cast("Sequence[str]", row)) for row in rows]

    def forget_expired(self, limit: int, *, now: datetime | None = None) -> int:
        """Remove some operations that have finished and expired; return how many."""
        clock = self._clock(now)
        condition = f"{_expired(clock.bound)} ORDER BY expires_at LIMIT :bigint"
        values = self._encoded([clock.after(_NOTHING), limit])
        return self._write(lambda executor: self._dialect.delete_some(executor, OPERATIONS, condition, values))

    def _change(self, template: str, values: Sequence[Value], condition: str, bounds: Sequence[Value]) -> bool:
        """Change or remove the one row that a condition picks; tell whether there was one."""
        change = Change(template, values, condition, bounds)
        return bool(self._write(lambda executor: change.perform(self._dialect, executor)))

    def _clock(self, now: datetime | None) -> Clock:
        return clock_of(self._dialect, now)

    def _reading(self, key: KeyReference, clock: Clock) -> tuple[str, list[Value]]:
        """Return the statement that reads an operation and what the clock shows, and its parameters."""
        if clock.now is not None:
            return _read(""), [*key]
        return _read(f", {clock.time}"), [clock.after(_NOTHING), *key]

    def _encoded(self, values: Sequence[Value]) -> list[Value]:
        return [self._dialect.encode(value) for value in values]

    def _stored(self, row: Sequence[object], now: datetime | None) -> StoredOperation:
        return StoredOperation(self._row(row), self._dialect.decode_time(row[-1]) if now is None else now)

    def _row(self, row: Sequence[object]) -> OperationRow:
        decode = self._dialect.decode_time
        columns = zip(OPERATIONS.columns, row, strict=False)
        values = [decode(value) if column in _TIMES else value for column, value in columns]
        return OperationRow._make(cast("list[Any]", values))


def clock_of(dialect: Dialect, now: datetime | None) -> Clock:
    """Return the clock that leases are judged by."""
    if now is not None:
        return Clock(":time", ":time", now)
    # PostgreSQL would ask its clock anew for every row, and not use an index.
    return Clock(dialect.clock, f"(SELECT {dialect.clock})", None)


class Change(NamedTuple):
    """A statement that changes or removes one row, if a condition picks it.

    Attributes:
        template: The statement without its condition.
        values: Its parameters.
        condition: What picks the row, its primary key first.
        bounds: The parameters of that.
        told: What is told of the row, as it is afterwards.
    """

    template: str
    values: Sequence[Value]
    condition: str
    bounds: Sequence[Value]
    told: str = "1"

    def perform(self, dialect: Dialect, executor: Executor) -> Rows:
        """Change or remove the row; return what is told of it, or nothing if there was none.

        Where a statement does not say which rows it wrote, the row is locked first. A count of them would not do:
        on some connections a row that is as it was to be counts, on others not.
        """
        values, bounds = [[dialect.encode(value) for value in part] for part in (self.values, self.bounds)]
        if dialect.returning:
            statement = dialect.compile(f"{self.template} WHERE {self.condition} RETURNING {self.told}")
            return executor.execute(statement, [*values, *bounds])
        locked = dialect.compile(f"SELECT 1 FROM {_TABLE} WHERE {self.condition}{dialect.row_lock}")
        found = executor.execute(locked, bounds)
        if found:
            executor.execute(dialect.compile(f"{self.template} WHERE {_MATCHED}"), [*values, *bounds[:3]])
        if not found or self.told == "1":
            return found
        return executor.execute(dialect.compile(f"SELECT {self.told} FROM {_TABLE} WHERE {_MATCHED}"), bounds[:3])


def advancing(dialect: Dialect, wanted: Advance) -> Change:
    """Return what moves an operation on, if its claim holds it."""
    clock = clock_of(dialect, wanted.now)
    return Change(
        _update((*wanted.values, *wanted.lapses), clock.time),
        [*wanted.values.values(), *map(clock.after, wanted.lapses.values())],
        _HELD,
        [*wanted.key, wanted.owner, wanted.fence],
    )


def _named(hold: Hold) -> tuple[Value, ...]:
    """Return the parameters of the condition that a claim holds an operation."""
    return (*hold.key, hold.owner, hold.fence)


def _markers(columns: Iterable[str], time: str) -> list[str]:
    return [time if column in _TIMES else f":{kind_of(OPERATIONS.name, column)}" for column in columns]


@cache
def _insert(time: str) -> str:
    values = ", ".join(_markers(OPERATIONS.columns, time))
    return f"INSERT INTO {_TABLE} ({_COLUMNS}) VALUES ({values})"


@cache
def _read(clock: str) -> str:
    return f"SELECT {_COLUMNS}{clock} FROM {_TABLE} WHERE {_MATCHED}"


@cache
def _update(columns: tuple[str, ...], time: str) -> str:
    assigned = zip(columns, _markers(columns, time), strict=True)
    return f"UPDATE {_TABLE} SET {', '.join(f'{column} = {marker}' for column, marker in assigned)}"


@cache
def _stuck(scopes: int, time: str) -> str:
    return (
        f"SELECT tenant, scope, key FROM {_TABLE} WHERE state = 'in_progress' "
        f"AND scope IN ({', '.join([':text'] * scopes)}) AND locked_until <= {time} "
        "ORDER BY locked_until, tenant, scope, key LIMIT :bigint"
    )


def _expired(time: str) -> str:
    return f"state <> 'in_progress' AND expires_at <= {time}"
