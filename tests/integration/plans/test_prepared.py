"""On PostgreSQL a search is planned for its values at every use; all else is prepared."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import URL

from orderkit import OrderFilter
from orderkit.orders.searching import Query
from orderkit.storage.sql import open_async_backend, open_backend
from orderkit.storage.sql.storage import PhasedStorage, SqlStorage
from tests.conftest import text_of

USES = 8
SEARCH = Query(OrderFilter(sku="TEA-001"), "-created_at", 50).search("tenant", None, 51)


def prepared(storage: PhasedStorage) -> list[str]:
    """Use a search and a lookup, and return what the connection has prepared of them."""
    assert isinstance(storage, SqlStorage)
    for _ in range(USES):
        storage.search(SEARCH)
        storage.read("tenant", "order")
    rows = storage._executor.execute("SELECT statement FROM pg_prepared_statements WHERE statement LIKE '%orderkit_%'")
    return [str(statement) for (statement,) in rows if "pg_prepared_statements" not in str(statement)]


def test_by_psycopg(postgresql_database: URL) -> None:
    backend = open_backend(text_of(postgresql_database.set(drivername="postgresql+psycopg")))
    backend.create_schema()
    with backend.connect() as storage:
        statements = prepared(storage)
    backend.close()
    assert_only_the_lookup(statements)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_by_an_event_loop(postgresql_database: URL, driver: str) -> None:
    async def use() -> list[str]:
        backend = open_async_backend(text_of(postgresql_database.set(drivername=f"postgresql+{driver}")))
        await backend.create_schema()
        async with backend.connect() as call:
            statements = await call(prepared)
        await backend.close()
        return statements

    assert_only_the_lookup(asyncio.run(use()))


def assert_only_the_lookup(statements: list[str]) -> None:
    assert not [statement for statement in statements if "orderkit_order_lines" in statement]
    assert [statement for statement in statements if "orderkit_orders" in statement]
