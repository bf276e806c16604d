"""How many rows of tables and indexes a statement reads, by what the database itself says."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Protocol

import attrs
import psycopg
import pymysql
from psycopg import sql

from orderkit.storage.sql.execution import Executor, PlanningExecutor, Rows


@attrs.frozen
class Said:
    """A statement as it was sent.

    Attributes:
        kept: Whether it may be prepared, and then be planned for the average value.
    """

    sql: str
    parameters: Sequence[object]
    kept: bool


class Listener:
    """Hand statements on to an executor, and remember them."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.said: list[Said] = []

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> Rows:
        self.said.append(Said(sql, parameters, kept=True))
        return self._executor.execute(sql, parameters)

    def execute_once(self, sql: str, parameters: Sequence[object]) -> Rows:
        executor = self._executor
        self.said.append(Said(sql, parameters, kept=not isinstance(executor, PlanningExecutor)))
        return (executor.execute_once if isinstance(executor, PlanningExecutor) else executor.execute)(sql, parameters)

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        raise AssertionError("nothing here writes rows")


class Reader(Protocol):
    """Run statements on a connection of its own, and count the rows they read; what they write is undone."""

    def rows_read(self, said: Said, before: Sequence[Said]) -> int:
        """Return how many rows a statement reads.

        Args:
            said: The statement.
            before: What was run just before on the same connection.
        """
        ...


USES = 6
"""From which use of a prepared statement on PostgreSQL may plan it for the average value."""


@attrs.frozen
class PostgresqlReader:
    """Ask EXPLAIN (ANALYZE), which counts what each scan returned and what it threw away."""

    connection: psycopg.Connection

    def rows_read(self, said: Said, before: Sequence[Said]) -> int:
        with self.connection.transaction(force_rollback=True):
            self._run("DEALLOCATE ALL")
            self._run(f"PREPARE q AS {said.sql}")
            if said.kept:
                for other in (*before, said):
                    for _ in range(USES if other.sql == said.sql else 0):
                        self._execute("EXECUTE q", other)
            [[[explained]]] = self._execute("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE q", said)
        return _scanned(explained["Plan"])

    def _run(self, statement: str) -> None:
        self.connection.execute(statement.encode(), prepare=False)

    def _execute(self, how: str, said: Said) -> list[Any]:
        values = sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, said.parameters)))
        cursor = self.connection.execute(sql.SQL(how) + values, prepare=False)
        return cursor.fetchall() if cursor.description else []


def _scanned(node: dict[str, Any]) -> int:
    """Return the rows that the scans of a plan went through; an index that only makes a bitmap counts as well."""
    own = 0
    if "Relation Name" in node or node["Node Type"] == "Bitmap Index Scan":
        dropped = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        own = (node["Actual Rows"] + dropped) * node["Actual Loops"]
    return int(own) + sum(_scanned(inner) for inner in node.get("Plans", ()))


_STEPS = 14
"""About how many steps SQLite's virtual machine takes for a row of an index and the row of the table behind it."""


@attrs.frozen
class SqliteReader:
    """Count the steps of SQLite's virtual machine."""

    connection: sqlite3.Connection

    def rows_read(self, said: Said, before: Sequence[Said]) -> int:
        del before
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        self.connection.execute("BEGIN")
        self.connection.set_progress_handler(step, _STEPS)
        try:
            self.connection.execute(said.sql, said.parameters).fetchall()
        finally:
            self.connection.set_progress_handler(None, 0)
            self.connection.execute("ROLLBACK")
        return steps


@attrs.frozen
class MariadbReader:
    """Ask the storage engine's own counters, which count each row that is read."""

    connection: pymysql.Connection

    def rows_read(self, said: Said, before: Sequence[Said]) -> int:
        del before
        with self.connection.cursor() as cursor:
            cursor.execute("BEGIN")
            start = self._counted(cursor)
            cursor.execute(said.sql, said.parameters)
            cursor.fetchall()
            end = self._counted(cursor)
            cursor.execute("ROLLBACK")
        return end - start

    @staticmethod
    def _counted(cursor: Any) -> int:
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
        return sum(int(value) for _, value in cursor.fetchall())
