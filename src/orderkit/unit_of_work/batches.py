"""Several change sets in one commit: which of them may stand side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from orderkit.errors import Conflict, StorageFailed
from orderkit.unit_of_work.changes import ChangeSet
from orderkit.unit_of_work.storage import Outcome

T = TypeVar("T")

WRITTEN = Outcome(committed=True, guards_held=True)
STALE = Outcome(committed=False, guards_held=False)
TAKEN = Outcome(committed=False, guards_held=True)


def side_by_side(changes: Sequence[ChangeSet]) -> list[Outcome]:
    """Return what each change set may expect: to be written, or to give way to an earlier one.

    Two that guard the same order were both decided on the same version of it, and two that claim the same key
    are the same request: the second is told so without a look at the database.
    """
    guarded: set[tuple[str, str]] = set()
    claimed: set[tuple[str, str, str]] = set()
    expected = []
    for part in changes:
        orders = {guard[:2] for guard in part.guards}
        key = None if part.claim is None else part.claim[:3]
        outcome = STALE if orders & guarded else TAKEN if key in claimed else WRITTEN
        expected.append(outcome)
        if outcome is WRITTEN:
            guarded |= orders
            claimed |= set() if key is None else {key}
    return expected


def write_apart(
    together: Callable[[Sequence[ChangeSet]], list[T]], alone: Callable[[ChangeSet], T], changes: Sequence[ChangeSet]
) -> list[T]:
    """Write change sets by one commit, or by as few as leave out those that cannot be written.

    A batch that fails as a whole is halved until what fails it is alone. One that has to wait for too long is not:
    its halves would wait as well.

    Args:
        together: Write several by one commit.
        alone: Write one, whatever becomes of it.
        changes: What is to be written.

    Returns:
        What has become of each.
    """
    if len(changes) < 2:
        return [alone(part) for part in changes]
    try:
        return together(changes)
    except (Conflict, StorageFailed):
        middle = len(changes) // 2
    return write_apart(together, alone, changes[:middle]) + write_apart(together, alone, changes[middle:])
