"""The revisions in order, and the way from one to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, Protocol

import attrs

from orderkit.errors import ConfigurationError
from orderkit.storage.sql.migrations.versions import NEEDS, REVISIONS

if TYPE_CHECKING:
    from alembic.operations import Operations

BASE: Final = "0000"
"""The revision at which there are no tables."""

Direction = Literal["upgrade", "downgrade"]


class Revision(Protocol):
    """One revision: a module, whose docstring begins with what it does.

    Its steps can be run again after they were interrupted anywhere.
    """

    @property
    def __doc__(self) -> str | None:
        """What it does, in its first line."""
        ...

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


@attrs.frozen
class Task:
    """One step to do, with the revision that does it.

    Attributes:
        revision: The revision that is applied or taken back.
        direction: Which of both.
    """

    revision: Revision
    direction: Direction

    @property
    def origin(self) -> str:
        """Where the tables are before it."""
        return self.revision.down_revision if self.direction == "upgrade" else self.revision.revision

    @property
    def target(self) -> str:
        """Where the tables are after it."""
        return self.revision.revision if self.direction == "upgrade" else self.revision.down_revision

    @property
    def step(self) -> Step:
        """The step, for callbacks."""
        first_line = (self.revision.__doc__ or "").strip().partition("\n")[0]
        return Step(self.revision.revision, self.direction, first_line)

    def run(self, op: Operations) -> None:
        """Do it."""
        if self.direction == "upgrade":
            self.revision.upgrade(op)
        else:
            self.revision.downgrade(op)


@attrs.frozen
class History:
    """Every revision a release knows.

    Attributes:
        revisions: The revisions, oldest first.
        needs: The oldest one the release works on.
    """

    revisions: tuple[Revision, ...] = attrs.field(default=REVISIONS, converter=tuple[Revision, ...])
    needs: str = NEEDS

    @property
    def head(self) -> str:
        """The newest revision."""
        return self.revisions[-1].revision

    @property
    def compatible_from(self) -> str:
        """The oldest release, by the newest revision it knows, that can use the newest tables."""
        return self.revisions[-1].compatible_from

    def find(self, name: str) -> str:
        """Return the id of a revision by its name: its id, `head`, or `base` for no tables at all.

        Raises:
            ConfigurationError: There is no such revision.
        """
        found = {"head": self.head, "base": BASE}.get(name, name)
        if found not in {BASE, *(one.revision for one in self.revisions)}:
            raise ConfigurationError(
                f"There is no revision {name!r}; nothing was changed. This release knows those up to {self.head!r}."
            )
        return found

    def compatibility(self, revision: str) -> str:
        """Return from which release on, by the newest revision it knows, tables of a revision can be used."""
        return next((one.compatible_from for one in self.revisions if one.revision == revision), BASE)

    def upwards(self, current: str, target: str) -> Sequence[Task]:
        """Return the steps of an upgrade, in order."""
        return [Task(one, "upgrade") for one in self.revisions if current < one.revision <= target]

    def downwards(self, current: str, target: str) -> Sequence[Task]:
        """Return the steps of a downgrade, in order."""
        return [Task(one, "downgrade") for one in reversed(self.revisions) if target < one.revision <= current]
