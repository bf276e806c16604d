"""How long an attempt may take, its response's body included, and the body that minds it."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Iterator, Mapping
from typing import Any, Final, Self, TypeVar, cast

from orderkit.errors import OrderKitError
from orderkit.http.libraries import Library
from orderkit.http.rejections import joined
from orderkit.http.ways import Ways
from orderkit.resilience import Policy, TimedOut, conditions
from orderkit.resilience.deadlines import Term, term
from orderkit.resilience.events import tell
from orderkit.resilience.rejections import DeadlineExceeded
from orderkit.resilience.runtimes import Overtime, drive

T = TypeVar("T")

LEAST: Final = 0.001
"""Seconds below which there is no time left: a socket whose time-out is 0 does not wait at all."""

PHASES: Final = ("connect", "read", "write", "pool")
"""What time-outs a request has, by their names in its extensions."""


class Bound:
    """The time of one attempt, from before it is sent until its body has been read."""

    def __init__(self, library: Library, policy: Policy, request: object) -> None:
        self._library = library
        self._policy = policy
        self._request = request
        self._term = term()

    @property
    def left(self) -> float | None:
        """How many seconds are left; None where there is no bound."""
        return None if self._term is None else self._term.until - conditions.present.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether nothing can be begun any more."""
        left = self.left
        return left is not None and left <= LEAST

    async def judged(self, work: Awaitable[T]) -> T:
        """Await a part of the attempt; a time-out that is due to this bound is raised as what it is.

        Raises:
            DeadlineExceeded: The time was over.
        """
        try:
            return await work
        except (Overtime, self._library.timeout_error) as error:
            if isinstance(error, Overtime):
                raise self.exceeded() from None
            if not self.is_over or isinstance(error, DeadlineExceeded):
                raise
            raise self.exceeded(type(error)) from error

    def exceeded(self, kind: type[Exception] | None = None) -> OrderKitError:
        """Return the error of an attempt that took too long, and tell that it did.

        Args:
            kind: As what error of the library it is caught, too.
        """
        policy = self._policy
        # There is one: without it no time is ever over.
        over = cast("Term", self._term)
        tell(policy.listeners, TimedOut(policy=policy.name, layer=over.layer, seconds=over.seconds))
        error = DeadlineExceeded(over.policy, over.seconds, sent=True)
        return joined(error, kind or self._library.timeout_error, self._request)


class Timeouts(Mapping[str, float | None]):
    """The time-outs of a request, none of them longer than what is left of an attempt when it is looked up."""

    def __init__(self, asked: Mapping[str, float | None], bound: Bound) -> None:
        self._asked = asked
        self._bound = bound

    def __getitem__(self, phase: str) -> float | None:
        left = self._bound.left
        asked = self._asked.get(phase)
        if left is None:
            return asked
        return max(LEAST, left) if asked is None else min(asked, max(LEAST, left))

    def __iter__(self) -> Iterator[str]:
        return iter(PHASES)

    def __len__(self) -> int:
        return len(PHASES)


class Body:
    """The body of a response, bounded by its attempt, of which a part may have been read ahead."""

    def __init__(self, ways: Ways[Any, Any], stream: Any, bound: Bound) -> None:
        self._ways = ways
        self._stream = stream
        self._bound = bound
        self._chunks: Any = None
        self._ahead: deque[bytes] = deque()
        self._has_ended = False

    async def read_ahead(self, most: int) -> None:
        """Read about as many bytes at most; a body that ends there gives its connection back."""
        held = 0
        while held < most:
            chunk = await self._read()
            if chunk is None:
                self._has_ended = True
                await self._close()
                return
            self._ahead.append(chunk)
            held += len(chunk)

    async def _next(self) -> bytes | None:
        if self._ahead:
            return self._ahead.popleft()
        return None if self._has_ended else await self._read()

    async def _read(self) -> bytes | None:
        left = self._bound.left
        if self._bound.is_over:
            raise self._bound.exceeded()
        if self._chunks is None:
            self._chunks = self._ways.chunks(self._stream)
        work = self._ways.chunk(self._chunks)
        return await self._bound.judged(work if left is None else self._ways.runtime.within(left, work))

    async def _close(self) -> None:
        await self._ways.close(self._stream, self._chunks)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        chunk = drive(self._next())
        if chunk is None:
            raise StopIteration
        return chunk

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._next()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    def close(self) -> None:
        """Let the body go, in a thread."""
        drive(self._close())

    async def aclose(self) -> None:
        """Let the body go, in an event loop."""
        await self._close()
