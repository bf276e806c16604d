from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL, make_url

from tests.conftest import (
    MARIADB_SERVER,
    POSTGRESQL_SERVER,
    connected,
    connected_mariadb,
    fresh_name,
    fresh_postgresql,
    text_of,
)
from tests.integration.migrations.databases import Database

KINDS = ("sqlite", "postgresql", "postgresql-schema", "mariadb")


BY_SCHEMA = {"test_revisions.py", "test_command.py"}
"""What is tried in a schema of the tables' own by the suite; the long profiles try the rest."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to the long profiles what differs from a test of the suite by the schema alone."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if item.path.parent != Path(__file__).parent or callspec is None or item.path.name in BY_SCHEMA:
            continue
        if callspec.params.get("database") == "postgresql-schema":
            item.add_marker(pytest.mark.torture)


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of the test's own, of each kind in turn unless the test names some."""
    kind: str = request.param
    if kind == "sqlite":
        url = URL.create("sqlite", database=str(tmp_path / "orders.db"))
    else:
        url = request.getfixturevalue(f"empty_{kind.partition('-')[0]}")
    found = Database(kind, text_of(url), "shop" if kind == "postgresql-schema" else None)
    yield found
    for engine in found.engines:
        engine.dispose()


@pytest.fixture
def empty_mariadb() -> Iterator[URL]:
    """The URL of an empty MariaDB database of the test's own."""
    server, name = make_url(MARIADB_SERVER), fresh_name()
    with closing(connected_mariadb(server)) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE `{name}`")
        try:
            yield server.set(drivername="mariadb+pymysql", database=name)
        finally:
            cursor.execute(f"DROP DATABASE `{name}`")


@pytest.fixture
def empty_postgresql(emptied: psycopg.Connection) -> URL:
    """The URL of a PostgreSQL database that is empty again: to drop one stops the whole server for a checkpoint."""
    emptied.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s",
        (emptied.info.backend_pid,),
    )
    emptied.execute("DROP SCHEMA IF EXISTS public CASCADE")
    emptied.execute("DROP SCHEMA IF EXISTS shop CASCADE")
    emptied.execute("CREATE SCHEMA public")
    return make_url(POSTGRESQL_SERVER).set(drivername="postgresql+psycopg", database=emptied.info.dbname)


@pytest.fixture(scope="session")
def emptied() -> Iterator[psycopg.Connection]:
    """A connection to the PostgreSQL database that tests of migrations share."""
    server = make_url(POSTGRESQL_SERVER).set(drivername="postgresql")
    with (
        connected(server) as connection,
        fresh_postgresql(connection) as name,
        connected(server.set(database=name)) as inside,
    ):
        yield inside
