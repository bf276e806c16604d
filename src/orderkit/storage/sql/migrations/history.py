"""The revisions in order, and the way from one to another."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from orderkit.errors import ConfigurationError
from orderkit.storage.sql.migrations.tasks import BASE, Direction, Revision, StepTask


@attrs.frozen
class History:
    """Every revision a release knows.

    Attributes:
        revisions: The revisions, oldest first.
    """

    revisions: tuple[Revision, ...]

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

    def upwards(self, current: str, target: str) -> Sequence[StepTask]:
        """Return the steps of an upgrade, in order."""
        return [self._task(one, "upgrade") for one in self.revisions if current < one.revision <= target]

    def downwards(self, current: str, target: str) -> Sequence[StepTask]:
        """Return the steps of a downgrade, in order."""
        return [self._task(one, "downgrade") for one in reversed(self.revisions) if target < one.revision <= current]

    def _task(self, revision: Revision, direction: Direction) -> StepTask:
        return StepTask(revision, direction, self.compatibility(revision.down_revision))
