"""How a layer waits: the two ways there are, and the driver of coroutines that never suspend.

asyncio is imported where it is used: a synchronous application never loads it.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from orderkit.resilience import conditions
from orderkit.resilience.layers import InvalidPolicy, Invocation

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


Start = Callable[[int], Awaitable[T] | None]
"""Begin an attempt, by its number from 1; None where none is to follow."""


class Signal(Protocol):
    """Something that is waited for once, and announced from any thread."""

    def set(self) -> None:
        """Announce it."""
        ...

    async def wait(self, seconds: float | None) -> bool:
        """Wait for it, at most so long; tell whether it was announced."""
        ...


class Runtime(Protocol):
    """What layers await.

    Attributes:
        interrupts: Whether what takes too long is cut off.
    """

    interrupts: bool

    async def invoke(self, invocation: Invocation[T]) -> T:
        """Call the function of an invocation."""
        ...

    async def finish(self, result: object) -> object:
        """Return what a function of the application has returned, awaited if this is how it is called."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    async def within(self, seconds: float, work: Awaitable[T], invocation: Invocation[Any] | None = None) -> T:
        """Await something for at most so many seconds, as far as it can be interrupted.

        Args:
            seconds: How long.
            work: What is awaited.
            invocation: Whose bound this is as a whole, if it is that.

        Raises:
            Overtime: The time was over.
        """
        ...

    def signal(self) -> Signal:
        """Return a signal that can be awaited here."""
        ...

    async def race(
        self, start: Callable[[int], Awaitable[T] | None], attempts: int, after: float, left: float | None
    ) -> T:
        """Begin an attempt, and another each time all are slow; return what the first to succeed gives.

        Args:
            start: Begin an attempt.
            attempts: How many there are at most.
            after: Seconds in which none has ended, after which another begins.
            left: Seconds after which a thread waits no more; a task is cancelled then.

        Raises:
            Overtime: A thread has waited so long.
            Exception: All that were begun have failed: what the last one to fail raised.
        """
        ...


class Overtime(TimeoutError):
    """The time of `Runtime.within` or `Runtime.race` was over."""


class Stopped(Exception):
    """Carries a StopIteration of the called function through coroutines, which may not raise one (PEP 479)."""

    def __init__(self, error: StopIteration) -> None:
        super().__init__()
        self.error = error


def carried(error: BaseException) -> BaseException:
    """Return an error as it can be raised in a coroutine."""
    return Stopped(error) if isinstance(error, StopIteration) else error


def drive(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine whose runtime is synchronous to its end, in this thread."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    except Stopped as stopped:
        error: Exception = stopped.error
    else:
        work.close()
        error = AssertionError("a layer has waited for an event loop that is not there")
    # Outside of the handler, so that the error keeps the context it came with.
    raise error


def refuse_lazy(result: object) -> None:
    """Refuse what a synchronous call must not return: work that has not begun, and would fail unseen.

    Raises:
        InvalidPolicy: It is a coroutine, a generator, or anything else that is awaited.
    """
    kind = type(result)
    if kind not in LAZY and not hasattr(kind, "__await__"):
        if len(EAGER) < _MOST_TYPES:
            EAGER.add(kind)
        return
    if isinstance(result, CoroutineType):
        result.close()
    raise InvalidPolicy(
        f"The function returned a `{kind.__name__}`, whose work ends only after the policy is through with it. Give "
        "the policy an `async def` function, or one that does its work and returns."
    )


LAZY = frozenset({CoroutineType, GeneratorType, AsyncGeneratorType})
"""The types of results whose work has not begun."""

_MOST_TYPES = 1000

EAGER: set[type] = set()
"""Types of results that were found to be no work that is still to be done, so that it is asked once."""


class ThreadSignal:
    """A signal that a thread waits for."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Announce it."""
        self._event.set()

    async def wait(self, seconds: float | None) -> bool:
        """Wait for it, at most so long; tell whether it was announced."""
        return self._event.wait(seconds)


class ThreadRuntime:
    """Wait in the thread of the caller: nothing that is awaited here ever suspends."""

    interrupts = False

    async def invoke(self, invocation: Invocation[T]) -> T:
        """Call the function of an invocation."""
        try:
            result: T = invocation.function(*invocation.args, **invocation.kwargs)
        except StopIteration as stop:
            raise Stopped(stop) from None
        if type(result) not in EAGER:
            refuse_lazy(result)
        return result

    async def finish(self, result: object) -> object:
        """Return what a function of the application has returned."""
        refuse_lazy(result)
        return result

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        (conditions.present.pause or time.sleep)(seconds)

    async def within(self, seconds: float, work: Awaitable[T], invocation: Invocation[Any] | None = None) -> T:
        """Await something: a thread cannot be interrupted, so that whoever is called minds the time that is left."""
        return await work

    def signal(self) -> ThreadSignal:
        """Return a signal that a thread can wait for."""
        return ThreadSignal()

    async def race(
        self, start: Callable[[int], Awaitable[T] | None], attempts: int, after: float, left: float | None
    ) -> T:
        """Run attempts in threads; those that lose are left to end by themselves."""
        ended: queue.SimpleQueue[tuple[T, None] | tuple[None, BaseException]] = queue.SimpleQueue()

        def run(work: Awaitable[T]) -> None:
            try:
                ended.put((drive(awaited(work)), None))
            except BaseException as error:  # noqa: BLE001 - it is raised by the caller
                ended.put((None, carried(error)))

        until = time.monotonic() + (threading.TIMEOUT_MAX / 2 if left is None else left)
        begun, failed, is_due = 0, 0, True
        while (wait := until - time.monotonic()) > 0:
            if is_due and (work := start(begun + 1)) is not None:
                begun += 1
                _begin(run, work)
            elif is_due:
                attempts = begun
            try:
                result, error = ended.get(timeout=min(after, wait) if begun < attempts else wait)
            except queue.Empty:
                is_due = True
                continue
            if error is None:
                return result  # type: ignore[return-value]  # a result where there is no error
            is_due, failed = False, failed + 1
            if failed == begun or not isinstance(error, Exception):
                raise error
        raise Overtime


def _begin(run: Callable[[Awaitable[T]], None], work: Awaitable[T]) -> None:
    """Run an attempt in a thread of its own, which sees the context variables of the caller."""
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run, work), name="orderkit-hedge", daemon=True).start()


async def awaited(work: Awaitable[T]) -> T:
    """Return what is awaited, as a coroutine whatever it is."""
    return await work


class LoopSignal:
    """A signal that a task waits for."""

    def __init__(self) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()

    def set(self) -> None:
        """Announce it, from whichever thread."""
        with suppress(RuntimeError):  # its loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._announce)

    def _announce(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, seconds: float | None) -> bool:
        """Wait for it, at most so long; tell whether it was announced."""
        import asyncio

        done, _ = await asyncio.wait([self._future], timeout=seconds)
        return bool(done)


class LoopRuntime:
    """Wait in a task of asyncio."""

    interrupts = True

    def __init__(self) -> None:
        self._running_loop: Callable[[], object] | None = None

    async def invoke(self, invocation: Invocation[T]) -> T:
        """Call the function of an invocation and await it."""
        try:
            (self._running_loop or self._found_loop())()
        except RuntimeError:
            raise InvalidPolicy(
                "A policy calls `async` functions in an event loop of asyncio; none runs here."
            ) from None
        result: T = await invocation.function(*invocation.args, **invocation.kwargs)
        if type(result) in LAZY:
            refuse_lazy(result)
        return result

    def _found_loop(self) -> Callable[[], object]:
        import asyncio

        self._running_loop = asyncio.get_running_loop
        return self._running_loop

    async def finish(self, result: object) -> object:
        """Return what a function of the application has returned, awaited if need be."""
        return await result if isinstance(result, Awaitable) else result

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        import asyncio

        pause = conditions.present.pause
        if pause is not None:
            pause(seconds)
            seconds = 0.0
        await asyncio.sleep(seconds)

    async def within(self, seconds: float, work: Awaitable[T], invocation: Invocation[Any] | None = None) -> T:
        """Await something, and cancel it when the time is over."""
        import asyncio

        scope = asyncio.timeout(seconds)
        if invocation is not None:
            invocation.timeout = scope
        try:
            async with scope:
                return await work
        except TimeoutError:
            if scope.expired():
                raise Overtime from None
            raise

    def signal(self) -> LoopSignal:
        """Return a signal that a task can wait for."""
        return LoopSignal()

    async def race(
        self, start: Callable[[int], Awaitable[T] | None], attempts: int, after: float, left: float | None
    ) -> T:
        """Run attempts as tasks; those that lose are cancelled, and what they do then is waited for by nobody."""
        import asyncio

        running: set[asyncio.Task[T]] = set()
        begun, is_due = 0, True
        try:
            while True:
                if is_due and (work := start(begun + 1)) is not None:
                    begun += 1
                    running.add(asyncio.create_task(awaited(work)))
                elif is_due:
                    attempts = begun
                wait = after if begun < attempts else None
                done, running = await asyncio.wait(running, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                # Each is asked for its error, or asyncio would complain that nobody has.
                winners = [task for task in done if not task.cancelled() and task.exception() is None]
                if winners or not running:
                    return (winners or list(done))[0].result()
                is_due = not done
        except BaseException:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            raise
        finally:
            for task in running:
                task.cancel()
                _losing.add(task)
                task.add_done_callback(_lost)


# A task to which nothing refers may be collected while it is under way.
_losing: set[asyncio.Task[Any]] = set()


def _lost(task: asyncio.Task[Any]) -> None:
    """Let a task go that has ended, and ask for its error, or asyncio would complain that nobody has."""
    _losing.discard(task)
    if not task.cancelled():
        task.exception()


THREAD = ThreadRuntime()
LOOP = LoopRuntime()
