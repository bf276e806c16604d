"""What a child process must not take over from its parent, renewed in the child after a fork."""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol


class Renewable(Protocol):
    """Something that holds locks, which other threads may hold during a fork, or connections."""

    def renew(self) -> None:
        """Drop, in a child after a fork, what belongs to the parent; leave the parent's side untouched."""
        ...


_renewables: Final[weakref.WeakSet[Renewable]] = weakref.WeakSet()
_inherited: Final[list[object]] = []


def renew_after_fork(thing: Renewable) -> None:
    """Have a thing renewed in every child of this process, for as long as the thing lives."""
    _renewables.add(thing)


def keep_for_good(thing: object) -> None:
    """Keep something of the parent's from being finalised in a child, which would close it for the parent."""
    _inherited.append(thing)


def _renew_all() -> None:
    for thing in list(_renewables):
        thing.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
