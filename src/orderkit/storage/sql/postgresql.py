"""PostgreSQL: a change set is one data-modifying statement, one round trip and one commit; see `shapes`."""

# ruff: noqa: S608 - statements are made of the names of tables and columns, never of values

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import attrs
import msgspec
from sqlalchemy.engine import Dialect as EngineDialect
from sqlalchemy.pool import PoolProxiedConnection

from orderkit.storage.sql.dialect import Fault, FaultKind, compile_template
from orderkit.storage.sql.execution import CopyingExecutor, Executor, Parameter, Rows, execute_once, executor_of
from orderkit.storage.sql.operations import advancing
from orderkit.storage.sql.records import NEXT_NUMBER, READ_KEY, stored_key
from orderkit.storage.sql.shapes import (
    GUARD_KINDS,
    GUARDED,
    MANY,
    TYPES,
    Shape,
    as_json,
    change_statement,
    insert,
    joins_many,
    parameters_of,
    relation,
    shape_of,
)
from orderkit.unit_of_work.changes import KEYS, Advance, ChangeSet, Guard, KeyClaim, KeyReference, Row, Table, Value
from orderkit.unit_of_work.storage import Outcome

COPY_FROM = 100
"""From how many rows on a stream is faster than JSON."""


@attrs.frozen(eq=False)
class Postgresql:
    """Speak PostgreSQL.

    Args:
        driver: The driver, as SQLAlchemy names it.
        schema: The schema of the tables, quoted; None for the first of the search path.
    """

    driver: str
    schema: str | None = None
    _statements: dict[str, str] = attrs.field(factory=dict, init=False)
    _shapes: dict[Shape, str] = attrs.field(factory=dict, init=False)

    begin = "BEGIN"
    one_statement = True
    row_lock = " FOR UPDATE"
    latest = ""
    compares_rows = True
    takes_hints = False
    fresh_plans = "DISCARD PLANS"
    clock = "(clock_timestamp() + :bigint * interval '1 microsecond')"
    returning = True

    def executor(self, connection: PoolProxiedConnection) -> Executor:
        """Return what runs statements on a pooled connection."""
        return executor_of(connection, self.driver)

    def borrow(self, engine: EngineDialect, connection: PoolProxiedConnection) -> None:
        """Have a connection of the application's own engine commit each statement."""
        driver = connection.dbapi_connection
        if driver is not None and not getattr(driver, "autocommit", True):
            engine.set_isolation_level(driver, "AUTOCOMMIT")

    def give_back(self, engine: EngineDialect, connection: PoolProxiedConnection) -> None:
        """Give a connection of the application's own engine back as it was."""
        if connection.dbapi_connection is not None:
            engine.reset_isolation_level(connection.dbapi_connection)

    def check_session(self, executor: Executor) -> None:
        """Do nothing: no setting of PostgreSQL has it change values."""

    def compile(self, template: str) -> str:
        """Turn a template into a statement, once."""
        statement = self._statements.get(template)
        if statement is None:
            statement = compile_template(template, self.schema, self._parameter)
            self._statements[template] = statement
        return statement

    def _parameter(self, position: int, kind: str) -> str:
        """Return a placeholder whose type does not depend on the value or on what the driver guesses."""
        return f"${position}::{TYPES[kind]}"

    def encode(self, value: Value) -> Value:
        """Return the value: the drivers know its type."""
        return value

    def decode_time(self, value: object) -> datetime:
        """Return a time in UTC; psycopg gives it in the zone of the session."""
        return cast("datetime", value).astimezone(UTC)

    def write(self, executor: Executor, changes: ChangeSet) -> Outcome:
        """Write a change set in one statement, which says what is kept under a key that was taken."""
        moving, values = self._advancing(changes.advance)
        shape = shape_of(changes, moving)
        statement = self._shapes.get(shape)
        if statement is None:
            statement = self.compile(change_statement(shape))
            self._shapes[shape] = statement
        parameters = parameters_of(changes, values)
        if joins_many(shape):
            row = execute_once(executor, statement, parameters)[0]
        else:
            row = executor.execute(statement, parameters)[0]
        committed, guards_held = bool(row[1]), bool(row[0])
        if committed or not guards_held:
            return Outcome(committed, guards_held)
        if changes.claim is None:
            return Outcome(committed, guards_held, lease_held=False)
        if row[2] is not None:
            return Outcome(committed, guards_held, stored_key(self, _record_of(str(row[2]))))
        # The loser of a race: a statement that began before the other had won does not see what it wrote.
        rows = executor.execute(self.compile(READ_KEY), changes.claim[:3])
        return Outcome(committed, guards_held, stored_key(self, rows[0]) if rows else None)

    def _advancing(self, wanted: Advance | None) -> tuple[str, Sequence[Parameter]]:
        """Return the template that moves an operation on, with its condition, and its parameters."""
        if wanted is None:
            return "", ()
        change = advancing(self, wanted)
        return f"{change.template} WHERE {change.condition}", [*change.values, *change.bounds]

    def lock_guards(self, executor: Executor, guards: Sequence[Guard], *, wait: bool) -> set[Guard]:
        """Return those of several guards that hold, their orders locked in the order of their ids."""
        statement = self.compile(_LOCK_GUARDS if wait else f"{_LOCK_GUARDS} SKIP LOCKED")
        found = execute_once(executor, statement, [as_json(GUARDED, guards)])
        return {Guard._make(cast("Row", row)) for row in found}

    def claim_keys(self, executor: Executor, claims: Sequence[KeyClaim]) -> set[KeyReference]:
        """Insert those of several claims whose keys are free; return their keys."""
        found = executor.execute(self.compile(_CLAIM_KEYS), [as_json(KEYS.columns, claims)])
        return {KeyReference._make(cast("Row", row)) for row in found}

    def write_rows(self, executor: Executor, changes: ChangeSet) -> None:
        """Write many rows of a table as a stream, and the rest in one statement."""
        rest = ChangeSet(updates=changes.updates, upserts=changes.upserts, deletes=changes.deletes)
        for table, rows in changes.inserts.items():
            if len(rows) < COPY_FROM or not isinstance(executor, CopyingExecutor):
                rest.insert(table, rows)
        if rest:
            self.write(executor, rest)
        for table, rows in changes.inserts.items():
            if table not in rest.inserts:
                cast("CopyingExecutor", executor).copy(self.compile(f"{{{table.name}}}"), table.columns, rows)

    def next_number(self, executor: Executor, tenant: str) -> int:
        """Take the next number, which nobody else can take before the transaction ends."""
        return cast("int", executor.execute(self.compile(NEXT_NUMBER), (tenant,))[0][0])

    def insert_unless_taken(
        self, executor: Executor, insert: str, row: Sequence[Value], read: str, key: Sequence[Value]
    ) -> Rows | None:
        """Insert a row unless its primary key is taken; return what is there, all in one statement."""
        statement = self.compile(
            f"WITH inserted AS ({insert} ON CONFLICT DO NOTHING RETURNING 1 AS done), found AS ({read}) "
            "SELECT inserted.done IS NOT NULL, found.* FROM (SELECT 1) AS one "
            "LEFT JOIN inserted ON true LEFT JOIN found ON true"
        )
        done, *found = executor.execute(statement, [*row, *key])[0]
        return None if done else () if found[0] is None else [found]

    def delete_some(self, executor: Executor, table: Table, condition: str, values: Sequence[Value]) -> int:
        """Remove the rows that a condition picks, but those that others are about to change; return how many."""
        name = f"{{{table.name}}}"
        # By where the rows are: by their key, every row there is would be read to find them.
        picked = f"ARRAY(SELECT ctid FROM {name} WHERE {condition} FOR UPDATE SKIP LOCKED)"
        statement = f"DELETE FROM {name} WHERE ctid = ANY ({picked}) RETURNING 1"
        return len(executor.execute(self.compile(statement), values))

    def fault(self, error: BaseException) -> Fault:
        """Understand a driver's error by its SQLSTATE; see `fault_of`."""
        return fault_of(error)


def _record_of(text: str) -> list[object]:
    """Return the columns of a key's record that the statement found taken."""
    fingerprint, order_id, order_version, expires_at, *order = msgspec.json.decode(text).values()
    return [fingerprint, order_id, order_version, datetime.fromisoformat(expires_at), *order]


_LOCK_GUARDS = (
    "SELECT o.tenant, o.id, o.version FROM {orders} AS o "
    f"JOIN {relation(GUARDED, GUARD_KINDS, MANY)} USING (tenant, id, version) "
    "ORDER BY o.tenant, o.id FOR UPDATE OF o"
)
_CLAIM_KEYS = f"{insert(KEYS, MANY, None)} ON CONFLICT DO NOTHING RETURNING {', '.join(KEYS.key)}"

_KINDS = {
    "23505": FaultKind.DUPLICATE,
    "40001": FaultKind.BUSY,
    "40P01": FaultKind.BUSY,
    "55P03": FaultKind.LOCK_TIMEOUT,
    "57014": FaultKind.BUSY,
    "53100": FaultKind.FULL,
    "42P01": FaultKind.SCHEMA_MISSING,
    "42703": FaultKind.SCHEMA_MISSING,
    "3F000": FaultKind.SCHEMA_MISSING,
    "25P02": FaultKind.ABORTED,
    "25006": FaultKind.READ_ONLY,
    "26000": FaultKind.SESSIONLESS,
    "42P05": FaultKind.SESSIONLESS,
    "53300": FaultKind.LOST,
    "3D000": FaultKind.LOST,
    "28000": FaultKind.LOST,
    "28P01": FaultKind.LOST,
    "57P01": FaultKind.LOST,
    "57P02": FaultKind.LOST,
    "57P03": FaultKind.LOST,
    "57P05": FaultKind.LOST,
    "25P03": FaultKind.LOST,
}
"""Faults by SQLSTATE (PostgreSQL documentation, appendix A); the class 08 is a lost connection."""


def fault_of(error: BaseException) -> Fault:
    """Understand an error of psycopg or asyncpg, whether SQLAlchemy adapted it or not."""
    code = getattr(error, "sqlstate", None)
    if "unsupported startup parameter" in str(error):
        return Fault(FaultKind.SESSIONLESS, code or "08P01")
    if code is None:
        return Fault(FaultKind.LOST if _is_connection_error(error) else FaultKind.OTHER, "no SQLSTATE")
    kind = FaultKind.LOST if code.startswith("08") else _KINDS.get(code, FaultKind.OTHER)
    details = getattr(error, "diag", None) or (error if hasattr(error, "constraint_name") else error.__cause__)
    where = getattr(details, "constraint_name", None) or getattr(details, "context", None)
    return Fault(kind, code, where or "")


def _is_connection_error(error: BaseException) -> bool:
    """Tell whether an error that no server sent means that the connection is gone."""
    name = type(error).__name__
    return isinstance(error, OSError | EOFError) or name in {"OperationalError", "InterfaceError", "AdminShutdown"}
