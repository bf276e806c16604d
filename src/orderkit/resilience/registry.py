"""Breakers and policies by name: one for each host, merchant or provider, and never more than so many."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from orderkit.resilience.breaker import CircuitBreaker, CircuitState
from orderkit.resilience.layers import counted
from orderkit.resilience.policy import Policy

MemberT = TypeVar("MemberT", CircuitBreaker, Policy)


class Registry(Generic[MemberT]):
    """Make what is asked for by name once, and keep the most recently used.

    Names often come from outside, such as hosts in webhooks of customers, so that their number is bounded. What is
    dropped is what was used longest ago, and of that what remembers no failures where there is any: a circuit that is
    open is not forgotten because many others were asked for.

    Args:
        make: Make a breaker or a policy for a name.
        limit: How many are kept.

    Example:
        >>> breakers = Registry(CircuitBreaker, limit=100)
        >>> breakers.get("api.example.com") is breakers.get("api.example.com")
        True
    """

    def __init__(self, make: Callable[[str], MemberT], *, limit: int = 1000) -> None:
        self._make: Callable[[str], MemberT] = make
        self._limit = counted(limit, "The limit of a registry")
        self._lock = threading.Lock()
        self._members: OrderedDict[str, MemberT] = OrderedDict()

    def get(self, name: str) -> MemberT:
        """Return the member of this name, made now if need be."""
        with self._lock:
            member = self._members.get(name)
            if member is None:
                member = self._make(name)
                if len(self._members) >= self._limit:
                    self._drop_one()
                self._members[name] = member
            else:
                self._members.move_to_end(name)
            return member

    def _drop_one(self) -> None:
        idle = (name for name, member in self._members.items() if not _remembers(member))
        del self._members[next(idle, next(iter(self._members)))]

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[tuple[str, MemberT]]:
        """Yield names and members, the least recently used first."""
        with self._lock:
            return iter(list(self._members.items()))


def _remembers(member: CircuitBreaker | Policy) -> bool:
    """Tell whether calls are held back here just now."""
    if isinstance(member, CircuitBreaker):
        return member.state is not CircuitState.CLOSED
    return any(_remembers(layer) for layer in member.layers if isinstance(layer, CircuitBreaker))
