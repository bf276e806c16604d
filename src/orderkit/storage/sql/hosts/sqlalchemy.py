"""SQLAlchemy's session and connection. Inside `run_sync`, those are the synchronous faces of asynchronous ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection
from sqlalchemy.exc import InvalidRequestError, ResourceClosedError, UnboundExecutionError

from orderkit.errors import ConfigurationError
from orderkit.storage.sql.databases import dialect_for
from orderkit.storage.sql.dialect import Dialect
from orderkit.storage.sql.execution import Executor
from orderkit.storage.sql.hosts.drivers import driver_host
from orderkit.storage.sql.hosts.host import aborted, closed, no_transaction

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from sqlalchemy.orm.scoping import scoped_session


class SqlalchemyHost:
    """A session, which is flushed first, or a connection."""

    def __init__(self, theirs: Session | scoped_session[Any] | Connection) -> None:
        self._theirs = theirs

    def dialect(self, schema: str | None) -> Dialect:
        """Return how the database behind it is spoken to."""
        theirs = self._theirs
        try:
            spoken = theirs.dialect if isinstance(theirs, Connection) else theirs.get_bind().dialect
        except UnboundExecutionError:
            raise ConfigurationError(
                "The session has no database for tables that are not its own; nothing was done. Join one of its "
                "connections: kit.within(session.connection(bind_arguments=...))."
            ) from None
        if spoken.name == "sqlite" and spoken.driver != "pysqlite":
            raise ConfigurationError(
                f"SQLite is joined through sqlite3 alone, not through {spoken.driver!r}; nothing was done."
            )
        return dialect_for(spoken.name, spoken.driver, schema)

    def flush(self) -> None:
        """Have a session's rows written, unless it waits for its rollback."""
        theirs = self._theirs
        if not isinstance(theirs, Connection) and theirs.is_active:
            theirs.flush()

    def enter(self, dialect: Dialect) -> Executor:
        """Return what runs statements inside the transaction, begun if it has not been."""
        theirs = self._theirs
        try:
            connection = theirs if isinstance(theirs, Connection) else theirs.connection()
            _begin(connection)
        except ResourceClosedError as error:
            raise closed() from error
        except InvalidRequestError as error:
            raise aborted() from error
        return _entered(connection, dialect)

    def spoil(self) -> None:
        """Do nothing: SQLAlchemy has no mark for a transaction that its database has ended."""


def _begin(connection: Connection) -> None:
    nested = connection.get_nested_transaction()
    if nested is not None and not nested.is_active:
        raise aborted()
    if not connection.in_transaction():
        connection.begin()


def _entered(connection: Connection, dialect: Dialect) -> Executor:
    """Return the executor of the connection below, if the driver has a transaction too."""
    pooled = connection.connection
    if getattr(pooled.dbapi_connection, "autocommit", False) is True:
        raise no_transaction("Leave out the isolation level AUTOCOMMIT.")
    executor = dialect.executor(pooled)
    host = driver_host(pooled.driver_connection)
    if host is not None:
        host.check(executor, dialect)
    return executor
