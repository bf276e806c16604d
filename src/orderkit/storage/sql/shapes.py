"""The one statement in which PostgreSQL writes a change set: built once for each *shape*.

A shape is which parts a change set has, and how many rows each has, up to a few. A few rows travel as scalars, more as
one text of JSON. Inside the statement, in this order: lock the guarded orders at their versions; claim the key, or move
the leased operation on, if all of them held; write the rest if that was done; say what held. A key claimed first would
be burnt by a stale version, an order updated first would be changed by a duplicate. Orders are locked in the order of
their ids, so that two writers cannot deadlock.
"""

# ruff: noqa: S608 - statements are made of the names of tables and columns, never of values

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from orderkit.storage.sql.dialect import replacing
from orderkit.storage.sql.execution import Parameter
from orderkit.storage.sql.records import READ_KEY
from orderkit.storage.sql.tables import kind_of
from orderkit.unit_of_work.changes import KEYS, ChangeSet, Row, Table

MANY = 5
"""From how many rows on a part travels as JSON: every count is a shape, which PostgreSQL plans by itself.

Sixteen orders took psycopg 459 microseconds each as arrays, one for each column, and 50 as JSON.
"""

Part = tuple[tuple[Table, int], ...]
"""The tables one kind of change touches, each with its number of rows, or `MANY`."""

Shape = tuple[int, bool, str, Part, Part, Part, Part]
"""How many guards, up to `MANY`; a claim or none; what moves an operation on; deletes, updates, upserts and inserts."""

TYPES = {"text": "text", "json": "text", "integer": "int4", "bigint": "int8", "boolean": "bool", "time": "timestamptz"}

GUARDED = ("tenant", "id", "version")
GUARD_KINDS = ("text", "text", "integer")

_encode = msgspec.json.Encoder().encode


def shape_of(changes: ChangeSet, moving: str = "") -> Shape:
    """Return the shape of a change set, and of the statement that moves an operation on with it."""
    return (
        min(len(changes.guards), MANY),
        changes.claim is not None,
        moving,
        tuple([(table, min(len(rows), MANY)) for table, rows in changes.deletes.items()]),
        tuple([(table, min(len(rows), MANY)) for table, rows in changes.updates.items()]),
        tuple([(table, min(len(rows), MANY)) for table, rows in changes.upserts.items()]),
        tuple([(table, min(len(rows), MANY)) for table, rows in changes.inserts.items()]),
    )


def parameters_of(changes: ChangeSet, moving: Sequence[Parameter] = ()) -> list[Parameter]:
    """Return the parameters of the statement for a change set's shape, those that move an operation on among them."""
    parameters: list[Parameter] = []
    guards, claim = changes.guards, changes.claim
    if guards:
        _add(parameters, GUARDED, guards)
        if len(guards) > 1:
            parameters.append(len(guards))
    if claim is not None:
        parameters += claim
    parameters += moving
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
        parameters.append(as_json(columns, rows))


def as_json(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Return rows as a list of JSON objects."""
    return _encode([dict(zip(columns, row, strict=True)) for row in rows]).decode()


def joins_many(shape: Shape) -> bool:
    """Tell whether many rows are looked up: how depends on the size of the tables, which grow."""
    guards, _, _, deletes, updates, _, _ = shape
    return guards == MANY or any(count == MANY for _, count in (*deletes, *updates))


def change_statement(shape: Shape) -> str:
    """Return the template of the one statement that writes every change set of a shape."""
    guards, claim, moving, deletes, updates, upserts, inserts = shape
    gate = "ok" if claim or moving else "held" if guards else None
    writes = [_delete(table, count, gate) for table, count in deletes]
    writes += [_update(table, count, gate) for table, count in updates]
    writes += [insert(table, count, gate) + replacing(table) for table, count in upserts]
    writes += [insert(table, count, gate) for table, count in inserts]
    # Backwards, since PostgreSQL runs the last of them first.
    parts = _gates(guards, claim, moving) + [f"w{number} AS ({write})" for number, write in enumerate(reversed(writes))]
    return f"WITH {', '.join(parts)} {_verdict(gate, guards, claim)}"


def _gates(guards: int, claim: bool, moving: str) -> list[str]:
    """Return what comes before the writes: the guarded orders, and the key or the operation if they all held."""
    parts = []
    if guards:
        source = relation(GUARDED, GUARD_KINDS, guards)
        wanted = ":bigint" if guards > 1 else "1"
        parts.append(
            f"guarded AS (SELECT 1 FROM {{orders}} AS o JOIN {source} USING (tenant, id, version) "
            "ORDER BY o.tenant, o.id FOR UPDATE OF o)"
        )
        parts.append(f"held AS MATERIALIZED (SELECT count(*) = {wanted} AS ok FROM guarded)")
    if claim:
        parts.append(f"claimed AS ({insert(KEYS, 1, 'held' if guards else None)} ON CONFLICT DO NOTHING RETURNING 1)")
        parts.append("ok AS MATERIALIZED (SELECT EXISTS (SELECT FROM claimed) AS ok)")
    elif moving:
        held = " AND (SELECT ok FROM held)" if guards else ""
        parts.append(f"advanced AS ({moving}{held} RETURNING 1)")
        parts.append("ok AS MATERIALIZED (SELECT EXISTS (SELECT FROM advanced) AS ok)")
    return parts


def _verdict(gate: str | None, guards: int, claim: bool) -> str:
    """Return the final select: whether the guards held, whether all was written, and the record of a taken key."""
    if gate is None:
        return "SELECT true, true"
    if gate == "held":
        return "SELECT ok, ok FROM held"
    seen, source = ("held.ok", "ok CROSS JOIN held") if guards else ("true", "ok")
    if not claim:
        return f"SELECT {seen}, ok.ok FROM {source}"
    # Looked for only where the key was not claimed; one column, since each of them costs the driver.
    taken = f"(SELECT row_to_json(k)::text FROM ({READ_KEY} AND NOT ok.ok) AS k)"
    return f"SELECT {seen}, ok.ok, {taken} FROM {source}"


def relation(columns: Sequence[str], kinds: Sequence[str], count: int) -> str:
    """Return the rows of a part as a relation named v: a few of scalars, or many of JSON."""
    wire = ["text" if kind == "json" else kind for kind in kinds]
    if count < MANY:
        row = f"({', '.join(f':{kind}' for kind in wire)})"
        return f"(VALUES {', '.join([row] * count)}) AS v ({', '.join(columns)})"
    typed = ", ".join(f"{column} {TYPES[kind]}" for column, kind in zip(columns, wire, strict=True))
    return f"json_to_recordset(:text::json) AS v ({typed})"


def _table_source(table: Table, columns: Sequence[str], count: int) -> str:
    return relation(columns, [kind_of(table.name, column) for column in columns], count)


def _value(table: Table, column: str) -> str:
    """Return a column of v as the table takes it."""
    return f"v.{column}::json" if kind_of(table.name, column) == "json" else f"v.{column}"


def _matching(table: Table, gate: str | None) -> str:
    """Return the condition that picks the rows of t named by v, if the gate is open."""
    conditions = [f"t.{column} = v.{column}" for column in table.key]
    return " AND ".join(conditions if gate is None else [f"{gate}.ok", *conditions])


def _from(source: str, gate: str | None) -> str:
    return source if gate is None else f"{source}, {gate}"


def insert(table: Table, count: int, gate: str | None) -> str:
    """Return the template that inserts so many rows, if a gate is open or there is none."""
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
