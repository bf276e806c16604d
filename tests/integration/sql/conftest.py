from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import URL

from orderkit.storage.sql import SqlBackend, open_backend
from tests.conftest import connected, text_of


@pytest.fixture(scope="session")
def postgresql(postgresql_database: URL) -> str:
    """The URL of a PostgreSQL database that has the tables, for psycopg."""
    url = text_of(postgresql_database.set(drivername="postgresql+psycopg"))
    backend = open_backend(url)
    backend.create_schema()
    backend.close()
    return url


@pytest.fixture(scope="session")
def mariadb(mariadb_database: URL) -> str:
    """The URL of a MariaDB database that has the tables, for PyMySQL."""
    url = text_of(mariadb_database.set(drivername="mariadb+pymysql"))
    backend = open_backend(url)
    backend.create_schema()
    backend.close()
    return url


@pytest.fixture
def sqlite(sqlite_database: URL) -> str:
    """The URL of a SQLite file that has the tables."""
    url = text_of(sqlite_database)
    backend = open_backend(url)
    backend.create_schema()
    backend.close()
    return url


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request: pytest.FixtureRequest) -> str:
    """The URL of a database that has the tables, of each kind."""
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def backend(url: str) -> Iterator[SqlBackend]:
    backend = open_backend(url)
    yield backend
    backend.close()


@pytest.fixture
def session(postgresql_database: URL) -> Iterator[psycopg.Connection]:
    """Another session of the PostgreSQL database, each statement a transaction."""
    with connected(postgresql_database) as connection:
        yield connection
