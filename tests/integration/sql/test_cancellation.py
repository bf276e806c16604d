"""A cancellation leaves nothing behind, and waits for a commit that is under way."""

# ruff: noqa: PT012 - it is the whole block that is left by an error

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import anyio
import psycopg
import pytest
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import await_only

from orderkit.errors import CommitUnknown, StorageBusy
from orderkit.orders.tables import OrderRow
from orderkit.storage.sql import AsyncSqlBackend, bridges, open_async_backend, open_backend
from orderkit.storage.sql.backend import SqlBackend
from orderkit.storage.sql.storage import SqlStorage
from orderkit.testing.conformance.base import assert_record, fresh_tenant, order_row, placing
from orderkit.unit_of_work.storage import Outcome
from tests.integration.sql.gates import build_gate, closed_gate, terminate, until, waiting


@pytest.fixture(params=["postgresql+asyncpg", "postgresql+psycopg"])
def gated(request: pytest.FixtureRequest, postgresql: str, session: psycopg.Connection) -> str:
    """The URL of a PostgreSQL database with a gate, for each asynchronous driver."""
    build_gate(session)
    return postgresql.replace("postgresql+psycopg", request.param)


@pytest.fixture(params=["postgresql+asyncpg", "postgresql+psycopg", "mariadb+aiomysql", "sqlite"])
def any_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database with the tables, for each way to reach one from an event loop."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite"))
    if request.param == "mariadb+aiomysql":
        return str(request.getfixturevalue("mariadb")).replace("mariadb+pymysql", request.param)
    return str(request.getfixturevalue("postgresql")).replace("postgresql+psycopg", request.param)


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[AsyncSqlBackend]:
    """A backend with one connection, which every test must give back; no task may be left."""
    before = asyncio.all_tasks()
    backend = open_async_backend(url, **{"pool_size": 1, "max_overflow": 0, "lock_timeout": 30, **options})
    try:
        yield backend
        async with asyncio.timeout(10):
            async with backend.connect(transaction=True) as call:
                await call(lambda storage: storage.read("t", "order_1"))
    finally:
        await backend.close()
    # One turn for drivers to be told that their connections are closed.
    await asyncio.sleep(0)
    assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()


async def look(backend: AsyncSqlBackend, order: OrderRow) -> object:
    async with backend.connect() as call:
        return await call(lambda storage: storage.read(order.tenant, order.id).order)


async def place(backend: AsyncSqlBackend, order: OrderRow, *, transaction: bool) -> None:
    async with backend.connect(transaction=transaction) as call:
        await call(lambda storage: storage.commit(placing(order)))


async def held_up(session: psycopg.Connection) -> None:
    """Wait until somebody waits at the gate."""
    await asyncio.to_thread(until, lambda: waiting(session))


async def placed_halfway(
    backend: AsyncSqlBackend, order: OrderRow, session: psycopg.Connection, *, transaction: bool
) -> asyncio.Task[None]:
    """Begin to place an order; return once its commit waits at the gate."""
    task = asyncio.create_task(place(backend, order, transaction=transaction))
    await held_up(session)
    return task


def gated_order() -> OrderRow:
    return order_row(f"gated-{uuid4().hex}")


both_ways = pytest.mark.parametrize("transaction", [False, True], ids=["by-itself", "in-a-transaction"])


@both_ways
def test_a_cancelled_commit_is_settled_before_the_caller_is_told(
    gated: str, session: psycopg.Connection, transaction: bool
) -> None:
    async def check() -> None:
        order = gated_order()
        async with opened(gated) as backend:
            with closed_gate(session):
                task = await placed_halfway(backend, order, session, transaction=transaction)
                task.cancel()
                await asyncio.sleep(0.05)
                assert not task.done()
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await look(backend, order) is not None

    asyncio.run(check())


@both_ways
def test_a_time_out_during_a_commit_waits_for_its_outcome(
    gated: str, session: psycopg.Connection, transaction: bool
) -> None:
    async def check() -> None:
        order = gated_order()
        async with opened(gated) as backend:
            with closed_gate(session):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(None) as limit:
                        expiry = asyncio.create_task(expire(limit))
                        await place(backend, order, transaction=transaction)
                await expiry
            assert await look(backend, order) is not None

    async def expire(limit: asyncio.Timeout) -> None:
        await held_up(session)
        limit.reschedule(asyncio.get_running_loop().time())
        await asyncio.to_thread(open_gate_soon)

    def open_gate_soon() -> None:
        # From another thread, since the loop waits for the commit with nothing else to do.
        threading.Event().wait(0.2)
        session.execute("SELECT pg_advisory_unlock_all()")

    asyncio.run(check())


@both_ways
def test_a_scope_that_cancels_again_and_again_is_no_different(
    gated: str, session: psycopg.Connection, transaction: bool
) -> None:
    async def check() -> None:
        order = gated_order()
        async with opened(gated) as backend:
            with closed_gate(session):
                async with anyio.create_task_group() as group:
                    group.start_soon(place_with, backend, order)
                    await held_up(session)
                    group.cancel_scope.cancel()
                    asyncio.get_running_loop().call_later(0.1, session.execute, "SELECT pg_advisory_unlock_all()")
            assert await look(backend, order) is not None

    async def place_with(backend: AsyncSqlBackend, order: OrderRow) -> None:
        await place(backend, order, transaction=transaction)

    asyncio.run(check())


@both_ways
def test_a_commit_that_does_not_settle_is_unknown(
    gated: str, session: psycopg.Connection, transaction: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridges, "_PATIENCE", 0.1)

    async def check() -> None:
        order = gated_order()
        async with opened(gated) as backend:
            with closed_gate(session):
                task = await placed_halfway(backend, order, session, transaction=transaction)
                task.cancel()
                with pytest.raises(CommitUnknown):
                    await task
            await place(backend, order, transaction=transaction) if await look(backend, order) is None else None
            assert await look(backend, order) is not None

    asyncio.run(check())


@both_ways
def test_a_connection_that_goes_while_a_cancellation_waits_leaves_the_commit_unknown(
    gated: str, session: psycopg.Connection, transaction: bool
) -> None:
    async def check() -> None:
        order = gated_order()
        async with opened(gated) as backend:
            with closed_gate(session):
                task = await placed_halfway(backend, order, session, transaction=transaction)
                task.cancel()
                await asyncio.sleep(0.02)
                await asyncio.to_thread(terminate, session)
                with pytest.raises(CommitUnknown):
                    await task
            assert await look(backend, order) is None

    asyncio.run(check())


@both_ways
def test_a_cancellation_while_a_lost_connection_is_replaced_leaves_the_commit_unknown(
    gated: str, session: psycopg.Connection, transaction: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkin, replacing = SqlBackend._checkin, asyncio.Event()

    def slow(backend: SqlBackend, connection: PoolProxiedConnection, storage: SqlStorage) -> None:
        if storage.damaged:
            replacing.set()
            await_only(asyncio.sleep(0.1))
        checkin(backend, connection, storage)

    async def check() -> None:
        order = gated_order()
        async with opened(gated) as backend:
            with closed_gate(session):
                task = await placed_halfway(backend, order, session, transaction=transaction)
                await asyncio.to_thread(terminate, session)
                await replacing.wait()
                task.cancel()
                with pytest.raises(CommitUnknown):
                    await task
            assert await look(backend, order) is None

    monkeypatch.setattr(SqlBackend, "_checkin", slow)
    asyncio.run(check())


class LeftEarly(Exception):
    """The end of a block that is to be rolled back."""


def test_a_wait_inside_a_transaction_is_cancelled_at_once(gated: str) -> None:
    async def check() -> None:
        order, new = order_row(fresh_tenant()), order_row(fresh_tenant())
        async with opened(gated, pool_size=2) as backend:
            await place(backend, order, transaction=False)
            with pytest.raises(LeftEarly):
                async with backend.connect(transaction=True) as call:
                    await call(lambda storage: storage.read(order.tenant, order.id, lock=True))
                    with pytest.raises(TimeoutError):
                        await place_and_wait(backend, new, order)
                    raise LeftEarly
            assert await look(backend, new) is None

    async def place_and_wait(backend: AsyncSqlBackend, new: OrderRow, locked: OrderRow) -> None:
        async with asyncio.timeout(0.1), backend.connect(transaction=True) as call:
            await call(lambda storage: storage.commit(placing(new)))
            await call(lambda storage: storage.read(locked.tenant, locked.id, lock=True))

    asyncio.run(check())


def test_every_cancellation_leaves_all_or_nothing(any_url: str) -> None:
    async def check() -> None:
        tenant = fresh_tenant()
        orders = [order_row(tenant, f"order_{number}") for number in range(60)]
        told: list[bool] = []
        async with opened(any_url, pool_size=4) as backend:
            for number, order in enumerate(orders):
                task = asyncio.create_task(place(backend, order, transaction=number % 2 == 0))
                for _ in range(number % 12):
                    await asyncio.sleep(0)
                task.cancel()
                told.append(await outcome(task))
            for order, done in zip(orders, told, strict=True):
                record = await look(backend, order)
                assert record is not None or not done
                if record is not None:
                    assert_record(record, order)  # type: ignore[arg-type]  # it is one
        assert not all(told)

    asyncio.run(check())


def commit_one(order: OrderRow, storage: SqlStorage) -> Outcome:
    return storage.commit(placing(order))


async def outcome(task: asyncio.Task[None]) -> bool:
    """Whether a task was told that its commit is done."""
    try:
        await task
    except asyncio.CancelledError:
        return False
    return True


def test_context_variables_are_seen_by_the_work(any_url: str) -> None:
    actor: contextvars.ContextVar[str] = contextvars.ContextVar("actor")

    async def check() -> None:
        async with opened(any_url) as backend:
            actor.set("erika")
            for transaction in (False, True):
                async with backend.connect(transaction=transaction) as call:
                    assert await call(lambda _: actor.get()) == "erika"

    asyncio.run(check())


def test_calls_of_one_transaction_run_one_at_a_time(any_url: str) -> None:
    async def check() -> None:
        tenant = fresh_tenant()
        orders = [order_row(tenant, f"order_{number}") for number in range(8)]
        async with opened(any_url) as backend:
            async with backend.connect(transaction=True) as call:
                await asyncio.gather(*(call(partial(commit_one, order)) for order in orders))
            for order in orders:
                assert await look(backend, order) is not None

    asyncio.run(check())


def test_connections_that_went_while_idle_are_replaced_unnoticed(gated: str, session: psycopg.Connection) -> None:
    async def check() -> None:
        order = order_row(fresh_tenant())
        async with opened(gated, pool_size=2) as backend:
            async with backend.connect(transaction=True), backend.connect(transaction=True):
                pass
            # Not in the loop's thread: asyncpg learns of a closed connection when the loop looks at its sockets.
            await asyncio.to_thread(terminate, session, waiting_only=False)
            await asyncio.sleep(0.01)
            await place(backend, order, transaction=False)
            assert await look(backend, order) is not None

    asyncio.run(check())


# --------------------------------------------------------------------------------------------
# SQLite: threads, which cannot be interrupted
# --------------------------------------------------------------------------------------------


def test_a_cancelled_wait_for_the_file_is_over_when_the_caller_is_told(sqlite: str) -> None:
    async def check() -> None:
        order = order_row(fresh_tenant())
        holder = open_backend(sqlite)
        async with opened(sqlite, busy_timeout=0.3) as backend:
            with holder.connect(transaction=True):
                task = asyncio.create_task(place(backend, order, transaction=True))
                await asyncio.sleep(0.05)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert await look(backend, order) is None
        holder.close()

    asyncio.run(check())


def test_writers_that_wait_do_not_starve_the_transaction_they_wait_for(sqlite: str) -> None:
    async def check() -> None:
        tenant = fresh_tenant()
        orders = [order_row(tenant, f"order_{number}") for number in range(40)]
        async with opened(sqlite, busy_timeout=30, pool_size=2, max_overflow=50) as backend:
            async with backend.connect(transaction=True) as call:
                await call(lambda storage: storage.commit(placing(orders[0])))
                waiters = [asyncio.create_task(place(backend, order, transaction=False)) for order in orders[1:]]
                await asyncio.sleep(0.05)
                assert not any(waiter.done() for waiter in waiters)
                await call(lambda storage: storage.next_number(tenant))
            await asyncio.gather(*waiters)
            for order in orders:
                assert await look(backend, order) is not None

    asyncio.run(check())


def test_blocks_in_memory_take_turns() -> None:
    async def check() -> None:
        tenant = fresh_tenant()
        orders = [order_row(tenant, f"order_{number}") for number in range(40)]
        async with opened("sqlite://") as backend:
            await backend.create_schema()
            tasks = [place(backend, order, transaction=number % 2 == 0) for number, order in enumerate(orders)]
            await asyncio.gather(*tasks)
            for order in orders:
                assert await look(backend, order) is not None

    asyncio.run(check())


def test_an_event_loop_after_another_finds_the_file_as_before(sqlite: str) -> None:
    backend = open_async_backend(sqlite)
    order = order_row(fresh_tenant())
    asyncio.run(place(backend, order, transaction=True))
    assert asyncio.run(look(backend, order)) is not None
    asyncio.run(backend.close())


def test_a_busy_file_is_told_of_to_the_loop_too(sqlite: str) -> None:
    async def check() -> None:
        holder = open_backend(sqlite)
        async with opened(sqlite, busy_timeout=0.05) as backend:
            with holder.connect(transaction=True), pytest.raises(StorageBusy):
                await place(backend, order_row(fresh_tenant()), transaction=False)
        holder.close()

    asyncio.run(check())
