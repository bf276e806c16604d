"""Background work: steps that each do a bounded piece and say whether there is more.

A step is a script like any other, so that every shell can run it. `sweep` of a kit runs each step once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from orderkit.domain.commands import ExpireOrder
from orderkit.domain.status import OrderStatus
from orderkit.errors import NewerSchema, Refused, SchemaMissing
from orderkit.idempotency.ports import KeepsOperations
from orderkit.orders.cursors import Position
from orderkit.orders.ports import OrderStorage
from orderkit.orders.scripts import OrderPolicy, execute
from orderkit.orders.searching import OrderFilter, Query
from orderkit.unit_of_work.unit import UnitOfWork


@attrs.frozen
class Progress:
    """What one run of a step did.

    Attributes:
        done: How many things it dealt with.
        more: Whether there is probably more to do right away.
    """

    done: int
    more: bool


Step = Callable[[OrderPolicy, UnitOfWork[OrderStorage]], Progress]
"""A bounded piece of background work."""

KEY_BATCH: Final = 1000
EXPIRY_BATCH: Final = 100


def collect_keys(_policy: OrderPolicy, unit: UnitOfWork[OrderStorage]) -> Progress:
    """Remove idempotency records that have expired, of every tenant."""
    done = unit.storage.forget_expired_keys(unit.now, KEY_BATCH)
    return Progress(done, done == KEY_BATCH)


def collect_operations(_policy: OrderPolicy, unit: UnitOfWork[OrderStorage]) -> Progress:
    """Remove leased operations that have finished and expired, of every tenant; one under way is never removed."""
    if not isinstance(unit.storage, KeepsOperations):
        return Progress(0, more=False)
    try:
        done = unit.storage.operations.forget_expired(KEY_BATCH, now=unit.leases_now)
    except SchemaMissing:
        # Tables of a revision that has none yet work on without it.
        return Progress(0, more=False)
    return Progress(done, done == KEY_BATCH)


def expire_orders(policy: OrderPolicy, unit: UnitOfWork[OrderStorage]) -> Progress:
    """Expire the pending orders of the bound tenant whose time is over, in one commit.

    One that cannot be expired, because it has moved on or was written by a newer release, is passed over.
    """
    due = OrderFilter(status=(OrderStatus.PENDING,), expires_until=unit.now)
    query = Query(due, "created_at", EXPIRY_BATCH)
    done, position = 0, None
    while True:
        found = unit.storage.search(query.search(unit.tenant, position, EXPIRY_BATCH))
        done += sum(_expire(policy, unit, hit.order_id) for hit in found)
        if done or len(found) < EXPIRY_BATCH:
            return Progress(done, len(found) == EXPIRY_BATCH)
        position = Position.at(found[-1].sort_value, found[-1].order_id, backwards=False)


def _expire(policy: OrderPolicy, unit: UnitOfWork[OrderStorage], order_id: str) -> bool:
    try:
        execute(order_id, ExpireOrder(), policy)(unit)
    except (Refused, NewerSchema):
        return False
    return True


STEPS: Final[Mapping[str, Step]] = {
    "collect_keys": collect_keys,
    "collect_operations": collect_operations,
    "expire_orders": expire_orders,
}
"""Every step by name."""
