"""How much a process may retry one dependency: when all calls fail, retries must not double the load."""

from __future__ import annotations

from orderkit.forking import Guarded
from orderkit.resilience.layers import InvalidPolicy, counted


class RetryBudget(Guarded):
    """A bucket of tokens that retries take from and successes fill again; make one for each dependency.

    The figures are those of the AWS SDKs' standard mode, as revised: 500 tokens, 14 for a retry after a transient
    fault, 5 after throttling. A success gives back what its last retry took, or one token if it needed none.

    Args:
        capacity: How many tokens there are.
        transient: What a retry after a fault takes.
        throttled: What a retry takes after the other side said that there were too many calls.

    Raises:
        InvalidPolicy: It could never pay for a retry.
    """

    def __init__(self, capacity: int = 500, *, transient: int = 14, throttled: int = 5) -> None:
        self.capacity = counted(capacity, "The capacity of a retry budget")
        self.transient = counted(transient, "What a retry takes")
        self.throttled = counted(throttled, "What a retry after throttling takes")
        if max(transient, throttled) > capacity:
            raise InvalidPolicy("A retry budget below what a retry takes would allow none; nothing was built.")
        self._tokens = capacity
        super().__init__()

    @property
    def tokens(self) -> int:
        """How many tokens are left."""
        return self._tokens

    def take(self, *, throttled: bool) -> int:
        """Take the tokens for a retry; return how many were taken, 0 if there are too few."""
        cost = self.throttled if throttled else self.transient
        with self._lock:
            if self._tokens < cost:
                return 0
            self._tokens -= cost
            return cost

    def give_back(self, tokens: int) -> None:
        """Put tokens back after a success, up to the capacity."""
        if self._tokens >= self.capacity:
            # Read without the lock: whoever takes at this very moment loses one token of hundreds.
            return
        with self._lock:
            self._tokens = min(self.capacity, self._tokens + tokens)

    def renewed(self) -> RetryBudget:
        """Return a full budget with the same figures, for another dependency."""
        return RetryBudget(self.capacity, transient=self.transient, throttled=self.throttled)
