"""An operation that is cancelled at any moment: its key is free if nothing was begun, and else it can go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from orderkit import AsyncOperationRun, AsyncOrderKit
from orderkit.errors import StorageUnavailable
from orderkit.idempotency import keeping
from orderkit.idempotency.runs import OperationReport
from orderkit.testing.clock import ManualClock
from tests.integration.kit.places import Place, assert_whole
from tests.integration.operations.world import LEASE, Provider, place_tea, rows, working

SHELLS = ("memory-async", "sqlite-async", "psycopg-async", "asyncpg", "aiomysql")

on_loops = pytest.mark.parametrize("place", SHELLS, indirect=True)


def ordering(provider: Provider, *, orders_first: bool) -> Any:
    """Return an operation with a call and an order, either of them first."""

    async def call(key: str) -> Any:
        await asyncio.sleep(0)
        result = provider.do(key)
        await asyncio.sleep(0)
        return result

    async def work(run: AsyncOperationRun) -> Any:
        if orders_first:
            order = await run.commit("order", place_tea)
            charged: Any = await run.call("charge", call)
        else:
            charged = await run.call("charge", call)
            order = await run.commit("order", place_tea)
        return [order, charged["number"]]

    return working(work)


class Stepped:
    """Cancels a task when it has been resumed so many times."""

    def __init__(self, work: Coroutine[Any, Any, Any], steps: int) -> None:
        self._work = work
        self._left = steps
        self.cancelled = False

    def __await__(self) -> Any:
        return self._stepped().__await__()

    async def _stepped(self) -> Any:
        task = asyncio.current_task()
        assert task is not None
        inner = self._work.__await__()
        try:
            waited = next(inner)
            while True:
                waited = await self._pass_on(task, inner, waited)
        except StopIteration as stop:
            return stop.value

    async def _pass_on(self, task: asyncio.Task[Any], inner: Any, waited: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            self.cancelled = True
            task.cancel()
        try:
            await _Bare(waited)
        except BaseException as error:  # noqa: BLE001 - it goes to whoever is waited for
            return inner.throw(error)
        return next(inner)


class _Bare:
    """Hand to the loop what a coroutine waits for, as it is."""

    def __init__(self, waited: Any) -> None:
        self._waited = waited

    def __await__(self) -> Any:
        if self._waited is not None:
            self._waited._asyncio_future_blocking = True
        yield self._waited


@asynccontextmanager
async def opened(place: Place, tenant: str, clock: ManualClock) -> AsyncIterator[AsyncOrderKit]:
    async with place.async_kit(clock=clock) as owner:
        yield owner.for_tenant(tenant)


@pytest.mark.parametrize("orders_first", [False, True], ids=["call first", "order first"])
@on_loops
def test_cancelled_at_every_await(place: Place, tenant: str, clock: ManualClock, orders_first: bool) -> None:
    seen: set[str] = set()

    async def scenario() -> None:
        async with opened(place, tenant, clock) as kit:
            await kit.orders.search()
            for moment in range(1, 200):
                provider = Provider()
                operation = ordering(provider, orders_first=orders_first)
                stepped = Stepped(kit.operations.run(operation, key=f"k-{moment}"), moment)
                task = asyncio.ensure_future(_awaited(stepped))
                result = (await asyncio.gather(task, return_exceptions=True))[0]
                if not stepped.cancelled:
                    break
                report = await kit.operations.report(operation, key=f"k-{moment}")
                seen.add(told(report))
                if isinstance(result, BaseException):
                    assert type(result) is asyncio.CancelledError
                    assert (report is None) or report.unknown or report.recovery_point != "started"
                if report is None:
                    assert provider.arrivals == {}
                clock.advance(LEASE + 1)
                await kit.operations.run(operation, key=f"k-{moment}")
                assert len(provider.effects) == 1
            else:
                pytest.fail("it never came to its end")
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert assert_whole(place, tenant)["orders"] == moment == len(rows(place, tenant))

    asyncio.run(scenario())
    assert "free" in seen or place.shell == "memory-async"
    assert "begun" in seen


async def _awaited(stepped: Stepped) -> Any:
    return await stepped


def told(report: OperationReport | None) -> str:
    if report is None:
        return "free"
    return "begun" if report.state == "in_progress" else "done"


@pytest.mark.parametrize("place", ["memory-async", "psycopg-async"], indirect=True)
def test_a_cancellation_is_told_although_the_storage_is_gone(
    place: Place, tenant: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_args: object, **_options: object) -> None:
        raise StorageUnavailable("It was not reached; nothing was written.")

    async def scenario() -> None:
        async with opened(place, tenant, clock) as kit:
            begun = asyncio.Event()

            async def work(run: AsyncOperationRun) -> Any:
                monkeypatch.setattr(keeping.Keeper, "let_go", gone)
                begun.set()
                await asyncio.Event().wait()

            task = asyncio.create_task(kit.operations.run(working(work), key="k"))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as found:
                await task
            assert "not reached" in "".join(found.value.__notes__)

    asyncio.run(scenario())


@on_loops
def test_a_time_out_of_the_caller_leaves_what_was_begun(place: Place, tenant: str, clock: ManualClock) -> None:
    provider = Provider()
    hanging = asyncio.Event

    async def scenario() -> None:
        async with opened(place, tenant, clock) as kit:
            patience: list[Callable[[], Any]] = [lambda: hanging().wait()]

            async def call(key: str) -> Any:
                provider.do(key)
                if patience:
                    await patience.pop()()
                return "charged"

            async def work(run: AsyncOperationRun) -> Any:
                return await run.call("charge", call)

            async def timed() -> None:
                async with asyncio.timeout(None) as scope:
                    task = asyncio.current_task()
                    assert task is not None
                    provider.breaks = lambda key: scope.reschedule(0)
                    await kit.operations.run(working(work), key="k")

            with pytest.raises(TimeoutError):
                await timed()
            provider.breaks = lambda key: None
            report = await kit.operations.report(working(work), key="k")
            assert report is not None
            assert (report.unknown, report.lapsed) == (("charge",), False)
            clock.advance(LEASE + 1)
            assert await kit.operations.run(working(work), key="k") == "charged"

    asyncio.run(scenario())
    assert len(provider.effects) == 1
