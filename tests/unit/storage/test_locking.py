"""No revision locks a table for long, and the tool that sees to it sees what it should."""

from __future__ import annotations

import pytest

from orderkit.storage.sql.migrations.tasks import Revision
from orderkit.storage.sql.migrations.versions import REVISIONS
from tools.locking import findings, of_revision


@pytest.mark.parametrize("revision", REVISIONS, ids=lambda revision: revision.revision)
def test_no_revision_locks_a_table_for_long(revision: Revision) -> None:
    assert of_revision(revision) == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX i ON t (a)",
        "CREATE UNIQUE INDEX IF NOT EXISTS i ON t (a)",
        "DROP INDEX i",
        "ALTER TABLE t ALTER COLUMN a TYPE BIGINT",
        "ALTER TABLE t ALTER COLUMN a SET DATA TYPE BIGINT",
        "ALTER TABLE t ALTER COLUMN a SET NOT NULL",
        "ALTER TABLE t ADD COLUMN a TEXT NOT NULL",
        "ALTER TABLE t ADD a TEXT NOT NULL",
        "ALTER TABLE t ADD COLUMN a TEXT DEFAULT gen_random_uuid()",
        "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)",
        "ALTER TABLE t ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES u (id)",
        "ALTER TABLE t DROP COLUMN a",
        "ALTER TABLE t RENAME COLUMN a TO b",
        "ALTER TABLE t RENAME TO u",
        "DROP TABLE t",
        "LOCK TABLE t",
        "TRUNCATE t",
    ],
)
def test_what_locks_for_long_is_found(statement: str) -> None:
    assert [found.statement for found in findings(f"-- first\nSELECT 1;\n\n{statement};")] == [statement]


@pytest.mark.parametrize(
    "script",
    [
        "CREATE INDEX CONCURRENTLY i ON t (a)",
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON t (a) WHERE a IS NOT NULL",
        "DROP INDEX CONCURRENTLY IF EXISTS i",
        "ALTER TABLE t ADD COLUMN a TEXT",
        "ALTER TABLE t ADD COLUMN a INTEGER DEFAULT 0 NOT NULL",
        "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID",
        "ALTER TABLE t VALIDATE CONSTRAINT c",
        "CREATE TABLE t (\n    a TEXT NOT NULL\n);\nCREATE INDEX i ON t (a);",
        "CREATE TABLE t (a TEXT);ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)",
        "UPDATE orderkit_schema SET revision='0002'",
    ],
)
def test_what_does_not_is_not(script: str) -> None:
    assert list(findings(script)) == []


def test_what_contracts_may_take_away() -> None:
    assert list(findings("ALTER TABLE t DROP COLUMN a", contracting=True)) == []
