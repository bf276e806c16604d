"""What the database says of its own tables: one row, beside them, and what follows from it for a release."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import attrs
from sqlalchemy import Column, MetaData, SmallInteger, String, Table

from orderkit.storage.sql.migrations.errors import SchemaOutdated, SchemaTooNew, SchemaUnfinished
from orderkit.storage.sql.migrations.versions import NEEDS, REVISIONS
from orderkit.storage.sql.tables import PREFIX

if TYPE_CHECKING:
    from sqlalchemy import Connection

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

    def refuse_unless_usable(self, head: str, needs: str) -> None:
        """Refuse tables that a release cannot use.

        Args:
            head: The newest revision the release knows.
            needs: The oldest revision it works on.

        Raises:
            SchemaTooNew: A newer release has changed them too much.
            SchemaUnfinished: They lack what a migration has not added yet.
            SchemaOutdated: They are older than the release needs.
        """
        if self.compatible_from > head:
            raise SchemaTooNew(self.highest, self.compatible_from, head)
        if self.lowest >= needs:
            return
        if self.migrating_to is not None and self.highest >= needs:
            raise SchemaUnfinished(self.migrating_to)
        raise SchemaOutdated(self.lowest, needs)


_NAME: Final = schema_table.name
_EXISTS: Final = {
    "sqlite": "SELECT 1 FROM pragma_table_info('{name}') WHERE name = 'compatible_from'",
    "postgresql": (
        "SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('{qualified}') AND attname = 'compatible_from'"
    ),
    "mysql": (
        "SELECT 1 FROM information_schema.columns "
        "WHERE table_schema = DATABASE() AND table_name = '{name}' AND column_name = 'compatible_from'"
    ),
}
"""Whether there is our version table, which one of its columns tells from another one of this name."""

Execute = Callable[[str], Sequence[Sequence[object]]]
"""Run a statement and return its rows."""


def read_state(execute: Execute, database: str, schema: str | None) -> SchemaState | None:
    """Return the state of the tables, or None where no version table is kept.

    Args:
        execute: Runs a statement and returns its rows.
        database: The database's name, as SQLAlchemy has it.
        schema: The schema of the tables, or None for the connection's own.
    """
    qualified = _NAME if schema is None else f'"{schema}".{_NAME}'
    exists = _EXISTS.get(database, _EXISTS["mysql"])
    if not execute(exists.format(name=_NAME, qualified=qualified)):
        return None
    rows = execute(f"SELECT revision, compatible_from, migrating_to FROM {qualified} WHERE id = 1")  # noqa: S608 - names
    if not rows:
        return None
    revision, compatible_from, migrating_to = rows[0]
    return SchemaState(str(revision), str(compatible_from), None if migrating_to is None else str(migrating_to))


def refuse_unusable(execute: Execute, database: str, schema: str | None) -> None:
    """Refuse tables that this release cannot use, where a version table tells; see `read_state`.

    Raises:
        SchemaTooNew: A newer release has changed them too much.
        SchemaUnfinished: They lack what a migration has not added yet.
        SchemaOutdated: They are older than this release needs.
    """
    state = read_state(execute, database, schema)
    if state is not None:
        state.refuse_unless_usable(REVISIONS[-1].revision, NEEDS)


def write_state(connection: Connection, state: SchemaState | None) -> None:
    """Have the database say this of itself; None for nothing at all."""
    if state is None:
        schema_table.drop(connection, checkfirst=True)
        return
    schema_table.create(connection, checkfirst=True)
    if not connection.execute(schema_table.update().values(attrs.asdict(state))).rowcount:
        connection.execute(schema_table.insert().values(id=1, **attrs.asdict(state)))
