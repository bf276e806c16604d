"""From an order and its events to the rows of one commit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
from pydantic import BaseModel

from orderkit.domain.codec import ORDER_SCHEMA_VERSION, encode_event, encode_order
from orderkit.domain.commands import ImportOrder, OrderCommand
from orderkit.domain.events import Event, NoteAdded, PersonalDataSet
from orderkit.domain.order import Order
from orderkit.messaging.outbox import OUTBOX, OutboxRow, bucket_of
from orderkit.orders.erasing import tombstones
from orderkit.orders.ports import OrderStorage
from orderkit.orders.tables import (
    EVENTS,
    LABELS,
    LINES,
    ORDERS,
    PERSONAL,
    EventRow,
    LabelRow,
    LineRow,
    OrderRow,
    PersonalRow,
)
from orderkit.unit_of_work.changes import ChangeSet
from orderkit.unit_of_work.unit import Context, UnitOfWork

TOPIC = "orders"
SOURCE = "orderkit"

_encode = msgspec.json.Encoder().encode


def gather(
    unit: UnitOfWork[OrderStorage],
    before: Order | None,
    after: Order,
    events: Sequence[Event],
    command: OrderCommand,
) -> None:
    """Gather everything that follows from the events of one command."""
    erased = tombstones(unit, after.id, events)
    changes = unit.stage(before, after)
    row = _order_row(unit.tenant, after)
    if before is None:
        changes.insert(ORDERS, (row,))
    else:
        changes.update(ORDERS, (row,))
    _gather_lines(changes, unit.tenant, before, after)
    _gather_labels(changes, unit.tenant, before, after)
    changes.insert(PERSONAL, _personal_rows(unit, after, events, command))
    changes.update(PERSONAL, erased)
    rows = [_event_row(unit, after.id, version, event) for version, event in _numbered(after, events)]
    changes.insert(EVENTS, rows)
    if not isinstance(command, ImportOrder) or command.announce:
        changes.insert(OUTBOX, _messages(unit, rows))


def _order_row(tenant: str, order: Order) -> OrderRow:
    document, metadata = encode_order(order)
    totals = order.totals
    return OrderRow(
        tenant,
        order.id,
        order.number,
        order.status.value,
        order.substate,
        bool(order.holds),
        order.customer,
        order.currency,
        totals.total,
        totals.total - totals.cancelled,
        order.placed_at,
        order.created_at,
        order.updated_at,
        order.expires_at,
        order.version,
        ORDER_SCHEMA_VERSION,
        document,
        metadata,
    )


def _gather_lines(changes: ChangeSet, tenant: str, before: Order | None, after: Order) -> None:
    if before is None:
        changes.insert(LINES, _line_rows(tenant, after, after.id))
        return
    if before.lines is after.lines:
        return
    kept = {line.id for line in after.lines}
    changes.delete(LINES, [(tenant, after.id, line.id) for line in before.lines if line.id not in kept])
    known = {row.line_id: row for row in _line_rows(tenant, before, after.id)}
    changes.upsert(LINES, [row for row in _line_rows(tenant, after, after.id) if known.get(row.line_id) != row])


def _line_rows(tenant: str, order: Order, order_id: str) -> list[LineRow]:
    return [
        LineRow(
            tenant,
            order_id,
            line.id,
            position,
            line.sku,
            line.units,
            line.precision,
            line.cancelled,
            str(line.unit_price),
            line.total,
        )
        for position, line in enumerate(order.lines)
    ]


def _gather_labels(changes: ChangeSet, tenant: str, before: Order | None, after: Order) -> None:
    had = set() if before is None else labels_of(tenant, before)
    has = labels_of(tenant, after)
    changes.insert(LABELS, sorted(has - had))
    changes.delete(LABELS, sorted(had - has))


def labels_of(tenant: str, order: Order) -> set[LabelRow]:
    """Return the labels an order is found by: tags, external references, scalar metadata of its top level."""
    if not (order.tags or order.external_references or order.metadata):
        return set()
    labels = {LabelRow(tenant, "tag", "", tag, order.id) for tag in order.tags}
    for system, reference in order.external_references.items():
        labels.add(LabelRow(tenant, "external", system, reference, order.id))
    for name, value in order.metadata.items():
        label = metadata_label(value)
        if label is not None and len(name) <= MAX_LABEL:
            labels.add(LabelRow(tenant, "metadata", name, label, order.id))
    return labels


MAX_LABEL = 255


def metadata_label(value: object) -> str | None:
    """Return the text by which a metadata value is found, or None where it is too long or no scalar."""
    if value is None or isinstance(value, dict | list):
        return None
    text = _encode(value).decode()
    return text if len(text) <= MAX_LABEL else None


def _personal_rows(
    unit: UnitOfWork[OrderStorage], order: Order, events: Sequence[Event], command: OrderCommand
) -> Iterable[PersonalRow]:
    """Return a row for every piece of personal data in a command, under the reference its event gave it."""
    given = command.personal()
    if not given:
        return ()
    references = dict(order.personal)
    for event in events:
        if isinstance(event, NoteAdded):
            references["note"] = event.note.reference
        elif isinstance(event, PersonalDataSet):
            references[event.slot] = event.reference
    return [
        PersonalRow(unit.tenant, references[slot], order.id, slot, _json(value), unit.now, None)
        for slot, value in given.items()
    ]


def _json(value: BaseModel) -> str:
    return value.model_dump_json(exclude_defaults=True)


def _numbered(after: Order, events: Sequence[Event]) -> Iterable[tuple[int, Event]]:
    """Return each event with the version it led to."""
    return enumerate(events, after.version - len(events) + 1)


def _messages(unit: UnitOfWork[OrderStorage], rows: Sequence[EventRow]) -> list[OutboxRow]:
    """Return the messages that tell of the events of an order."""
    headers, bucket = _headers(unit.context), bucket_of(rows[0].order_id) if rows else 0
    return [_message(row, bucket, headers, unit.now) for row in rows]


def _event_row(unit: UnitOfWork[OrderStorage], order_id: str, version: int, event: Event) -> EventRow:
    context = unit.context
    return EventRow(
        context.tenant,
        order_id,
        version,
        unit.ids.new("event"),
        event.type,
        event.schema_version,
        event.at,
        context.actor,
        context.correlation_id,
        context.causation_id,
        encode_event(event),
    )


def _message(row: EventRow, bucket: int, headers: str, now: datetime) -> OutboxRow:
    """Return the message that tells of an event: in order with the others of its order."""
    return OutboxRow(
        row.tenant,
        row.id,
        bucket,
        TOPIC,
        row.order_id,
        "order",
        row.order_id,
        row.version,
        row.type,
        row.schema_version,
        SOURCE,
        "application/json",
        row.data,
        headers,
        None,
        row.occurred_at,
        now,
    )


def _headers(context: Context) -> str:
    headers = {"tenant": context.tenant}
    if context.correlation_id is not None:
        headers["correlation_id"] = context.correlation_id
    if context.causation_id is not None:
        headers["causation_id"] = context.causation_id
    return _encode(headers).decode()
