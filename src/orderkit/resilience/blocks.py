"""`with policy:`: the layers are run up to the call, wait there while the block runs, and go on when it ends.

The coroutine that goes through the layers suspends where it would call a function. Leaving the block lets it go on, or
throws the block's error into it there, so that every layer sees just what it would see of a call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any, cast

from orderkit.resilience.layers import InvalidPolicy, Invocation, Step

_open: ContextVar[tuple[Coroutine[Any, Any, object], ...]] = ContextVar("orderkit_blocks", default=())


def nothing() -> None:
    """Stand for the function where there is a block instead."""


class _Here:
    """Awaited where the block runs: hands itself to whoever drives the coroutine."""

    def __await__(self) -> Generator[_Here]:
        yield self


async def suspend(_invocation: Invocation[Any]) -> None:
    """Wait in the place of the call until the block has ended."""
    await _Here()


def enter(invocation: Invocation[Any], step: Step) -> None:
    """Go through the layers up to the block."""
    work = cast("Coroutine[Any, Any, object]", step(invocation))
    work.send(None)
    _push(work)


def leave(error: BaseException | None) -> None:
    """Go on behind the block; what the layers raise in place of its error is raised."""
    work = _pop()
    try:
        if error is None:
            work.send(None)
        else:
            work.throw(error)
    except StopIteration:
        return
    except BaseException as raised:
        if raised is error:
            return  # `with` raises it again by itself
        raise
    work.close()


async def enter_asynchronously(invocation: Invocation[Any], step: Step) -> None:
    """Go through the layers up to the block, in an event loop."""
    work = cast("Coroutine[Any, Any, object]", step(invocation))
    await _Advance(work, None)
    _push(work)


async def leave_asynchronously(error: BaseException | None) -> None:
    """Go on behind the block, in an event loop."""
    work = _pop()
    try:
        await _Advance(work, error)
    except BaseException as raised:
        if raised is not error:
            raise


class _Advance(Awaitable[None]):
    """Run a coroutine up to its block or its end, and hand whatever else it awaits to the event loop."""

    def __init__(self, work: Coroutine[Any, Any, object], error: BaseException | None) -> None:
        self._work = work
        self._error = error

    def __await__(self) -> Generator[Any, Any, None]:
        error, value = self._error, None
        while True:
            try:
                awaited: object = self._work.send(value) if error is None else self._work.throw(error)
            except StopIteration:
                return
            if isinstance(awaited, _Here):
                return
            error = None
            try:
                value = yield awaited
            except BaseException as thrown:  # noqa: BLE001 - a cancellation belongs to whatever is awaited
                error = thrown


def _push(work: Coroutine[Any, Any, object]) -> None:
    _open.set((*_open.get(), work))


def _pop() -> Coroutine[Any, Any, object]:
    opened = _open.get()
    if not opened:
        raise InvalidPolicy("A block of a policy is left in the thread or task in which it was entered.")
    _open.set(opened[:-1])
    return opened[-1]
