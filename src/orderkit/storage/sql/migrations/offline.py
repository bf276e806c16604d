"""The statements of a migration, written down instead of run."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import attrs
from sqlalchemy import Dialect
from sqlalchemy.dialects.mysql.base import MySQLDialect
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.sqlite.base import SQLiteDialect

from orderkit.storage.sql.databases import dialect_for
from orderkit.storage.sql.migrations.history import History
from orderkit.storage.sql.migrations.state import SchemaState, schema_table
from orderkit.storage.sql.migrations.tasks import BASE, StepTask
from orderkit.storage.sql.migrations.versions import REVISIONS

if TYPE_CHECKING:
    from alembic.operations import Operations

DIALECTS: dict[str, Dialect] = {
    "sqlite": SQLiteDialect(),
    "postgresql": PGDialect(),  # type: ignore[no-untyped-call]  # SQLAlchemy
    "mariadb": MySQLDialect(is_mariadb=True),
    "mysql": MySQLDialect(),
}
"""What can be written for, without a driver."""

_DRIVERS = {"sqlite": "pysqlite", "postgresql": "psycopg", "mariadb": "pymysql", "mysql": "pymysql"}

_BEGIN = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "BEGIN"}
"""Where statements about tables can be in a transaction."""


def offline_sql(database: str, source: str, target: str, *, schema: str | None = None) -> str:
    """Return the statements that lead from one revision to another, without a driver or a database; see `script`.

    Args:
        database: `sqlite`, `postgresql`, `mariadb` or `mysql`.
        source: From which revision, or `base`.
        target: To which, or `head`.
        schema: The schema of the tables, PostgreSQL only.

    Raises:
        ConfigurationError: There is no such revision, or no storage for such a database.
    """
    dialect_for(database, _DRIVERS.get(database, ""), schema)
    return script(DIALECTS[database], schema, History(REVISIONS), source, target)


def script(dialect: Dialect, schema: str | None, history: History, source: str, target: str) -> str:
    """Return the statements that lead from one revision to another.

    Args:
        dialect: The dialect of the database.
        schema: The schema of the tables.
        history: The revisions to go by.
        source: From which revision.
        target: To which; where it is the older one, the statements are those of a downgrade.
    """
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    begin, end = history.find(source), history.find(target)
    written = io.StringIO()
    options = {"as_sql": True, "output_buffer": written, "literal_binds": True}
    op = Operations(MigrationContext.configure(dialect=dialect, opts=options))
    if schema is not None:
        op.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        op.execute(f'SET search_path TO "{schema}"')
    for task in history.upwards(begin, end) if begin < end else history.downwards(begin, end):
        _write(op, written, task)
    return written.getvalue().strip() + "\n"


def _write(op: Operations, written: io.StringIO, task: StepTask) -> None:
    begin = None if task.concurrent and op.get_context().dialect.name != "sqlite" else _begin_of(op)
    written.write(f"-- {task.step.revision}, {task.step.direction}: {task.step.description}\n")
    if task.direction == "downgrade" and task.applied.loses is not None:
        written.write(f"-- This loses data. {task.applied.loses}\n")
    written.write("\n")
    if begin is not None:
        op.execute(begin)
    if task.under_way.revision == BASE:
        schema_table.create(op.get_bind(), checkfirst=False)
        op.execute(schema_table.insert().values(id=1, **attrs.asdict(task.under_way)))
    else:
        _say(op, task.under_way)
    task.carry_out(op)
    _say(op, task.done)
    if begin is not None:
        op.execute("COMMIT")


def _begin_of(op: Operations) -> str | None:
    return _BEGIN.get(op.get_context().dialect.name)


def _say(op: Operations, state: SchemaState | None) -> None:
    """Have the database say this of itself."""
    if state is None:
        op.drop_table(schema_table.name)
    else:
        op.execute(schema_table.update().values(attrs.asdict(state)))
