"""One customer: everything kept about their orders exported, what is personal in them erased."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import msgspec

from orderkit.domain.codec import encode_event, encode_order
from orderkit.domain.commands import ErasePersonalData
from orderkit.domain.order import Order
from orderkit.errors import InvalidInput, InvalidKey
from orderkit.orders import reading
from orderkit.orders.erasing import live_rows
from orderkit.orders.reading import PersonalData, RecordedEvent
from orderkit.orders.scripts import OrderPolicy, OrderUnit, apply
from orderkit.orders.searching import OrderFilter, Query

BATCH = 100
"""How many orders of a customer are in memory at a time."""

Plain = dict[str, object]
"""Text, numbers, truth, nothing, and lists and mappings of them: what JSON can say."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode


@attrs.frozen
class OrderExport:
    """Everything kept about one order.

    Attributes:
        order: The order: its facts, in minor units of its currency.
        personal: Contact, addresses and notes, those that were replaced or erased since included.
        history: What happened to it, and who did it.
    """

    order: Order
    personal: tuple[PersonalData, ...]
    history: tuple[RecordedEvent, ...]

    def to_plain(self) -> Plain:
        """Return it as plain data, as it is in JSON."""
        document, metadata = encode_order(self.order)
        return {
            "order": {**_decode(document), "metadata": _decode(metadata)},
            "personal": [_personal(data) for data in self.personal],
            "history": [_recorded(event) for event in self.history],
        }

    def to_json(self) -> str:
        """Return it as JSON text on one line."""
        return _encode(self.to_plain()).decode()


@attrs.frozen
class CustomerExport:
    """Everything kept about the orders of one customer.

    Attributes:
        customer: The application's customer id.
        orders: Each of their orders, the oldest first.
    """

    customer: str
    orders: tuple[OrderExport, ...]

    def to_plain(self) -> Plain:
        """Return it as plain data, as it is in JSON."""
        return {"schema_version": 1, "customer": self.customer, "orders": [order.to_plain() for order in self.orders]}

    def to_json(self) -> str:
        """Return it as JSON text: structured, commonly used and machine-readable (GDPR, article 20)."""
        return _encode(self.to_plain()).decode()


@attrs.frozen
class Erasure:
    """What one call has erased. What was erased before is not counted again.

    Attributes:
        orders: Of how many orders.
        pieces: How many contacts, addresses and notes.
    """

    orders: int = 0
    pieces: int = 0

    def and_of_order(self, pieces: int) -> Erasure:
        """Return the same with what was erased of one more order, if anything was."""
        return Erasure(self.orders + 1, self.pieces + pieces) if pieces else self


def orders_of(customer: str) -> Query:
    """Return the query for a customer's orders, in batches.

    Raises:
        InvalidKey: No customer can have this id.
    """
    try:
        if not isinstance(customer, str):
            raise InvalidKey("A customer is named by text.")
        return Query(OrderFilter(customer=customer), "created_at", BATCH)
    except InvalidInput as error:
        raise InvalidKey(
            "The id of a customer has 1 to 255 characters on one line; nothing was read or changed."
        ) from error


def export_order(order: Order) -> Callable[[OrderUnit], OrderExport]:
    """Return the script that reads everything else that is kept about an order."""
    read_personal, read_history = reading.personal(order.id), reading.history(order.id)

    def script(unit: OrderUnit) -> OrderExport:
        # What has happened since the order was read is left out, so that the history ends with this order.
        return OrderExport(order, tuple(read_personal(unit).values()), read_history(unit)[: order.version])

    return script


def erase_order(order_id: str, command: ErasePersonalData, policy: OrderPolicy) -> Callable[[OrderUnit], int]:
    """Return the script that erases what is personal in one order, and tells how many pieces that were."""

    def script(unit: OrderUnit) -> int:
        order = unit.get(order_id)
        pieces = len(live_rows(unit, order_id))
        if pieces:
            apply(unit, order, command, policy, None)
        return pieces

    return script


def _personal(data: PersonalData) -> Plain:
    return {
        "reference": data.reference,
        "slot": data.slot,
        "value": None if data.value is None else data.value.model_dump(mode="json", exclude_none=True),
        "created_at": msgspec.to_builtins(data.created_at),
        "erased_at": msgspec.to_builtins(data.erased_at),
    }


def _recorded(record: RecordedEvent) -> Plain:
    return {
        "version": record.version,
        "id": record.id,
        "type": record.event.type,
        "actor": record.actor,
        "correlation_id": record.correlation_id,
        "causation_id": record.causation_id,
        "data": _decode(encode_event(record.event)),
    }
