"""What revisions are made of: steps that can be run again after they were interrupted anywhere.

Each works on a database and, for the SQL of `orderkit db sql`, without one: then nothing can be looked up, and
the statements themselves ask whether there is anything to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, MetaData, Table, inspect, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alembic.operations import Operations


def create_missing(op: Operations, metadata: MetaData) -> None:
    """Create the tables and indexes that are not there."""
    connection = op.get_bind()
    if op.get_context().as_sql:
        metadata.create_all(connection, checkfirst=False)
    else:
        create_all(connection, metadata)


def create_all(connection: Connection, metadata: MetaData) -> None:
    """Create the tables and indexes that are not there, also those of a table that is."""
    there = set(inspect(connection).get_table_names())
    missing = [table for table in metadata.sorted_tables if table.name not in there]
    metadata.create_all(connection, missing, checkfirst=False)
    for table in metadata.sorted_tables:
        if table.name in there:
            _create_indexes(connection, table)


def _create_indexes(connection: Connection, table: Table) -> None:
    there = {index["name"] for index in inspect(connection).get_indexes(table.name)}
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        if index.name not in there:
            index.create(connection, checkfirst=False)


def drop_existing(op: Operations, metadata: MetaData) -> None:
    """Drop the tables that are there."""
    for table in reversed(metadata.sorted_tables):
        op.drop_table(table.name, if_exists=True)


def add_index(
    op: Operations,
    table: str,
    name: str,
    columns: Sequence[str],
    *,
    unique: bool = False,
    where: str | None = None,
) -> None:
    """Add an index while rows are being written, in a revision that is `concurrent`.

    Args:
        op: Alembic's operations.
        table: The table's name.
        name: The index's name.
        columns: Its columns, in order.
        unique: Whether no two rows may have the same values.
        where: Which rows are in it; MariaDB has all rows in it.
    """
    database = op.get_context().dialect.name
    if database == "postgresql":
        drop_invalid_index(op, name)
    if database in {"mariadb", "mysql"}:
        _add_index_in_place(op, table, name, columns, unique=unique)
        return
    condition = None if where is None else text(where)
    op.create_index(
        name,
        table,
        list(columns),
        unique=unique,
        if_not_exists=True,
        postgresql_concurrently=True,
        postgresql_where=condition,
        sqlite_where=condition,
    )


def drop_invalid_index(op: Operations, name: str) -> None:
    """Drop what an interrupted `CREATE INDEX CONCURRENTLY` of PostgreSQL left behind: an index nobody can use."""
    if op.get_context().as_sql:
        return
    found = op.get_bind().execute(
        text("SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid"), {"name": name}
    )
    if found.first() is not None:
        op.drop_index(name, postgresql_concurrently=True, if_exists=True)


def _add_index_in_place(op: Operations, table: str, name: str, columns: Sequence[str], *, unique: bool) -> None:
    """Add an index on MariaDB or MySQL, which refuses rather than lock the table."""
    if not op.get_context().as_sql:
        there = {index["name"] for index in inspect(op.get_bind()).get_indexes(table)}
        if name in there:
            return
    kind = "UNIQUE INDEX" if unique else "INDEX"
    listed = ", ".join(f"`{column}`" for column in columns)
    op.execute(f"ALTER TABLE `{table}` ADD {kind} `{name}` ({listed}), ALGORITHM=INPLACE, LOCK=NONE")


def remove_index(op: Operations, table: str, name: str) -> None:
    """Remove an index while rows are being written, in a revision that is `concurrent`."""
    if op.get_context().dialect.name in {"mariadb", "mysql"}:
        _remove_index_in_place(op, table, name)
    else:
        op.drop_index(name, if_exists=True, postgresql_concurrently=True)


def _remove_index_in_place(op: Operations, table: str, name: str) -> None:
    if not op.get_context().as_sql:
        there = {index["name"] for index in inspect(op.get_bind()).get_indexes(table)}
        if name not in there:
            return
    op.execute(f"ALTER TABLE `{table}` DROP INDEX `{name}`, ALGORITHM=INPLACE, LOCK=NONE")
