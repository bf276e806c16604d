"""Tables that are not what this release can use."""

from __future__ import annotations

from orderkit.errors import SchemaMissing, StorageError


class SchemaOutdated(SchemaMissing):
    """The tables are older than this release needs. Nothing was read or written.

    Attributes:
        revision: The revision the tables are at.
        needed: The oldest one that this release works on.
    """

    code = "schema_outdated"

    def __init__(self, revision: str, needed: str) -> None:
        self.revision = revision
        self.needed = needed
        super().__init__(
            f"The tables are at revision {revision}, and this release needs {needed} or later; nothing was written. "
            "Run `orderkit db upgrade`, or call kit.create_schema() once."
        )


class SchemaUnfinished(SchemaMissing):
    """A migration that this release needs is under way or was interrupted. Nothing was read or written.

    Attributes:
        migrating_to: The revision it leads to.
    """

    code = "schema_unfinished"

    def __init__(self, migrating_to: str) -> None:
        self.migrating_to = migrating_to
        super().__init__(
            f"A migration of the tables to revision {migrating_to} is under way or was interrupted; nothing was "
            "written. Wait for it, or run `orderkit db upgrade`, which goes on where it stopped."
        )


class SchemaTooNew(StorageError):
    """A newer release has changed the tables beyond what this one can use. Nothing was read or written.

    Attributes:
        revision: The revision the tables are at.
        compatible_from: The oldest release that can use them, by the newest revision it knows.
        known: The newest revision this release knows.
    """

    code = "schema_too_new"

    def __init__(self, revision: str, compatible_from: str, known: str) -> None:
        self.revision = revision
        self.compatible_from = compatible_from
        self.known = known
        super().__init__(
            f"The tables are at revision {revision}, made for releases that know revision {compatible_from}; this one "
            f"knows {known}. Nothing was read or written. Install the newer release of orderkit."
        )


class SchemaForeign(StorageError):
    """Tables under the names of orderkit are not its own. Nothing was changed.

    Attributes:
        tables: Their names.
    """

    code = "schema_foreign"

    def __init__(self, tables: tuple[str, ...]) -> None:
        self.tables = tables
        super().__init__(
            f"{', '.join(tables)}: not as orderkit makes them, or only some of its tables are there; nothing was "
            "changed. Use another schema or database for orderkit, or rename those tables."
        )


class DataLoss(StorageError):
    """A downgrade would lose data, and was not told to. Nothing was changed.

    Attributes:
        losses: What would be lost, a sentence for each revision.
    """

    code = "data_loss"

    def __init__(self, losses: tuple[str, ...]) -> None:
        self.losses = losses
        super().__init__(
            f"The downgrade was not begun, for it would lose data: {' '.join(losses)} Repeat it with lose_data=True, "
            "or with --yes on the command line, if that is meant."
        )
