"""Breakers and policies by name: one for each host, merchant or provider, and never more than so many."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Generic, TypeVar

from orderkit.forking import Guarded
from orderkit.resilience.breaker import CircuitBreaker
from orderkit.resilience.layers import counted
from orderkit.resilience.policy import Policy

MemberT = TypeVar("MemberT", CircuitBreaker, Policy)


class Registry(Guarded, Generic[MemberT]):
    """Make what is asked for by name once, and keep the most recently used.

    Names often come from outside, such as hosts in webhooks of customers, so that their number is bounded. What is
    dropped is what was used longest ago, and of that what remembers nothing where there is any: a circuit that is open,
    was switched or has counted failures is not forgotten because many others were asked for.

    Args:
        make: Make a breaker or a policy for a name. It may ask the registry for others. Two threads may make one of the
            same name at once; both are given that of the first to be done.
        limit: How many are kept.

    Example:
        >>> breakers = Registry(CircuitBreaker, limit=100)
        >>> breakers.get("api.example.com") is breakers.get("api.example.com")
        True
    """

    def __init__(self, make: Callable[[str], MemberT], *, limit: int = 1000) -> None:
        self._make: Callable[[str], MemberT] = make
        self._limit = counted(limit, "The limit of a registry")
        self._members: OrderedDict[str, MemberT] = OrderedDict()
        super().__init__()

    def get(self, name: str) -> MemberT:
        """Return the member of this name, made now if need be."""
        with self._lock:
            if name in self._members:
                self._members.move_to_end(name)
                return self._members[name]
        made = self._make(name)
        with self._lock:
            if name not in self._members:
                if len(self._members) >= self._limit:
                    self._drop_one()
                self._members[name] = made
            return self._members[name]

    def _drop_one(self) -> None:
        members = self._members.items()
        idle = (name for name, member in members if not any(each.remembers for each in _breakers(member)))
        closed = (name for name, member in members if not any(each.holds_back for each in _breakers(member)))
        del self._members[next(chain(idle, closed, self._members))]

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[tuple[str, MemberT]]:
        """Yield names and members, the least recently used first."""
        with self._lock:
            return iter(list(self._members.items()))


def _breakers(member: CircuitBreaker | Policy) -> Iterable[CircuitBreaker]:
    if isinstance(member, CircuitBreaker):
        return (member,)
    return (layer for layer in member.layers if isinstance(layer, CircuitBreaker))
