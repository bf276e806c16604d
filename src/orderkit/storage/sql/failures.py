"""From what a driver raises to what orderkit raises.

A message names the database's own code, never what the driver wrote: that may hold values of rows, the
text of a statement or the address of the server. The driver's error is kept as the cause.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence

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
from orderkit.unit_of_work.changes import ChangeSet

IsTaken = Callable[[OrderRow, str], bool]

_NUMBER = {PREFIX + "orders_number", f"{PREFIX}orders.tenant, {PREFIX}orders.number"}
_ORDER_ID = {PREFIX + "orders_pkey", f"{PREFIX}orders.tenant, {PREFIX}orders.id"}
_EVENT_VERSION = {
    PREFIX + "events_pkey",
    ", ".join(f"{PREFIX}events.{column}" for column in EVENTS.key),
}
"""What a unique constraint is called: its name on PostgreSQL, its columns on SQLite."""


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
    fault: Fault, phase: Phase, changes: ChangeSet | None = None, is_taken: IsTaken = lambda _order, _column: True
) -> OrderKitError:
    """Return the error to raise for a fault.

    Args:
        fault: What the driver's error comes down to.
        phase: What was being done.
        changes: The change set that was being written, if one was.
        is_taken: Tells whether another order has what this one has in a column; asked only where the
            change set has several orders.
    """
    if fault.kind is FaultKind.LOST:
        lost = CommitUnknown if phase is Phase.COMMITTING else StorageUnavailable
        return lost(f"{phase.value} [{fault.code}]")
    if fault.kind is FaultKind.DUPLICATE and changes is not None:
        return _duplicate(fault, changes, is_taken)
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


def _duplicate(fault: Fault, changes: ChangeSet, is_taken: IsTaken) -> OrderKitError:
    """Return the conflict that a violated unique constraint stands for."""
    orders = [
        OrderRow._make(row)  # type: ignore[arg-type]  # a row of a table has that table's type
        for part in (changes.inserts, changes.upserts, changes.updates)
        for row in part.get(ORDERS, ())
    ]
    if orders and fault.where in _NUMBER:
        return AlreadyExists("number", str(_culprit(orders, "number", is_taken).number))
    if orders and fault.where in _ORDER_ID:
        return AlreadyExists("order_id", _culprit(orders, "id", is_taken).id)
    if fault.where in _EVENT_VERSION and EVENTS in changes.inserts:
        event = EventRow._make(changes.inserts[EVENTS][0])  # type: ignore[arg-type]  # as above
        return VersionConflict(event.order_id, event.version - 1)
    return _OTHER[0](f"{_OTHER[1]} [{fault.code}]")


def _culprit(orders: Sequence[OrderRow], column: str, is_taken: IsTaken) -> OrderRow:
    """Return the order whose value is taken: by another of the change set, or by one that is stored."""
    if len(orders) == 1:
        return orders[0]
    seen: set[tuple[str, str]] = set()
    for order in orders:
        value = (order.tenant, getattr(order, column))
        if value in seen:
            return order
        seen.add(value)
    return next((order for order in orders if is_taken(order, column)), orders[0])
