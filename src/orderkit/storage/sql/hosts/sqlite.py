"""A plain connection of the standard library's sqlite3."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import cast

import attrs

from orderkit.errors import ConfigurationError
from orderkit.storage.sql.databases import dialect_for
from orderkit.storage.sql.dialect import Dialect
from orderkit.storage.sql.execution import DriverCursor, DriverExecutor, Executor, Parameter, Rows
from orderkit.storage.sql.hosts.host import another_thread, closed, no_transaction

_READ = {"TEXT", "INTEGER", "BIGINT"}
"""The declared types of columns that are read."""


@attrs.frozen
class SqliteHost:
    """A connection of sqlite3, whatever makes its rows, texts and transactions."""

    connection: sqlite3.Connection

    def dialect(self, schema: str | None) -> Dialect:
        """Return how SQLite is spoken to."""
        return dialect_for("sqlite", "pysqlite", schema)

    def flush(self) -> None:
        """Do nothing: what the application wrote is written."""

    def enter(self, dialect: Dialect) -> Executor:
        """Return what runs statements inside the transaction, begun here where the driver begins them unasked."""
        executor = TextExecutor(self.connection, self._cursor())
        self.check(executor, dialect)
        return executor

    def check(self, executor: Executor, dialect: Dialect) -> None:
        """Insist on a transaction and on plain values."""
        if not self._in_transaction():
            if not self._begins_unasked():
                raise no_transaction("Execute BEGIN IMMEDIATE first.")
            # The driver begins only before the first write, and the release of a savepoint outside a
            # transaction would commit.
            executor.execute(dialect.begin)
        if _READ & sqlite3.converters.keys() and not _reads_plainly(executor):
            raise ConfigurationError(
                "The connection converts plain text or integers (detect_types, register_converter), so that orders "
                "cannot be read; nothing was done. Join one that does not."
            )

    def _cursor(self) -> DriverCursor:
        """Return a cursor that takes over no row factory of theirs."""
        try:
            return cast("DriverCursor", sqlite3.Cursor(self.connection))
        except sqlite3.ProgrammingError as error:
            raise another_thread() from error

    def _in_transaction(self) -> bool:
        try:
            return self.connection.in_transaction
        except sqlite3.ProgrammingError:
            raise closed() from None

    def _begins_unasked(self) -> bool:
        """Tell whether the driver would begin a transaction before the next write.

        From Python 3.12 on `autocommit` says so where it is set, and `isolation_level` counts no more.
        """
        autocommit: object = getattr(self.connection, "autocommit", None)
        return autocommit is False or (autocommit is not True and self.connection.isolation_level is not None)

    def spoil(self) -> None:
        """Do nothing: the driver has no way to say so, and `in_transaction` is false now."""


class TextExecutor(DriverExecutor):
    """Run statements on a cursor of sqlite3 whose texts are `str`, whatever the connection makes of its own."""

    def __init__(self, connection: sqlite3.Connection, cursor: DriverCursor) -> None:
        super().__init__(cursor)
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Parameter] = ()) -> Rows:
        """Run a statement and return all its rows; none if it has none to return."""
        with _texts(self._connection):
            return super().execute(sql, parameters)


@contextmanager
def _texts(connection: sqlite3.Connection) -> Generator[None]:
    theirs = connection.text_factory
    connection.text_factory = str
    try:
        yield
    finally:
        connection.text_factory = theirs


def _reads_plainly(executor: Executor) -> bool:
    """Tell whether a column declared as text or as an integer is read as what it holds."""
    rows = executor.execute("SELECT name, name || '', rowid, rowid + 0 FROM sqlite_master LIMIT 1")
    return all(row[0] == row[1] and row[2] == row[3] for row in rows)
