"""What an application says of an operation that calls something foreign, and what such an operation can end in."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import attrs

from orderkit.errors import ConfigurationError, InvalidInput, LeaseLost, OrderKitError, Refused, StorageError
from orderkit.idempotency.keys import DEFAULT_RETENTION
from orderkit.resilience.events import Listener, PolicyEvent
from orderkit.unit_of_work.changes import KeyReference

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
"""What requests and results are made of: they are kept as JSON. Give references, not personal data."""

WorkT_co = TypeVar("WorkT_co", bound=Callable[..., object], covariant=True)

FOREIGN_KEY_LENGTH = 255
"""How long a key for a foreign system is at most: the longest that payment providers take."""

MOST = 1_000_000
"""How many operations are looked for at once at most."""

_CENTURY = timedelta(days=36500)

_name_pattern = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


class OperationFailed(OrderKitError):
    """An operation had failed for good, with an error that cannot be made again here.

    Attributes:
        error_type: The class of that error.
        error_message: What it said.
    """

    code = "operation_failed"

    def __init__(self, error_type: str, error_message: str) -> None:
        self.error_type = error_type
        self.error_message = error_message
        super().__init__(
            f"The operation has failed for good, with {error_type}: {error_message}. Repeating it gives this same "
            "answer; a new attempt takes a new key."
        )


class OutcomeUnknown(OrderKitError):
    """A foreign call was begun, and nobody knows what it has done.

    Attributes:
        operation: The name of the operation.
        key: Its idempotency key.
        step: The call whose outcome is unknown.
        foreign_key: The key that was sent with it, to look it up by.
    """

    code = "outcome_unknown"

    def __init__(self, operation: str, key: str, step: str, foreign_key: str) -> None:
        self.operation = operation
        self.key = key
        self.step = step
        self.foreign_key = foreign_key
        super().__init__(
            f"Step {step!r} of {operation!r} was begun under {foreign_key!r} and its outcome is unknown; it is not "
            "repeated. Look it up there, then say what came of it with `settle`."
        )


class OnUnknown(StrEnum):
    """What is done about a foreign call that was begun and whose outcome nobody knows.

    `RETRY` makes it again under the same key: right where the other side knows the key. `HOLD` leaves it until somebody
    says with `settle` what came of it: right where doing it twice is worse than not at all.
    """

    RETRY = "retry"
    HOLD = "hold"


def _as_time(given: float | timedelta) -> timedelta:
    """Return a length of time that may have been given in seconds; what is none of either is refused later."""
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    try:
        return timedelta(seconds=given) if is_number else given  # type: ignore[return-value,arg-type]  # or what it is
    except (OverflowError, ValueError):
        return timedelta(0)


@attrs.frozen
class IdempotentOperation(Generic[WorkT_co]):
    """An operation that calls something foreign, and yet is done once.

    Args:
        name: What it is called; kept with every key, so that it never changes.
        work: The function that does it, given its run. Whatever it does, it does through the run, so that it can be
            begun again: steps that are done are not done twice. An `async` function for `AsyncOrderKit`.
        final: Errors of `work` that are its answer, such as a declined card: they are kept, and given to every
            repetition. Refusals and invalid input are so by themselves; what is told of the storage or of the
            operation itself never is. Every other error leaves it to be repeated.
        lease: For how long it is held without a sign of life, as seconds or a `timedelta`; renewed three times as
            often while at work.
        retention: For how long the answer is kept, as seconds or a `timedelta`.
        listeners: Who is told of replays, takeovers and unknown outcomes.

    Raises:
        ConfigurationError: It cannot be as it was defined.
    """

    name: str
    work: WorkT_co
    final: tuple[type[Exception], ...] = attrs.field(default=(), kw_only=True)
    lease: timedelta = attrs.field(default=timedelta(seconds=60), kw_only=True, converter=_as_time)
    retention: timedelta = attrs.field(default=DEFAULT_RETENTION, kw_only=True, converter=_as_time)
    listeners: tuple[Listener, ...] = attrs.field(default=(), kw_only=True)

    def __attrs_post_init__(self) -> None:
        check_name(self.name)
        if not callable(self.work):
            raise ConfigurationError("The work of an operation is a function of its run.")
        if not _lasts(self.lease, timedelta(seconds=0.1), timedelta(hours=1)):
            raise ConfigurationError("The lease of an operation is between a tenth of a second and an hour.")
        if not _lasts(self.retention, timedelta(hours=24), _CENTURY):
            raise ConfigurationError("The answer of an operation is kept for 24 hours at least and 100 years at most.")
        if not isinstance(self.listeners, tuple) or not all(map(callable, self.listeners)):
            raise ConfigurationError("`listeners` is a tuple of functions of an event.")
        if not isinstance(self.final, tuple) or not all(map(_is_error, self.final)):
            raise ConfigurationError("`final` is a tuple of the errors that are an answer: subclasses of Exception.")
        if len({kind.__name__ for kind in self.final}) < len(self.final):
            raise ConfigurationError("Two errors in `final` have the same name, by which they are kept.")

    def is_final(self, error: Exception) -> bool:
        """Tell whether an error is the answer of the operation, and not something to be repeated."""
        if isinstance(error, ConfigurationError | StorageError | LeaseLost | OutcomeUnknown):
            return False
        return isinstance(error, (Refused, InvalidInput, *self.final))


@attrs.frozen(kw_only=True)
class OperationEvent(PolicyEvent):
    """Something happened to an operation, whose name is that of the policy.

    Attributes:
        tenant: Whose operation it is.
        key: Its idempotency key.
    """

    tenant: str
    key: str


@attrs.frozen(kw_only=True)
class OperationReplayed(OperationEvent):
    """A repeated request was answered by what its first use had led to."""


@attrs.frozen(kw_only=True)
class OperationLost(OperationEvent):
    """Whoever was at work on an operation was taken over, and what it was about to write was not written.

    Attributes:
        fence: The number of its claim.
    """

    fence: int


@attrs.frozen(kw_only=True)
class OperationTakenOver(OperationEvent):
    """An operation whose lease had run out was taken over.

    Attributes:
        recovery_point: The step it had come to.
        attempts: How many claims there were, this one included.
    """

    recovery_point: str
    attempts: int


@attrs.frozen(kw_only=True)
class OutcomeLost(OperationEvent):
    """The outcome of a foreign call is unknown.

    Attributes:
        step: The call.
        error: The class of what it ended with; None where whoever made it is gone.
    """

    step: str
    error: str | None


def check_name(name: str) -> None:
    """Refuse what cannot be the name of an operation or of a step.

    Raises:
        ConfigurationError: It cannot.
    """
    if not isinstance(name, str) or not _name_pattern.fullmatch(name):
        raise ConfigurationError("The name of an operation or a step has 1 to 100 letters, digits and '_.:-'.")


def check_work(operation: IdempotentOperation[Any], *, asynchronous: bool) -> None:
    """Refuse an operation whose work is not done in the way it is called, before anything of it begins.

    Raises:
        ConfigurationError: It is for the other front door, or a generator.
    """
    check_definitions([operation])
    work: object = operation.work
    while isinstance(work, functools.partial):
        work = work.func
    called = inspect.unwrap(work if inspect.isroutine(work) else type(work).__call__)
    is_lazy = inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called)
    if is_lazy or (inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(work)) is not asynchronous:
        raise ConfigurationError(
            f"The work of {operation.name!r} cannot be done this way; nothing was begun. It is a plain function for "
            "`OrderKit`, an `async def` function for `AsyncOrderKit`, and no generator."
        )


def check_definitions(operations: Sequence[object]) -> None:
    """Refuse what is no definition of an operation, and several of one name, before anything is read or written.

    Raises:
        ConfigurationError: One is none, or two have the same name.
    """
    for operation in operations:
        if not isinstance(operation, IdempotentOperation):
            raise ConfigurationError("Give an `IdempotentOperation`, which names the work and says what it ends in.")
    names = [operation.name for operation in operations if isinstance(operation, IdempotentOperation)]
    if len(set(names)) < len(names):
        raise ConfigurationError("Two of these operations have the same name; each has one definition.")


def check_seconds(name: str, seconds: object) -> None:
    """Refuse what is no length of time.

    Raises:
        ConfigurationError: It is none.
    """
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds <= _CENTURY.total_seconds():  # type: ignore[operator]  # a number, as was seen
        raise ConfigurationError(f"`{name}` is a number of seconds, zero or more; nothing was done.")


def check_limit(limit: object) -> None:
    """Refuse what is no number of operations.

    Raises:
        ConfigurationError: It is none.
    """
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MOST:
        raise ConfigurationError(f"`limit` is a whole number from 1 to {MOST}; nothing was done.")


def _lasts(time: object, least: timedelta, most: timedelta) -> bool:
    return isinstance(time, timedelta) and least <= time <= most


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception) and kind is not Exception


def foreign_key(reference: KeyReference, step: str) -> str:
    """Return the key by which a foreign system knows a step: the same whoever makes it, and however often.

    It names tenant, operation, key and step, so that it can be looked up there by hand; as a hash where that is too
    long. What stands between them is percent-encoded inside them, so that no two steps share a key.

    Example:
        >>> foreign_key(KeyReference("acme", "pay", "checkout-7f3a"), "charge")
        'orderkit:acme/pay:checkout-7f3a:charge'
    """
    tenant, scope, name, step = (quote(part, safe="") for part in (*reference, step))
    key = f"orderkit:{tenant}/{scope}:{name}:{step}"
    if len(key) <= FOREIGN_KEY_LENGTH:
        return key
    return f"orderkit:{hashlib.sha256(key.encode()).hexdigest()}"
