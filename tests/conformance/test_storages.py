"""The conformance suite on every storage of orderkit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import ClassVar, get_args, get_type_hints

import psycopg
import pytest
from sqlalchemy import URL

from orderkit.storage.memory import AsyncMemoryBackend, MemoryBackend, MemoryStorage
from orderkit.storage.options import SqlOptions
from orderkit.storage.sql import SqlBackend, open_async_backend, open_backend
from orderkit.storage.sql.storage import SqlStorage
from orderkit.testing.conformance import (
    AsyncOperationConformance,
    AsyncStorageConformance,
    Blocking,
    OperationConformance,
    ReadRows,
    StorageConformance,
)
from orderkit.testing.conformance.samples import KINDS
from orderkit.unit_of_work.changes import KEYS, KeyClaim, Row, Table, Value
from tests.conftest import connected_mariadb


class TestMemory(StorageConformance, OperationConformance):
    @pytest.fixture(scope="module")
    def backend(self) -> MemoryBackend:
        return MemoryBackend()

    @pytest.fixture(scope="module")
    def rows(self, backend: MemoryBackend) -> ReadRows:
        return backend.rows


@pytest.mark.slow
class TestAsyncMemory(AsyncStorageConformance, AsyncOperationConformance):
    @pytest.fixture(scope="module")
    def memory(self) -> MemoryBackend:
        return MemoryBackend()

    @pytest.fixture(scope="module")
    def backend(self, memory: MemoryBackend) -> Iterator[Blocking[MemoryStorage]]:
        with Blocking(AsyncMemoryBackend(memory)) as backend:
            yield backend

    @pytest.fixture(scope="module")
    def rows(self, memory: MemoryBackend) -> ReadRows:
        return memory.rows


class SqlConformance(StorageConformance, OperationConformance):
    options: ClassVar[SqlOptions] = {}

    @pytest.fixture(scope="module")
    def backend(self, url: URL) -> Iterator[SqlBackend]:
        backend = open_backend(url.render_as_string(hide_password=False), **self.options)
        backend.create_schema()
        yield backend
        backend.close()
        backend.close()


class AsyncSqlConformance(AsyncStorageConformance, AsyncOperationConformance):
    options: ClassVar[SqlOptions] = {}

    @pytest.fixture(scope="module")
    def backend(self, url: URL) -> Iterator[Blocking[SqlStorage]]:
        with Blocking(open_async_backend(url.render_as_string(hide_password=False), **self.options)) as backend:
            backend.create_schema()
            yield backend
            backend.close()


class OnSqlite:
    driver: ClassVar = "sqlite"

    @pytest.fixture(scope="module")
    def url(self, tmp_path_factory: pytest.TempPathFactory) -> URL:
        return URL.create(self.driver, database=str(tmp_path_factory.mktemp("sqlite") / "orders.db"))

    @pytest.fixture(scope="module")
    def rows(self, url: URL) -> ReadRows:
        def read(table: Table, tenant: str) -> list[Row]:
            with closing(sqlite3.connect(str(url.database))) as connection:
                return typed(table, connection.execute(select(table, "?"), (tenant,)).fetchall())

        return read


class OnPostgresql:
    driver: ClassVar = "postgresql+psycopg"

    @pytest.fixture(scope="module")
    def url(self, postgresql_database: URL) -> URL:
        return postgresql_database.set(drivername=self.driver)

    @pytest.fixture(scope="module")
    def rows(self, url: URL) -> Iterator[ReadRows]:
        address = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(address, autocommit=True) as connection:
            yield lambda table, tenant: typed(
                table, connection.execute(select(table, "%s").encode(), (tenant,)).fetchall()
            )


class OnMariadb:
    driver: ClassVar = "mariadb+pymysql"

    @pytest.fixture(scope="module")
    def url(self, mariadb_database: URL) -> URL:
        return mariadb_database.set(drivername=self.driver)

    @pytest.fixture(scope="module")
    def rows(self, mariadb_database: URL) -> Iterator[ReadRows]:
        with closing(connected_mariadb(mariadb_database)) as connection, connection.cursor() as cursor:

            def read(table: Table, tenant: str) -> list[Row]:
                columns = ", ".join(f"`{name}`" for name in table.columns)
                cursor.execute(f"SELECT {columns} FROM orderkit_{table.name} WHERE tenant = %s", (tenant,))
                return typed(table, cursor.fetchall())

            yield read


class TestSqlite(OnSqlite, SqlConformance):
    pass


@pytest.mark.slow
class TestAsyncSqlite(OnSqlite, AsyncSqlConformance):
    pass


class TestPsycopg(OnPostgresql, SqlConformance):
    pass


@pytest.mark.slow
class TestAsyncPsycopg(OnPostgresql, AsyncSqlConformance):
    pass


@pytest.mark.slow
class TestAsyncpg(OnPostgresql, AsyncSqlConformance):
    driver: ClassVar = "postgresql+asyncpg"


@pytest.mark.slow
class TestPymysql(OnMariadb, SqlConformance):
    pass


@pytest.mark.slow
class TestAiomysql(OnMariadb, AsyncSqlConformance):
    driver: ClassVar = "mariadb+aiomysql"


class Grouped:
    """Commits in groups: the contract is the same."""

    options: ClassVar[SqlOptions] = {"group_commit": True}


@pytest.mark.slow
class TestGroupedSqlite(Grouped, TestSqlite):
    pass


@pytest.mark.slow
class TestGroupedAsyncSqlite(Grouped, TestAsyncSqlite):
    pass


@pytest.mark.slow
class TestGroupedPsycopg(Grouped, TestPsycopg):
    pass


@pytest.mark.slow
class TestGroupedAsyncpg(Grouped, TestAsyncpg):
    pass


ROW_TYPES: dict[Table, type] = {KEYS: KeyClaim, **{kind.table: kind.row_type for kind in KINDS}}


def select(table: Table, placeholder: str) -> str:
    """Return the statement that reads all rows of a tenant, JSON as text."""
    columns = ", ".join(f'CAST("{name}" AS text)' if name == "metadata" else f'"{name}"' for name in table.columns)
    return f"SELECT {columns} FROM orderkit_{table.name} WHERE tenant = {placeholder}"


def typed(table: Table, rows: Sequence[Sequence[Value]]) -> list[Row]:
    """Return rows with the times and truths that a database keeps as something else."""
    hints = get_type_hints(ROW_TYPES[table]).values()
    return [tuple(_typed(hint, value) for hint, value in zip(hints, row, strict=True)) for row in rows]


def _typed(hint: object, value: Value) -> Value:
    options = get_args(hint) or (hint,)
    if isinstance(value, str) and datetime in options:
        return datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    return bool(value) if isinstance(value, int) and bool in options else value
