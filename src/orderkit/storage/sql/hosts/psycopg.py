"""A plain connection of psycopg 3, synchronous or not."""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection, AsyncRawCursor, Connection, RawCursor
from psycopg.abc import Loader
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types.bool import BoolDumper, BoolLoader
from psycopg.types.datetime import DatetimeDumper, TimestamptzLoader
from psycopg.types.numeric import Int8Dumper, IntLoader
from psycopg.types.string import StrDumper, TextLoader

from orderkit.errors import ConfigurationError
from orderkit.storage.sql.databases import dialect_for
from orderkit.storage.sql.dialect import Dialect
from orderkit.storage.sql.execution import AwaitingExecutor, Executor, PsycopgExecutor
from orderkit.storage.sql.hosts.host import aborted, closed, no_transaction

_LOADERS: dict[str, type[Loader]] = {
    "text": TextLoader,
    "int4": IntLoader,
    "int8": IntLoader,
    "bool": BoolLoader,
    "timestamptz": TimestamptzLoader,
}


class PsycopgHost:
    """A connection of psycopg, whatever makes its rows and cursors and however it prepares statements."""

    def __init__(self, connection: Connection[Any] | AsyncConnection[Any]) -> None:
        self._connection = connection
        self._executor: Executor | None = None

    def dialect(self, schema: str | None) -> Dialect:
        """Return how PostgreSQL is spoken to."""
        return dialect_for("postgresql", "psycopg", schema)

    def flush(self) -> None:
        """Do nothing: what the application wrote is written."""

    def enter(self, dialect: Dialect) -> Executor:
        """Return what runs statements inside the transaction, which psycopg begins with the first of them."""
        if self._executor is None:
            self._executor = _executor(self._connection)
        self.check(self._executor, dialect)
        return self._executor

    def check(self, executor: Executor, dialect: Dialect) -> None:
        """Insist on a transaction that can be worked in."""
        connection = self._connection
        status = connection.info.transaction_status
        if connection.closed or status is TransactionStatus.UNKNOWN:
            raise closed()
        if status is TransactionStatus.INERROR:
            raise aborted()
        if status is TransactionStatus.IDLE and connection.autocommit:
            raise no_transaction("Open one with `connection.transaction()`.")
        if status is TransactionStatus.ACTIVE or connection.info.pipeline_status is not PipelineStatus.OFF:
            raise ConfigurationError(
                "The connection is in the middle of something else, such as a pipeline, a COPY or a stream; nothing "
                "was done. End that first."
            )
        if connection.info.encoding != "utf-8":
            raise ConfigurationError(
                "The connection's client_encoding is not UTF8, so that texts would be lost; nothing was done. "
                "Set it to UTF8."
            )

    def spoil(self) -> None:
        """Do nothing: PostgreSQL lets no statement through before the rollback."""


def _executor(connection: Connection[Any] | AsyncConnection[Any]) -> Executor:
    """Return a cursor's executor that neither rows nor values of theirs have a part in."""
    if isinstance(connection, AsyncConnection):
        awaiting = AsyncRawCursor(connection, row_factory=tuple_row)
        _plain(awaiting)
        return AwaitingExecutor(awaiting)
    cursor = RawCursor(connection, row_factory=tuple_row)
    _plain(cursor)
    return PsycopgExecutor(cursor)


def _plain(cursor: RawCursor[Any] | AsyncRawCursor[Any]) -> None:
    """Have values travel as psycopg itself has them: Django, for one, reads times without a zone."""
    adapters = cursor.adapters
    for name, loader in _LOADERS.items():
        adapters.register_loader(name, loader)
    for python, dumper in ((str, StrDumper), (bool, BoolDumper)):
        adapters.register_dumper(python, dumper)
    adapters.register_dumper("datetime.datetime", DatetimeDumper)
    # By their size, psycopg would prepare a statement for each.
    adapters.register_dumper(int, Int8Dumper)
