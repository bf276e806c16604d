"""URLs, drivers and options: what cannot work is refused before anything is connected."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from orderkit.errors import ConfigurationError
from orderkit.storage.options import SqlOptions
from orderkit.storage.sql import AsyncSqlBackend, SqlBackend, open_async_backend, open_backend

SECRET = "a-secret"


def refusal(attempt: Callable[[], object]) -> str:
    """Insist that an attempt is refused without telling the password."""
    with pytest.raises(ConfigurationError) as caught:
        attempt()
    assert SECRET not in str(caught.value)
    return caught.value.message


@pytest.mark.parametrize("opening", [open_backend, open_async_backend])
@pytest.mark.parametrize(
    "url",
    [
        "",
        f"no url with {SECRET}",
        f"nosuchdatabase://u:{SECRET}@host/shop",
        f"postgresql+nosuchdriver://u:{SECRET}@host/shop",
        f"postgresql+psycopg2://u:{SECRET}@host/shop",
        f"mysql+mysqldb://u:{SECRET}@host/shop",
        f"mariadb+asyncmy://u:{SECRET}@host/shop",
        f"oracle://u:{SECRET}@host/shop",
        "sqlite+aiosqlite:///shop.db",
    ],
)
def test_a_url_nothing_can_be_done_with_is_refused(opening: Callable[[str], object], url: str) -> None:
    refusal(lambda: opening(url))


def test_a_driver_of_the_other_kit_is_refused() -> None:
    for driver, usable in (("postgresql+asyncpg", "postgresql+psycopg"), ("mysql+aiomysql", "mariadb+pymysql")):
        told = refusal(partial(open_backend, f"{driver}://u:{SECRET}@host/shop"))
        assert "AsyncOrderKit" in told
        assert usable in told
    assert "mariadb+aiomysql" in refusal(lambda: open_async_backend(f"mariadb+pymysql://u:{SECRET}@host/shop"))


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql://host/shop", "psycopg"),
        ("postgresql+asyncpg://h/s", "asyncpg"),
        ("mysql://host/shop", "aiomysql"),
        ("mariadb://host/shop", "aiomysql"),
    ],
)
def test_a_url_may_leave_the_driver_out(url: str, driver: str) -> None:
    assert open_async_backend(url)._backend._engine.dialect.driver == driver
    if driver == "aiomysql":
        assert open_backend(url)._engine.dialect.driver == "pymysql"


def test_a_schema_is_a_plain_name() -> None:
    refusal(lambda: open_backend("postgresql://host/shop", schema='shop"; DROP TABLE x; --'))
    refusal(lambda: open_backend("sqlite://", schema="shop"))
    refusal(lambda: open_backend("mariadb://host/shop", schema="shop"))


def test_engines_that_do_not_fit_are_refused() -> None:
    refusal(lambda: SqlBackend(create_engine("mysql+mysqldb://host/shop", module=sqlite3)))
    refusal(lambda: SqlBackend(create_async_engine("postgresql+psycopg://host/shop")))  # type: ignore[arg-type]
    # As an asynchronous engine for SQLite looks from outside; its driver is not one the tests need.
    refusal(lambda: AsyncSqlBackend(SimpleNamespace(sync_engine=create_engine("sqlite://"))))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("missing", "url", "extra"),
    [
        ("psycopg", "postgresql+psycopg://host/shop", "orderkit[postgresql]"),
        ("asyncpg", "postgresql+asyncpg://host/shop", "orderkit[async]"),
        ("greenlet", "postgresql+asyncpg://host/shop", "orderkit[async]"),
        ("aiomysql", "mariadb+aiomysql://host/shop", "orderkit[async-mariadb]"),
        ("greenlet", "mariadb+aiomysql://host/shop", "orderkit[async-mariadb]"),
    ],
)
def test_a_library_that_is_not_installed_is_named_by_its_extra(missing: str, url: str, extra: str) -> None:
    script = f"""
import sys
sys.modules[{missing!r}] = None
from orderkit.errors import ConfigurationError
from orderkit.storage.sql import open_async_backend
try:
    open_async_backend({url!r})
except ConfigurationError as error:
    assert {extra!r} in error.message, error.message
else:
    raise SystemExit("it was opened")
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_sqlite_needs_no_library_but_the_standard_one() -> None:
    script = """
import asyncio, sys
sys.modules.update(dict.fromkeys(["greenlet", "psycopg", "asyncpg", "aiosqlite"]))
from orderkit.storage.sql import open_async_backend, open_backend
open_backend("sqlite://").create_schema()
asyncio.run(open_async_backend("sqlite://").create_schema())
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_connections_to_sqlite_are_set_up_for_many_readers_and_one_careful_writer(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    for options, synchronous in [({}, 2), ({"sqlite_synchronous": "normal"}, 1)]:
        backend = open_backend(url, busy_timeout=1.5, **options)  # type: ignore[arg-type]  # options of one name
        with backend.connect() as storage:
            names = ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
            found = [storage._executor.execute(f"PRAGMA {name}")[0][0] for name in names]
        backend.close()
        assert found == ["wal", synchronous, 1500, 1]


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_connections_to_postgresql_give_up_in_time(postgresql: str, driver: str) -> None:

    async def settings() -> list[object]:
        url = postgresql.replace("psycopg", driver)
        backend = open_async_backend(url, lock_timeout=1.5, statement_timeout=7)
        async with backend.connect() as call:
            found = await call(
                lambda s: [s._executor.execute(f"SHOW {n}_timeout")[0][0] for n in ("lock", "statement")]
            )
        await backend.close()
        return found

    assert asyncio.run(settings()) == ["1500ms", "7s"]


def test_options_given_in_the_url_are_kept(postgresql: str) -> None:
    backend = open_backend(f"{postgresql}?options=-c%20application_name%3Dshop")
    with backend.connect() as storage:
        assert storage._executor.execute("SHOW application_name") == [("shop",)]
        assert storage._executor.execute("SHOW lock_timeout") == [("5s",)]
    backend.close()


@pytest.mark.parametrize("driver", ["pymysql", "aiomysql"])
@pytest.mark.parametrize("scheme", ["mariadb", "mysql"])
def test_connections_to_mariadb_are_strict_and_give_up_in_time(mariadb: str, scheme: str, driver: str) -> None:
    names = ("sql_mode", "tx_isolation", "autocommit", "character_set_connection", "innodb_lock_wait_timeout")
    asked = f"SELECT {', '.join(f'@@SESSION.{name}' for name in (*names, 'max_statement_time'))}"
    options: SqlOptions = {"lock_timeout": 1.5, "statement_timeout": 7.5}
    url = mariadb.replace("mariadb+pymysql", f"{scheme}+{driver}")

    async def settings() -> Sequence[object]:
        backend = open_async_backend(url, **options)
        async with backend.connect() as call:
            found = await call(lambda storage: storage._executor.execute(asked)[0])
        await backend.close()
        return found

    if driver == "aiomysql":
        mode, *rest = asyncio.run(settings())
    else:
        backend = open_backend(url, **options)
        with backend.connect() as storage:
            mode, *rest = storage._executor.execute(asked)[0]
        backend.close()
    assert "STRICT_ALL_TABLES" in str(mode)
    assert rest == ["READ-COMMITTED", 1, "utf8mb4", 2, 7.5]


@pytest.mark.parametrize("url", ["sqlite://", "postgresql://host/shop", "mariadb://host/shop"])
def test_closing_twice_is_harmless(url: str) -> None:
    backend = open_backend(url)
    backend.close()
    backend.close()
