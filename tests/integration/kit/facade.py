"""Drive `AsyncOrderKit` from synchronous tests, so that every promise is tested once for both front doors.

Every thread of a test becomes a task of one event loop: what threads do at the same time, tasks do here.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

from orderkit import AsyncOrderKit, AsyncTransaction, OrderKit
from orderkit.kit.async_customers import AsyncCustomers
from orderkit.kit.async_orders import AsyncOrders
from orderkit.kit.runners import AsyncBackendRunner

T = TypeVar("T")


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, name="test-loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _work(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()


def blocking(kit: AsyncOrderKit, loop: Loop) -> OrderKit:
    """Return an asynchronous kit as a synchronous one."""
    return cast("OrderKit", _Facade(kit, loop))


class _Facade:
    def __init__(self, target: object, loop: Loop) -> None:
        self._target = target
        self._loop = loop

    def __getattr__(self, name: str) -> object:
        return self._plain(getattr(self._target, name))

    def _plain(self, value: object) -> object:
        if inspect.iscoroutine(value):
            return self._plain(self._loop.run(value))
        if isinstance(value, AsyncOrderKit | AsyncOrders | AsyncCustomers | AsyncTransaction | AsyncBackendRunner):
            return _Facade(value, self._loop)
        if isinstance(value, AbstractAsyncContextManager):
            return self._entered(value)
        if isinstance(value, AsyncIterator):
            return self._iterated(value)
        if inspect.ismethod(value):
            return self._called(value)
        return value

    def _called(self, method: Callable[..., object]) -> Callable[..., object]:
        @wraps(method)
        def call(*args: object, **options: object) -> object:
            return self._plain(method(*args, **options))

        return call

    def _iterated(self, values: AsyncIterator[object]) -> Iterator[object]:
        async def following() -> tuple[object, ...]:
            try:
                return (await anext(values),)
            except StopAsyncIteration:
                return ()

        while found := self._loop.run(following()):
            yield found[0]

    def _entered(self, block: AbstractAsyncContextManager[object]) -> AbstractContextManager[object]:
        @contextmanager
        def held() -> Generator[object]:
            entered: Future[object] = Future()
            leaving: Future[None] = Future()
            holding = self._loop.submit(_hold(block, entered, leaving))
            try:
                yield self._plain(entered.result())
            except BaseException as error:
                leaving.set_exception(error)
                holding.result()
                raise
            leaving.set_result(None)
            holding.result()

        return held()


async def _hold(block: AbstractAsyncContextManager[object], entered: Future[object], leaving: Future[None]) -> None:
    """Enter and leave the block in one task, as a time-out or a task group around it would need."""
    try:
        async with block as value:
            entered.set_result(value)
            await asyncio.wrap_future(leaving)
    except BaseException as error:
        if entered.done():
            raise
        entered.set_exception(error)
