"""Inside the application's own SQLAlchemy transaction: theirs and ours are kept together, or not at all."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import attrs
import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, Text, create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session, registry

from orderkit import OrderFilter
from orderkit.errors import (
    AlreadyExists,
    ConfigurationError,
    IdempotencyMismatch,
    InvalidCommand,
    OrderKitError,
    OrderNotFound,
    Refused,
    VersionConflict,
)
from tests.integration.kit.places import DURABLE, TEA, Place, assert_whole

SHELLS = [shell for shell in DURABLE if shell != "sqlite-async"]


class Invoice:
    """A row of theirs."""

    def __init__(self, number: str) -> None:
        self.number = number


_invoices = Table(
    "their_invoices", MetaData(), Column("id", Integer, primary_key=True), Column("number", Text, nullable=False)
)
registry().map_imperatively(Invoice, _invoices)


async def settled(value: Any) -> Any:
    """Return a value, awaited where the shell is asynchronous."""
    return await value if inspect.isawaitable(value) else value


@attrs.define
class Theirs:
    """The application's session or connection, and our orders inside it, waiting or awaiting alike."""

    joined: Any
    tx: Any
    kit: Any
    number: str

    async def invoice(self) -> None:
        """Write a row of theirs."""
        await settled(self.joined.execute(text("INSERT INTO their_invoices (number) VALUES (:n)"), {"n": self.number}))

    async def invoices(self) -> int:
        """Count their rows as their transaction sees them."""
        counting = text("SELECT count(*) FROM their_invoices WHERE number = :n")
        result = await settled(self.joined.execute(counting, {"n": self.number}))
        return int(result.scalar_one())

    async def commit(self) -> None:
        await settled(self.joined.commit())

    async def rollback(self) -> None:
        await settled(self.joined.rollback())

    def __getattr__(self, verb: str) -> Callable[..., Awaitable[Any]]:
        """Return a method of our orders inside their transaction."""
        method = getattr(self.tx.orders, verb)

        async def call(*arguments: object, **options: object) -> Any:
            return await settled(method(*arguments, **options))

        return call


@pytest.fixture(params=["session", "connection"])
def joining(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def number() -> str:
    """The number of their invoice in this test."""
    return uuid4().hex


@pytest.fixture
def application(place: Place, joining: str, tenant: str, number: str) -> Callable[[], Any]:
    """Open the application's session or connection, of which each has an engine of its own."""
    with place.kit() as owner:
        owner.create_schema()
    numbered = {"postgresql": "GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "mariadb": "AUTO_INCREMENT PRIMARY KEY"}
    identity = numbered.get(place.url.get_backend_name(), "PRIMARY KEY")
    place.query(f"CREATE TABLE IF NOT EXISTS their_invoices (id integer {identity}, number text NOT NULL)")

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Theirs]:
        engine: Any = create_async_engine(place.url) if place.asynchronous else create_engine(place.url)
        kit: Any = (place.async_kit() if place.asynchronous else place.kit()).for_tenant(tenant)
        joined = _joined(engine, joining)
        if joining == "connection" and place.asynchronous:
            await joined.start()
        try:
            yield Theirs(joined, kit.within(joined), kit, number)
        finally:
            await settled(joined.close())
            await settled(kit.close())
            await settled(engine.dispose())

    return opened


def _joined(engine: Engine | AsyncEngine, joining: str) -> Any:
    if isinstance(engine, AsyncEngine):
        return AsyncSession(engine) if joining == "session" else engine.connect()
    return Session(engine) if joining == "session" else engine.connect()


def their_rows(place: Place, number: str) -> int:
    """Count the committed rows of theirs."""
    return len(place.query(f"SELECT 1 FROM their_invoices WHERE number = '{number}'"))


in_every_shell = pytest.mark.parametrize("place", SHELLS, indirect=True)


@in_every_shell
def test_theirs_and_ours_are_committed_together(
    application: Callable[[], Any], place: Place, tenant: str, number: str
) -> None:
    async def scenario() -> None:
        async with application() as theirs:
            await theirs.invoice()
            order = await theirs.place(lines=TEA, idempotency_key="k", tags=("x",))
            await theirs.confirm(order.id)
            assert (await theirs.get(order.id)).version == 2
            assert [found.id for found in (await theirs.search(OrderFilter(tags=("x",)))).items] == [order.id]
            assert (their_rows(place, number), place.count("orders", tenant)) == (0, 0)
            await theirs.commit()
            assert (their_rows(place, number), place.count("orders", tenant)) == (1, 1)
            await theirs.complete(order.id)
            await theirs.commit()

    asyncio.run(scenario())
    assert assert_whole(place, tenant)["events"] == 3


@in_every_shell
@pytest.mark.parametrize("first", ["theirs", "ours", "their reading"])
def test_theirs_and_ours_are_rolled_back_together(
    application: Callable[[], Any], place: Place, tenant: str, number: str, first: str
) -> None:
    """Whoever writes first: pysqlite begins only before their first write, and ours must not commit before it."""

    async def scenario() -> None:
        async with application() as theirs:
            if first == "theirs":
                await theirs.invoice()
            if first == "their reading":
                assert await theirs.invoices() == 0
            order = await theirs.place(lines=TEA, idempotency_key="k")
            await theirs.confirm(order.id)
            await theirs.invoice()
            await theirs.rollback()
            assert await theirs.invoices() == 0
            with pytest.raises(OrderNotFound):
                await theirs.get(order.id)
            await theirs.rollback()
            again = await theirs.place(lines=TEA, idempotency_key="k")
            assert again.id != order.id
            await theirs.rollback()

    asyncio.run(scenario())
    assert their_rows(place, number) == 0
    assert set(place.counts(tenant).values()) == {0}


@in_every_shell
def test_leaving_without_a_commit_keeps_nothing(
    application: Callable[[], Any], place: Place, tenant: str, number: str
) -> None:
    async def scenario() -> None:
        async with application() as theirs:
            await theirs.place(lines=TEA)
            await theirs.invoice()

    asyncio.run(scenario())
    assert (their_rows(place, number), place.count("orders", tenant)) == (0, 0)


@in_every_shell
def test_an_error_of_ours_leaves_their_transaction_usable(
    application: Callable[[], Any], place: Place, tenant: str, number: str
) -> None:
    async def scenario() -> None:
        async with application() as theirs:
            await theirs.invoice()
            order = await theirs.place(lines=TEA, idempotency_key="k")
            attempts: tuple[tuple[Callable[[], Awaitable[Any]], type[OrderKitError]], ...] = (
                (lambda: theirs.place(lines=TEA, id=order.id), AlreadyExists),
                (lambda: theirs.place(lines=TEA, number=order.number), AlreadyExists),
                (lambda: theirs.place(lines=TEA, tags=("other",), idempotency_key="k"), IdempotencyMismatch),
                (lambda: theirs.complete(order.id), Refused),
                (lambda: theirs.confirm(order.id, expected_version=9), VersionConflict),
                (lambda: theirs.confirm("order_absent"), OrderNotFound),
                (lambda: theirs.place(lines=()), InvalidCommand),
            )
            for attempt, error in attempts:
                with pytest.raises(error):
                    await attempt()
                assert await theirs.invoices() == 1
            assert await theirs.place(lines=TEA, idempotency_key="k") == order
            await theirs.confirm(order.id)
            await theirs.commit()

    asyncio.run(scenario())
    assert their_rows(place, number) == 1
    kept = assert_whole(place, tenant)
    assert (kept["orders"], kept["events"], kept["order_labels"]) == (1, 2, 0)


@in_every_shell
@pytest.mark.parametrize("joining", ["session"], indirect=True)
def test_their_session_is_flushed_first(application: Callable[[], Any], place: Place, tenant: str, number: str) -> None:
    async def scenario() -> None:
        async with application() as theirs:
            theirs.joined.autoflush = False
            commands: tuple[Callable[[], Awaitable[Any]], ...] = (
                lambda: theirs.place(lines=TEA, id="order-1"),
                lambda: theirs.confirm("order-1"),
            )
            for command in commands:
                invoice = Invoice(number)
                theirs.joined.add(invoice)
                assert invoice in theirs.joined.new
                await command()
                assert invoice not in theirs.joined.new
            assert await theirs.invoices() == 2
            await theirs.commit()

    asyncio.run(scenario())
    assert (their_rows(place, number), place.count("orders", tenant)) == (2, 1)


@in_every_shell
def test_nothing_of_ours_ends_their_transaction(
    application: Callable[[], Any], place: Place, tenant: str, number: str
) -> None:
    ended: list[str] = []

    async def scenario() -> None:
        async with application() as theirs:
            engine = theirs.joined.bind if hasattr(theirs.joined, "bind") else theirs.joined.engine
            engine = getattr(engine, "sync_engine", engine)
            event.listen(engine, "commit", lambda _connection: ended.append("commit"))
            event.listen(engine, "rollback", lambda _connection: ended.append("rollback"))
            order = await theirs.place(lines=TEA)
            with pytest.raises(AlreadyExists):
                await theirs.place(lines=TEA, id=order.id)
            await theirs.confirm(order.id)
            assert ended == []
            assert theirs.joined.in_transaction()
            assert not getattr(theirs.joined, "closed", False)
            await theirs.commit()
            assert ended == ["commit"]
            assert await theirs.invoices() == 0

    asyncio.run(scenario())
    assert assert_whole(place, tenant)["orders"] == 1


@in_every_shell
def test_their_savepoint_takes_ours_back(
    application: Callable[[], Any], place: Place, tenant: str, number: str
) -> None:
    async def scenario() -> None:
        async with application() as theirs:
            await theirs.invoice()
            kept = await theirs.place(lines=TEA)
            nested = await settled(theirs.joined.begin_nested())
            gone = await theirs.place(lines=TEA)
            await theirs.confirm(kept.id)
            await settled(nested.rollback())
            assert (await theirs.get(kept.id)) == kept
            with pytest.raises(OrderNotFound):
                await theirs.get(gone.id)
            await theirs.commit()

    asyncio.run(scenario())
    kept = assert_whole(place, tenant)
    assert (their_rows(place, number), kept["orders"], kept["events"]) == (1, 1, 1)


@in_every_shell
def test_a_conflict_is_theirs_to_repeat(application: Callable[[], Any], place: Place, tenant: str) -> None:
    """Inside their transaction nothing is retried: they alone can repeat it as a whole."""
    with place.kit() as owner:
        order = owner.for_tenant(tenant).orders.place(lines=TEA)

    async def scenario() -> None:
        async with application() as theirs:
            with pytest.raises(VersionConflict):
                await theirs.confirm(order.id, expected_version=5)
            confirmed = await theirs.confirm(order.id, expected_version=1)
            assert confirmed.version == 2
            await theirs.commit()

    asyncio.run(scenario())
    assert_whole(place, tenant)


@pytest.mark.parametrize("place", ["psycopg", "psycopg-async", "asyncpg"], indirect=True)
@pytest.mark.parametrize("joining", ["connection"], indirect=True)
def test_a_connection_without_transactions_cannot_be_joined(
    application: Callable[[], Any], place: Place, tenant: str
) -> None:
    async def scenario() -> None:
        async with application() as theirs:
            engine = theirs.joined.engine.execution_options(isolation_level="AUTOCOMMIT")
            connection = engine.connect()
            if isinstance(connection, AsyncConnection):
                await connection.start()
            try:
                with pytest.raises(ConfigurationError):
                    await settled(theirs.kit.within(connection).orders.place(lines=TEA))
            finally:
                await settled(connection.close())

    asyncio.run(scenario())
    assert place.count("orders", tenant) == 0
