"""From an event loop to synchronous work and back, and what a cancellation does to it.

A cancellation never leaves work behind: it is passed on where that is safe, and else waits until the work
is done. While a commit is under way it is not: the commit happens or not, and only then is the caller
cancelled. If that takes too long the connection is given up and the caller is told `CommitUnknown`.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Protocol, TypeVar

import attrs
from sqlalchemy.util import greenlet_spawn

from orderkit.errors import CommitUnknown
from orderkit.forking import renew_after_fork
from orderkit.storage.sql.failures import Phase

T = TypeVar("T")

_PATIENCE = 5.0
"""Seconds a cancellation waits for a commit to settle. Threads cannot be given up: they are waited for."""

_LOOK_AGAIN = 0.01
"""Seconds between two looks at whether work that could not be cancelled before can be now."""

_THREADS = 5


@attrs.frozen
class WorkState:
    """What a cancellation must know of the work it meets.

    Attributes:
        is_committing: Tells whether a commit is under way.
        must_finish: The work cleans up, so that it must not be interrupted at all.
    """

    is_committing: Callable[[], bool] = lambda: False
    must_finish: bool = False


READING = WorkState()
"""The state of work that can be interrupted wherever it is."""


class Bridge(Protocol):
    """Run synchronous work without blocking the event loop."""

    async def run(self, work: Callable[[], T], state: WorkState = READING) -> T:
        """Run the work and return what it returns; it sees a copy of the caller's context variables.

        Args:
            work: What to run.
            state: What a cancellation must know of the work.

        Raises:
            asyncio.CancelledError: The caller was cancelled; the work is over, one way or the other.
            CommitUnknown: The caller was cancelled and the work had to be given up where it must not be.
        """
        ...

    def dedicated(self) -> AbstractContextManager[Bridge]:
        """Return a bridge that no other work can keep waiting, for the length of a block."""
        ...

    def close(self) -> None:
        """Release what the bridge holds; it can be used again."""
        ...


class Greenlets:
    """Run work in a greenlet whose driver awaits; the work can be interrupted wherever it waits."""

    async def run(self, work: Callable[[], T], state: WorkState = READING) -> T:
        """Run the work in a task of its own, which a cancellation of the caller does not reach by itself."""
        task = asyncio.ensure_future(greenlet_spawn(work))
        return await _settled(task, task.cancel, state, _PATIENCE)

    def dedicated(self) -> AbstractContextManager[Bridge]:
        """Return this bridge: greenlets do not wait for each other."""
        return nullcontext(self)

    def close(self) -> None:
        """Do nothing."""


class Threads:
    """Run work in a few threads; only work that has not begun can be cancelled."""

    def __init__(self, threads: int = _THREADS) -> None:
        self._threads = threads
        self._executor: ThreadPoolExecutor | None = None
        renew_after_fork(self)

    def renew(self) -> None:
        """Forget the threads, which a fork leaves behind."""
        self._executor = None

    async def run(self, work: Callable[[], T], state: WorkState = READING) -> T:
        """Run the work in a thread, and wait for it to end whatever happens to the caller."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._threads, "orderkit")
        running = self._executor.submit(contextvars.copy_context().run, work)
        return await _settled(asyncio.wrap_future(running), running.cancel, state, math.inf)

    @contextmanager
    def dedicated(self) -> Generator[Bridge]:
        """Return a thread of its own: work that waits for a lock must not keep its holder waiting."""
        own = Threads(1)
        try:
            yield own
        finally:
            own.close()

    def close(self) -> None:
        """End the threads, which have nothing left to do."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)


async def _settled(future: asyncio.Future[T], cancel: Callable[[], object], state: WorkState, patience: float) -> T:
    """Wait until the work is over, and only then let a cancellation of the caller through."""
    try:
        await asyncio.wait((future,))
    except asyncio.CancelledError:
        given_up = await _wind_down(future, cancel, state, patience)
        failure = None if future.cancelled() else future.exception()
        if given_up or isinstance(failure, CommitUnknown):
            raise CommitUnknown(Phase.COMMITTING.value) from failure
        raise
    return future.result()


async def _wind_down(
    future: asyncio.Future[T], cancel: Callable[[], object], state: WorkState, patience: float
) -> bool:
    """Wait for work to be over, deaf to further cancellations, cancelling it once that is safe.

    Returns:
        Whether the work was given up in the middle of a commit.
    """
    deadline = asyncio.get_running_loop().time() + patience
    passed_on = given_up = False
    while not future.done():
        overdue = asyncio.get_running_loop().time() > deadline
        if not passed_on and (overdue or not (state.must_finish or state.is_committing())):
            passed_on, given_up = True, state.is_committing()
            cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait((future,), timeout=_LOOK_AGAIN)
    return given_up
