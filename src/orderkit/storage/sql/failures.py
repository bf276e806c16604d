"""From what a driver raises to what orderkit raises.

A message names the database's own code, never what the driver wrote: that may hold values of rows, the
text of a statement or the address of the server. The driver's error is kept as the cause.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from orderkit.errors import (
    AlreadyExists,
    CommitUnknown,
    IdempotencyInFlight,
    OrderKitError,
    SchemaMissing,
    StorageBusy,
    StorageFailed,
    StorageFull,
    StorageUnavailable,
    VersionConflict,
)
from orderkit.orders.tables import EVENTS, ORDERS, EventRow, OrderRow
from orderkit.storage.sql.dialect import Fault, FaultKind
from orderkit.storage.sql.tables import PREFIX
from orderkit.unit_of_work.changes import ChangeSet, Row


class Phase(enum.Enum):
    """What was being done when a driver failed."""

    CONNECTING = "The database was not reached; nothing was read or written."
    READING = "The connection to the database was lost while reading; nothing was written."
    WRITING = "The connection to the database was lost inside a transaction; nothing of it was written."
    COMMITTING = (
        "The connection to the database was lost during the commit, which happened wholly or not at all. "
        "Repeat the request with the same idempotency key or the same order id to settle it."
    )


def failure(fault: Fault, phase: Phase, changes: ChangeSet | None = None) -> OrderKitError:
    """Return the error to raise for a fault.

    Args:
        fault: What the driver's error comes down to.
        phase: What was being done.
        changes: The change set that was being written, if one was.
    """
    if fault.kind is FaultKind.LOST:
        lost = CommitUnknown if phase is Phase.COMMITTING else StorageUnavailable
        return lost(f"{phase.value} [{fault.code}]")
    if fault.kind is FaultKind.DUPLICATE and changes is not None:
        return _duplicate(fault, changes)
    if fault.kind is FaultKind.LOCK_TIMEOUT and changes is not None and changes.claim is not None:
        if not changes.guards or PREFIX + "idempotency_keys" in fault.where:
            return IdempotencyInFlight(changes.claim.key)
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
    FaultKind.SCHEMA_MISSING: (
        SchemaMissing,
        "A table or column of orderkit is missing; nothing was written. Call kit.create_schema() once.",
    ),
}


def _duplicate(fault: Fault, changes: ChangeSet) -> OrderKitError:
    """Return the conflict a unique constraint stands for."""
    orders = [OrderRow(*row) for rows in _written(changes) for row in rows]
    if _speaks_of(fault, "orders_number", "orders.number") and orders:
        return AlreadyExists("number", str(orders[0].number))
    if _speaks_of(fault, "orders_pkey", "orders.id") and orders:
        return AlreadyExists("order_id", orders[0].id)
    events = changes.inserts.get(EVENTS)
    if _speaks_of(fault, "events_pkey", "events.version") and events:
        event = EventRow(*events[0])  # type: ignore[arg-type]
        return VersionConflict(event.order_id, event.version - 1)
    family, sentence = _OTHER
    return family(f"{sentence} [{fault.code}]")
