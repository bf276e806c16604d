"""Find statements that lock a table for long: `python -m tools.locking`.

A revision runs while orders are placed. On PostgreSQL a statement that needs `ACCESS EXCLUSIVE` for longer than an
instant, or waits for it, keeps everybody out. What is made in the same script is nobody's yet and may be locked.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import NamedTuple

from orderkit.storage.sql.migrations.offline import offline_sql
from orderkit.storage.sql.migrations.tasks import Revision
from orderkit.storage.sql.migrations.versions import REVISIONS


class Finding(NamedTuple):
    """A statement that locks for long, and what to write instead."""

    statement: str
    advice: str


_RULES = (
    (r"CREATE (UNIQUE )?INDEX (?!CONCURRENTLY)", "build it CONCURRENTLY: steps.add_index"),
    (r"DROP INDEX (?!CONCURRENTLY)", "drop it CONCURRENTLY: steps.remove_index"),
    (
        r"ALTER COLUMN \S+ (SET DATA )?TYPE\b",
        "every row is written anew: add a column, copy in batches, contract later",
    ),
    (r"ALTER COLUMN \S+ SET NOT NULL", "every row is read: add a CHECK as NOT VALID, validate it, then set it"),
    (
        r"ADD (COLUMN )?(?!CONSTRAINT)\S+ (?=.*NOT NULL)(?!.*DEFAULT)",
        "rows that are there have no value: give a default",
    ),
    (r"ADD (COLUMN )?(?!CONSTRAINT)\S+ .*DEFAULT \S*\(", "every row is written anew: a default must be a constant"),
    (r"ADD CONSTRAINT (?!.*(NOT VALID|USING INDEX))", "every row is read: add it as NOT VALID, then VALIDATE it"),
    (r"\b(VACUUM FULL|CLUSTER|REINDEX (?!.*CONCURRENTLY)|LOCK TABLE|TRUNCATE)\b", "the table is locked all the while"),
)
_CONTRACTING = r"\b(DROP (COLUMN|TABLE)|RENAME (COLUMN|TO))\b"
_NEW_TABLE = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?(\S+)")
_TABLE = re.compile(r"(?:ALTER TABLE (?:ONLY )?|\bON |DROP TABLE (?:IF EXISTS )?)(\S+)")


def findings(sql: str, *, contracting: bool = False) -> Iterator[Finding]:
    """Yield the statements of a script that lock tables for long, or that older releases would not survive.

    Args:
        sql: What a revision runs on PostgreSQL.
        contracting: Whether it may take away what older releases use.
    """
    new: set[str] = set()
    for statement in statements(sql):
        made = _NEW_TABLE.match(statement)
        if made:
            new.add(made[1])
        table = _TABLE.search(statement)
        if table is not None and table[1] in new:
            continue
        for pattern, advice in _RULES:
            if re.search(pattern, statement):
                yield Finding(statement, advice)
        if not contracting and re.search(_CONTRACTING, statement):
            yield Finding(
                statement, "older releases still use it: take it away a release later, and raise compatible_from"
            )


def statements(sql: str) -> Iterator[str]:
    """Yield the statements of a script, each on one line and without comments."""
    text = re.sub(r"--[^\n]*", "", sql)
    for statement in text.split(";"):
        line = " ".join(statement.split())
        if line:
            yield line


def of_revision(revision: Revision) -> list[Finding]:
    """Return what is found in the upgrade of a revision."""
    sql = offline_sql("postgresql", revision.down_revision, revision.revision)
    return list(findings(sql, contracting=revision.compatible_from == revision.revision))


def main() -> int:
    """Print what is found; return 1 if that is anything."""
    found = [(revision.revision, one) for revision in REVISIONS for one in of_revision(revision)]
    for number, finding in found:
        print(f"{number}: {finding.statement}\n    {finding.advice}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
