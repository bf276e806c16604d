"""What a policy is made of: layers around a call, each written once for threads and for event loops.

A layer is a coroutine function. In an event loop it is awaited as any other. For a synchronous call it is driven by
hand: everything it awaits of its runtime is then done at once, in the thread of the caller, so that it never suspends.
"""

from __future__ import annotations

import enum
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from orderkit.errors import ConfigurationError
from orderkit.resilience.events import Listener, PolicyEvent, tell
from orderkit.resilience.operations import Operation

if TYPE_CHECKING:
    from asyncio import Timeout

    from orderkit.resilience.budgets import RetryBudget
    from orderkit.resilience.rejections import DeadlineExceeded
    from orderkit.resilience.runtimes import Runtime

T = TypeVar("T")


class InvalidPolicy(ConfigurationError):
    """A policy cannot be as it was put together, or cannot be used this way. Nothing was called."""

    code = "invalid_policy"


class Rank(enum.IntEnum):
    """Where a layer stands, from the outside in. Layers of one rank may stand in either order."""

    FALLBACK = 0
    CACHE = 1
    DEADLINE = 2
    RETRY = 3
    HEDGE = 4
    BREAKER = 5
    LIMIT = 6
    ATTEMPT = 7


class Invocation(Generic[T]):
    """One call on its way through the layers of a policy.

    Attributes:
        function: What is called in the end.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        runtime: How to wait: in a thread, or in an event loop.
        policy: The name of the policy.
        operation: What repeating the call would do.
        listeners: Who is told what happens.
        timeout: The bound of the whole call in an event loop, if it has one.
        budget: What further attempts may take, if there is a bound.
        raised: What the function itself has raised last, in contrast to a layer.
        failure: What the last attempt has failed with, if it was to be repeated.
        late: What an attempt would have failed with that took too long in a thread, and returned nevertheless.
    """

    __slots__ = (
        "args",
        "budget",
        "failure",
        "function",
        "kwargs",
        "late",
        "listeners",
        "operation",
        "policy",
        "raised",
        "runtime",
        "timeout",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        args: Sequence[object],
        kwargs: Mapping[str, object],
        runtime: Runtime,
        *,
        policy: str,
        operation: Operation,
        listeners: Sequence[Listener],
    ) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.runtime = runtime
        self.policy = policy
        self.operation = operation
        self.listeners = listeners
        self.timeout: Timeout | None = None
        self.budget: RetryBudget | None = None
        self.raised: Exception | None = None
        self.failure: Exception | None = None
        self.late: DeadlineExceeded | None = None

    def tell(self, event: PolicyEvent) -> None:
        """Tell the policy's listeners what happened."""
        tell(self.listeners, event)

    @property
    def is_over(self) -> bool:
        """Whether a cancellation that arrives now is that of the call's own deadline."""
        return self.timeout is not None and self.timeout.expired()


# The result of a call is known to its caller alone: what stands between them passes it on.
Step = Callable[[Invocation[Any]], Awaitable[Any]]
"""What a layer surrounds: the next layer, or the call itself."""


class Layer(ABC):
    """Surround calls: let them through, hold them back, repeat them or answer in their place.

    Attributes:
        rank: Where it stands in a policy.
        kind: What it is called in events and descriptions.
        holds: Whether a `with` block can be inside it: it calls what it surrounds exactly once.
    """

    rank: ClassVar[Rank]
    kind: ClassVar[str]
    holds: ClassVar[bool] = False

    @abstractmethod
    async def around(self, invocation: Invocation[T], inner: Step) -> T:
        """Return the result of what is surrounded, or what stands in its place."""

    @abstractmethod
    def settings(self) -> Mapping[str, object]:
        """Return what the layer was built with, for people and for tests."""

    def check(self, operation: Operation, others: Sequence[Layer]) -> None:  # noqa: B027 - most layers mind nobody
        """Refuse to be in a policy for such calls, or beside such layers.

        Raises:
            InvalidPolicy: It cannot be.
        """

    def for_target(self, name: str) -> Layer:
        """Return the layer for one of several targets that share a policy: itself, if it remembers nothing of them."""
        return self


# What waits for longer, or counts further, than this was not meant; the clocks and queues of Python give up first.
_MOST = 10**9


def checked(value: float, name: str, *, least: float = 0.0, above: bool = True) -> float:
    """Return a setting that is a number in its bounds.

    Args:
        value: The number.
        name: What it is called.
        least: The lower bound.
        above: Whether it must be above that bound rather than at it.

    Raises:
        InvalidPolicy: It is not.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and least <= value <= _MOST) or (above and value == least):
        bound = "above" if above else "at least"
        raise InvalidPolicy(f"{name} must be a number {bound} {least:g} and at most {_MOST}; nothing was built.")
    return value


def plain(function: object, name: str) -> None:
    """Refuse what is no function, and one whose result would have to be awaited.

    Raises:
        InvalidPolicy: It is such.
    """
    # Of an instance with a method for it, the method says whether it is `async`.
    called = getattr(type(function), "__call__", None)  # noqa: B004 - the method itself is looked at
    if not callable(function) or any(map(inspect.iscoroutinefunction, (function, called))):
        raise InvalidPolicy(f"{name} must be a function that is not `async`, unlike {function!r}; nothing was built.")


def listening(listeners: Iterable[Listener]) -> tuple[Listener, ...]:
    """Return listeners, each of which can be told.

    Raises:
        InvalidPolicy: One of them cannot, or there is one alone instead of several.
    """
    if not isinstance(listeners, Iterable):
        raise InvalidPolicy(f"`listeners` are several functions: `[{listeners!r}]`; nothing was built.")
    listed = tuple(listeners)
    for listener in listed:
        plain(listener, "A listener")
    return listed


def counted(value: int, name: str, *, least: int = 1) -> int:
    """Return a setting that is a whole number of at least so much.

    Raises:
        InvalidPolicy: It is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MOST:
        raise InvalidPolicy(f"{name} must be a whole number from {least} to {_MOST}; nothing was built.")
    return value
