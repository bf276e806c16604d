"""The figures of a pool, and what happens when it has nothing left to give."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine
from sqlalchemy.pool import NullPool

from orderkit import AsyncOrderKit, Line, Money, OrderKit, PoolFigures, Profile, Settings
from orderkit.errors import StorageBusy
from orderkit.storage.options import DEFAULTS, Connecting, SqlOptions
from orderkit.testing.clock import ManualClock

TEA = [Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR"))]
SMALL = Settings(pool_size=2, max_overflow=1, pool_timeout=0.2)


def test_a_pool_counts_what_threads_hold(postgresql: str) -> None:
    with OrderKit.from_url(postgresql, settings=SMALL) as kit:
        assert kit.pool() == PoolFigures(size=2, limit=3, idle=0, in_use=0, overflow=0)
        inside, leave = threading.Barrier(4), threading.Event()

        def hold() -> None:
            with kit.transaction() as transaction:
                transaction.orders.place(lines=TEA)
                inside.wait()
                leave.wait()

        with ThreadPoolExecutor(3) as threads:
            holding = [threads.submit(hold) for _ in range(3)]
            inside.wait()
            busy = kit.pool()
            leave.set()
            for held in holding:
                held.result()
        assert busy == PoolFigures(size=2, limit=3, idle=0, in_use=3, overflow=1)
        assert kit.pool() == PoolFigures(size=2, limit=3, idle=2, in_use=0, overflow=0)
        assert kit.for_tenant("another").pool() == kit.pool()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_pool_counts_what_tasks_hold(postgresql: str, driver: str) -> None:
    async def use() -> None:
        async with AsyncOrderKit.from_url(postgresql.replace("psycopg", driver), settings=SMALL) as kit:
            async with AsyncExitStack() as stack:
                for _ in range(3):
                    await stack.enter_async_context(kit.transaction())
                assert kit.pool() == PoolFigures(size=2, limit=3, idle=0, in_use=3, overflow=1)
                with pytest.raises(StorageBusy, match=r"All 3 connections .* 0\.2 seconds"):
                    await stack.enter_async_context(kit.transaction())
            assert kit.pool() == PoolFigures(size=2, limit=3, idle=2, in_use=0, overflow=0)

    asyncio.run(use())


def test_an_exhausted_pool_says_so_and_loses_nothing(postgresql: str) -> None:
    with OrderKit.from_url(postgresql, settings=SMALL, clock=ManualClock()) as kit:
        with ExitStack() as stack:
            held = [stack.enter_context(kit.transaction()) for _ in range(3)]
            orders = [transaction.orders.place(lines=TEA) for transaction in held]
            with pytest.raises(StorageBusy) as caught, kit.transaction():
                pass
        assert "All 3 connections of the pool were in use for 0.2 seconds" in caught.value.message
        assert "pool_size" in caught.value.message
        assert [kit.orders.get(order.id).version for order in orders] == [1, 1, 1]


def test_what_has_no_pool_says_none(tmp_path: Path, postgresql_database: URL) -> None:
    assert OrderKit.from_url("memory://").pool() is None
    assert OrderKit.from_url("sqlite://").pool() is None
    own = OrderKit.from_engine(create_engine("sqlite://", poolclass=NullPool))
    assert own.pool() is None
    without_limit = create_engine(postgresql_database.set(drivername="postgresql+psycopg"), max_overflow=-1)
    assert OrderKit.from_engine(without_limit).pool() == PoolFigures(size=5, limit=None, idle=0, in_use=0, overflow=0)


@pytest.mark.parametrize("group_commit", [False, True])
def test_a_sqlite_file_has_a_pool_too(tmp_path: Path, group_commit: bool) -> None:
    settings = Settings(pool_size=3, max_overflow=0, group_commit=group_commit)
    with OrderKit.from_url(f"sqlite:///{tmp_path / 'shop.db'}", settings=settings) as kit:
        kit.orders.place(lines=TEA)
        figures = kit.pool()
        assert figures is not None
        assert (figures.size, figures.limit, figures.in_use, figures.overflow) == (3, 3, 0, 0)
        assert figures.idle >= 1


def test_there_is_one_list_of_defaults() -> None:
    assert set(SqlOptions.__annotations__) == {field.name for field in Connecting.__attrs_attrs__}
    prod = Settings(profile=Profile.PROD)
    for name in ("pool_size", "max_overflow", "pool_timeout", "connect_timeout", "lock_timeout", "statement_timeout"):
        assert getattr(prod, name) == getattr(DEFAULTS, name), name


def test_a_profile_has_its_own_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {profile: (s.pool_size, s.max_overflow) for profile in Profile for s in [Settings(profile=profile)]}
    assert sizes == {Profile.DEV: (2, 8), Profile.TEST: (1, 9), Profile.PROD: (5, 10)}
    monkeypatch.setenv("ORDERKIT_PROFILE", "test")
    assert Settings().pool_size == 1
    monkeypatch.setenv("ORDERKIT_POOL_SIZE", "7")
    assert (Settings().pool_size, Settings(pool_size=3).pool_size) == (7, 3)
