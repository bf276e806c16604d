"""A policy: layers around a call, in an order that is checked once, for threads and for event loops alike."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from itertools import pairwise
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

import attrs

from orderkit.resilience import blocks, conditions
from orderkit.resilience.breaker import CircuitBreaker
from orderkit.resilience.events import Listener
from orderkit.resilience.layers import InvalidPolicy, Invocation, Layer, Rank, Step, listening
from orderkit.resilience.operations import Operation
from orderkit.resilience.retrying import Retry
from orderkit.resilience.runtimes import EAGER, LOOP, THREAD, Runtime, drive, refuse_lazy

P = ParamSpec("P")
T = TypeVar("T")

_REPEATING = (Rank.RETRY, Rank.HEDGE)


class Policy:
    """Call the outside world through layers: bound, repeat, hold back and replace what they surround.

    Layers are given from the outside in: fallback, cache, deadline, retry, hedge, circuit breaker, rate limit and
    bulkhead, attempt time-out. Another order is refused. A policy is immutable and safe to share; breakers, budgets
    and limits that stand in several policies are shared by them.

    Args:
        *layers: What surrounds the call.
        operation: What repeating a call would do; a policy that repeats must be told.
        name: What the policy is called in errors and events; that of its breaker where absent.
        listeners: Who is told what happens.

    Raises:
        InvalidPolicy: The layers cannot stand together.

    Example:
        >>> from orderkit.resilience import CircuitBreaker, Deadline, Operation, Policy, Retry
        >>> policy = Policy(
        ...     Deadline(10),
        ...     Retry(on=(ConnectionError, TimeoutError)),
        ...     CircuitBreaker("rates"),
        ...     operation=Operation.SAFE,
        ... )
        >>> policy.call(round, 2.6)
        3
    """

    def __init__(
        self,
        *layers: Layer,
        operation: Operation | None = None,
        name: str | None = None,
        listeners: Iterable[Listener] = (),
    ) -> None:
        declared = _checked(layers, operation)
        for layer in layers:
            layer.check(declared, layers)
        breaker = next((layer for layer in layers if isinstance(layer, CircuitBreaker)), None)
        self._layers = layers
        self._operation = declared
        self._name = name or ("policy" if breaker is None else breaker.name)
        self._listeners = listening(listeners)
        self._step = _composed(layers, _invoke)
        self._block = _composed(layers, blocks.suspend) if all(layer.holds for layer in layers) else None
        self._plain = _plain_calls(layers, self._listeners)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What surrounds the call, from the outside in."""
        return self._layers

    @property
    def operation(self) -> Operation:
        """What repeating a call would do."""
        return self._operation

    @property
    def name(self) -> str:
        """What the policy is called in errors and events."""
        return self._name

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """Who is told what happens."""
        return self._listeners

    # --- calling --------------------------------------------------------------------------------

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return a function, synchronous or not as the given one is, that is called through the policy.

        Raises:
            InvalidPolicy: It is a generator or a class, or no function.
        """
        if isinstance(function, type):
            raise InvalidPolicy("A policy surrounds functions; surround the methods of a class that call others.")
        if is_asynchronous(function):

            @functools.wraps(function)
            async def awaited(*args: P.args, **kwargs: P.kwargs) -> object:
                return await self._step(self._invocation(function, args, kwargs, LOOP))

            return cast("Callable[P, T]", awaited)

        called: Callable[P, T] = functools.wraps(function)(self._surrounded(function))
        return called

    def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function through the policy; what an `async` function returns is to be awaited.

        Raises:
            Rejected: It was not let through.
            DeadlineExceeded: Its time was over.
            InvalidPolicy: It is a generator, or a plain function that returned something to be awaited.
            Exception: What the function itself raised in the end.
        """
        if is_asynchronous(function):
            # A coroutine, as the function itself would return.
            return cast("T", self._step(self._invocation(function, args, kwargs, LOOP)))
        return self._surrounded(function)(*args, **kwargs)

    def _surrounded(self, function: Callable[..., T]) -> Callable[..., T]:
        """Return what calls a synchronous function through the layers."""

        def through_layers(*args: object, **kwargs: object) -> T:
            work = self._step(self._invocation(function, args, kwargs, THREAD))
            return cast("T", drive(cast("Coroutine[Any, Any, object]", work)))

        plain = self._plain
        return through_layers if plain is None else plain.around(function, through_layers, self._invocation)

    def _invocation(
        self, function: Callable[..., Any], args: Sequence[object], kwargs: Mapping[str, object], runtime: Runtime
    ) -> Invocation[Any]:
        return Invocation(
            function, args, kwargs, runtime, policy=self._name, operation=self._operation, listeners=self._listeners
        )

    # --- blocks ---------------------------------------------------------------------------------

    def __enter__(self) -> None:
        """Enter a block that is bounded, held back and watched like a call.

        Raises:
            InvalidPolicy: A layer repeats or replaces what it surrounds, which cannot be done to a block.
            Rejected: The block is not let through.
        """
        blocks.enter(self._invocation(blocks.nothing, (), {}, THREAD), self._block_step())

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Leave the block."""
        blocks.leave(self._block_step(), error)

    async def __aenter__(self) -> None:
        """Enter a block of an event loop; see `__enter__`."""
        await blocks.enter_asynchronously(self._invocation(blocks.nothing, (), {}, LOOP), self._block_step())

    async def __aexit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Leave the block."""
        await blocks.leave_asynchronously(self._block_step(), error)

    def _block_step(self) -> Step:
        if self._block is None:
            layers = ", ".join(layer.kind for layer in self.layers if not layer.holds)
            raise InvalidPolicy(
                f"A block cannot be run again or replaced, as {layers} would: give the policy a function, by "
                "`policy.call` or as a decorator."
            )
        return self._block

    # --- variants -------------------------------------------------------------------------------

    def declared(self, operation: Operation) -> Policy:
        """Return the same policy, with the same breakers and budgets, for calls of another kind.

        Raises:
            InvalidPolicy: A layer is not for such calls.
        """
        return Policy(*self.layers, operation=operation, name=self.name, listeners=self.listeners)

    def for_target(self, target: str) -> Policy:
        """Return the same policy for one of several targets, with a breaker and a budget of its own."""
        return Policy(
            *(layer.for_target(target) for layer in self.layers),
            operation=self.operation,
            name=f"{self.name}:{target}",
            listeners=self.listeners,
        )

    # --- telling --------------------------------------------------------------------------------

    def describe(self) -> Mapping[str, Mapping[str, object]]:
        """Return every layer with what it was built with, from the outside in, for people and for tests."""
        return {layer.kind: layer.settings() for layer in self.layers}

    def __repr__(self) -> str:
        return f"Policy({self.name!r}, {self.operation.value}: {' > '.join(self.describe())})"


@attrs.frozen
class _PlainCalls:
    """The way of a synchronous call through a retry and a breaker, or a breaker alone, while all is well.

    Going through the coroutines of the layers would cost several times as much, and these two have nothing to wait for
    before a call has failed.
    """

    breaker: CircuitBreaker
    retry: Retry | None
    rest: Step
    listeners: Sequence[Listener]

    def around(
        self, function: Callable[..., T], through_layers: Callable[..., T], invocation: Callable[..., Invocation[Any]]
    ) -> Callable[..., T]:
        """Return what makes a first attempt at once, and goes through the layers where that will not do."""
        breaker, retry, rest, listeners = self.breaker, self.retry, self.rest, self.listeners
        budget = None if retry is None else retry.budget

        def called(*args: object, **kwargs: object) -> T:
            permit = breaker.open_door
            if permit is None or conditions.present.around is not None:
                return through_layers(*args, **kwargs)
            begun = conditions.present.monotonic() if breaker.is_timed else 0.0
            try:
                result = function(*args, **kwargs)
                if type(result) not in EAGER:
                    refuse_lazy(result)
            except BaseException as error:
                breaker.failed(permit, error, begun, listeners=listeners)
                if retry is None or not isinstance(error, Exception):
                    raise
                first = error
            else:
                if not breaker.is_clean:
                    breaker.succeeded(permit, begun, listeners=listeners)
                if budget is not None:
                    budget.give_back(1)
                return result
            failed = invocation(function, args, kwargs, THREAD)
            failed.raised = first
            return cast("T", drive(retry.again(failed, rest, first)))

        return called


async def _invoke(invocation: Invocation[T]) -> T:
    """Call the function itself, inside all layers."""
    around = conditions.present.around
    try:
        if around is None:
            return await invocation.runtime.invoke(invocation)
        return cast("T", await around(invocation, invocation.runtime.invoke))
    except Exception as error:
        invocation.raised = error
        raise


def _composed(layers: Sequence[Layer], innermost: Step) -> Step:
    """Return the step that goes through layers to what they surround."""
    step = innermost
    for layer in reversed(layers):
        step = functools.partial(layer.around, inner=step)
    return step


def _plain_calls(layers: Sequence[Layer], listeners: Sequence[Listener]) -> _PlainCalls | None:
    match layers:
        case [CircuitBreaker(is_local=True) as breaker]:
            return _PlainCalls(breaker, None, _invoke, listeners)
        case [Retry() as retry, CircuitBreaker(is_local=True) as breaker]:
            return _PlainCalls(breaker, retry, _composed([breaker], _invoke), listeners)
        case _:
            return None


def _checked(layers: Sequence[Layer], operation: Operation | None) -> Operation:
    """Refuse layers that cannot stand together, or in this order; return what repeating a call would do."""
    for layer in layers:
        if not isinstance(layer, Layer):
            raise InvalidPolicy(f"A policy is made of layers; {layer!r} is none.")
    for outer, inner in pairwise(layers):
        if inner.rank < outer.rank:
            raise InvalidPolicy(
                f"{inner.kind} stands inside {outer.kind}: from the outside in the order is "
                f"{', '.join(rank.name.lower() for rank in Rank)}."
            )
    twice = {layer.kind for layer in layers if sum(other.kind == layer.kind for other in layers) > 1}
    if twice:
        raise InvalidPolicy(f"{', '.join(sorted(twice))} stands twice in one policy: one of each is enough.")
    if operation is None:
        repeating = [layer.kind for layer in layers if layer.rank in _REPEATING]
        if repeating:
            raise InvalidPolicy(
                f"A policy with {repeating[0]} must say what repeating a call would do: `operation=Operation.SAFE`, "
                "`IDEMPOTENT`, `KEYED` or `UNSAFE`."
            )
        return Operation.UNSAFE
    try:
        return Operation(operation)
    except ValueError:
        raise InvalidPolicy(f"`operation` is one of `Operation`, not {operation!r}.") from None


_LAZY_CODE = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def is_asynchronous(function: Callable[..., object]) -> bool:
    """Tell whether calling a function gives a coroutine.

    Raises:
        InvalidPolicy: It is no function, or gives a generator, whose work begins after the policy is through with it.
    """
    code = getattr(function, "__code__", None)
    if code is None:
        while isinstance(function, functools.partial):
            function = function.func
        if not callable(function) or isinstance(function, classmethod | staticmethod):
            raise InvalidPolicy(
                f"A policy surrounds functions, which {function!r} is not; other decorators go above it."
            )
        called = function if inspect.isroutine(function) or isinstance(function, type) else type(function).__call__
        code = getattr(function, "__code__", None) or getattr(called, "__code__", None)
    flags: int = getattr(code, "co_flags", 0)
    if flags & _LAZY_CODE:
        raise InvalidPolicy("A generator does its work after the policy is through with it: give a function.")
    return bool(flags & inspect.CO_COROUTINE)
