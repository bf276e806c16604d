"""What the database says of its own tables: one row, beside them, and what follows from it for a release."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import attrs
from sqlalchemy import Column, MetaData, SmallInteger, String, Table

from orderkit.errors import SchemaOutdated, SchemaTooNew, SchemaUnfinished
from orderkit.storage.sql.tables import PREFIX

if TYPE_CHECKING:
    from orderkit.storage.sql.migrations.history import History

schema_table = Table(
    PREFIX + "schema",
    MetaData(naming_convention={"pk": "%(table_name)s_pkey"}),
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("revision", String(32), nullable=False),
    Column("compatible_from", String(32), nullable=False),
    Column("migrating_to", String(32), nullable=True),
)
"""The one row of our version table. It is no part of `metadata`: an application that has its own migrations make
our tables keeps no such row, and is not checked."""


@attrs.frozen
class SchemaState:
    """At which revision the tables are.

    Attributes:
        revision: The revision they are at, or were when the migration began that is under way.
        compatible_from: The newest revision known to the oldest release that can use them.
        migrating_to: Where a migration that is under way or was interrupted leads; None if there is none.
    """

    revision: str
    compatible_from: str
    migrating_to: str | None = None

    @property
    def lowest(self) -> str:
        """The revision whose tables are certainly there."""
        return min(self.revision, self.migrating_to or self.revision)

    @property
    def highest(self) -> str:
        """The revision of which parts may be there."""
        return max(self.revision, self.migrating_to or self.revision)

    def refuse_unless_usable(self, history: History) -> None:
        """Refuse tables that a release cannot use.

        Raises:
            SchemaTooNew: A newer release has changed them too much.
            SchemaUnfinished: They lack what a migration has not added yet.
            SchemaOutdated: They are older than the release needs.
        """
        if self.compatible_from > history.head:
            raise SchemaTooNew(self.highest, self.compatible_from, history.head)
        if self.lowest >= history.needs:
            return
        if self.migrating_to is not None and self.highest >= history.needs:
            raise SchemaUnfinished(self.migrating_to)
        raise SchemaOutdated(self.lowest, history.needs)


_NAME: Final = schema_table.name
_IN_NAMED_SCHEMA: Final = (
    f"SELECT 1 FROM information_schema.tables WHERE table_name = '{_NAME}' AND table_schema = "  # noqa: S608 - a constant
)
_EXISTS: Final = {
    "sqlite": f"SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '{_NAME}'",  # noqa: S608 - a constant
    "postgresql": f"SELECT 1 WHERE to_regclass('{_NAME}') IS NOT NULL",
    "mariadb": _IN_NAMED_SCHEMA + "DATABASE()",
    "mysql": _IN_NAMED_SCHEMA + "DATABASE()",
}


def read_state(
    execute: Callable[[str], Sequence[Sequence[object]]], database: str, schema: str | None
) -> SchemaState | None:
    """Return the state of the tables, or None where no version table is kept.

    Args:
        execute: Runs a statement and returns its rows.
        database: The database's name, as SQLAlchemy has it.
        schema: The schema of the tables, or None for the connection's own.
    """
    there = _EXISTS[database] if schema is None else _IN_NAMED_SCHEMA + f"'{schema}'"
    if not execute(there):
        return None
    table = _NAME if schema is None else f'"{schema}".{_NAME}'
    rows = execute(f"SELECT revision, compatible_from, migrating_to FROM {table} WHERE id = 1")  # noqa: S608 - names
    if not rows:
        return None
    revision, compatible_from, migrating_to = rows[0]
    return SchemaState(str(revision), str(compatible_from), None if migrating_to is None else str(migrating_to))
