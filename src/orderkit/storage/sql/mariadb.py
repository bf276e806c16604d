"""MariaDB and MySQL: a change set is a few statements of many rows each, in one transaction.

Whatever a statement could not keep as it was given is an error: connections are in strict mode, or refused. A
key is claimed by a plain insert, which waits for whoever else claims it and fails if they keep it; `INSERT
IGNORE` would take every other error for a claim lost. Nothing relies on counts of changed rows, which
depend on a flag of the connection, nor on RETURNING, which MySQL does not have.
"""

# ruff: noqa: S608 - statements are made of the names of tables and columns, never of values

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

import attrs
from sqlalchemy.engine import Dialect as EngineDialect
from sqlalchemy.pool import PoolProxiedConnection

from orderkit.errors import ConfigurationError
from orderkit.orders.tables import ORDERS
from orderkit.storage.sql.dialect import Fault, FaultKind, compile_template
from orderkit.storage.sql.execution import Executor, Rows, ScriptExecutor, executor_of
from orderkit.storage.sql.forms import (
    MOST_CHARACTERS,
    Form,
    deleting,
    inserting,
    key_of,
    matching,
    portions,
    present,
    updating_many,
    updating_one,
    upserting,
    values_of,
)
from orderkit.storage.sql.operations import advancing
from orderkit.storage.sql.records import READ_KEY, stored_key
from orderkit.storage.sql.tables import PREFIX
from orderkit.unit_of_work.changes import KEYS, ChangeSet, Guard, KeyClaim, KeyReference, Row, Table, Value
from orderkit.unit_of_work.storage import Outcome, StoredKey

_SPELLINGS = (
    # MariaDB keeps JSON as text, and has no cast to it.
    (re.compile(r"CAST\((\w+\.\w+) AS text\)"), r"\1"),
    # There `||` means OR, unless the session says otherwise.
    (re.compile(r"(\w+\.\w+) \|\| ''"), r"CONCAT(\1, '')"),
    # Reserved words that are names of columns, quoted in a way that no setting of the session changes.
    (re.compile(r"\b(key|precision)\b"), r"`\1`"),
)
"""What is spelled otherwise here than in the templates that every database shares."""


_SESSION = (
    "SHOW SESSION VARIABLES WHERE Variable_name IN ('sql_mode', 'character_set_client', 'character_set_connection', "
    "'tx_isolation', 'transaction_isolation')"
)
"""MariaDB and MySQL name the isolation level differently, and refuse a `SELECT` of the other's name."""


@attrs.frozen(eq=False)
class Mariadb:
    """Speak MariaDB and MySQL.

    Args:
        driver: The driver, as SQLAlchemy names it.
    """

    driver: str
    _statements: dict[str, str] = attrs.field(factory=dict, init=False)

    begin = "START TRANSACTION"
    one_statement = False
    latest = " LOCK IN SHARE MODE"
    compares_rows = False
    takes_hints = True
    row_lock = " FOR UPDATE"
    fresh_plans = ""
    clock = "(UTC_TIMESTAMP(6) + INTERVAL :bigint MICROSECOND)"
    returning = False

    def executor(self, connection: PoolProxiedConnection) -> Executor:
        """Return what runs statements on a pooled connection."""
        return executor_of(connection, self.driver)

    def borrow(self, engine: EngineDialect, connection: PoolProxiedConnection) -> None:
        """Have a connection of the application's own engine commit each statement and see what others committed."""
        driver: Any = connection.dbapi_connection
        if not connection.info.get("orderkit_checked"):
            self.check_session(self.executor(connection))
            connection.info["orderkit_checked"] = True
        engine.set_isolation_level(driver, "READ COMMITTED")
        driver.autocommit(True)

    def give_back(self, engine: EngineDialect, connection: PoolProxiedConnection) -> None:
        """Give a connection of the application's own engine back as it was."""
        if connection.dbapi_connection is not None:
            engine.reset_isolation_level(connection.dbapi_connection)

    def check_session(self, executor: Executor) -> None:
        """Refuse a connection of somebody else's that would change values silently.

        Raises:
            ConfigurationError: It is not in strict mode, its character set is not that of all characters, or it
                sees what others have not committed.
        """
        session = {str(name): str(value) for name, value in executor.execute(_SESSION)}
        if not {"STRICT_TRANS_TABLES", "STRICT_ALL_TABLES"} & set(str(session["sql_mode"]).split(",")):
            raise ConfigurationError(
                "The connection is not in strict mode, without which MariaDB cuts off what does not fit: "
                "add STRICT_TRANS_TABLES to its sql_mode."
            )
        if {session["character_set_client"], session["character_set_connection"]} != {"utf8mb4"}:
            raise ConfigurationError(
                "The connection's character set cannot carry every character: use charset=utf8mb4."
            )
        if "READ-UNCOMMITTED" in session.values():
            raise ConfigurationError(
                "The connection sees what others may yet roll back (READ UNCOMMITTED), which could answer a request "
                "with an order that never comes to be: use READ COMMITTED."
            )

    def compile(self, template: str) -> str:
        """Turn a template into a statement, once."""
        statement = self._statements.get(template)
        if statement is None:
            statement = compile_template(template, None, lambda _position, _kind: "%s")
            for pattern, spelling in _SPELLINGS:
                statement = pattern.sub(spelling, statement)
            self._statements[template] = statement
        return statement

    def encode(self, value: Value) -> Value:
        """Return a value as it is kept: times are in UTC, since drivers leave the zone away."""
        return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo is not UTC else value

    def decode_time(self, value: object) -> datetime:
        """Return a time in UTC."""
        return cast("datetime", value).replace(tzinfo=UTC)

    def write(self, executor: Executor, changes: ChangeSet) -> Outcome:
        """Check the guards, claim the key, move the operation on, write the rest; the first that fails ends it."""
        if changes.guards and len(self.lock_guards(executor, changes.guards, wait=True)) < len(changes.guards):
            return Outcome(committed=False, guards_held=False)
        if changes.claim is not None and not self._insert_keys(executor, [changes.claim]):
            return Outcome(committed=False, guards_held=True, stored=self._stored(executor, changes.claim))
        if changes.advance is not None and not advancing(self, changes.advance).perform(self, executor):
            return Outcome(committed=False, guards_held=True, lease_held=False)
        self.write_rows(executor, changes)
        return Outcome(committed=True, guards_held=True)

    def lock_guards(self, executor: Executor, guards: Sequence[Guard], *, wait: bool) -> set[Guard]:
        """Return those of several guards that hold, their orders locked in the order of their ids."""
        found: set[Guard] = set()
        for portion in portions(guards):
            rows = self._run(
                executor, self._job(ORDERS, _LOCK if wait else _LOCK_FREE, [guard[:2] for guard in portion])
            )
            found |= {Guard._make(cast("Row", row)) for row in rows}
        return found.intersection(guards)

    def claim_keys(self, executor: Executor, claims: Sequence[KeyClaim]) -> set[KeyReference]:
        """Insert those of several claims whose keys are free; return their keys."""
        claimed: set[KeyReference] = set()
        for portion in portions(claims):
            left = {KeyReference(*claim[:3]): claim for claim in portion}
            while left and not self._insert_keys(executor, [*left.values()]):
                for row in self._run(executor, self._job(KEYS, _TAKEN, [*left])):
                    del left[KeyReference._make(cast("Row", row))]
            claimed |= left.keys()
        return claimed

    def _insert_keys(self, executor: Executor, claims: Sequence[KeyClaim]) -> bool:
        """Insert all of several claims, or none of them if one of the keys is taken."""
        try:
            self._run(executor, self._job(KEYS, inserting(KEYS), claims))
        except Exception as error:
            if self.fault(error).kind is FaultKind.DUPLICATE:
                return False
            raise
        return True

    def _stored(self, executor: Executor, claim: KeyClaim) -> StoredKey | None:
        """Read the record of a taken key, past the snapshot if that is older than the record."""
        key = claim[:3]
        latest = self.compile(READ_KEY + self.latest)
        rows = executor.execute(self.compile(READ_KEY), key) or executor.execute(latest, key)
        return stored_key(self, rows[0]) if rows else None

    def write_rows(self, executor: Executor, changes: ChangeSet) -> None:
        """Write the rows of a change set, in one message to the server where they are few."""
        jobs = [*self._jobs(executor, changes)]
        small = sum(len(value) for job in jobs for value in job.values if isinstance(value, str)) <= MOST_CHARACTERS
        if small and len(jobs) > 1 and isinstance(executor, ScriptExecutor):
            results = executor.execute_script([job.statement for job in jobs], [v for job in jobs for v in job.values])
            for job in jobs:
                with _naming(job.table):
                    next(results)
            next(results, None)
            return
        for job in jobs:
            self._run(executor, job)

    def _jobs(self, executor: Executor, changes: ChangeSet) -> Iterator[Job]:
        """Yield what is to be run for a change set, as many rows at a time as a statement carries."""
        for table, keys in changes.deletes.items():
            yield from self._split(table, deleting(table), keys)
        for table, rows in changes.updates.items():
            yield from self._updates(table, rows)
        for table, rows in changes.upserts.items():
            yield from self._upserts(executor, table, rows)
        for table, rows in changes.inserts.items():
            yield from self._split(table, inserting(table), rows)

    def _updates(self, table: Table, rows: Sequence[Row]) -> Iterator[Job]:
        if len(rows) == 1:
            yield self._job(table, updating_one(table), [(*values_of(table)(rows[0]), *key_of(table)(rows[0]))])
        else:
            yield from self._split(table, updating_many(table), rows)

    def _upserts(self, executor: Executor, table: Table, rows: Sequence[Row]) -> Iterator[Job]:
        """Insert rows or replace those with the same primary key, and never those with another value in common.

        ON DUPLICATE KEY UPDATE replaces whatever row is in the way, that of another order with this number too.
        """
        if not table.unique:
            yield from self._split(table, upserting(table), rows)
            return
        keys = [key_of(table)(row) for row in rows]
        there = {tuple(key) for job in self._split(table, present(table), keys) for key in self._run(executor, job)}
        old = [row for row, key in zip(rows, keys, strict=True) if key in there]
        if old:
            yield from self._updates(table, old)
        new = [row for row, key in zip(rows, keys, strict=True) if key not in there]
        yield from self._split(table, inserting(table), new)

    def _split(self, table: Table, form: Form, rows: Sequence[Row]) -> Iterator[Job]:
        return (self._job(table, form, portion) for portion in portions(rows))

    def _job(self, table: Table, form: Form, rows: Sequence[Row]) -> Job:
        group = self.compile(form.group)
        statement = self.compile(form.head) + form.separator.join([group] * len(rows)) + self.compile(form.tail)
        encode = self.encode
        # Most values are no times: they are spared the call.
        values = [encode(value) if value.__class__ is datetime else value for row in rows for value in row]
        return Job(table, statement, values)

    def _run(self, executor: Executor, job: Job) -> Rows:
        with _naming(job.table):
            return executor.execute(job.statement, job.values)

    def next_number(self, executor: Executor, tenant: str) -> int:
        """Take the next number, which nobody else can take before the transaction ends."""
        executor.execute(self.compile(_COUNT), (tenant,))
        return cast("int", executor.execute(self.compile(_COUNTED), (tenant,))[0][0])

    def insert_unless_taken(
        self, executor: Executor, insert: str, row: Sequence[Value], read: str, key: Sequence[Value]
    ) -> Rows | None:
        """Insert a row unless its primary key is taken; return what is there, past the snapshot."""
        try:
            executor.execute(self.compile(insert), row)
        except Exception as error:
            if self.fault(error).kind is FaultKind.DUPLICATE:
                return executor.execute(self.compile(read + self.latest), key)
            raise
        return None

    def delete_some(self, executor: Executor, table: Table, condition: str, values: Sequence[Value]) -> int:
        """Remove the rows that a condition picks, but those that others are about to change; return how many."""
        picked = f"SELECT {', '.join(table.key)} FROM {{{table.name}}} WHERE {condition} FOR UPDATE SKIP LOCKED"
        keys = [cast("Row", tuple(row)) for row in executor.execute(self.compile(picked), values)]
        for job in self._split(table, deleting(table), keys):
            self._run(executor, job)
        return len(keys)

    def fault(self, error: BaseException) -> Fault:
        """Understand a driver's error by the server's number for it; see `fault_of`."""
        return fault_of(error)


class Job(NamedTuple):
    """A statement, its parameters, and the table it is about."""

    table: Table
    statement: str
    values: Sequence[Value]


@contextmanager
def _naming(table: Table) -> Generator[None]:
    """Have what a statement fails with bear the name of its table, which the server leaves out."""
    try:
        yield
    except Exception as error:
        error.add_note(PREFIX + table.name)
        raise


_LOCK, _LOCK_FREE = (
    matching("orders", ("tenant", "id"), "SELECT tenant, id, version", f" ORDER BY tenant, id FOR UPDATE{passing}")
    for passing in ("", " SKIP LOCKED")
)
_TAKEN = matching(KEYS.name, KEYS.key, f"SELECT {', '.join(KEYS.key)}", " LOCK IN SHARE MODE")
_COUNT = "INSERT INTO {order_numbers} (tenant, last) VALUES (:text, 1) ON DUPLICATE KEY UPDATE last = last + 1"
_COUNTED = "SELECT last FROM {order_numbers} WHERE tenant = :text"

_KINDS = {
    1062: FaultKind.DUPLICATE,
    1586: FaultKind.DUPLICATE,
    1213: FaultKind.BUSY,
    1020: FaultKind.BUSY,
    1317: FaultKind.BUSY,
    1969: FaultKind.BUSY,
    3024: FaultKind.BUSY,
    1205: FaultKind.LOCK_TIMEOUT,
    3572: FaultKind.LOCK_TIMEOUT,
    3: FaultKind.FULL,
    1021: FaultKind.FULL,
    1041: FaultKind.FULL,
    1114: FaultKind.FULL,
    1054: FaultKind.SCHEMA_MISSING,
    1146: FaultKind.SCHEMA_MISSING,
    1290: FaultKind.READ_ONLY,
    1792: FaultKind.READ_ONLY,
    1836: FaultKind.READ_ONLY,
}
"""Faults by the number of the error; those by which a connection is lost or was never made are `_LOST`."""

_LOST = {
    *range(2001, 2061),
    *(0, 1040, 1042, 1043, 1044, 1045, 1049, 1053, 1077, 1079, 1080, 1129, 1130, 1152, 1158, 1159, 1160, 1161, 1184),
    *(1203, 1226, 1698, 1927, 3118, 3159, 4031, 4151),
}

_KEY_NAME = re.compile(r" for key '(?:\w+\.)?(\w+)'")
_NO_SPACE = re.compile(r"\b(?:error|errno:?) 28\b")


def fault_of(error: BaseException) -> Fault:
    """Understand an error of PyMySQL, aiomysql or mysqlclient by the number that comes first in it.

    What is in the way of a duplicate is told as `table.KEY`. The server names only the key, which is PRIMARY for
    every table; the table is in the note that `Mariadb` left.
    """
    number = error.args[0] if error.args else None
    if isinstance(error, OSError | EOFError):
        return Fault(FaultKind.LOST, type(error).__name__)
    if not isinstance(number, int):
        return Fault(FaultKind.OTHER, "no number")
    message = str(error.args[1]) if len(error.args) > 1 else ""
    kind = FaultKind.LOST if number in _LOST else _KINDS.get(number, FaultKind.OTHER)
    if number in {1026, 1030} and _NO_SPACE.search(message):
        kind = FaultKind.FULL
    named = _KEY_NAME.search(message)
    tables = [note for note in getattr(error, "__notes__", ()) if note.startswith(PREFIX)]
    return Fault(kind, str(number), ".".join([*tables[:1], *([named[1]] if named else [])]))
