"""Compare the tables of a database with the models, by Alembic's autogeneration and beyond it."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
from sqlalchemy import Column, Connection, Constraint, Index, Table, inspect, text
from sqlalchemy.schema import SchemaItem

from orderkit.storage.sql.tables import PREFIX, PostgresqlOnly, metadata


@attrs.frozen
class Difference:
    """One thing in which the tables of a database are not what they should be.

    Attributes:
        what: Such as `missing index` or `other type`.
        name: Of the table, with the column, index or constraint after a dot.
    """

    what: str
    name: str

    def __str__(self) -> str:
        """Return both, for people."""
        return f"{self.what}: {self.name}"


_WORDS = {
    "add_table": "missing table",
    "add_column": "missing column",
    "add_index": "missing index",
    "add_constraint": "missing constraint",
    "remove_column": "additional column",
    "remove_index": "additional index",
    "remove_constraint": "additional constraint",
    "modify_type": "other type",
    "modify_nullable": "other nullability",
    "modify_default": "other default",
}
"""What Alembic would do, in words of what is."""


def differences(connection: Connection) -> list[Difference]:
    """Return what differs between the tables of a database and the models.

    An index that the application added to our tables under a name of its own is no difference.

    Args:
        connection: Of which the tables are looked at, in the schema that names mean there.
    """
    found = {*_seen_by_alembic(connection), *_other_conditions(connection), *_invalid_indexes(connection)}
    return sorted(found, key=lambda one: (one.name, one.what))


def _seen_by_alembic(connection: Connection) -> Iterator[Difference]:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    options = {"include_name": _is_ours, "include_object": functools.partial(_is_compared, connection.dialect.name)}
    for entry in compare_metadata(MigrationContext.configure(connection, opts=options), metadata):
        # What is to be modified comes as a list of all that is different about one column.
        for change in entry if isinstance(entry, list) else [entry]:
            yield Difference(_WORDS.get(change[0], "other"), _name(change))


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "table" or name in metadata.tables


def _is_compared(
    database: str, item: SchemaItem, name: str | None, kind: str, reflected: bool, _compare_to: object
) -> bool:
    """Tell whether something is to be compared: not what only PostgreSQL has, nor indexes of the application."""
    if isinstance(item, Column) and isinstance(item.type, PostgresqlOnly):
        return database == "postgresql"
    return not (kind == "index" and reflected and not (name or "").startswith(PREFIX))


def _name(change: Sequence[Any]) -> str:
    """Return what a change of Alembic is about: tables are told by themselves, columns after them."""
    subject = change[1]
    if isinstance(subject, Table):
        return subject.name
    if isinstance(subject, Index | Constraint):
        table = getattr(subject, "table", None)
        return ".".join(str(part) for part in (getattr(table, "name", None), subject.name) if part is not None)
    column = change[3]
    return f"{change[2]}.{column.name if isinstance(column, Column) else column}"


def _other_conditions(connection: Connection) -> Iterator[Difference]:
    """Yield the indexes that hold other rows than they should, which Alembic does not look at."""
    option = f"{connection.dialect.name}_where"
    inspector = inspect(connection)
    there = set(inspector.get_table_names())
    for table in metadata.sorted_tables:
        found = inspector.get_indexes(table.name) if table.name in there else ()
        conditions = {index["name"]: index.get("dialect_options", {}).get(option) for index in found}
        for index in table.indexes:
            expected = index.dialect_kwargs.get(option)
            if index.name in conditions and _plain(conditions[index.name]) != _plain(expected):
                yield Difference("other condition", f"{table.name}.{index.name}")


def _plain(condition: object) -> str:
    """Return a condition without what databases add to it."""
    return "" if condition is None else re.sub(r"[()\s]|::\w+", "", str(condition)).lower()


def _invalid_indexes(connection: Connection) -> Iterator[Difference]:
    """Yield what an interrupted `CREATE INDEX CONCURRENTLY` left behind on PostgreSQL."""
    if connection.dialect.name != "postgresql":
        return
    found = connection.execute(
        text(
            "SELECT t.relname, i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid "
            "JOIN pg_class t ON t.oid = x.indrelid WHERE NOT x.indisvalid AND pg_table_is_visible(t.oid)"
        )
    )
    for table, index in found:
        if table in metadata.tables:
            yield Difference("invalid index", f"{table}.{index}")
