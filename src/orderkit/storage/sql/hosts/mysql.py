"""A plain connection to MariaDB or MySQL: PyMySQL's, or mysqlclient's, which is made alike."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module
from typing import Protocol, cast

from orderkit.errors import ConfigurationError
from orderkit.storage.sql.databases import dialect_for
from orderkit.storage.sql.dialect import Dialect
from orderkit.storage.sql.execution import DriverCursor, DriverExecutor, Executor
from orderkit.storage.sql.hosts.drivers import is_a
from orderkit.storage.sql.hosts.host import closed, no_transaction

_UNKNOWN_VARIABLE = 1193

_SAMPLE = ("text", datetime(2026, 11, 22, 18, 30, 0, 250_000, tzinfo=UTC).replace(tzinfo=None), 1 << 40)
"""A text, a time and a number that must come back as they were sent."""


class MysqlConnection(Protocol):
    """The part of a connection of PyMySQL or mysqlclient that is used."""

    @property
    def open(self) -> object:
        """Whether it is open."""
        ...

    def get_autocommit(self) -> bool:
        """Tell, without a round trip, whether each statement is a transaction."""
        ...


class MysqlHost:
    """A connection to MariaDB or MySQL, whatever makes its rows."""

    def __init__(self, connection: MysqlConnection) -> None:
        self._connection = connection
        self._executor: Executor | None = None

    def dialect(self, schema: str | None) -> Dialect:
        """Return how MariaDB is spoken to."""
        return dialect_for("mariadb", "pymysql", schema)

    def flush(self) -> None:
        """Do nothing: what the application wrote is written."""

    def enter(self, dialect: Dialect) -> Executor:
        """Return what runs statements inside the transaction, which the server begins with the first of them."""
        if not self._connection.open:
            raise closed()
        executor = self._executor or DriverExecutor(self._cursor())
        self.check(executor, dialect)
        if self._executor is None and executor.execute("SELECT %s, CAST(%s AS DATETIME(6)), %s", _SAMPLE)[0] != _SAMPLE:
            raise ConfigurationError(
                "The connection changes texts, times or numbers on their way (use_unicode, conv); nothing was done. "
                "Join one that does not."
            )
        self._executor = executor
        return executor

    def _cursor(self) -> DriverCursor:
        """Return a cursor of the driver's plain kind, whose rows are tuples."""
        package = "pymysql" if is_a(self._connection, "pymysql.connections", "Connection") else "MySQLdb"
        return cast("DriverCursor", import_module(f"{package}.cursors").Cursor(self._connection))

    def check(self, executor: Executor, dialect: Dialect) -> None:
        """Insist on a transaction: outside of one the server ignores savepoints without a word."""
        if self._connection.get_autocommit() and not _in_transaction(executor):
            raise no_transaction("Turn autocommit off, or begin one with `connection.begin()`.")

    def spoil(self) -> None:
        """Do nothing: the driver has no way to say so."""


def _in_transaction(executor: Executor) -> bool:
    """Tell whether a transaction was begun in spite of autocommit, as MariaDB can tell and MySQL cannot."""
    try:
        return executor.execute("SELECT @@in_transaction")[0][0] == 1
    except Exception as error:
        if error.args[:1] == (_UNKNOWN_VARIABLE,):
            return False
        raise
