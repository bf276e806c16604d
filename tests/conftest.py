"""What tests share: throw-away databases, a clock that stands still, ids that count."""

from __future__ import annotations

import functools
import gc
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import psycopg
import pymysql
import pytest
from hypothesis import settings
from sqlalchemy import URL, make_url

from orderkit.testing.clock import ManualClock, SequentialIds
from tests.effort import EVERYDAY, examples

MARIADB_SERVER = os.environ.get("ORDERKIT_TEST_MARIADB_URL", "mariadb://root@127.0.0.1:3306")
POSTGRESQL_SERVER = os.environ.get("ORDERKIT_TEST_POSTGRESQL_URL", "postgresql://root@127.0.0.1:5432/postgres")


BESIDE = re.compile(r"(?<!sqlite-)async|aiomysql|pymysql|mysqlclient|mariadb|schema|bouncer")
"""Shells and databases that others of the everyday part stand for: the whole suite runs them as well."""


def pytest_configure(config: pytest.Config) -> None:
    """Look at fewer examples where only the everyday part is run, in this process and in those it starts."""
    if "not slow" in (config.option.markexpr or ""):
        os.environ[EVERYDAY] = "1"
        settings.register_profile("everyday", max_examples=examples(settings().max_examples))
        settings.load_profile("everyday")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Take one worker more than there are processors, but four at most: much of the time tests wait for databases."""
    return min(4, 1 + (os.cpu_count() or 1))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to the whole suite what differs from a test of the everyday part by its shell or database alone.

    Tests that call `race` take many connections each, of which a server has so many: one worker runs those.
    """
    for item in items:
        if isinstance(item, pytest.Function) and "race" in item.function.__code__.co_names:
            item.add_marker(pytest.mark.xdist_group("races"))
        callspec = getattr(item, "callspec", None)
        if "integration" in item.path.parts and callspec is not None and BESIDE.search(callspec.id):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def certificates_read_once() -> Iterator[None]:
    """PyMySQL reads all certificates of the system for each connection, which takes longer than most tests."""
    make = pymysql.Connection._create_ssl_ctx  # type: ignore[attr-defined]  # it is private
    context = functools.cache(lambda: make(None, {}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            pymysql.Connection, "_create_ssl_ctx", lambda self, given: make(self, given) if given else context()
        )
        yield


def pytest_collection_finish() -> None:
    """Have the garbage collector look no more at what lives as long as the process: thousands of tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ids() -> SequentialIds:
    return SequentialIds()


@pytest.fixture
def sqlite_database(tmp_path: Path) -> URL:
    """The URL of a SQLite file that is not there yet."""
    return URL.create("sqlite", database=str(tmp_path / "orders.db"))


@pytest.fixture(scope="session")
def postgresql_database() -> Iterator[URL]:
    """The URL of an empty PostgreSQL database, for every test of this process to share."""
    server = make_url(POSTGRESQL_SERVER).set(drivername="postgresql")
    with connected(server) as connection, fresh_postgresql(connection) as name:
        yield server.set(database=name)


@contextmanager
def fresh_postgresql(connection: psycopg.Connection) -> Iterator[str]:
    """Make an empty database for the length of a block; yield its name."""
    name = fresh_name()
    connection.execute(f'CREATE DATABASE "{name}"'.encode())
    # Nobody cuts the power of the machine in a test, so that nobody waits for its disk.
    connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off'.encode())
    try:
        yield name
    finally:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def fresh_name() -> str:
    """Return the name of a database that is not there yet."""
    return f"orderkit_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{secrets.token_hex(6)}"


@pytest.fixture(scope="session")
def mariadb_database() -> Iterator[URL]:
    """The URL of an empty MariaDB database, for every test of this process to share."""
    server = make_url(MARIADB_SERVER).set(drivername="mariadb")
    name = fresh_name()
    with closing(connected_mariadb(server)) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE `{name}`")
        try:
            yield server.set(database=name)
        finally:
            # A connection left open inside a transaction would keep the tables from being dropped.
            cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", (name,))
            for (identifier,) in cursor.fetchall():
                with suppress(pymysql.Error):
                    cursor.execute("KILL %s", (identifier,))
            cursor.execute(f"DROP DATABASE `{name}`")


def connected_mariadb(server: URL) -> pymysql.Connection:
    """Connect to a MariaDB or MySQL server, or leave the test because there is none."""
    try:
        return pymysql.connect(
            host=server.host or "127.0.0.1",
            port=server.port or 3306,
            user=server.username or "root",
            password=server.password or "",
            database=server.database,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=3,
        )
    except pymysql.OperationalError:
        absent(f"no MariaDB at {server.host}:{server.port or 3306}; ORDERKIT_TEST_MARIADB_URL names another")


def connected(server: URL) -> psycopg.Connection:
    """Connect to a PostgreSQL server, or leave the test because there is none."""
    try:
        return psycopg.connect(text_of(server), autocommit=True, connect_timeout=3)
    except psycopg.OperationalError:
        absent(f"no PostgreSQL at {server.host}:{server.port or 5432}; ORDERKIT_TEST_POSTGRESQL_URL names another")


def absent(reason: str) -> NoReturn:
    """Skip a test whose server is not there; in CI the server is owed."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def text_of(url: URL) -> str:
    """Return a URL with its password, as drivers want it."""
    return url.render_as_string(hide_password=False)
