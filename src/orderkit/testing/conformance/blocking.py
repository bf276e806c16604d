"""Drive an asynchronous backend from synchronous checks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from operator import attrgetter
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from orderkit.unit_of_work.storage import AsyncBackend, Caller, Storage

T = TypeVar("T")
StorageT = TypeVar("StorageT", bound=Storage)


class Blocking(Generic[StorageT]):
    """Use an asynchronous backend as a synchronous one, by an event loop in a thread of its own.

    Every thread that uses it becomes a task of that one loop, so what the threads of a check do at the same
    time, tasks do here. Leaving the `with` block closes the backend and ends the loop.

    Args:
        backend: The backend, made but not used yet: what it opens belongs to the loop.
    """

    def __init__(self, backend: AsyncBackend[StorageT]) -> None:
        self.backend = backend
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, name="orderkit-blocking", daemon=True)

    def __enter__(self) -> Self:
        """Start the loop."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the backend and end the loop."""
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    @contextmanager
    def connect(self, *, transaction: bool = False) -> Generator[StorageT, None, None]:
        """Open a storage for the length of a block; see `orderkit.unit_of_work.storage.Backend`."""
        entered: Future[Caller[StorageT]] = Future()
        leaving: Future[None] = Future()
        held = asyncio.run_coroutine_threadsafe(self._hold(transaction, entered, leaving), self._loop)
        call = entered.result()
        try:
            yield cast("StorageT", _Remote(self, call))
        except BaseException as error:  # noqa: BLE001 - raised again inside the block in the loop
            leaving.set_exception(error)
            held.result()
        else:
            leaving.set_result(None)
            held.result()

    def create_schema(self) -> None:
        """Create the tables and indexes that are not there yet."""
        self.run(self.backend.create_schema())

    def close(self) -> None:
        """Release every connection."""
        self.run(self.backend.close())

    def _work(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()

    async def _hold(self, transaction: bool, entered: Future[Caller[StorageT]], leaving: Future[None]) -> None:
        """Enter and leave the block in one task, as an adapter with a time-out or a task group needs."""
        try:
            async with self.backend.connect(transaction=transaction) as call:
                entered.set_result(call)
                await asyncio.wrap_future(leaving)
        except BaseException as error:
            if entered.done():
                raise
            entered.set_exception(error)


class _Remote:
    """A storage, or a part of it, whose methods run in the loop, by the caller of its block."""

    def __init__(
        self, backend: Blocking[Any], call: Caller[Any], part: Callable[[Any], Any] = lambda storage: storage
    ) -> None:
        self._backend = backend
        self._call = call
        self._part = part

    @property
    def operations(self) -> _Remote:
        return _Remote(self._backend, self._call, attrgetter("operations"))

    @property
    def in_transaction(self) -> bool:
        return self._backend.run(self._call(lambda storage: bool(storage.in_transaction)))

    def __getattr__(self, name: str) -> Callable[..., object]:
        def method(*args: object, **options: object) -> object:
            return self._backend.run(self._call(lambda storage: getattr(self._part(storage), name)(*args, **options)))

        return method
