"""The one thing a storage needs of a connection: run a statement and return its rows."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, cast, runtime_checkable

from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import await_only

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


@runtime_checkable
class CopyingExecutor(Executor, Protocol):
    """An executor that can also send rows as a stream, as PostgreSQL's COPY does."""

    def copy(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Parameter]]) -> None:
        """Append rows to a table, inside the transaction that is under way.

        Args:
            table: Its qualified name, quoted where needed.
            columns: The columns that the rows have, in order.
            rows: The rows.
        """
        ...


@runtime_checkable
class PlanningExecutor(Executor, Protocol):
    """An executor that can also have a statement planned for the values it is run with.

    PostgreSQL plans a prepared statement for the average value once it was used five times. For a search that is
    wrong by orders of magnitude: one SKU is in three orders, the next in every third.
    """

    def execute_once(self, sql: str, parameters: Sequence[Parameter]) -> Rows:
        """Run a statement without preparing it, and return all its rows."""
        ...


@runtime_checkable
class ScriptExecutor(Executor, Protocol):
    """An executor that can also send several statements in one message."""

    def execute_script(self, statements: Sequence[str], parameters: Sequence[Parameter]) -> Iterator[None]:
        """Run statements that return nothing, up to the first that fails; yield once for each.

        It is over when it is exhausted: before that, nothing else can be run.
        """
        ...


def execute_once(executor: Executor, sql: str, parameters: Sequence[Parameter]) -> Rows:
    """Run a statement whose plan depends on the values or on how much there is, planned for this once if it can be."""
    run = executor.execute_once if isinstance(executor, PlanningExecutor) else executor.execute
    return run(sql, parameters)


class DriverCursor(Protocol):
    """The part of a DB-API 2.0 cursor that is used (PEP 249)."""

    @property
    def description(self) -> object:
        """What the columns of the result are; None if there is none."""
        ...

    def execute(self, operation: str, parameters: Sequence[Parameter], /) -> object:
        """Run a statement."""
        ...

    def executemany(self, operation: str, parameters: Sequence[Sequence[Parameter]], /) -> object:
        """Run a statement for each row of parameters."""
        ...

    def fetchall(self) -> Rows:
        """Return all rows of the result."""
        ...


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


@functools.cache
def _in_bytes(statement: str) -> bytes:
    """Return a statement as psycopg looks it up among those it has prepared: one object, hashed once."""
    return statement.encode()


class PymysqlExecutor(DriverExecutor):
    """Run statements on a cursor of PyMySQL whose connection takes several in one message."""

    # A cursor of a driver that may not be installed: its type cannot be named here.
    def __init__(self, cursor: Any) -> None:
        super().__init__(cursor)
        self._raw = cursor

    def execute_script(self, statements: Sequence[str], parameters: Sequence[Parameter]) -> Iterator[None]:
        """Run statements that return nothing, up to the first that fails; yield once for each."""
        self._raw.execute("; ".join(statements), parameters)
        yield
        while self._raw.nextset():
            yield


class PsycopgExecutor:
    """Run statements on a raw cursor of psycopg.

    It takes `$1`, `$2`, … as the server does. In its own style psycopg keeps no statement of more than 50
    parameters in mind, and would split the text anew at each call; and `description` builds an object for
    each column only to be asked whether there are any.
    """

    # A cursor of a driver that may not be installed: its type cannot be named here.
    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def execute(self, sql: str, parameters: Sequence[Parameter] = ()) -> Rows:
        """Run a statement and return all its rows; none if it has none to return."""
        cursor = self._cursor
        cursor.execute(_in_bytes(sql), parameters)
        return cast("Rows", cursor.fetchall()) if cursor.pgresult.nfields else ()

    def execute_once(self, sql: str, parameters: Sequence[Parameter]) -> Rows:
        """Run a statement without preparing it, and return all its rows."""
        return cast("Rows", self._cursor.execute(sql, parameters, prepare=False).fetchall())

    def execute_many(self, sql: str, rows: Sequence[Sequence[Parameter]]) -> None:
        """Run a statement that returns nothing once for each row of parameters."""
        self._cursor.executemany(sql, rows)

    def copy(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Parameter]]) -> None:
        """Append rows to a table, inside the transaction that is under way."""
        with self._cursor.copy(copy_statement(table, columns)) as stream:
            for row in rows:
                stream.write_row(row)


def copy_statement(table: str, columns: Sequence[str]) -> str:
    """Return the statement that opens a stream of rows into a table."""
    return f"COPY {table} ({', '.join(columns)}) FROM STDIN"


class AwaitingExecutor:
    """Run statements on a raw asynchronous cursor of psycopg, from inside SQLAlchemy's greenlet."""

    # A cursor of a driver that may not be installed: its type cannot be named here.
    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def execute(self, sql: str, parameters: Sequence[Parameter] = ()) -> Rows:
        """Run a statement and return all its rows; none if it has none to return."""
        return await_only(self._execute(sql, parameters))

    async def _execute(self, sql: str, parameters: Sequence[Parameter]) -> Rows:
        await self._cursor.execute(_in_bytes(sql), parameters)
        return cast("Rows", await self._cursor.fetchall()) if self._cursor.pgresult.nfields else ()

    def execute_once(self, sql: str, parameters: Sequence[Parameter]) -> Rows:
        """Run a statement without preparing it, and return all its rows."""
        return await_only(self._execute_once(sql, parameters))

    async def _execute_once(self, sql: str, parameters: Sequence[Parameter]) -> Rows:
        await self._cursor.execute(sql, parameters, prepare=False)
        return cast("Rows", await self._cursor.fetchall())

    def execute_many(self, sql: str, rows: Sequence[Sequence[Parameter]]) -> None:
        """Run a statement that returns nothing once for each row of parameters."""
        await_only(self._cursor.executemany(sql, rows))

    def copy(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Parameter]]) -> None:
        """Append rows to a table, inside the transaction that is under way."""
        await_only(self._copy(copy_statement(table, columns), rows))

    async def _copy(self, statement: str, rows: Sequence[Sequence[Parameter]]) -> None:
        async with self._cursor.copy(statement) as stream:
            for row in rows:
                await stream.write_row(row)


class AsyncpgExecutor(DriverExecutor):
    """Run statements on a connection of asyncpg itself, from inside SQLAlchemy's greenlet.

    It keeps prepared statements in mind by itself; SQLAlchemy's cursor would do so again, and describe the columns.
    """

    # Connections of a driver that may not be installed: their types cannot be named here.
    def __init__(self, adapted: Any, raw: Any) -> None:
        super().__init__(adapted.cursor())
        self._adapted = adapted
        self._raw = raw

    def execute(self, sql: str, parameters: Sequence[Parameter] = ()) -> Rows:
        """Run a statement and return all its rows; none if it has none to return."""
        if not self._adapted.autocommit and not self._raw.is_in_transaction():
            # Somebody else's transaction, which SQLAlchemy begins before the first statement on its cursor.
            return super().execute(sql, parameters)
        return cast("Rows", await_only(self._raw.fetch(sql, *parameters)))

    def execute_once(self, sql: str, parameters: Sequence[Parameter]) -> Rows:
        """Run a statement that is prepared without a name, for this once, and return all its rows."""
        if not self._adapted.autocommit and not self._raw.is_in_transaction():
            return super().execute(sql, parameters)
        return await_only(self._execute_once(sql, parameters))

    async def _execute_once(self, sql: str, parameters: Sequence[Parameter]) -> Rows:
        statement = await self._raw.prepare(sql, name="")
        return cast("Rows", await statement.fetch(*parameters))


MULTI_STATEMENTS = 1 << 16
"""The flag of a connection to MariaDB or MySQL that takes several statements in one message."""

_INFO = "orderkit.executor"


def executor_of(connection: PoolProxiedConnection, driver: str) -> Executor:
    """Return the executor of a pooled connection, one for its life.

    A cursor of psycopg learns how to send and read values as it goes: a new one for each storage was measured
    at 100 microseconds more.
    """
    executor: Executor | None = connection.info.get(_INFO)
    if executor is None:
        executor = connection.info[_INFO] = _new_executor(connection, driver)
    return executor


def _new_executor(connection: PoolProxiedConnection, driver: str) -> Executor:
    """Return a new executor.

    psycopg is used through its raw cursors, which take `$1`, `$2`, … as the server does: it caches no
    statement of more than 50 parameters in its own style, and would split the text anew at each call.
    """
    if driver == "asyncpg":
        return AsyncpgExecutor(connection.dbapi_connection, connection.driver_connection)
    if driver == "pymysql" and getattr(connection.driver_connection, "client_flag", 0) & MULTI_STATEMENTS:
        return PymysqlExecutor(connection.cursor())
    if driver != "psycopg":
        return DriverExecutor(cast("DriverCursor", connection.cursor()))
    from psycopg import AsyncConnection, AsyncRawCursor, RawCursor

    raw: Any = connection.driver_connection
    if isinstance(raw, AsyncConnection):
        return AwaitingExecutor(AsyncRawCursor(raw))
    return PsycopgExecutor(RawCursor(raw))
