"""A storage inside the application's own transaction: theirs to commit, theirs to roll back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from orderkit.errors import AlreadyExists, ConfigurationError, StorageUnavailable
from orderkit.storage.sql import async_join, join
from orderkit.testing.conformance.base import fresh_tenant, guard_of, moved, moving, order_row, placing


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS notes (body varchar(200) PRIMARY KEY)"))
        connection.execute(text("DELETE FROM notes"))
    yield engine
    engine.dispose()


def notes(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(text("SELECT body FROM notes ORDER BY body")))


def placed(engine: Engine, tenant: str) -> list[str]:
    with engine.connect() as connection:
        found = connection.scalars(text("SELECT id FROM orderkit_orders WHERE tenant = :t ORDER BY id"), {"t": tenant})
        return list(found)


WRITE_NOTE = text("INSERT INTO notes VALUES (:body)")


@pytest.mark.parametrize("note_first", [False, True])
def test_what_is_rolled_back_is_rolled_back_with_everything(engine: Engine, note_first: bool) -> None:
    tenant = fresh_tenant()
    with engine.connect() as connection:
        if note_first:
            connection.execute(WRITE_NOTE, {"body": "first"})
        storage = join(connection)()
        assert storage.in_transaction
        storage.commit(placing(order_row(tenant)))
        connection.execute(WRITE_NOTE, {"body": "last"})
        connection.rollback()
    assert (placed(engine, tenant), notes(engine)) == ([], [])


@pytest.mark.parametrize("note_first", [False, True])
def test_what_is_committed_is_committed_with_everything(engine: Engine, note_first: bool) -> None:
    tenant = fresh_tenant()
    with engine.begin() as connection:
        if note_first:
            connection.execute(WRITE_NOTE, {"body": "first"})
        join(connection)().commit(placing(order_row(tenant)))
        connection.execute(WRITE_NOTE, {"body": "last"})
    assert placed(engine, tenant) == ["order_1"]
    assert notes(engine) == (["first"] if note_first else []) + ["last"]


def test_a_transaction_that_only_read_before_is_joined_too(engine: Engine) -> None:
    tenant = fresh_tenant()
    with engine.connect() as connection:
        assert join(connection)().read(tenant, "order_1").order is None
        join(connection)().commit(placing(order_row(tenant)))
        assert join(connection)().read(tenant, "order_1", lock=True).order is not None
        connection.rollback()
    assert placed(engine, tenant) == []


def test_a_conflict_takes_back_no_more_than_its_own_write(engine: Engine) -> None:
    tenant = fresh_tenant()
    order, other = order_row(tenant), order_row(tenant, "order_2")
    with engine.begin() as connection:
        connection.execute(WRITE_NOTE, {"body": "kept"})
        storage = join(connection)()
        storage.commit(placing(order))
        with pytest.raises(AlreadyExists):
            storage.commit(placing(other, order))
        stale = moving(other)
        stale.guards = [guard_of(moved(order))]
        assert not storage.commit(stale).committed
        assert storage.commit(moving(order)).committed
    assert placed(engine, tenant) == ["order_1"]
    assert notes(engine) == ["kept"]


def test_a_session_is_flushed_first_and_stays_theirs(engine: Engine) -> None:
    tenant = fresh_tenant()
    with Session(engine) as session:
        session.execute(WRITE_NOTE, {"body": "theirs"})
        join(session)().commit(placing(order_row(tenant)))
        with session.begin_nested():
            join(session)().commit(placing(order_row(tenant, "order_2")))
        session.commit()
        join(session)().commit(placing(order_row(tenant, "order_3")))
        session.rollback()
    assert placed(engine, tenant) == ["order_1", "order_2"]
    assert notes(engine) == ["theirs"]


def test_a_connection_that_commits_by_itself_cannot_be_joined(postgresql: str) -> None:
    engine = create_engine(postgresql, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, pytest.raises(ConfigurationError):
        join(connection)()
    engine.dispose()


def test_a_number_without_gaps_goes_back_with_their_transaction(engine: Engine) -> None:
    tenant = fresh_tenant()
    for end in ("rollback", "commit", "commit"):
        with engine.connect() as connection:
            number = join(connection)().next_number(tenant)
            getattr(connection, end)()
    assert number == 2


def test_a_database_that_is_not_there_is_unavailable() -> None:
    engine = create_engine("postgresql+psycopg://someone:a-secret@127.0.0.1:1/shop")
    with Session(engine) as session, pytest.raises(StorageUnavailable) as caught:
        join(session)()
    assert "a-secret" not in str(caught.value)
    engine.dispose()


@pytest.mark.parametrize("driver", ["postgresql+asyncpg", "postgresql+psycopg"])
def test_an_asynchronous_session_is_joined_alike(postgresql: str, driver: str) -> None:
    tenant = fresh_tenant()
    order = order_row(tenant)

    async def check() -> None:
        engine = create_async_engine(postgresql.replace("postgresql+psycopg", driver))
        async with AsyncSession(engine) as session:
            call = async_join(session)
            await call(lambda storage: storage.commit(placing(order)))
            with pytest.raises(AlreadyExists):
                await call(lambda storage: storage.commit(placing(order)))
            await session.commit()
        async with engine.connect() as connection:
            await async_join(connection)(lambda storage: storage.commit(moving(order)))
            await connection.rollback()
        await engine.dispose()

    asyncio.run(check())
    synchronous = create_engine(postgresql)
    with synchronous.connect() as connection:
        found = join(connection)().read(tenant, order.id).order
        assert found is not None
        assert found.version == order.version
    synchronous.dispose()
