"""The revisions of the tables, oldest first, and the oldest one that this release works on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderkit.storage.sql.migrations.versions import revision_0001, revision_0002, revision_0003

if TYPE_CHECKING:
    from orderkit.storage.sql.migrations.tasks import Revision

REVISIONS: tuple[Revision, ...] = (revision_0001, revision_0002, revision_0003)

NEEDS = "0001"
"""The oldest revision whose tables this release can read and write. What a later one adds, it does without."""
