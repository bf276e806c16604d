"""The order every benchmark speaks of, and the very rows the kit keeps it in, for others to write."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

import attrs
import msgspec

from orderkit import Line, Money, OrderKit, RandomNumbers
from orderkit.clock import UuidV7
from orderkit.domain.order import Order
from orderkit.kit.assembly import assemble
from orderkit.messaging.outbox import OUTBOX, OutboxRow, bucket_of
from orderkit.orders.tables import EVENTS, LINES, ORDERS, EventRow, LineRow, OrderRow
from orderkit.storage.memory import MemoryBackend
from orderkit.testing.clock import ManualClock
from orderkit.unit_of_work.changes import KEYS, KeyClaim, Table, Value

TENANT = "default"
CUSTOMER = "cust-42"

RowT = TypeVar("RowT", KeyClaim, OrderRow, LineRow, EventRow, OutboxRow)


def lines() -> list[Line]:
    """Return the three lines of the order, as a checkout makes them."""
    return [
        Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR")),
        Line(sku="CUP-007", quantity=1, unit_price=Money("12.00", "EUR")),
        Line(sku="POT-003", quantity=1, unit_price=Money("39.90", "EUR")),
    ]


def place(kit: OrderKit, key: str | None) -> Order:
    """Place the order."""
    return kit.orders.place(lines=lines(), customer=CUSTOMER, idempotency_key=key)


class Placed(NamedTuple):
    """The rows of an order that has been placed, and those that confirming it replaces or adds."""

    key: KeyClaim
    order: OrderRow
    lines: list[LineRow]
    event: EventRow
    message: OutboxRow
    confirmed: OrderRow
    confirmed_event: EventRow
    confirmed_message: OutboxRow


def kept_rows() -> Placed:
    """Return the rows that the kit keeps of the order, placed first and then confirmed."""
    backend = MemoryBackend()
    kit = OrderKit(backend, assemble("memory://", {"clock": ManualClock()}))

    def rows(table: Table, make: Callable[[Sequence[Value]], RowT]) -> list[RowT]:
        return [make(row) for row in backend.rows(table, TENANT)]

    order = place(kit, "key")
    placed, kept_lines = rows(ORDERS, OrderRow._make)[0], rows(LINES, LineRow._make)
    kit.orders.confirm(order.id)
    events = sorted(rows(EVENTS, EventRow._make), key=lambda row: row.version)
    messages = sorted(rows(OUTBOX, OutboxRow._make), key=lambda row: row.aggregate_version)
    return Placed(
        rows(KEYS, KeyClaim._make)[0],
        placed,
        sorted(kept_lines, key=lambda row: row.position),
        events[0],
        messages[0],
        rows(ORDERS, OrderRow._make)[0],
        events[1],
        messages[1],
    )


class Supply:
    """Fresh keys, and fresh rows as the kit would write them now. Safe to share between threads.

    Attributes:
        taken: How many were handed out.
    """

    def __init__(self) -> None:
        self.taken = 0
        self._lock = threading.Lock()
        self._ids = UuidV7()
        self._template = kept_rows()
        self._names = _names_in(self._template)
        self._pattern = re.compile("|".join(map(re.escape, self._names)))

    def keys(self, number: int) -> list[str]:
        """Return fresh idempotency keys."""
        self._count(number)
        return [f"checkout-{uuid.uuid4().hex}" for _ in range(number)]

    def rows(self, number: int) -> list[Placed]:
        """Return the rows of fresh orders."""
        self._count(number)
        return [self._placed() for _ in range(number)]

    def _count(self, number: int) -> None:
        with self._lock:
            self.taken += number

    def _placed(self) -> Placed:
        template = self._template
        now = datetime.now(UTC)
        copy = _Copy(self._pattern, self._new_names(now), now - template.order.created_at)
        order = copy.of(template.order)
        bucket = bucket_of(order.id)
        return Placed(
            copy.of(template.key)._replace(key=f"checkout-{uuid.uuid4().hex}"),
            order,
            [copy.of(line) for line in template.lines],
            copy.of(template.event),
            copy.of(template.message)._replace(bucket=bucket),
            copy.of(template.confirmed),
            copy.of(template.confirmed_event),
            copy.of(template.confirmed_message)._replace(bucket=bucket),
        )

    def _new_names(self, now: datetime) -> dict[str, str]:
        names = {old: self._ids.new(old.partition("_")[0]) for old in self._names if "_" in old}
        names[self._template.order.number or ""] = RandomNumbers().assign("", lambda: 0)
        names[_json_time(self._template.order.created_at)] = _json_time(now)
        return names


@attrs.frozen
class _Copy:
    """Rows under other names and at another time."""

    pattern: re.Pattern[str]
    names: dict[str, str]
    later: timedelta

    def of(self, row: RowT) -> RowT:
        return type(row)._make([self._value(value) for value in row])

    def _value(self, value: Value) -> Value:
        if isinstance(value, str):
            return self.pattern.sub(lambda match: self.names[match[0]], value)
        return value + self.later if isinstance(value, datetime) else value


def _names_in(template: Placed) -> list[str]:
    """Return every id in the rows, the order's number and its time as documents write it."""
    ids = [template.order.id, template.event.id, template.confirmed_event.id, *(row.line_id for row in template.lines)]
    return [*ids, template.order.number or "", _json_time(template.order.created_at)]


def _json_time(time: datetime) -> str:
    return msgspec.json.encode(time).decode().strip('"')
