"""The rows an order is kept in."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from orderkit.unit_of_work.changes import Table


class OrderRow(NamedTuple):
    """The aggregate as one JSON document, beside everything that is filtered or sorted by.

    Totals are minor units of the currency. `number` and `placed_at` are null for drafts.
    """

    tenant: str
    id: str
    number: str | None
    status: str
    substate: str | None
    held: bool
    customer: str | None
    currency: str
    total: int
    current_total: int
    placed_at: datetime | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    version: int
    schema_version: int
    document: str
    metadata: str


class LineRow(NamedTuple):
    """A line, for queries by SKU. Quantities are in units of ten to the power of minus `precision`."""

    tenant: str
    order_id: str
    line_id: str
    position: int
    sku: str
    units: int
    precision: int
    cancelled: int
    unit_price: str
    total: int


class EventRow(NamedTuple):
    """One event of an order's complete history. The primary key is the expected version."""

    tenant: str
    order_id: str
    version: int
    id: str
    type: str
    schema_version: int
    occurred_at: datetime
    actor: str | None
    correlation_id: str | None
    causation_id: str | None
    data: str


class PersonalRow(NamedTuple):
    """Personal data an order refers to: never part of documents, events, outbox or stored results."""

    tenant: str
    id: str
    order_id: str
    kind: str
    data: str
    created_at: datetime
    erased_at: datetime | None


class LabelRow(NamedTuple):
    """A name and value by which orders are found: a tag, an external reference, a metadata entry."""

    tenant: str
    kind: str
    name: str
    value: str
    order_id: str


ORDERS = Table("orders", OrderRow._fields, key=("tenant", "id"), unique=(("tenant", "number"),))
LINES = Table("order_lines", LineRow._fields, key=("tenant", "order_id", "line_id"))
EVENTS = Table("events", EventRow._fields, key=("tenant", "order_id", "version"))
PERSONAL = Table("personal", PersonalRow._fields, key=("tenant", "id"))
LABELS = Table("order_labels", LabelRow._fields, key=("tenant", "kind", "name", "value", "order_id"))
