"""Foreign calls: which can be made at all, and whether any attempt of one may have arrived."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Final

import attrs

from orderkit.errors import ConfigurationError
from orderkit.idempotency.operations import OnUnknown
from orderkit.resilience import operations
from orderkit.resilience.layers import InvalidPolicy, Rank
from orderkit.resilience.policy import Policy, is_asynchronous
from orderkit.resilience.runtimes import THREAD, drive

_REPLACING: Final = (Rank.FALLBACK, Rank.CACHE, Rank.HEDGE)
"""Layers whose answer may be another one than that of the call, or that make it twice at the same time."""


def _on_unknown(given: str) -> OnUnknown:
    try:
        return OnUnknown(given)
    except ValueError:
        raise ConfigurationError("`on_unknown` is `OnUnknown.RETRY` or `OnUnknown.HOLD`; nothing was begun.") from None


@attrs.frozen
class ForeignCall:
    """A call of something foreign, as the work of an operation asks for it.

    Attributes:
        function: Makes it.
        policy: What surrounds it.
        on_unknown: What is done about it while its outcome is unknown.
        look_up: Asks for its outcome.
        asynchronous: Whether what its functions return is awaited.

    Raises:
        ConfigurationError: It cannot be made this way; nothing of it was begun.
    """

    function: Callable[[str], object]
    policy: Policy | None
    on_unknown: OnUnknown = attrs.field(converter=_on_unknown)
    look_up: Callable[[str], object] | None
    asynchronous: bool

    def __attrs_post_init__(self) -> None:
        self._check_function("function", self.function)
        if self.look_up is not None:
            self._check_function("look_up", self.look_up)
        if self.policy is None:
            return
        if not isinstance(self.policy, Policy):
            raise ConfigurationError("The `policy` of a call is a `Policy` or None; nothing was begun.")
        replacing = [layer.kind for layer in self.policy.layers if layer.rank in _REPLACING]
        if replacing:
            raise ConfigurationError(
                f"The policy of a call has no {replacing[0]}, since what is kept is what the other side has answered, "
                "once; nothing was begun."
            )

    def _check_function(self, name: str, function: Callable[[str], object]) -> None:
        if not callable(function) or not _takes_a_key(function):
            raise ConfigurationError(f"The `{name}` of a call is a function of its key; nothing was begun.")
        if is_asynchronous(function) and not self.asynchronous:
            raise ConfigurationError(
                f"The `{name}` of a call is `async` with `AsyncOrderKit` alone; nothing was begun. Give a plain one."
            )


def _takes_a_key(function: Callable[..., object]) -> bool:
    """Tell whether a function can be called with a key, as far as that can be seen."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind("key")
    except TypeError:
        return False
    return True


class Sending:
    """A foreign call that is made once, or by a policy as often as that sees fit."""

    def __init__(self, made: ForeignCall) -> None:
        self._made = made
        self._attempts: list[None] = []

    def send(self, key: str) -> object:
        """Make the call; what is returned is its result, or is awaited for it."""
        function, policy = self._made.function, self._made.policy
        if policy is None:
            return function(key)
        return policy.call(self._awaited if self._made.asynchronous else self._called, key)

    def nothing_sent(self, error: Exception) -> bool:
        """Tell whether an error that the call has ended with shows that no attempt has arrived.

        That of the last attempt says nothing of those before it: the first may have timed out, and the next have been
        refused.
        """
        return _is_unsent(error) and not self._attempts

    def _called(self, key: str) -> object:
        with self._attempt():
            # Here, and not by the policy outside of it: work that has not begun was no attempt.
            return drive(THREAD.finish(self._made.function(key)))

    async def _awaited(self, key: str) -> object:
        with self._attempt():
            result = self._made.function(key)
            return await result if isinstance(result, Awaitable) else result

    @contextmanager
    def _attempt(self) -> Generator[None]:
        """Count an attempt, unless it fails so that it cannot have arrived."""
        self._attempts.append(None)
        try:
            yield
        except BaseException as error:
            if _is_unsent(error):
                self._attempts.pop()
            raise


def _is_unsent(error: BaseException) -> bool:
    """Tell whether nothing was sent; a function that returned a coroutine or a generator has not begun to."""
    return isinstance(error, InvalidPolicy) or operations.nothing_sent(error)
