"""The one thing a storage needs of a connection: run a statement and return its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

Parameter = object
"""What a driver takes: a value of a row, or a list of them for a PostgreSQL array."""

Rows = Sequence[Sequence[object]]


class Executor(Protocol):
    """Run statements on one connection, in the placeholder style of its driver."""

    def execute(self, sql: str, parameters: Sequence[Parameter] = ()) -> Rows:
        """Run a statement and return all its rows; none if it has none to return."""
        ...

    def execute_many(self, sql: str, rows: Sequence[Sequence[Parameter]]) -> None:
        """Run a statement that returns nothing once for each row of parameters."""
        ...


class DriverCursor(Protocol):
    """The part of a DB-API 2.0 cursor that is used (PEP 249)."""

    @property
    def description(self) -> object: ...
    def execute(self, operation: str, parameters: Sequence[Parameter], /) -> object: ...
    def executemany(self, operation: str, parameters: Sequence[Sequence[Parameter]], /) -> object: ...
    def fetchall(self) -> Rows: ...


class DriverExecutor:
    """Run statements on a DB-API cursor, kept for the life of the storage."""

    def __init__(self, cursor: DriverCursor) -> None:
        self._cursor = cursor

    def execute(self, sql: str, parameters: Sequence[Parameter] = ()) -> Rows:
        """Run a statement and return all its rows; none if it has none to return."""
        cursor = self._cursor
        cursor.execute(sql, parameters)
        return cursor.fetchall() if cursor.description else ()

    def execute_many(self, sql: str, rows: Sequence[Sequence[Parameter]]) -> None:
        """Run a statement that returns nothing once for each row of parameters."""
        self._cursor.executemany(sql, rows)
