"""Threads and event loops behind one face, so that each promise is tested in both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from orderkit.resilience import Policy

T = TypeVar("T")


class World:
    """Call plain functions through policies, in a thread."""

    name = "sync"

    def call(self, policy: Policy, function: Callable[..., T], /, *args: object, **kwargs: object) -> T:
        return policy.call(function, *args, **kwargs)

    def decorated(self, policy: Policy, function: Callable[..., T]) -> Callable[..., T]:
        return policy(function)

    def block(self, policy: Policy, body: Callable[[], T]) -> T:
        with policy:
            return body()


class AsyncWorld(World):
    """Call them as coroutine functions, each in an event loop of its own."""

    name = "async"

    def call(self, policy: Policy, function: Callable[..., T], /, *args: object, **kwargs: object) -> T:
        return self.decorated(policy, function)(*args, **kwargs)

    def decorated(self, policy: Policy, function: Callable[..., T]) -> Callable[..., T]:
        async def asynchronous(*args: object, **kwargs: object) -> T:
            return function(*args, **kwargs)

        called: Any = policy(asynchronous)

        async def run(*args: object, **kwargs: object) -> T:
            result: T = await called(*args, **kwargs)
            return result

        return lambda *args, **kwargs: asyncio.run(run(*args, **kwargs))

    def block(self, policy: Policy, body: Callable[[], T]) -> T:
        async def run() -> T:
            async with policy:
                return body()

        return asyncio.run(run())


def failing(*errors: BaseException | type[BaseException], result: object = "done") -> Callable[[], Any]:
    """Return a function that raises these errors one after the other, and then returns the result."""
    left = list(errors)

    def work() -> object:
        if left:
            raise left.pop(0)
        return result

    return work
