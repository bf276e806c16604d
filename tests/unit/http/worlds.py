"""The four worlds that transports are for: two libraries, each in a thread and in an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import Any

import attrs
import httpx
import httpx2

import orderkit.http.httpx
import orderkit.http.httpx2
from orderkit.resilience import Policy


@attrs.frozen
class World:
    """A library in a thread or in an event loop."""

    library: ModuleType
    ours: ModuleType
    is_async: bool

    def transport(self, policy: Policy, handler: Callable[..., Any], **options: Any) -> Any:
        kind = self.ours.AsyncResilientTransport if self.is_async else self.ours.ResilientTransport
        return kind(policy, self.library.MockTransport(handler), **options)

    def ask(
        self, transport: Any, *calls: tuple[str, str] | tuple[str, str, dict[str, Any]], **options: Any
    ) -> list[Any]:
        """Send requests one after the other; return responses, or what was raised."""
        listed = [(call[0], call[1], call[2] if len(call) > 2 else {}) for call in calls]
        if self.is_async:
            return asyncio.run(self._ask_asynchronously(transport, listed, options))
        outcomes: list[Any] = []
        with self.library.Client(transport=transport, **options) as client:
            for method, url, more in listed:
                try:
                    outcomes.append(client.request(method, url, **more))
                except Exception as error:  # noqa: BLE001 - it is what is looked at
                    outcomes.append(error)
        return outcomes

    async def _ask_asynchronously(self, transport: Any, calls: list[Any], options: dict[str, Any]) -> list[Any]:
        outcomes: list[Any] = []
        async with self.library.AsyncClient(transport=transport, **options) as client:
            for method, url, more in calls:
                try:
                    outcomes.append(await client.request(method, url, **more))
                except Exception as error:  # noqa: BLE001 - it is what is looked at
                    outcomes.append(error)
        return outcomes

    def streamed(self, *parts: bytes) -> Any:
        """Return a body that can be read once."""

        def chunks() -> Iterator[bytes]:
            yield from parts

        async def chunks_asynchronously() -> AsyncIterator[bytes]:
            for part in parts:
                yield part

        return chunks_asynchronously() if self.is_async else chunks()


LIBRARIES = {"httpx": (httpx, orderkit.http.httpx), "httpx2": (httpx2, orderkit.http.httpx2)}


WORLDS = {
    f"{name}-{shell}": World(*modules, shell == "loop")
    for name, modules in LIBRARIES.items()
    for shell in ("thread", "loop")
}
