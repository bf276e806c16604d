"""From what a driver raises to what orderkit raises.

A message names the database's own code, never what the driver wrote: that may hold values of rows, the
text of a statement or the address of the server. The driver's error is kept as the cause.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Sequence
from typing import cast

from orderkit.errors import (
    AlreadyExists,
    CommitUnknown,
    ConfigurationError,
    IdempotencyInFlight,
    OrderKitError,
    SchemaMissing,
    StorageBusy,
    StorageFailed,
    StorageFull,
    StorageUnavailable,
    TransactionAborted,
    VersionConflict,
)
from orderkit.orders.tables import EVENTS, ORDERS, EventRow, OrderRow
from orderkit.storage.sql.dialect import Fault, FaultKind
from orderkit.storage.sql.sessions import SESSIONLESS
from orderkit.storage.sql.tables import PREFIX
from orderkit.unit_of_work.changes import KEYS, ChangeSet

IsTaken = Callable[[OrderRow, str], bool]

_EVENT_VERSION = {
    PREFIX + "events_pkey",
    ", ".join(f"{PREFIX}events.{column}" for column in EVENTS.key),
    PREFIX + "events.PRIMARY",
}
"""What a unique constraint is called: its name on PostgreSQL, its columns on SQLite, table and name on MariaDB."""


class Phase(enum.Enum):
    """What was being done when a driver failed."""

    CONNECTING = "The database was not reached; nothing was read or written."
    READING = "The connection to the database was lost while reading; nothing was written."
    WRITING = "The connection to the database was lost inside a transaction; nothing of it was written."
    COMMITTING = (
        "The connection to the database was lost during the commit, which happened wholly or not at all. "
        "Repeat the request with the same idempotency key or the same order id to settle it."
    )


def failure(
    fault: Fault, phase: Phase, changes: ChangeSet | None = None, is_taken: IsTaken = lambda _order, _column: False
) -> OrderKitError:
    """Return the error to raise for a fault.

    Args:
        fault: What the driver's error comes down to.
        phase: What was being done.
        changes: The change set that was being written, if one was.
        is_taken: Tells whether a stored order has the id of this one, or another one its number.
    """
    if fault.kind is FaultKind.LOST:
        lost = CommitUnknown if phase is Phase.COMMITTING else StorageUnavailable
        return lost(f"{phase.value} [{fault.code}]")
    if fault.kind is FaultKind.DUPLICATE and changes is not None:
        return _duplicate(fault, changes, is_taken)
    key = None if changes is None else _key_waited_for(fault, changes)
    if key is not None:
        return IdempotencyInFlight(key)
    family, sentence = _SENTENCES.get(fault.kind, _OTHER)
    return family(f"{sentence} [{fault.code}]")


_OTHER: tuple[type[OrderKitError], str] = (
    StorageFailed,
    "The database refused; nothing was written. Its own code follows, its message is the cause of this error.",
)

_BUSY = "Others held what was needed for too long, or stood in each other's way; nothing was written. Repeat it."

_SENTENCES: dict[FaultKind, tuple[type[OrderKitError], str]] = {
    FaultKind.BUSY: (StorageBusy, _BUSY),
    FaultKind.LOCK_TIMEOUT: (StorageBusy, _BUSY),
    FaultKind.FULL: (
        StorageFull,
        "There is no room left on the database's disk; nothing was written. Make room, then repeat it.",
    ),
    FaultKind.ABORTED: (
        TransactionAborted,
        "An earlier error aborted the transaction; nothing was read or written. Roll it back before you go on.",
    ),
    FaultKind.READ_ONLY: (
        StorageFailed,
        "The transaction or the database is read-only; nothing was written. Write through a connection that may.",
    ),
    FaultKind.SESSIONLESS: (ConfigurationError, SESSIONLESS),
    FaultKind.SCHEMA_MISSING: (
        SchemaMissing,
        "A table or column of orderkit is missing; nothing was written. Call kit.create_schema() once.",
    ),
}


def _key_waited_for(fault: Fault, changes: ChangeSet) -> str | None:
    """Return the key whose first use was waited for, if it was that and not an order."""
    if fault.kind is not FaultKind.LOCK_TIMEOUT or changes.claim is None:
        return None
    waited_for_key = PREFIX + KEYS.name in fault.where if fault.where else not changes.guards
    return changes.claim.key if waited_for_key else None


def _duplicate(fault: Fault, changes: ChangeSet, is_taken: IsTaken) -> OrderKitError:
    """Return the conflict that a violated unique constraint stands for.

    Which of several constraints is violated first is the database's affair, so that the orders are looked
    up: an id that is taken says more than the events or lines that are there with it.
    """
    new = cast("list[OrderRow]", changes.inserts.get(ORDERS, []))
    old = cast("list[OrderRow]", [*changes.upserts.get(ORDERS, ()), *changes.updates.get(ORDERS, ())])
    taken = _culprit(new, "id", is_taken)
    if taken is not None:
        return AlreadyExists("order_id", taken.id)
    taken = _culprit([*new, *old], "number", is_taken)
    if taken is not None:
        return AlreadyExists("number", str(taken.number))
    if fault.where in _EVENT_VERSION and EVENTS in changes.inserts:
        event = cast("EventRow", changes.inserts[EVENTS][0])
        return VersionConflict(event.order_id, event.version - 1)
    return _OTHER[0](f"{_OTHER[1]} [{fault.code}]")


def _culprit(orders: Sequence[OrderRow], column: str, is_taken: IsTaken) -> OrderRow | None:
    """Return the order whose value is taken: by another of the change set, or by one that is stored."""
    valued = [order for order in orders if getattr(order, column) is not None]
    counts = Counter((order.tenant, getattr(order, column)) for order in valued)
    repeated = (order for order in valued if counts[order.tenant, getattr(order, column)] > 1)
    return next(repeated, None) or next((order for order in valued if is_taken(order, column)), None)
