"""The tables under version control: from one revision to another, on every database, while orders are placed."""

from __future__ import annotations

from orderkit.storage.sql.migrations.errors import (
    DataLoss,
    SchemaForeign,
    SchemaOutdated,
    SchemaTooNew,
    SchemaUnfinished,
)
from orderkit.storage.sql.migrations.migrations import CurrentSchema, Migrations
from orderkit.storage.sql.migrations.state import refuse_unusable
from orderkit.storage.sql.migrations.tasks import Step

__all__ = [
    "CurrentSchema",
    "DataLoss",
    "Migrations",
    "SchemaForeign",
    "SchemaOutdated",
    "SchemaTooNew",
    "SchemaUnfinished",
    "Step",
    "refuse_unusable",
]
