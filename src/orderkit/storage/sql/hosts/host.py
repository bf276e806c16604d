"""What a joined connection is to orderkit: somebody else's, with a transaction that somebody else ends."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Protocol

from orderkit.errors import ConfigurationError, StorageUnavailable, TransactionAborted
from orderkit.storage.sql.dialect import Dialect
from orderkit.storage.sql.execution import Executor


class DatabaseConnection(Protocol):
    """A connection of psycopg 3, sqlite3 or PyMySQL (PEP 249), or one of Django's."""

    def cursor(self) -> object:
        """Return a cursor of theirs, which is not used."""
        ...

    def commit(self) -> None:
        """End their transaction, which is theirs to do."""
        ...

    def rollback(self) -> None:
        """Take their transaction back, which is theirs to do."""
        ...

    def close(self) -> None:
        """Close it, which is theirs to do."""
        ...


class ConnectionProxy(Protocol):
    """What stands for the connection of this thread or request, as `django.db.connection` does."""

    def __getattr__(self, name: str, /) -> object:
        """Return an attribute of the connection."""
        ...


class AsyncDatabaseConnection(Protocol):
    """An asynchronous connection of psycopg 3."""

    def cursor(self) -> object:
        """Return a cursor of theirs, which is not used."""
        ...

    def commit(self) -> Coroutine[object, object, None]:
        """End their transaction, which is theirs to do."""
        ...

    def rollback(self) -> Coroutine[object, object, None]:
        """Take their transaction back, which is theirs to do."""
        ...

    def close(self) -> Coroutine[object, object, None]:
        """Close it, which is theirs to do."""
        ...


class Host(Protocol):
    """A connection to be a guest on. It is never committed, rolled back, closed or set up otherwise."""

    def dialect(self, schema: str | None) -> Dialect:
        """Return how its database is spoken to.

        Raises:
            ConfigurationError: orderkit does not speak to that database.
        """
        ...

    def flush(self) -> None:
        """Have rows written that the application has not written yet. What that raises is the application's own."""
        ...

    def enter(self, dialect: Dialect) -> Executor:
        """Return what runs statements inside its transaction, begun if its driver would have begun it now.

        Raises:
            ConfigurationError: There is no transaction to join, or it is none that orderkit can work in.
            TransactionAborted: It can only be rolled back.
            StorageUnavailable: The connection is closed.
        """
        ...

    def spoil(self) -> None:
        """Keep what follows from being committed alone: the database ended the transaction at an error of ours."""
        ...


def no_transaction(advice: str) -> ConfigurationError:
    """Return the error for a connection on which every statement is a transaction of its own."""
    return ConfigurationError(
        "The connection commits each statement by itself, so that there is no transaction to join; nothing was done. "
        + advice
    )


def closed() -> StorageUnavailable:
    """Return the error for a connection that is no longer open."""
    return StorageUnavailable("The connection is closed; nothing was read or written. Join an open one.")


def aborted() -> TransactionAborted:
    """Return the error for a transaction that an earlier error left of no use."""
    return TransactionAborted(
        "The transaction is over or can only be rolled back; nothing was read or written. Roll it back, to a "
        "savepoint of yours or as a whole, before you go on."
    )


def another_thread() -> ConfigurationError:
    """Return the error for a connection that its driver lets no other thread use."""
    return ConfigurationError(
        "The connection belongs to another thread; nothing was done. Join it in the thread that opened it."
    )
