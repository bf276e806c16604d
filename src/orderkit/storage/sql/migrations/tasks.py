"""What a migration does: one revision applied or taken back, or all tables made at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Protocol

import attrs

from orderkit.storage.sql.migrations.state import SchemaState
from orderkit.storage.sql.migrations.steps import create_all
from orderkit.storage.sql.tables import metadata

if TYPE_CHECKING:
    from alembic.operations import Operations
    from sqlalchemy import Connection

BASE: Final = "0000"
"""The revision at which there are no tables."""

Direction = Literal["upgrade", "downgrade"]


class Revision(Protocol):
    """One revision: a module, whose docstring begins with what it does.

    Its steps can be run again after they were interrupted anywhere.
    """

    @property
    def revision(self) -> str:
        """Its id: four digits, one more than those of the revision before."""
        ...

    @property
    def down_revision(self) -> str:
        """The id of the revision before; `0000` for the first."""
        ...

    @property
    def compatible_from(self) -> str:
        """The newest revision known to the oldest release that can use tables of this one.

        An expanding revision leaves it as it is, a contracting one raises it.
        """
        ...

    @property
    def loses(self) -> str | None:
        """What a downgrade loses, as a sentence; None if that is nothing."""
        ...

    @property
    def concurrent(self) -> bool:
        """Whether its statements are commits of their own, so that none locks a table while it runs."""
        ...

    def upgrade(self, op: Operations, /) -> None:
        """Go there from the revision before."""
        ...

    def downgrade(self, op: Operations, /) -> None:
        """Go back to the revision before."""
        ...


@attrs.frozen
class Step:
    """One revision on the way, as callbacks get to see it.

    Attributes:
        revision: The id of the revision that is applied or taken back.
        direction: `upgrade` or `downgrade`.
        description: What the revision does, in a line.
    """

    revision: str
    direction: Direction
    description: str


class Task(Protocol):
    """Something to do by one transaction, or in one session."""

    @property
    def concurrent(self) -> bool:
        """Whether it is done outside a transaction."""
        ...

    @property
    def step(self) -> Step:
        """What it is, for callbacks."""
        ...

    @property
    def under_way(self) -> SchemaState:
        """What the database says of itself while it is done."""
        ...

    @property
    def done(self) -> SchemaState | None:
        """What the database says of itself afterwards; None if there are no tables any more."""
        ...

    def run(self, connection: Connection) -> None:
        """Do it."""
        ...


@attrs.frozen
class Creation:
    """Make all tables of a new database as the models have them, which is faster than one revision after the other.

    Attributes:
        head: The newest revision.
        compatible_from: The oldest release that can use its tables, by the newest revision it knows.
    """

    head: str
    compatible_from: str
    concurrent = False

    @property
    def step(self) -> Step:
        """What it is, for callbacks."""
        return Step(self.head, "upgrade", "All tables.")

    @property
    def under_way(self) -> SchemaState:
        """What the database says of itself while it is done."""
        return SchemaState(BASE, self.compatible_from, self.head)

    @property
    def done(self) -> SchemaState:
        """What the database says of itself afterwards."""
        return SchemaState(self.head, self.compatible_from)

    def run(self, connection: Connection) -> None:
        """Make the tables."""
        create_all(connection, metadata)


@attrs.frozen
class StepTask:
    """Apply a revision, or take it back.

    Attributes:
        applied: The revision.
        direction: Which of both.
        compatible_before: The oldest release that can use the tables without it, by the newest revision it knows.
    """

    applied: Revision
    direction: Direction
    compatible_before: str

    @property
    def concurrent(self) -> bool:
        """Whether it is done outside a transaction."""
        return self.applied.concurrent

    @property
    def step(self) -> Step:
        """What it is, for callbacks."""
        first_line = (self.applied.__doc__ or "").strip().partition("\n")[0]
        return Step(self.applied.revision, self.direction, first_line)

    @property
    def under_way(self) -> SchemaState:
        """What the database says of itself while it is done: nobody uses it who could not use both ends."""
        compatible_from = max(self.applied.compatible_from, self.compatible_before)
        before, after = self.applied.down_revision, self.applied.revision
        if self.direction == "upgrade":
            return SchemaState(before, compatible_from, after)
        return SchemaState(after, compatible_from, before)

    @property
    def done(self) -> SchemaState | None:
        """What the database says of itself afterwards; None if there are no tables any more."""
        if self.direction == "upgrade":
            return SchemaState(self.applied.revision, self.applied.compatible_from)
        before = self.applied.down_revision
        return None if before == BASE else SchemaState(before, self.compatible_before)

    def run(self, connection: Connection) -> None:
        """Do it."""
        from alembic.migration import MigrationContext
        from alembic.operations import Operations

        self.carry_out(Operations(MigrationContext.configure(connection)))

    def carry_out(self, op: Operations) -> None:
        """Do it by the operations of Alembic, which may only write down the statements."""
        if self.direction == "upgrade":
            self.applied.upgrade(op)
        else:
            self.applied.downgrade(op)
