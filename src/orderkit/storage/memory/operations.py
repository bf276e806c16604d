"""What a storage does, as functions of a layer: a transaction runs them again when it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar, cast

from orderkit.errors import StorageBusy, VersionConflict
from orderkit.orders.ports import Among, Between, Condition, Found, HasLabel, HasLine, Search
from orderkit.orders.tables import LABELS, LINES, ORDERS, LineRow, OrderRow
from orderkit.storage.memory.layer import Layer, Slot
from orderkit.storage.memory.leases import advance
from orderkit.unit_of_work.batches import side_by_side
from orderkit.unit_of_work.changes import KEYS, ChangeSet, Guard, KeyClaim, KeyReference
from orderkit.unit_of_work.storage import OrderRecord, Outcome, Readings, StoredKey

T = TypeVar("T")
_NUMBERS: Slot = ("order_numbers",)


def find_order(layer: Layer, tenant: str, order_id: str) -> OrderRecord | None:
    """Return an order as it is kept."""
    row = layer.row(ORDERS, (tenant, order_id))
    return None if row is None else _record(OrderRow._make(row))


def find_key(layer: Layer, key: KeyReference) -> StoredKey | None:
    """Return the record of an idempotency key."""
    row = layer.row(KEYS, key)
    if row is None:
        return None
    claim = KeyClaim._make(row)
    order = find_order(layer, claim.tenant, claim.order_id)
    return StoredKey(claim.fingerprint, claim.order_id, claim.order_version, claim.expires_at, order)


def find_many(layer: Layer, tenant: str, order_ids: Sequence[str], keys: Sequence[KeyReference]) -> Readings:
    """Return those of several orders and keys that are there."""
    orders = {order_id: find_order(layer, tenant, order_id) for order_id in order_ids}
    stored = {key: find_key(layer, key) for key in keys if key.tenant == tenant}
    return Readings(
        {order_id: record for order_id, record in orders.items() if record is not None},
        {key: record for key, record in stored.items() if record is not None},
    )


def forget_key(layer: Layer, key: KeyReference, now: datetime) -> None:
    """Remove the record of a key if it has expired."""
    stored = find_key(layer, key)
    if stored is not None and stored.expires_at <= now:
        layer.delete(KEYS, key)


def forget_expired_keys(layer: Layer, now: datetime, limit: int) -> list[KeyReference]:
    """Remove the records of some keys that have expired; return the keys."""
    claims = map(KeyClaim._make, layer.all(KEYS))
    expired = (KeyReference(claim.tenant, claim.scope, claim.key) for claim in claims if claim.expires_at <= now)
    keys = list(islice(expired, limit))
    for key in keys:
        layer.delete(KEYS, key)
    return keys


def take_number(layer: Layer, tenant: str) -> int:
    """Count a tenant's numbers on by one."""
    (last,) = layer.get(_NUMBERS, (tenant,)) or (0,)
    number = cast("int", last) + 1
    layer.set(_NUMBERS, (tenant,), (number,))
    return number


def write(layer: Layer, changes: ChangeSet) -> Outcome:
    """Write a change set if its guards hold and its key is free."""
    held = all(_version(layer, guard) == guard.version for guard in changes.guards)
    claim = changes.claim
    stored = find_key(layer, KeyReference(claim.tenant, claim.scope, claim.key)) if claim else None
    if not held or stored is not None:
        return Outcome(committed=False, guards_held=held, stored=stored)
    if changes.advance is not None and not advance(layer, changes.advance):
        return Outcome(committed=False, guards_held=True, lease_held=False)
    if claim is not None:
        layer.insert(KEYS, claim)
    for put, rows_of in (
        (layer.delete, changes.deletes),
        (layer.update, changes.updates),
        (layer.upsert, changes.upserts),
        (layer.insert, changes.inserts),
    ):
        for table, rows in rows_of.items():
            for row in rows:
                put(table, row)
    return Outcome(committed=True, guards_held=True)


def write_each(layer: Layer, changes: Sequence[ChangeSet]) -> list[Outcome]:
    """Write several change sets, each if its guards hold, its key is free and no earlier one stands in its way."""
    return [
        write(layer, part)._replace(stored=None) if expected.committed else expected
        for part, expected in zip(changes, side_by_side(changes), strict=True)
    ]


def write_again(layer: Layer, changes: ChangeSet) -> None:
    """Write what a transaction has written before over what others have committed meanwhile.

    Raises:
        VersionConflict: A guarded order has moved on.
        StorageBusy: The key was taken meanwhile: repeating the transaction finds its record.
    """
    for guard in changes.guards:
        found = _version(layer, guard)
        if found != guard.version:
            raise VersionConflict(guard.order_id, guard.version, found)
    if not write(layer, changes).committed:
        raise _overtaken()


def insist(look: Callable[[Layer], T], seen: T) -> Callable[[Layer], None]:
    """Return a step that raises `StorageBusy` unless it finds what the transaction has seen."""

    def step(layer: Layer) -> None:
        if look(layer) != seen:
            raise _overtaken()

    return step


def find_page(layer: Layer, search: Search) -> list[Found]:
    """Return the orders of a page."""

    def place(order: OrderRow) -> Any:
        return getattr(order, search.sort), order.id

    orders = [
        order
        for order in map(OrderRow._make, layer.all(ORDERS, search.tenant))
        if place(order)[0] is not None and all(_holds(layer, order, condition) for condition in search.conditions)
    ]
    falling = search.descending != search.backwards
    if search.after is not None:
        after: Any = search.after
        orders = [order for order in orders if (place(order) < after if falling else place(order) > after)]
    page = sorted(orders, key=place, reverse=falling)[: search.limit]
    if search.backwards:
        page.reverse()
    return [Found(order.id, place(order)[0], _record(order)) for order in page]


def _holds(layer: Layer, order: OrderRow, condition: Condition) -> bool:
    match condition:
        case Among(column, values):
            return getattr(order, column) in values
        case Between(column, lower, upper):
            return _within(getattr(order, column), lower, upper)
        case HasLine(sku):
            lines = map(LineRow._make, layer.all(LINES, order.tenant, order.id))
            return any(line.sku == sku for line in lines)
        case HasLabel(kind, name, value):
            return layer.row(LABELS, (order.tenant, kind, name, value, order.id)) is not None


def _within(value: Any, lower: Any, upper: Any) -> bool:
    return value is not None and (lower is None or lower <= value) and (upper is None or value < upper)


def _record(order: OrderRow) -> OrderRecord:
    return OrderRecord(order.document, order.metadata, order.version, order.schema_version)


def _version(layer: Layer, guard: Guard) -> int | None:
    order = find_order(layer, guard.tenant, guard.order_id)
    return None if order is None else order.version


def _overtaken() -> StorageBusy:
    return StorageBusy("Another transaction was first; nothing was written. Repeat the whole transaction.")
