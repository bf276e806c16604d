"""What cannot be joined is refused in one sentence, with nothing half done; what can is joined as it is."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import psycopg
import pymysql.cursors
import pytest
from django.db.transaction import TransactionManagementError
from psycopg import IsolationLevel
from pymysql.constants import FIELD_TYPE
from pymysql.converters import conversions
from sqlalchemy import URL, Column, MetaData, String, Table, create_engine, event, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, registry, sessionmaker

from orderkit import AsyncOrderKit, Line, Money, OrderKit
from orderkit.errors import (
    ConfigurationError,
    OrderKitError,
    OrderNotFound,
    SchemaMissing,
    StorageBusy,
    StorageFailed,
    StorageUnavailable,
    TransactionAborted,
    VersionConflict,
)
from tests.conftest import text_of
from tests.integration.joining import django_setup
from tests.integration.joining.theirs import pymysql_connection
from tests.integration.kit.waiting import until_somebody_waits

TEA = (Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR")),)

Databases = Callable[[str], URL]


class Guest:
    """A kit, and what it leaves behind."""

    def __init__(self, url: URL, owner: str) -> None:
        self.url = url
        self.kit = OrderKit.from_url(text_of(url)).for_tenant(owner)

    def place(self, theirs: Any, **options: Any) -> str:
        return self.kit.within(theirs).orders.place(lines=TEA, **options).id

    def refused(self, theirs: Any, error: type[OrderKitError], says: str) -> None:
        """Insist that neither reading nor writing is begun."""
        for attempt in (lambda: self.place(theirs), lambda: self.kit.within(theirs).orders.get("none")):
            with pytest.raises(error, match=says) as caught:
                attempt()
            assert type(caught.value) is error
            assert caught.value.message.endswith(".")
        assert self.orders() == 0

    def refused_to_write(self, theirs: Any, error: type[OrderKitError], says: str) -> None:
        with pytest.raises(error, match=says):
            self.place(theirs)

    def orders(self) -> int:
        return len(list(self.kit.orders.stream()))


@pytest.fixture
def guest(database_name: str, databases: Databases, owner: str) -> Iterator[Guest]:
    guest = Guest(databases(database_name), owner)
    yield guest
    guest.kit.close()


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


on_sqlite = pytest.mark.parametrize("database_name", ["sqlite"])
on_mariadb = pytest.mark.parametrize("database_name", ["mariadb"])
on_postgresql = pytest.mark.parametrize("database_name", ["postgresql"])


class Note:
    """A row of theirs."""

    def __init__(self, owner: str, body: str) -> None:
        self.owner = owner
        self.body = body


registry().map_imperatively(
    Note,
    Table(
        "their_notes", MetaData(), Column("owner", String, primary_key=True), Column("body", String, primary_key=True)
    ),
)


def of_module(module: str, name: str) -> object:
    """Return an instance of a class that says it comes from a library that is not there."""
    return type(name, (), {"__module__": module})()


class TestWhatIsNoConnection:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: None,
            lambda: "sqlite:///shop.db",
            lambda: create_engine("sqlite://"),
            lambda: sessionmaker(create_engine("sqlite://")),
            lambda: OrderKit.from_url("memory://"),
            lambda: of_module("psycopg2.extensions", "connection"),
            lambda: of_module("asyncpg.connection", "Connection"),
            lambda: of_module("oracledb.connection", "Connection"),
        ],
    )
    def test_is_refused_at_once(self, make: Callable[[], Any]) -> None:
        theirs = make()
        with OrderKit.from_url("memory://") as kit:
            with pytest.raises(ConfigurationError, match=f"cannot join {type(theirs).__module__}") as caught:
                kit.within(theirs)
            assert "psycopg 3, sqlite3 or PyMySQL" in caught.value.message
            for asynchronous in (AsyncOrderKit.from_url("memory://"),):
                with pytest.raises(ConfigurationError, match="AsyncOrderKit cannot join"):
                    asynchronous.within(theirs)

    def test_asynchronous_is_for_the_other_kit(self, databases: Databases) -> None:
        async def theirs() -> list[Any]:
            engine = create_async_engine(databases("postgresql"))
            plain = await psycopg.AsyncConnection.connect(text_of(databases("postgresql").set(drivername="postgresql")))
            await plain.close()
            other = create_async_engine(databases("mariadb").set(drivername="mariadb+aiomysql"))
            async with other.connect() as connection:
                raw = await connection.get_raw_connection()
                bare = raw.driver_connection
            await other.dispose()
            return [AsyncSession(engine), engine.connect(), plain, bare]

        with OrderKit.from_url("memory://") as kit:
            for asynchronous in asyncio.run(theirs()):
                with pytest.raises(ConfigurationError, match="is for AsyncOrderKit"):
                    kit.within(asynchronous)

    def test_synchronous_is_for_the_other_kit(self, databases: Databases) -> None:
        kit = AsyncOrderKit.from_url("memory://")
        alias = django_setup.alias_of(databases("sqlite"))
        with closing(sqlite3.connect(":memory:")) as plain, Session(create_engine("sqlite://")) as session:
            given: list[Any] = [plain, session, django_setup.connection(alias)]
            for synchronous in given:
                with pytest.raises(ConfigurationError, match="whatever is synchronous is for OrderKit"):
                    kit.within(synchronous)
        django_setup.forget(alias)

    @pytest.mark.parametrize(
        ("url", "names"),
        [("mssql+pyodbc://", "mssql"), ("oracle+oracledb://", "oracle"), ("postgresql+psycopg2://", "psycopg2")],
    )
    def test_another_database_or_driver_below_sqlalchemy(
        self, url: str, names: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        driver = MagicMock(paramstyle="qmark", version="5.0", __version__="3.0.0")
        monkeypatch.setitem(sys.modules, "psycopg2", driver)
        engine = create_engine(url, module=driver)
        with OrderKit.from_url("memory://") as kit, Session(engine) as session:
            orders = kit.within(session).orders
            with pytest.raises(ConfigurationError, match=names):
                orders.get("none")

    def test_sqlite_has_no_schemas(self, databases: Databases) -> None:
        from orderkit.storage.sql import join

        with closing(sqlite3.connect(":memory:")) as plain, pytest.raises(ConfigurationError, match="no schemas"):
            join(plain, schema="shop")()


class TestWithoutATransaction:
    @on_sqlite
    def test_sqlite3_in_autocommit_mode(self, guest: Guest) -> None:
        with closing(sqlite3.connect(str(guest.url.database), isolation_level=None)) as plain:
            guest.refused(plain, ConfigurationError, "BEGIN IMMEDIATE first")
            assert not plain.in_transaction
            plain.execute("BEGIN")
            guest.place(plain)
            plain.execute("COMMIT")
        assert guest.orders() == 1

    @on_sqlite
    @pytest.mark.parametrize(("autocommit", "joined"), [(True, False), (False, True)])
    def test_the_attribute_of_python_3_12_counts_more(self, guest: Guest, autocommit: bool, joined: bool) -> None:
        class Modern(sqlite3.Connection):
            """What has the attribute there has it here, too."""

        if not hasattr(sqlite3.Connection, "autocommit"):
            Modern.autocommit = autocommit  # type: ignore[attr-defined]  # Python 3.11 has none
        with closing(sqlite3.connect(str(guest.url.database), factory=Modern)) as plain:
            plain.isolation_level = None if joined else "DEFERRED"
            setattr(plain, "autocommit", autocommit)  # noqa: B010 - from Python 3.12 on
            if not joined:
                guest.refused(plain, ConfigurationError, "no transaction to join")
            else:
                guest.place(plain)
                plain.commit()
                assert guest.orders() == 1

    @on_postgresql
    def test_psycopg_in_autocommit_mode(self, guest: Guest) -> None:
        with psycopg.connect(text_of(guest.url.set(drivername="postgresql")), autocommit=True) as plain:
            guest.refused(plain, ConfigurationError, r"connection\.transaction\(\)")
            with plain.transaction(force_rollback=True):
                guest.place(plain)
            assert guest.orders() == 0
            with plain.transaction(), plain.transaction():
                guest.place(plain)
            assert guest.orders() == 1

    @on_mariadb
    def test_pymysql_in_autocommit_mode(self, guest: Guest) -> None:
        with closing(pymysql_connection(guest.url, autocommit=True)) as plain:
            guest.refused(plain, ConfigurationError, r"connection\.begin\(\)")
            plain.begin()
            guest.place(plain)
            plain.commit()
            guest.refused_to_write(plain, ConfigurationError, "Turn autocommit off")
        assert guest.orders() == 1

    def test_sqlalchemy_in_autocommit_mode(self, guest: Guest) -> None:
        engine = create_engine(guest.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection, Session(engine) as session:
            guest.refused(connection, ConfigurationError, "no transaction to join")
            guest.refused(session, ConfigurationError, "no transaction to join")
        engine.dispose()

    @on_sqlite
    def test_sqlalchemy_that_begins_by_an_event(self, guest: Guest) -> None:
        """As SQLAlchemy's documentation advises for savepoints on SQLite."""
        engine = create_engine(guest.url, connect_args={"isolation_level": None})
        with engine.connect() as connection:
            guest.refused(connection, ConfigurationError, "no transaction to join")
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        with engine.begin() as connection:
            guest.place(connection)
        assert guest.orders() == 1
        engine.dispose()

    def test_django_without_atomic(self, guest: Guest) -> None:
        alias = django_setup.alias_of(guest.url)
        guest.refused(django_setup.connection(alias), ConfigurationError, r"transaction\.atomic\(\)")
        django_setup.forget(alias)

    def test_django_whose_autocommit_is_turned_off(self, guest: Guest) -> None:
        alias = django_setup.alias_of(guest.url)
        connection = django_setup.connection(alias)
        connection.set_autocommit(False)
        for end in ("rollback", "commit"):
            guest.place(connection)
            getattr(connection, end)()
        assert guest.orders() == 1
        django_setup.forget(alias)


class TestOfNoUseAnyMore:
    @on_sqlite
    def test_sqlite3_closed(self, guest: Guest) -> None:
        plain = sqlite3.connect(str(guest.url.database))
        plain.close()
        guest.refused(plain, StorageUnavailable, "is closed")

    @on_postgresql
    def test_psycopg_closed(self, guest: Guest) -> None:
        plain = psycopg.connect(text_of(guest.url.set(drivername="postgresql")))
        plain.close()
        guest.refused(plain, StorageUnavailable, "is closed")

    @on_mariadb
    def test_pymysql_closed(self, guest: Guest) -> None:
        plain = pymysql_connection(guest.url)
        plain.close()
        guest.refused(plain, StorageUnavailable, "is closed")

    @on_mariadb
    def test_pymysql_whose_server_went_away(self, guest: Guest) -> None:
        with closing(pymysql_connection(guest.url)) as plain:
            guest.place(plain)
            with closing(pymysql_connection(guest.url)) as killer:
                killer.cursor().execute(f"KILL {plain.thread_id()}")
            with pytest.raises(StorageUnavailable, match="was not reached"):
                guest.place(plain)
            with pytest.raises(StorageUnavailable):
                guest.place(plain)
        assert guest.orders() == 0

    @on_postgresql
    def test_psycopg_whose_server_went_away(self, guest: Guest) -> None:
        with psycopg.connect(text_of(guest.url.set(drivername="postgresql"))) as plain:
            guest.place(plain)
            with psycopg.connect(text_of(guest.url.set(drivername="postgresql")), autocommit=True) as killer:
                killer.execute("SELECT pg_terminate_backend(%s)", (plain.info.backend_pid,))
            with pytest.raises(StorageUnavailable, match="was lost"):
                guest.place(plain)
            with pytest.raises(StorageUnavailable, match="is closed"):
                guest.place(plain)
        assert guest.orders() == 0

    def test_sqlalchemy_closed(self, guest: Guest) -> None:
        engine = create_engine(guest.url)
        connection = engine.connect()
        connection.close()
        guest.refused(connection, StorageUnavailable, "is closed")
        engine.dispose()

    def test_sqlalchemy_unreachable(self) -> None:
        engine = create_engine("postgresql+psycopg://someone:a-secret@127.0.0.1:1/shop")
        with OrderKit.from_url("memory://") as kit, Session(engine) as session:
            orders = kit.within(session).orders
            with pytest.raises(StorageUnavailable) as caught:
                orders.get("none")
        assert "a-secret" not in caught.value.message

    @on_postgresql
    def test_psycopg_aborted(self, guest: Guest) -> None:
        with psycopg.connect(text_of(guest.url.set(drivername="postgresql"))) as plain:
            with pytest.raises(psycopg.errors.DivisionByZero):
                plain.execute("SELECT 1 / 0")
            guest.refused(plain, TransactionAborted, "only be rolled back")
            plain.rollback()
            guest.place(plain)

    @on_postgresql
    @pytest.mark.parametrize("driver", ["postgresql+psycopg", "postgresql+asyncpg"])
    def test_an_asynchronous_session_aborted(self, guest: Guest, driver: str) -> None:
        async def scenario() -> None:
            url = guest.url.set(drivername=driver)
            kit = AsyncOrderKit.from_url(text_of(url))
            engine = create_async_engine(url)
            async with AsyncSession(engine) as session:
                with pytest.raises(Exception, match="division by zero"):
                    await session.execute(text("SELECT 1 / 0"))
                with pytest.raises(TransactionAborted):
                    await kit.within(session).orders.get("none")
                await session.rollback()
                with pytest.raises(OrderNotFound):
                    await kit.within(session).orders.get("none")
            await engine.dispose()
            await kit.close()

        asyncio.run(scenario())

    def test_a_session_whose_flush_failed(self, guest: Guest, owner: str) -> None:
        """An error of their rows is theirs to see as it is, and theirs to roll back."""
        engine = create_engine(guest.url)
        with Session(engine) as session:
            session.add(Note(owner, "a"))
            guest.place(session)
            session.add(Note(owner, "a"))
            with pytest.raises(IntegrityError), warnings.catch_warnings(action="ignore"):
                guest.place(session)
            guest.refused(session, TransactionAborted, "only be rolled back")
            session.rollback()
            session.execute(text("INSERT INTO their_notes VALUES (:owner, 'b')"), {"owner": owner})
            session.add(Note(owner, "b"))
            with pytest.raises(IntegrityError), session.begin_nested():
                pass
            session.rollback()
            guest.place(session)
            session.commit()
        assert guest.orders() == 1
        engine.dispose()

    def test_django_that_waits_for_its_rollback(self, guest: Guest) -> None:
        alias = django_setup.alias_of(guest.url)
        connection = django_setup.connection(alias)
        with django_setup.atomic(alias):
            connection.set_rollback(True)
            guest.refused(connection, TransactionAborted, "only be rolled back")
        with django_setup.atomic(alias):
            with pytest.raises(ZeroDivisionError), django_setup.atomic(alias):
                raise ZeroDivisionError
            guest.place(connection)
        assert guest.orders() == 1
        django_setup.forget(alias)


class TestInTheMiddleOfSomethingElse:
    @on_sqlite
    def test_another_thread(self, guest: Guest) -> None:
        plain = sqlite3.connect(str(guest.url.database))
        alias = django_setup.alias_of(guest.url)
        caught: list[BaseException] = []

        def attempt(theirs: Any) -> None:
            try:
                guest.place(theirs)
            except ConfigurationError as error:
                caught.append(error)

        connection = django_setup.connection(alias)
        with django_setup.atomic(alias):
            for theirs in (plain, connection):
                thread = threading.Thread(target=attempt, args=(theirs,))
                thread.start()
                thread.join()
        assert ["another thread" in str(error) for error in caught] == [True, True]
        plain.close()
        django_setup.forget(alias)

    @on_postgresql
    def test_a_pipeline_a_stream_and_another_encoding(self, guest: Guest) -> None:
        with psycopg.connect(text_of(guest.url.set(drivername="postgresql"))) as plain:
            with plain.pipeline():
                guest.refused(plain, ConfigurationError, "in the middle of something else")
            for _row in plain.cursor().stream("SELECT generate_series(1, 2)"):
                guest.refused(plain, ConfigurationError, "in the middle of something else")
            for encoding in ("LATIN1", "SQL_ASCII"):
                plain.execute(f"SET client_encoding TO {encoding}".encode())
                guest.refused(plain, ConfigurationError, "client_encoding is not UTF8")
            plain.rollback()

    @on_sqlite
    @pytest.mark.parametrize("declared", ["TEXT", "INTEGER"])
    def test_converters_of_plain_types(self, guest: Guest, declared: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sqlite3.converters, declared, lambda value: b"converted " + value)
        for detects in (True, False):
            types = sqlite3.PARSE_DECLTYPES if detects else 0
            with closing(sqlite3.connect(str(guest.url.database), detect_types=types)) as plain:
                if detects:
                    guest.refused(plain, ConfigurationError, "converts plain text or integers")
                else:
                    guest.place(plain)


@on_mariadb
class TestWhatChangesValuesOnTheirWay:
    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"charset": "latin1"}, "charset=utf8mb4"),
            ({"charset": "utf8mb3"}, "charset=utf8mb4"),
            ({"sql_mode": "ANSI_QUOTES"}, "STRICT_TRANS_TABLES"),
            ({"use_unicode": False}, "use_unicode"),
            ({"conv": conversions | {FIELD_TYPE.DATETIME: str}}, "conv"),
            ({"init_command": "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED"}, "READ UNCOMMITTED"),
        ],
    )
    def test_on_a_plain_connection(self, guest: Guest, options: dict[str, Any], says: str) -> None:
        with closing(pymysql_connection(guest.url, **options)) as plain:
            guest.refused(plain, ConfigurationError, says)

    @pytest.mark.parametrize(("query", "says"), [("charset=latin1", "utf8mb4"), ("sql_mode=ANSI_QUOTES", "STRICT")])
    @pytest.mark.parametrize("layer", ["sqlalchemy", "django"])
    def test_further_up(self, guest: Guest, query: str, says: str, layer: str) -> None:
        options = dict([query.split("=")])
        if layer == "sqlalchemy":
            engine = create_engine(guest.url.update_query_dict(options))
            with engine.connect() as connection:
                guest.refused(connection, ConfigurationError, says)
            engine.dispose()
            return
        alias = django_setup.alias_of(guest.url, OPTIONS=options)
        with django_setup.atomic(alias):
            guest.refused(django_setup.connection(alias), ConfigurationError, says)
        django_setup.forget(alias)

    def test_what_changes_nothing_is_welcome(self, guest: Guest) -> None:
        mode = "ANSI,STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT"
        with closing(pymysql_connection(guest.url, sql_mode=mode, cursorclass=pymysql.cursors.DictCursor)) as plain:
            place = guest.kit.within(plain).orders.place
            order = place(lines=TEA, customer="back\\slash 'quote' %s 🫖", idempotency_key="k")
            assert place(lines=TEA, customer="back\\slash 'quote' %s 🫖", idempotency_key="k") == order
            plain.commit()
        assert guest.kit.orders.get(order.id) == order


class TestWhatTheTransactionMayNot:
    @on_postgresql
    def test_write_in_a_read_only_transaction(self, guest: Guest) -> None:
        with psycopg.connect(text_of(guest.url.set(drivername="postgresql"))) as plain:
            plain.read_only = True
            with pytest.raises(StorageFailed, match="read-only"):
                guest.place(plain)
            with pytest.raises(OrderNotFound):
                guest.kit.within(plain).orders.get("none")

    @on_mariadb
    def test_write_in_a_read_only_transaction_of_mariadb(self, guest: Guest) -> None:
        with closing(pymysql_connection(guest.url)) as plain:
            plain.cursor().execute("START TRANSACTION READ ONLY")
            with pytest.raises(StorageFailed, match="read-only"):
                guest.place(plain)
            with pytest.raises(OrderNotFound):
                guest.kit.within(plain).orders.get("none")

    @on_mariadb
    def test_go_on_after_a_deadlock(self, guest: Guest) -> None:
        """MariaDB rolls back the whole of it: the error says so, and Django's `atomic` cannot commit the rest."""
        first, second = (guest.kit.orders.place(lines=TEA).id for _ in range(2))
        alias = django_setup.alias_of(guest.url)
        theirs = django_setup.connection(alias)
        with closing(pymysql_connection(guest.url)) as other:
            # Whoever has written more is spared.
            for _ in range(20):
                guest.place(other)
            guest.kit.within(other).orders.confirm(second)

            def go_on() -> None:
                guest.kit.within(theirs).orders.confirm(first)
                waiting = threading.Thread(target=guest.kit.within(other).orders.confirm, args=(first,))
                waiting.start()
                until_somebody_waits(guest.url)
                with pytest.raises(StorageBusy) as caught:
                    guest.kit.within(theirs).orders.confirm(second)
                assert "repeat it from its beginning" in str(caught.value.__notes__)
                waiting.join()
                guest.refused_to_write(theirs, TransactionAborted, "only be rolled back")
                with theirs.cursor() as cursor:
                    cursor.execute("SELECT 1")

            with pytest.raises(TransactionManagementError):
                django_setup.atomic(alias)(go_on)()
            other.commit()
        django_setup.forget(alias)
        assert guest.orders() == 22

    @on_mariadb
    def test_see_what_was_committed_since_its_snapshot_on_mariadb(self, guest: Guest) -> None:
        """REPEATABLE READ is what connections have there unless they ask for another level."""
        placed = guest.kit.orders.place(lines=TEA)
        with closing(pymysql_connection(guest.url)) as plain:
            guest.kit.within(plain).orders.get(placed.id)
            winner = guest.kit.orders.place(lines=TEA, idempotency_key="k")
            guest.kit.orders.confirm(placed.id)
            with pytest.raises(VersionConflict):
                guest.kit.within(plain).orders.confirm(placed.id)
            assert guest.place(plain, idempotency_key="k") == winner.id
            assert guest.place(plain, idempotency_key="k") == winner.id
            plain.rollback()
            assert guest.place(plain, idempotency_key="k") == winner.id
            plain.commit()
        assert guest.orders() == 2

    @on_sqlite
    def test_write_on_a_read_only_connection(self, guest: Guest) -> None:
        with closing(sqlite3.connect(f"file:{guest.url.database}?mode=ro", uri=True)) as plain:
            plain.execute("BEGIN")
            with pytest.raises(StorageFailed, match="read-only"):
                guest.place(plain)
            with pytest.raises(OrderNotFound):
                guest.kit.within(plain).orders.get("none")
            plain.execute("ROLLBACK")
            with pytest.raises(StorageFailed, match="read-only"):
                guest.place(plain)

    @on_sqlite
    def test_wait_for_ever_for_another_writer(self, guest: Guest, owner: str) -> None:
        """What they had written is still there, and they may try again."""
        path = str(guest.url.database)
        with closing(sqlite3.connect(path)) as other, closing(sqlite3.connect(path, timeout=0)) as plain:
            plain.execute("BEGIN")
            other.execute("INSERT INTO their_notes VALUES (?, 'other')", (owner,))
            with pytest.raises(StorageBusy):
                guest.place(plain)
            assert plain.in_transaction
            other.commit()
            plain.execute("INSERT INTO their_notes VALUES (?, 'mine')", (owner,))
            guest.place(plain)
            plain.commit()
        assert guest.orders() == 1

    @on_postgresql
    @pytest.mark.parametrize("level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])
    def test_see_what_was_committed_since_its_snapshot(self, guest: Guest, level: IsolationLevel) -> None:
        """The loser of a race is told to repeat, and then sees the winner's order."""
        placed = guest.kit.orders.place(lines=TEA)
        with psycopg.connect(text_of(guest.url.set(drivername="postgresql"))) as plain:
            plain.isolation_level = level
            plain.execute("SELECT 1 FROM their_notes")
            winner = guest.kit.orders.place(lines=TEA, idempotency_key="k")
            guest.kit.orders.confirm(placed.id)
            plain.execute("SAVEPOINT theirs")
            with pytest.raises(StorageBusy):
                guest.place(plain, idempotency_key="k")
            with pytest.raises(StorageBusy):
                guest.kit.within(plain).orders.confirm(placed.id)
            plain.rollback()
            assert guest.place(plain, idempotency_key="k") == winner.id
            plain.commit()
        assert guest.orders() == 2

    @pytest.mark.parametrize("kind", ["plain", "django"])
    def test_use_tables_that_are_not_there(self, guest: Guest, kind: str, empty: URL) -> None:
        """They are never made inside somebody else's transaction; what they did before stays."""
        with opened(empty, kind) as (connection, execute):
            execute("CREATE TEMPORARY TABLE their_own (body text)")
            execute("INSERT INTO their_own VALUES ('a')")
            with pytest.raises(SchemaMissing):
                guest.place(connection)
            execute("INSERT INTO their_own VALUES ('b')")
            assert execute("SELECT count(*) FROM their_own").fetchone()[0] == 2


@pytest.fixture
def empty(guest: Guest, tmp_path: Path) -> Iterator[URL]:
    """A database of the same kind without any tables."""
    match guest.url.get_backend_name():
        case "sqlite":
            yield guest.url.set(database=str(tmp_path / "empty.db"))
        case "postgresql":
            yield guest.url.set(drivername="postgresql").update_query_dict({"options": "-csearch_path=pg_temp"})
        case _:
            url = guest.url.set(database=f"{guest.url.database}_empty")
            with closing(pymysql_connection(guest.url)) as connection, connection.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {url.database}")
                yield url
                cursor.execute(f"DROP DATABASE {url.database}")


@contextmanager
def opened(url: URL, kind: str) -> Iterator[tuple[Any, Callable[[str], Any]]]:
    """Open a connection whose transaction is rolled back at the end of the block."""
    if kind == "plain":
        with closing(connected(url)) as connection, closing(connection.cursor()) as cursor:
            yield connection, partial(executed, cursor)
            connection.rollback()
        return
    alias = django_setup.alias_of(url.set(query={}), OPTIONS=dict(url.query))
    connection = django_setup.connection(alias)
    with django_setup.atomic(alias), connection.cursor() as cursor:
        yield connection, partial(executed, cursor)
        connection.set_rollback(True)
    django_setup.forget(alias)


def connected(url: URL) -> Any:
    match url.get_backend_name():
        case "sqlite":
            return sqlite3.connect(str(url.database))
        case "postgresql":
            return psycopg.connect(text_of(url))
        case _:
            return pymysql_connection(url)


def executed(cursor: Any, sql: str) -> Any:
    cursor.execute(sql)
    return cursor
