"""PostgreSQL: a change set is one data-modifying statement, one round trip and one commit.

The statement is built once for each *shape*: which parts a change set has, and how many rows each has, up to
a few. A few rows travel as scalars, more as one text of JSON. Inside the statement, in this
order: lock the guarded orders at their versions; claim the key if all of them held; write the rest if both
did; say what held. A key claimed first would be burnt by a stale version, an order updated first would be
changed by a duplicate. Orders are locked in the order of their ids, so that two writers cannot deadlock.
"""

# ruff: noqa: S608 - statements are made of the names of tables and columns, never of values

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import attrs
import msgspec
from sqlalchemy.engine import Dialect as EngineDialect
from sqlalchemy.pool import PoolProxiedConnection

from orderkit.storage.sql.dialect import Fault, FaultKind, compile_template, replacing
from orderkit.storage.sql.execution import CopyingExecutor, Executor, Parameter, Rows, execute_once, executor_of
from orderkit.storage.sql.records import NEXT_NUMBER, READ_KEY, stored_key
from orderkit.storage.sql.tables import kind_of
from orderkit.unit_of_work.changes import KEYS, ChangeSet, Guard, KeyClaim, KeyReference, Row, Table, Value
from orderkit.unit_of_work.storage import Outcome

MANY = 5
"""From how many rows on a part travels as JSON: every count is a shape, which PostgreSQL plans by itself.

Sixteen orders took psycopg 459 microseconds each as arrays, one for each column, and 50 as JSON.
"""

COPY_FROM = 100
"""From how many rows on a stream is faster than JSON."""

Part = tuple[tuple[Table, int], ...]
"""The tables one kind of change touches, each with its number of rows, or `MANY`."""

Shape = tuple[int, bool, Part, Part, Part, Part]
"""How many guards, up to `MANY`; a claim or none; deletes, updates, upserts and inserts."""

_TYPES = {"text": "text", "json": "text", "integer": "int4", "bigint": "int8", "boolean": "bool", "time": "timestamptz"}

_GUARDED = ("tenant", "id", "version")
_GUARD_KINDS = ("text", "text", "integer")

_encode = msgspec.json.Encoder().encode


def shape_of(changes: ChangeSet) -> Shape:
    """Return the shape of a change set."""
    return (
        min(len(changes.guards), MANY),
        changes.claim is not None,
        tuple([(table, min(len(rows), MANY)) for table, rows in changes.deletes.items()]),
        tuple([(table, min(len(rows), MANY)) for table, rows in changes.updates.items()]),
        tuple([(table, min(len(rows), MANY)) for table, rows in changes.upserts.items()]),
        tuple([(table, min(len(rows), MANY)) for table, rows in changes.inserts.items()]),
    )


def parameters_of(changes: ChangeSet) -> list[Parameter]:
    """Return the parameters of the statement for a change set's shape."""
    parameters: list[Parameter] = []
    guards, claim = changes.guards, changes.claim
    if guards:
        _add(parameters, _GUARDED, guards)
        if len(guards) > 1:
            parameters.append(len(guards))
    if claim is not None:
        parameters += claim
    for part in (changes.inserts, changes.upserts, changes.updates):
        for table, rows in reversed(part.items()):
            _add(parameters, table.columns, rows)
    for table, rows in reversed(changes.deletes.items()):
        _add(parameters, table.key, rows)
    if claim is not None:
        parameters += claim[:3]
    return parameters


def _add(parameters: list[Parameter], columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Add a few rows as scalars, or many as one text of JSON."""
    if len(rows) < MANY:
        for row in rows:
            parameters += row
    else:
        parameters.append(_json(columns, rows))


def _json(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Return rows as a list of JSON objects."""
    return _encode([dict(zip(columns, row, strict=True)) for row in rows]).decode()


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
        return f"${position}::{_TYPES[kind]}"

    def encode(self, value: Value) -> Value:
        """Return the value: the drivers know its type."""
        return value

    def decode_time(self, value: object) -> datetime:
        """Return a time in UTC; psycopg gives it in the zone of the session."""
        return cast("datetime", value).astimezone(UTC)

    def write(self, executor: Executor, changes: ChangeSet) -> Outcome:
        """Write a change set in one statement, which says what is kept under a key that was taken."""
        shape = shape_of(changes)
        statement = self._shapes.get(shape)
        if statement is None:
            statement = self.compile(change_statement(shape))
            self._shapes[shape] = statement
        parameters = parameters_of(changes)
        if _joins_many(shape):
            row = execute_once(executor, statement, parameters)[0]
        else:
            row = executor.execute(statement, parameters)[0]
        committed, guards_held = bool(row[1]), bool(row[0])
        if committed or not guards_held or changes.claim is None:
            return Outcome(committed, guards_held)
        if row[2] is not None:
            return Outcome(committed, guards_held, stored_key(self, _record_of(str(row[2]))))
        # The loser of a race: a statement that began before the other had won does not see what it wrote.
        rows = executor.execute(self.compile(READ_KEY), changes.claim[:3])
        return Outcome(committed, guards_held, stored_key(self, rows[0]) if rows else None)

    def lock_guards(self, executor: Executor, guards: Sequence[Guard], *, wait: bool) -> set[Guard]:
        """Return those of several guards that hold, their orders locked in the order of their ids."""
        statement = self.compile(_LOCK_GUARDS if wait else f"{_LOCK_GUARDS} SKIP LOCKED")
        found = execute_once(executor, statement, [_json(_GUARDED, guards)])
        return {Guard._make(cast("Row", row)) for row in found}

    def claim_keys(self, executor: Executor, claims: Sequence[KeyClaim]) -> set[KeyReference]:
        """Insert those of several claims whose keys are free; return their keys."""
        found = executor.execute(self.compile(_CLAIM_KEYS), [_json(KEYS.columns, claims)])
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


def _joins_many(shape: Shape) -> bool:
    """Tell whether many rows are looked up: how depends on the size of the tables, which grow."""
    guards, _, deletes, updates, _, _ = shape
    return guards == MANY or any(count == MANY for _, count in (*deletes, *updates))


def change_statement(shape: Shape) -> str:
    """Return the template of the one statement that writes every change set of a shape."""
    guards, claim, deletes, updates, upserts, inserts = shape
    gate = "ok" if claim else "held" if guards else None
    writes = [_delete(table, count, gate) for table, count in deletes]
    writes += [_update(table, count, gate) for table, count in updates]
    writes += [_insert(table, count, gate) + replacing(table) for table, count in upserts]
    writes += [_insert(table, count, gate) for table, count in inserts]
    # Backwards, since PostgreSQL runs the last of them first.
    parts = _gates(guards, claim) + [f"w{number} AS ({write})" for number, write in enumerate(reversed(writes))]
    return f"WITH {', '.join(parts)} {_verdict(gate, guards)}"


def _gates(guards: int, claim: bool) -> list[str]:
    """Return what comes before the writes: the guarded orders, and the key if they all held."""
    parts = []
    if guards:
        source = _source(_GUARDED, _GUARD_KINDS, guards)
        wanted = ":bigint" if guards > 1 else "1"
        parts.append(
            f"guarded AS (SELECT 1 FROM {{orders}} AS o JOIN {source} USING (tenant, id, version) "
            "ORDER BY o.tenant, o.id FOR UPDATE OF o)"
        )
        parts.append(f"held AS MATERIALIZED (SELECT count(*) = {wanted} AS ok FROM guarded)")
    if claim:
        parts.append(f"claimed AS ({_insert(KEYS, 1, 'held' if guards else None)} ON CONFLICT DO NOTHING RETURNING 1)")
        parts.append("ok AS MATERIALIZED (SELECT EXISTS (SELECT FROM claimed) AS ok)")
    return parts


def _verdict(gate: str | None, guards: int) -> str:
    """Return the final select: whether the guards held, whether all was written, and the record of a taken key."""
    if gate is None:
        return "SELECT true, true"
    if gate == "held":
        return "SELECT ok, ok FROM held"
    # Looked for only where the key was not claimed; one column, since each of them costs the driver.
    taken = f"(SELECT row_to_json(k)::text FROM ({READ_KEY} AND NOT ok.ok) AS k)"
    return f"SELECT {'held.ok' if guards else 'true'}, ok.ok, {taken} FROM {'ok CROSS JOIN held' if guards else 'ok'}"


def _source(columns: Sequence[str], kinds: Sequence[str], count: int) -> str:
    """Return the rows of a part as a relation named v: a few of scalars, or many of JSON."""
    wire = ["text" if kind == "json" else kind for kind in kinds]
    if count < MANY:
        row = f"({', '.join(f':{kind}' for kind in wire)})"
        return f"(VALUES {', '.join([row] * count)}) AS v ({', '.join(columns)})"
    typed = ", ".join(f"{column} {_TYPES[kind]}" for column, kind in zip(columns, wire, strict=True))
    return f"json_to_recordset(:text::json) AS v ({typed})"


def _table_source(table: Table, columns: Sequence[str], count: int) -> str:
    return _source(columns, [kind_of(table.name, column) for column in columns], count)


def _value(table: Table, column: str) -> str:
    """Return a column of v as the table takes it."""
    return f"v.{column}::json" if kind_of(table.name, column) == "json" else f"v.{column}"


def _matching(table: Table, gate: str | None) -> str:
    """Return the condition that picks the rows of t named by v, if the gate is open."""
    conditions = [f"t.{column} = v.{column}" for column in table.key]
    return " AND ".join(conditions if gate is None else [f"{gate}.ok", *conditions])


def _from(source: str, gate: str | None) -> str:
    return source if gate is None else f"{source}, {gate}"


def _insert(table: Table, count: int, gate: str | None) -> str:
    values = ", ".join(_value(table, column) for column in table.columns)
    source = _from(_table_source(table, table.columns, count), gate)
    where = "" if gate is None else f" WHERE {gate}.ok"
    return f"INSERT INTO {{{table.name}}} ({', '.join(table.columns)}) SELECT {values} FROM {source}{where}"


def _update(table: Table, count: int, gate: str | None) -> str:
    assigned = ", ".join(f"{column} = {_value(table, column)}" for column in table.columns if column not in table.key)
    source = _from(_table_source(table, table.columns, count), gate)
    return f"UPDATE {{{table.name}}} AS t SET {assigned} FROM {source} WHERE {_matching(table, gate)}"


def _delete(table: Table, count: int, gate: str | None) -> str:
    source = _from(_table_source(table, table.key, count), gate)
    return f"DELETE FROM {{{table.name}}} AS t USING {source} WHERE {_matching(table, gate)}"


_LOCK_GUARDS = (
    "SELECT o.tenant, o.id, o.version FROM {orders} AS o "
    f"JOIN {_source(_GUARDED, _GUARD_KINDS, MANY)} USING (tenant, id, version) "
    "ORDER BY o.tenant, o.id FOR UPDATE OF o"
)
_CLAIM_KEYS = f"{_insert(KEYS, MANY, None)} ON CONFLICT DO NOTHING RETURNING {', '.join(KEYS.key)}"

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
