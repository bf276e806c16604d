"""What a child process must not take over from its parent, renewed in the child after a fork."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from typing import Final, Protocol


class Renewable(Protocol):
    """Something that holds locks, which other threads may hold during a fork, connections or descriptors."""

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


_logger = logging.getLogger("orderkit.forking")

_renewables: Final[weakref.WeakSet[Renewable]] = weakref.WeakSet()
_stoppables: Final[weakref.WeakSet[Stoppable]] = weakref.WeakSet()
_stopped: Final = threading.local()
_inherited: Final[list[object]] = []


def renew_after_fork(thing: Renewable) -> None:
    """Have a thing renewed in every child of this process, for as long as the thing lives."""
    _renewables.add(thing)


def keep_for_good(thing: object) -> None:
    """Keep something of the parent's from being finalised in a child, which would close it for the parent."""
    _inherited.append(thing)


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
        try:
            thing.renew()
        except Exception:
            # Nobody could catch it; the others are to be renewed nevertheless.
            _logger.exception("%r could not be renewed in a child after a fork.", thing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_stop_all, after_in_parent=_go_on_all, after_in_child=_renew_all)


class Guarded:
    """Something that changes under a lock, which nobody holds in a child after a fork.

    What inherits it calls its initialiser last: a fork may come at any time from then on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        renew_after_fork(self)

    def renew(self) -> None:
        """Have a lock of its own."""
        self._lock = threading.Lock()
