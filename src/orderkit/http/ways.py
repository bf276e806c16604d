"""The two ways to reach a transport: in a thread, and in an event loop. What decides is written once, above them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, Generic

from orderkit.http.libraries import RequestT, ResponseT
from orderkit.resilience import Policy
from orderkit.resilience.runtimes import LOOP, THREAD, Runtime, drive


class Ways(ABC, Generic[RequestT, ResponseT]):
    """How a transport is called, and how the body of its response is read.

    Attributes:
        runtime: How to wait.
    """

    runtime: Runtime

    @abstractmethod
    async def call(self, policy: Policy, attempt: Callable[[], Coroutine[Any, Any, ResponseT]]) -> ResponseT:
        """Call something through a policy."""

    @abstractmethod
    async def send(self, request: RequestT) -> ResponseT:
        """Hand a request to the transport."""

    @abstractmethod
    def chunks(self, stream: Any) -> Any:
        """Begin to read a body."""

    @abstractmethod
    async def chunk(self, chunks: Any) -> bytes | None:
        """Read on in a body; None where it has ended."""

    @abstractmethod
    async def close(self, stream: Any, chunks: Any) -> None:
        """Let a body go, and the connection with it."""


class Blocking(Ways[RequestT, ResponseT]):
    """The way of a thread: nothing that is awaited here suspends."""

    runtime = THREAD

    def __init__(self, send: Callable[[RequestT], ResponseT]) -> None:
        self._send = send

    async def call(self, policy: Policy, attempt: Callable[[], Coroutine[Any, Any, ResponseT]]) -> ResponseT:
        """Call something through a policy."""
        return policy.call(lambda: drive(attempt()))

    async def send(self, request: RequestT) -> ResponseT:
        """Hand a request to the transport."""
        return self._send(request)

    def chunks(self, stream: Any) -> Iterator[bytes]:
        """Begin to read a body."""
        return iter(stream)

    async def chunk(self, chunks: Iterator[bytes]) -> bytes | None:
        """Read on in a body; None where it has ended."""
        return next(chunks, None)

    async def close(self, stream: Any, chunks: Any) -> None:
        """Let a body go, and the connection with it."""
        stream.close()


class Awaiting(Ways[RequestT, ResponseT]):
    """The way of an event loop."""

    runtime = LOOP

    def __init__(self, send: Callable[[RequestT], Awaitable[ResponseT]]) -> None:
        self._send = send

    async def call(self, policy: Policy, attempt: Callable[[], Coroutine[Any, Any, ResponseT]]) -> ResponseT:
        """Call something through a policy."""
        return await policy.call(attempt)

    async def send(self, request: RequestT) -> ResponseT:
        """Hand a request to the transport."""
        return await self._send(request)

    def chunks(self, stream: Any) -> AsyncIterator[bytes]:
        """Begin to read a body."""
        return aiter(stream)

    async def chunk(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        """Read on in a body; None where it has ended."""
        return await anext(chunks, None)

    async def close(self, stream: Any, chunks: Any) -> None:
        """Let a body go, and the connection with it."""
        if hasattr(chunks, "aclose"):
            # A generator that is left where it was would be closed by the garbage collector, at its own time.
            await chunks.aclose()
        await stream.aclose()
