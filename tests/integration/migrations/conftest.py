from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url

from tests.conftest import MARIADB_SERVER, POSTGRESQL_SERVER, connected, connected_mariadb, text_of
from tests.integration.migrations.databases import Database

KINDS = ("sqlite", "postgresql", "postgresql-schema", "mariadb")


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of the test's own, of each kind in turn unless the test names some."""
    with opened(request.param, tmp_path) as found:
        yield found
        for engine in found.engines:
            engine.dispose()


@contextmanager
def opened(kind: str, directory: Path) -> Iterator[Database]:
    """Make a database, and remove it after the block."""
    name = f"orderkit_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{secrets.token_hex(6)}"
    if kind == "sqlite":
        yield Database(kind, text_of(URL.create("sqlite", database=str(directory / "orders.db"))))
    elif kind == "mariadb":
        yield from _on_mariadb(kind, name)
    else:
        yield from _on_postgresql(kind, name)


def _on_mariadb(kind: str, name: str) -> Iterator[Database]:
    server = make_url(MARIADB_SERVER)
    with closing(connected_mariadb(server)) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE `{name}`")
        try:
            yield Database(kind, text_of(server.set(drivername="mariadb+pymysql", database=name)))
        finally:
            cursor.execute(f"DROP DATABASE `{name}`")


def _on_postgresql(kind: str, name: str) -> Iterator[Database]:
    server = make_url(POSTGRESQL_SERVER).set(drivername="postgresql")
    schema = "shop" if kind == "postgresql-schema" else None
    with connected(server) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
        try:
            yield Database(kind, text_of(server.set(drivername="postgresql+psycopg", database=name)), schema)
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
