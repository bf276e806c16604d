"""Foreign calls, and whether any of their attempts may have arrived."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from orderkit.resilience import operations
from orderkit.resilience.policy import Policy, is_asynchronous


class Sending:
    """A foreign call that is made once, or by a policy as often as that sees fit.

    Args:
        function: Makes the call.
        policy: What surrounds it.
    """

    def __init__(self, function: Callable[[str], object], policy: Policy | None) -> None:
        self._function = function
        self._policy = policy
        self._attempts: list[None] = []

    def send(self, key: str) -> object:
        """Make the call; what is returned is its result, or is awaited for it."""
        if self._policy is None:
            return self._function(key)
        return self._policy.call(self._awaited if is_asynchronous(self._function) else self._called, key)

    def nothing_sent(self, error: Exception) -> bool:
        """Tell whether an error that the call has ended with shows that no attempt has arrived.

        That of the last attempt says nothing of those before it: the first may have timed out, and the next have been
        refused.
        """
        return operations.nothing_sent(error) and not self._attempts

    def _called(self, key: str) -> object:
        with self._attempt():
            return self._function(key)

    async def _awaited(self, key: str) -> object:
        with self._attempt():
            result: object = await self._function(key)  # type: ignore[misc]  # asynchronous, as was seen
            return result

    @contextmanager
    def _attempt(self) -> Generator[None]:
        """Count an attempt, unless it fails so that it cannot have arrived."""
        self._attempts.append(None)
        try:
            yield
        except BaseException as error:
            if operations.nothing_sent(error):
                self._attempts.pop()
            raise
