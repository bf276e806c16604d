"""Both worlds behind one face, with connections that are closed in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import attrs

from orderkit.resilience import RedisConnection
from orderkit.resilience.runtimes import LOOP, THREAD, Runtime, drive

PATIENT = 5.0
"""Seconds that a test waits for a server on a busy machine."""


@attrs.frozen
class World:
    """A way to run what is written once for both worlds, with connections that are closed in the end."""

    runtime: Runtime
    run: Callable[..., Any]


def _in_a_thread(work: Coroutine[Any, Any, Any], *connections: RedisConnection) -> object:
    try:
        return drive(work)
    finally:
        for connection in connections:
            connection.close()


def _in_a_loop(work: Coroutine[Any, Any, Any], *connections: RedisConnection) -> object:
    async def main() -> object:
        try:
            return await work
        finally:
            for connection in connections:
                await connection.aclose()

    return asyncio.run(main())


IN_A_THREAD = World(THREAD, _in_a_thread)
IN_A_LOOP = World(LOOP, _in_a_loop)
