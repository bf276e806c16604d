"""What must not be shared with a child process, renewed in the child after a fork."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Renewable(Protocol):
    """Something that holds connections, descriptors or locks of the process it was made in."""

    def renew(self) -> None:
        """Drop, in a child after a fork, what belongs to the parent; leave the parent's side untouched."""
        ...


class Stoppable(Protocol):
    """Something that a fork must not find in the middle of its work."""

    def stop(self) -> bool:
        """Have nobody begin, once those who are at it have ended; return whether they have, before long."""
        ...

    def go_on(self) -> None:
        """Let everybody begin again."""
        ...


_renewables: weakref.WeakSet[Renewable] = weakref.WeakSet()
_stoppables: weakref.WeakSet[Stoppable] = weakref.WeakSet()
_stopped = threading.local()


def renew_after_fork(thing: Renewable) -> None:
    """Have a thing renewed in every child of this process, for as long as the thing lives."""
    _renewables.add(thing)


def stop_before_fork(thing: Stoppable) -> None:
    """Have a thing stopped, in the parent, for the length of every fork, for as long as the thing lives."""
    _stoppables.add(thing)


def _stop_all() -> None:
    _stopped.things = [thing for thing in list(_stoppables) if thing.stop()]


def _go_on_all() -> None:
    for thing in _stopped.things:
        thing.go_on()


def _renew_all() -> None:
    for thing in list(_renewables):
        thing.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_stop_all, after_in_parent=_go_on_all, after_in_child=_renew_all)

_inherited: list[object] = []


def keep_for_good(thing: object) -> None:
    """Keep something of the parent's from being finalised in a child, which would close it for the parent."""
    _inherited.append(thing)
