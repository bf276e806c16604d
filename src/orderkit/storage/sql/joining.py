"""Join the application's own transaction, which stays theirs to commit or to roll back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection

from orderkit.errors import ConfigurationError, OrderKitError
from orderkit.storage.sql.brackets import Savepoint
from orderkit.storage.sql.databases import dialect_for
from orderkit.storage.sql.dialect import Dialect
from orderkit.storage.sql.execution import Executor
from orderkit.storage.sql.failures import Phase, failure
from orderkit.storage.sql.storage import SqlStorage
from orderkit.unit_of_work.storage import Caller

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
    from sqlalchemy.orm import Session

T = TypeVar("T")


def join(session: Session | Connection, *, schema: str | None = None) -> SqlStorage:
    """Return a storage inside somebody else's transaction, which is begun if it has not been.

    A session is flushed first. Every `commit` of the storage is surrounded by a savepoint; the connection is
    neither committed, closed nor returned.

    Args:
        session: Theirs. Inside `run_sync` it is the synchronous face of an asynchronous one.
        schema: The schema of the tables, on PostgreSQL.

    Raises:
        ConfigurationError: The connection commits each statement by itself: there is nothing to join.
        StorageError: The database was not reached.
    """
    if not isinstance(session, Connection):
        session.flush()
    bound = session.get_bind() if not isinstance(session, Connection) else session
    dialect = dialect_for(bound.dialect.name, bound.dialect.driver, schema)
    try:
        executor = _begun(session if isinstance(session, Connection) else session.connection(), dialect)
    except OrderKitError:
        raise
    except Exception as error:
        raise failure(dialect.fault(getattr(error, "orig", None) or error), Phase.CONNECTING) from error
    return SqlStorage(executor, dialect, Savepoint(executor), in_transaction=True)


def _begun(connection: Connection, dialect: Dialect) -> Executor:
    """Return an executor inside the connection's transaction, begun here if it has not been."""
    if not connection.in_transaction():
        connection.begin()
    pooled = connection.connection
    if dialect.one_statement and getattr(pooled.dbapi_connection, "autocommit", False) is True:
        raise ConfigurationError("The connection is in autocommit mode, so that there is no transaction to join.")
    executor = dialect.executor(pooled)
    if not dialect.one_statement and not getattr(pooled.driver_connection, "in_transaction", True):
        # The driver begins only before the first write, and the release of a savepoint outside a transaction
        # would commit.
        executor.execute(dialect.begin)
    return executor


def async_join(session: AsyncSession | AsyncConnection, *, schema: str | None = None) -> Caller[SqlStorage]:
    """Return a caller that runs work inside somebody else's transaction; see `join`."""

    async def call(work: Callable[[SqlStorage], T], /) -> T:
        def run(theirs: Session | Connection) -> T:
            return work(join(theirs, schema=schema))

        return await session.run_sync(run)

    return call
