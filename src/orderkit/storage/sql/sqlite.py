"""SQLite: a change set is a handful of statements on the driver's cursor, in one immediate transaction."""

# ruff: noqa: S608 - statements are made of the names of tables and columns, never of values

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import cast

import attrs
from sqlalchemy.engine import Dialect as EngineDialect
from sqlalchemy.pool import PoolProxiedConnection

from orderkit.storage.sql.dialect import Fault, FaultKind, compile_template, replacing
from orderkit.storage.sql.execution import Executor, Rows, executor_of
from orderkit.storage.sql.operations import advancing
from orderkit.storage.sql.records import NEXT_NUMBER, READ_KEY, stored_key
from orderkit.storage.sql.tables import kind_of
from orderkit.unit_of_work.changes import KEYS, ChangeSet, Guard, KeyClaim, KeyReference, Row, Table, Value
from orderkit.unit_of_work.storage import Outcome, StoredKey

_CLAIM = " ON CONFLICT DO NOTHING RETURNING 1"
_GUARD = "SELECT 1 FROM {orders} WHERE tenant = :text AND id = :text AND version = :integer"


@functools.lru_cache(maxsize=64)
def time_text(value: datetime) -> str:
    """Return a time as text of fixed width in UTC, which sorts by time.

    Example:
        >>> time_text(datetime(2026, 11, 22, 18, 30, tzinfo=UTC))
        '2026-11-22T18:30:00.000000+00:00'
    """
    return (value if value.tzinfo is UTC else value.astimezone(UTC)).isoformat(timespec="microseconds")


@functools.cache
def encoder(table: Table, columns: tuple[str, ...]) -> Callable[[Row], Sequence[Value]]:
    """Return the function that makes parameters of a row: times become text, all else stays."""
    times = [index for index, column in enumerate(columns) if kind_of(table.name, column) == "time"]
    if not times:
        return lambda row: row

    def encode(row: Row) -> Sequence[Value]:
        values = list(row)
        for index in times:
            value = values[index]
            if isinstance(value, datetime):
                values[index] = time_text(value)
        return values

    return encode


@attrs.frozen(eq=False)
class Sqlite:
    """Speak SQLite."""

    _statements: dict[str, str] = attrs.field(factory=dict, init=False)

    begin = "BEGIN IMMEDIATE"
    one_statement = False
    row_lock = ""
    latest = ""
    compares_rows = True
    takes_hints = False
    fresh_plans = ""
    # In milliseconds, which is all SQLite tells, and as wide as every other time.
    clock = "strftime('%Y-%m-%dT%H:%M:%f', 'now', printf('%.6f seconds', :bigint / 1e6)) || '000+00:00'"
    returning = True

    def executor(self, connection: PoolProxiedConnection) -> Executor:
        """Return what runs statements on a pooled connection."""
        return executor_of(connection, "pysqlite")

    def borrow(self, engine: EngineDialect, connection: PoolProxiedConnection) -> None:
        """Do nothing: transactions of SQLite are begun by hand on every engine."""

    def give_back(self, engine: EngineDialect, connection: PoolProxiedConnection) -> None:
        """Do nothing."""

    def check_session(self, executor: Executor) -> None:
        """Do nothing: no setting of SQLite has it change values."""

    def compile(self, template: str) -> str:
        """Turn a template into a statement, once."""
        statement = self._statements.get(template)
        if statement is None:
            statement = compile_template(template, None, lambda _position, _kind: "?")
            self._statements[template] = statement
        return statement

    def encode(self, value: Value) -> Value:
        """Return a value as it is kept: times are text."""
        return time_text(value) if isinstance(value, datetime) else value

    def decode_time(self, value: object) -> datetime:
        """Return a time in UTC."""
        return datetime.fromisoformat(str(value))

    def write(self, executor: Executor, changes: ChangeSet) -> Outcome:
        """Check the guards, claim the key, move the operation on, write the rest; the first that fails ends it."""
        held = len(self.lock_guards(executor, changes.guards, wait=True)) == len(changes.guards)
        if not held or (changes.claim is not None and not self._claim(executor, changes.claim)):
            return Outcome(committed=False, guards_held=held, stored=self._stored(executor, changes.claim))
        if changes.advance is not None and not advancing(self, changes.advance).perform(self, executor):
            return Outcome(committed=False, guards_held=True, lease_held=False)
        self.write_rows(executor, changes)
        return Outcome(committed=True, guards_held=True)

    def lock_guards(self, executor: Executor, guards: Sequence[Guard], *, wait: bool) -> set[Guard]:
        """Return those of several guards that hold; the writer is alone in any case."""
        statement = self.compile(_GUARD)
        return {guard for guard in guards if executor.execute(statement, guard)}

    def claim_keys(self, executor: Executor, claims: Sequence[KeyClaim]) -> set[KeyReference]:
        """Insert those of several claims whose keys are free; return their keys."""
        return {KeyReference(*claim[:3]) for claim in claims if self._claim(executor, claim)}

    def write_rows(self, executor: Executor, changes: ChangeSet) -> None:
        """Write the rows of a change set, one statement for each table and kind of change."""
        for table, rows in changes.deletes.items():
            self._run(executor, _delete(table), encoder(table, table.key), rows)
        for table, rows in changes.updates.items():
            self._run(executor, _update(table), encoder(table, table.columns), rows)
        for table, rows in changes.upserts.items():
            self._run(executor, _upsert(table), encoder(table, table.columns), rows)
        for table, rows in changes.inserts.items():
            self._run(executor, _insert(table), encoder(table, table.columns), rows)

    def _claim(self, executor: Executor, claim: KeyClaim) -> bool:
        statement = self.compile(_insert(KEYS) + _CLAIM)
        return bool(executor.execute(statement, encoder(KEYS, KEYS.columns)(claim)))

    def _stored(self, executor: Executor, claim: KeyClaim | None) -> StoredKey | None:
        """Read the record of a key that was to be claimed."""
        rows = () if claim is None else executor.execute(self.compile(READ_KEY), claim[:3])
        return stored_key(self, rows[0]) if rows else None

    def _run(
        self, executor: Executor, template: str, encode: Callable[[Row], Sequence[Value]], rows: Sequence[Row]
    ) -> None:
        statement = self.compile(template)
        if len(rows) == 1:
            executor.execute(statement, encode(rows[0]))
        else:
            executor.execute_many(statement, [encode(row) for row in rows])

    def next_number(self, executor: Executor, tenant: str) -> int:
        """Take the next number, which nobody else can take before the transaction ends."""
        return cast("int", executor.execute(self.compile(NEXT_NUMBER), (tenant,))[0][0])

    def insert_unless_taken(
        self, executor: Executor, insert: str, row: Sequence[Value], read: str, key: Sequence[Value]
    ) -> Rows | None:
        """Insert a row unless its primary key is taken; return what is there."""
        inserted = executor.execute(self.compile(insert + _CLAIM), row)
        return None if inserted else executor.execute(self.compile(read), key)

    def delete_some(self, executor: Executor, table: Table, condition: str, values: Sequence[Value]) -> int:
        """Remove the rows that a condition picks; return how many."""
        name = f"{{{table.name}}}"
        statement = f"DELETE FROM {name} WHERE rowid IN (SELECT rowid FROM {name} WHERE {condition}) RETURNING 1"
        return len(executor.execute(self.compile(statement), values))

    def fault(self, error: BaseException) -> Fault:
        """Understand a driver's error by its result code; see `fault_of`."""
        return fault_of(error)


def _assignments(table: Table, columns: Sequence[str], separator: str) -> str:
    """Return `column = ?3` for each column, numbered by its place in the row."""
    return separator.join(f"{column} = ?{table.columns.index(column) + 1}" for column in columns)


@functools.cache
def _insert(table: Table) -> str:
    return f"INSERT INTO {{{table.name}}} ({', '.join(table.columns)}) VALUES ({', '.join('?' for _ in table.columns)})"


@functools.cache
def _upsert(table: Table) -> str:
    return _insert(table) + replacing(table)


@functools.cache
def _update(table: Table) -> str:
    values = [column for column in table.columns if column not in table.key]
    assigned, matching = _assignments(table, values, ", "), _assignments(table, table.key, " AND ")
    return f"UPDATE {{{table.name}}} SET {assigned} WHERE {matching}"


@functools.cache
def _delete(table: Table) -> str:
    return f"DELETE FROM {{{table.name}}} WHERE {' AND '.join(f'{column} = ?' for column in table.key)}"


_KINDS = {
    sqlite3.SQLITE_BUSY: FaultKind.BUSY,
    sqlite3.SQLITE_LOCKED: FaultKind.BUSY,
    sqlite3.SQLITE_INTERRUPT: FaultKind.BUSY,
    sqlite3.SQLITE_FULL: FaultKind.FULL,
    sqlite3.SQLITE_READONLY: FaultKind.READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: FaultKind.LOST,
    sqlite3.SQLITE_IOERR: FaultKind.LOST,
}


def fault_of(error: BaseException) -> Fault:
    """Understand an error of sqlite3 by its primary result code (https://sqlite.org/rescode.html)."""
    if not isinstance(error, sqlite3.Error):
        return Fault(FaultKind.OTHER, type(error).__name__)
    extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    name, message = getattr(error, "sqlite_errorname", "SQLITE_ERROR"), str(error)
    if message.startswith(("no such table", "no such column")) or " has no column named " in message:
        return Fault(FaultKind.SCHEMA_MISSING, name)
    if message.startswith("UNIQUE constraint failed: "):
        return Fault(FaultKind.DUPLICATE, name, message.removeprefix("UNIQUE constraint failed: "))
    return Fault(_KINDS.get(extended & 0xFF, FaultKind.OTHER), name)
