"""Describe the tables as Markdown, and their relations as a Mermaid diagram."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlalchemy import Column, Table, UniqueConstraint
from sqlalchemy.engine import Dialect

from orderkit.storage.sql.migrations.offline import DIALECTS
from orderkit.storage.sql.migrations.state import schema_table
from orderkit.storage.sql.tables import PREFIX, PostgresqlOnly, metadata

_SHOWN = {"SQLite": DIALECTS["sqlite"], "PostgreSQL": DIALECTS["postgresql"], "MariaDB": DIALECTS["mariadb"]}

NOTHING = "\N{EM DASH}"
"""What stands for a column that a database does not have."""

Row = tuple[str, ...]


def table_reference() -> str:
    """Return a page with every table: its columns, its key and its indexes."""
    parts = ["# Tables\n", "## Relations\n", f"```mermaid\n{er_diagram()}```\n"]
    for table in (*metadata.sorted_tables, schema_table):
        parts += [f"## {table.name}\n", table_columns(table)]
    return "\n".join(parts)


def table_columns(described: Table) -> str:
    """Return the Markdown table of a table's columns, and the list of its keys and indexes."""
    rows = [_column(column) for column in described.columns]
    text = markdown_table(("column", *_SHOWN, "may be null"), rows)
    text += f"\n- Primary key: {_names(described.primary_key.columns)}\n"
    for unique in sorted(_uniques(described), key=lambda constraint: str(constraint.name)):
        text += f"- Unique: {_names(unique.columns)}\n"
    for index in sorted(described.indexes, key=lambda index: str(index.name)):
        condition = index.dialect_options["postgresql"].get("where")
        only = "" if condition is None else f", only where `{condition}` (all rows on MariaDB)"
        text += f"- {'Unique index' if index.unique else 'Index'} `{index.name}`: {_names(index.columns)}{only}\n"
    return text


def markdown_table(header: Row, rows: Iterable[Row]) -> str:
    """Return a Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def er_diagram() -> str:
    """Return the tables and what refers to what, in the language of Mermaid, with the types of PostgreSQL."""
    lines = ["erDiagram"]
    lines += [f"    {parent} ||--o{{ {child} : has" for parent, child in relations()]
    for table in metadata.sorted_tables:
        lines.append(f"    {table.name} {{")
        lines += [f"        {_typed(column)}" for column in table.columns]
        lines.append("    }")
    return "\n".join(lines) + "\n"


_OTHER_RELATIONS = ((PREFIX + "orders", PREFIX + "outbox"),)
"""A message names its order as `aggregateid`."""


def relations() -> tuple[tuple[str, str], ...]:
    """Return which table's rows have which other's: by values, no foreign key holds them."""
    by_order = [(PREFIX + "orders", table.name) for table in metadata.sorted_tables if "order_id" in table.columns]
    return (*by_order, *_OTHER_RELATIONS)


def _typed(column: Column[object]) -> str:
    """Return a column as Mermaid has it: a type of one word, the name, and whether it is part of the key."""
    kind = _type(column, DIALECTS["postgresql"]).replace(" ", "_")
    return f"{kind} {column.name}{' PK' if column.primary_key else ''}"


def _uniques(described: Table) -> Iterator[UniqueConstraint]:
    return (constraint for constraint in described.constraints if isinstance(constraint, UniqueConstraint))


def _names(chosen: Iterable[Column[object]]) -> str:
    return ", ".join(f"`{column.name}`" for column in chosen)


def _column(column: Column[object]) -> Row:
    kinds = [
        NOTHING if isinstance(column.type, PostgresqlOnly) and name != "PostgreSQL" else _type(column, dialect)
        for name, dialect in _SHOWN.items()
    ]
    return f"`{column.name}`", *kinds, "yes" if column.nullable else ""


def _type(column: Column[object], dialect: Dialect) -> str:
    """Return a type without its collation, which is that of code points everywhere."""
    return str(column.type.compile(dialect)).lower().partition(" collate ")[0].partition(" character set ")[0]
