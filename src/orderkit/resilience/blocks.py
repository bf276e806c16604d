"""`with policy:`: the layers are run up to the call, wait there while the block runs, and go on when it ends.

The coroutine that goes through the layers suspends where it would call a function. Leaving the block lets it go on, or
throws the block's error into it there, so that every layer sees just what it would see of a call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, cast

from orderkit.resilience.layers import InvalidPolicy, Invocation, Step
from orderkit.resilience.runtimes import Stopped, carried

Work = Coroutine[Any, Any, object]

_open: ContextVar[tuple[tuple[Step, Work], ...]] = ContextVar("orderkit_blocks", default=())


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
    work = cast("Work", step(invocation))
    work.send(None)
    _push(step, work)


def leave(step: Step, error: BaseException | None) -> None:
    """Go on behind the block; what the layers raise in place of its error is raised."""
    work = _pop(step)
    with _own_passed(error), suppress(StopIteration):
        if error is None:
            work.send(None)
        else:
            work.throw(carried(error))


async def enter_asynchronously(invocation: Invocation[Any], step: Step) -> None:
    """Go through the layers up to the block, in an event loop."""
    work = cast("Work", step(invocation))
    await _Advance(work, None)
    _push(step, work)


async def leave_asynchronously(step: Step, error: BaseException | None) -> None:
    """Go on behind the block, in an event loop."""
    work = _pop(step)
    with _own_passed(error):
        await _Advance(work, None if error is None else carried(error))


@contextmanager
def _own_passed(error: BaseException | None) -> Generator[None]:
    """Leave the block's own error to `with`, which raises it again by itself, and leave its traceback alone."""
    traceback = None if error is None else error.__traceback__
    try:
        yield
    except BaseException as raised:
        own = raised.error if isinstance(raised, Stopped) else raised
        if own is not error:
            raise
        own.with_traceback(traceback)


class _Advance(Awaitable[None]):
    """Run a coroutine up to its block or its end, and hand whatever else it awaits to the event loop."""

    def __init__(self, work: Work, error: BaseException | None) -> None:
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


def _push(step: Step, work: Work) -> None:
    _open.set((*_open.get(), (step, work)))


def _pop(step: Step) -> Work:
    """Return the innermost block of a policy: generators may leave those of different policies in any order."""
    opened = _open.get()
    for place in range(len(opened) - 1, -1, -1):
        if opened[place][0] is step:
            _open.set(opened[:place] + opened[place + 1 :])
            return opened[place][1]
    raise InvalidPolicy("A block of a policy is left in the thread or task in which it was entered.")
