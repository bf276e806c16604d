"""Join the application's own transaction, which stays theirs to commit or to roll back."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import event
from sqlalchemy.util import await_only, greenlet_spawn

from orderkit.errors import ConfigurationError, OrderKitError
from orderkit.storage.sql.brackets import Savepoint
from orderkit.storage.sql.execution import Executor
from orderkit.storage.sql.failures import Phase, failure
from orderkit.storage.sql.hosts.drivers import driver_host, is_a
from orderkit.storage.sql.hosts.host import AsyncDatabaseConnection, ConnectionProxy, DatabaseConnection, Host
from orderkit.storage.sql.storage import SqlStorage
from orderkit.unit_of_work.storage import Caller

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
    from sqlalchemy.orm import Session
    from sqlalchemy.orm.scoping import scoped_session

    Joinable = Session | scoped_session[Any] | Connection | DatabaseConnection | ConnectionProxy
    AsyncJoinable = AsyncSession | async_scoped_session[Any] | AsyncConnection | AsyncDatabaseConnection

T = TypeVar("T")

_ASYNC_SQLALCHEMY = ("sqlalchemy.ext.asyncio", "AsyncSession", "AsyncConnection", "async_scoped_session")
_ASYNC_PSYCOPG = ("psycopg", "AsyncConnection")
_ASYNCHRONOUS = (
    _ASYNC_SQLALCHEMY,
    _ASYNC_PSYCOPG,
    ("aiomysql", "Connection"),
    ("asyncpg", "Connection"),
    ("aiosqlite", "Connection"),
)


def join(theirs: Joinable, *, schema: str | None = None) -> Callable[[], SqlStorage]:
    """Return what opens storages inside somebody else's transaction, one for each command.

    A transaction that has not begun is begun then, if its driver would have begun it with the next statement;
    a session is flushed first. Savepoints surround whatever can raise; the connection is neither committed,
    rolled back, closed nor set up otherwise.

    Args:
        theirs: A session or connection of SQLAlchemy, a connection of psycopg 3, sqlite3 or PyMySQL, or Django's.
        schema: The schema of the tables, on PostgreSQL.

    Raises:
        ConfigurationError: It is something else, or what is opened is not in a transaction to work in.
    """
    bare = _bare(theirs)
    if any(is_a(bare, module, *names) for module, *names in _ASYNCHRONOUS):
        raise ConfigurationError("OrderKit joins synchronous connections; an asynchronous one is for AsyncOrderKit.")
    return _opener(_host_of(bare), schema)


def async_join(theirs: AsyncJoinable, *, schema: str | None = None) -> Caller[SqlStorage]:
    """Return a caller that runs work inside somebody else's transaction; see `join`.

    Args:
        theirs: An asynchronous session or connection of SQLAlchemy, or a connection of psycopg 3.
        schema: The schema of the tables, on PostgreSQL.

    Raises:
        ConfigurationError: It is something else.
    """
    if is_a(theirs, *_ASYNC_SQLALCHEMY):
        return _caller_of_sqlalchemy(theirs, schema)
    if not is_a(theirs, *_ASYNC_PSYCOPG):
        raise ConfigurationError(
            f"AsyncOrderKit cannot join {_kind(theirs)}; nothing was done. It joins an AsyncSession or an "
            "AsyncConnection of SQLAlchemy or of psycopg 3; whatever is synchronous is for OrderKit."
        )
    opened = _opener(_host_of(theirs), schema)

    async def call(work: Callable[[SqlStorage], T], /) -> T:
        return await greenlet_spawn(lambda: work(opened()))

    return call


def _caller_of_sqlalchemy(theirs: Any, schema: str | None) -> Caller[SqlStorage]:
    async def call(work: Callable[[SqlStorage], T], /) -> T:
        def run(synchronous: Session | Connection) -> T:
            return work(join(synchronous, schema=schema)())

        return cast("T", await _async_session(theirs).run_sync(run))

    return call


def _opener(host: Host, schema: str | None) -> Callable[[], SqlStorage]:
    """Return what enters a host's transaction and opens a storage in it."""
    checked: list[Executor] = []

    def open_storage() -> SqlStorage:
        dialect = host.dialect(schema)
        host.flush()
        try:
            executor = host.enter(dialect)
            if executor not in checked:
                dialect.check_session(executor)
                checked[:] = [executor]
        except OrderKitError:
            raise
        except Exception as error:
            raise failure(dialect.fault(_driver_error(error)), Phase.CONNECTING) from error
        return SqlStorage(executor, dialect, Savepoint(executor), in_transaction=True, spoil=host.spoil)

    return open_storage


def _driver_error(error: Exception) -> BaseException:
    """Return what the driver raised: SQLAlchemy keeps it at hand, Django as the cause."""
    return getattr(error, "orig", None) or error.__cause__ or error


def _bare(theirs: Any) -> Any:
    """Return the driver's connection for one in the wrapper of SQLAlchemy's pool."""
    return theirs.driver_connection if is_a(theirs, "sqlalchemy", "PoolProxiedConnection") else theirs


def _host_of(theirs: Any) -> Host:
    if is_a(theirs, "sqlalchemy", "Connection") or is_a(theirs, "sqlalchemy.orm", "Session", "scoped_session"):
        from orderkit.storage.sql.hosts.sqlalchemy import SqlalchemyHost

        return SqlalchemyHost(theirs)
    if is_a(theirs, "django.db.backends.base.base", "BaseDatabaseWrapper") or is_a(
        theirs, "django.utils.connection", "ConnectionProxy"
    ):
        from orderkit.storage.sql.hosts.django import DjangoHost

        return DjangoHost(theirs)
    host = driver_host(theirs)
    if host is None:
        raise ConfigurationError(
            f"orderkit cannot join {_kind(theirs)}; nothing was done. It joins a session or a connection of "
            "SQLAlchemy, a connection of psycopg 3, sqlite3 or PyMySQL, and Django's connection."
        )
    return host


def _kind(theirs: object) -> str:
    kind = type(theirs)
    return f"{kind.__module__}.{kind.__qualname__}"


_ACTS = "orderkit_acts"


def on_commit(theirs: Joinable, act: Callable[[], None]) -> bool:
    """Have something done once the transaction that is open now is over.

    Args:
        theirs: What was joined.
        act: What is to be done; it does no harm where the transaction was rolled back.

    Returns:
        Whether that is told: by a session of SQLAlchemy and by Django's `atomic`. A bare connection tells nobody, and
        a session inside a connection's transaction tells when its own part is over, not when that is committed.
    """
    if is_a(theirs, "sqlalchemy.orm", "Session", "scoped_session"):
        given: Any = theirs
        session = given.registry() if is_a(given, "sqlalchemy.orm", "scoped_session") else given
        event.listen(session, "after_transaction_end", _transaction_ended)  # which is known from the second time on
        session.info.setdefault(_ACTS, []).append(act)
        return True
    if is_a(theirs, "django.db.backends.base.base", "BaseDatabaseWrapper") or is_a(
        theirs, "django.utils.connection", "ConnectionProxy"
    ):
        django: Any = theirs
        if django.in_atomic_block:  # else the transaction is begun and ended by hand, and Django refuses
            django.on_commit(act)
        return bool(django.in_atomic_block)
    return False


def on_async_commit(theirs: AsyncJoinable, act: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """Have something awaited once the transaction that is open now is over; see `on_commit`.

    Args:
        theirs: What was joined.
        act: What is awaited, before the commit returns.

    Returns:
        Whether that is told: by an asynchronous session of SQLAlchemy.
    """
    if not is_a(theirs, _ASYNC_SQLALCHEMY[0], "AsyncSession", "async_scoped_session"):
        return False
    return on_commit(_async_session(theirs).sync_session, lambda: await_only(act()))


def _async_session(theirs: Any) -> Any:
    return theirs.registry() if is_a(theirs, _ASYNC_SQLALCHEMY[0], "async_scoped_session") else theirs


def _transaction_ended(session: Session, transaction: Any) -> None:
    """Do what waited for the end of a session's transaction, but not for that of a savepoint."""
    if transaction.parent is None:
        for act in session.info.pop(_ACTS, ()):
            act()
