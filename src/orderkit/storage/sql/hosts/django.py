"""Django's connection, on any alias: `django.db.connection` or `django.db.connections["default"]`."""

from __future__ import annotations

from typing import Protocol

from orderkit.errors import ConfigurationError
from orderkit.storage.sql.databases import dialect_for
from orderkit.storage.sql.dialect import Dialect
from orderkit.storage.sql.execution import Executor
from orderkit.storage.sql.hosts.drivers import DriverHost, driver_host
from orderkit.storage.sql.hosts.host import aborted, another_thread, no_transaction

_DRIVERS = {"sqlite": ("sqlite", "pysqlite"), "postgresql": ("postgresql", "psycopg"), "mysql": ("mariadb", "pymysql")}
"""The database and its driver, as SQLAlchemy names them, by Django's name for the database."""


class DjangoConnection(Protocol):
    """The part of Django's `BaseDatabaseWrapper` that is used."""

    @property
    def vendor(self) -> str:
        """The database's name."""
        ...

    @property
    def connection(self) -> object:
        """The driver's connection; None before the first use."""
        ...

    @property
    def in_atomic_block(self) -> bool:
        """Whether `atomic` is around."""
        ...

    @property
    def needs_rollback(self) -> bool:
        """Whether an error was swallowed inside `atomic`."""
        ...

    def ensure_connection(self) -> None:
        """Connect if that has not happened."""
        ...

    def get_autocommit(self) -> bool:
        """Tell whether each statement is a transaction."""
        ...

    def set_rollback(self, rollback: bool) -> None:
        """Say that the innermost `atomic` cannot be committed."""
        ...

    def validate_thread_sharing(self) -> None:
        """Insist on the thread that made it."""
        ...


class DjangoHost:
    """A connection of Django's, of which each thread has its own."""

    def __init__(self, theirs: DjangoConnection) -> None:
        self._theirs = theirs
        self._host: tuple[object, DriverHost] | None = None

    def dialect(self, schema: str | None) -> Dialect:
        """Return how the database behind it is spoken to."""
        vendor = self._theirs.vendor
        if vendor not in _DRIVERS:
            raise ConfigurationError(f"There is no storage for Django's {vendor!r}; nothing was done.")
        return dialect_for(*_DRIVERS[vendor], schema)

    def flush(self) -> None:
        """Do nothing: what the application wrote is written."""

    def enter(self, dialect: Dialect) -> Executor:
        """Return what runs statements inside the `atomic` block, past Django's own cursors."""
        theirs = self._theirs
        _validate_thread(theirs)
        if theirs.needs_rollback:
            raise aborted()
        if theirs.get_autocommit():
            raise no_transaction("Django has no `atomic` block open: use `with transaction.atomic():` around it.")
        theirs.ensure_connection()
        return self._driver().enter(dialect)

    def _driver(self) -> DriverHost:
        """Return the host below, the same one for as long as Django keeps the connection."""
        below = self._theirs.connection
        # Taken once: threads share this host where they share `django.db.connection`.
        known = self._host
        if known is None or known[0] is not below:
            host = driver_host(below)
            if host is None:
                raise ConfigurationError(
                    f"Django's connection uses {type(below).__module__}, which orderkit does not; nothing was done. "
                    "Use sqlite3, psycopg 3 or PyMySQL below it."
                )
            known = self._host = below, host
        return known[1]

    def spoil(self) -> None:
        """Have Django roll the `atomic` block back, as it does itself when a savepoint is lost."""
        if self._theirs.in_atomic_block:
            self._theirs.set_rollback(True)


def _validate_thread(theirs: DjangoConnection) -> None:
    try:
        theirs.validate_thread_sharing()
    except Exception as error:
        raise another_thread() from error
