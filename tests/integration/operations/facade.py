"""Drive the operations of either front door from synchronous tests, with work that is written once.

For an event loop the work, and what it calls, run in threads beside it: whatever waits there keeps no task waiting.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar, cast

import attrs

from orderkit import AsyncOperationRun, AsyncOrderKit, IdempotentOperation, OperationRun, OrderKit
from orderkit.kit.operations import Operations
from tests.integration.kit.facade import Loop

T = TypeVar("T")

Work = Callable[[OperationRun], Any]


def operations_of(kit: OrderKit) -> Operations:
    """Return the operations of a kit, or of the asynchronous kit that stands behind it."""
    theirs = vars(kit).get("_target")
    if isinstance(theirs, AsyncOrderKit):
        return cast("Operations", _Facade(theirs.operations, vars(kit)["_loop"]))
    return kit.operations


class _Facade:
    def __init__(self, target: object, loop: Loop) -> None:
        self._target = target
        self._loop = loop

    def __getattr__(self, name: str) -> object:
        value = getattr(self._target, name)
        return self._called(value) if callable(value) else value

    def _called(self, method: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            given = [self._given(argument) for argument in args]
            result = method(*given, **options)
            return self._loop.run(result) if isinstance(result, Coroutine) else result

        return call

    def _given(self, argument: object) -> object:
        if not isinstance(argument, IdempotentOperation):
            return argument
        work: Work = argument.work

        async def awaited(run: AsyncOperationRun) -> object:
            return await beside(work, cast("OperationRun", _Run(run, self._loop)))

        return attrs.evolve(argument, work=awaited)


class _Run(_Facade):
    """A run whose functions do what they do in threads; those that do something to orders are synchronous anyway."""

    def call(self, step: str, function: Callable[[str], object], **options: Any) -> object:
        if options.get("look_up") is not None:
            options["look_up"] = _awaiting(options["look_up"])
        run = cast("AsyncOperationRun", self._target)
        return self._loop.run(run.call(step, _awaiting(function), **options))


def _awaiting(function: Callable[[str], T]) -> Callable[[str], Awaitable[T]]:
    async def awaited(key: str) -> T:
        return await beside(function, key)

    return awaited


async def beside(function: Callable[..., T], *args: object) -> T:
    """Return what a function gives in a thread of its own."""
    done: Future[T] = Future()

    def work() -> None:
        try:
            result = function(*args)
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            done.set_exception(error)
        else:
            done.set_result(result)

    threading.Thread(target=work, daemon=True).start()
    return await asyncio.wrap_future(done)
