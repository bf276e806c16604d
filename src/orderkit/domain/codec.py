"""Documents and events as JSON text, with the version of their shape.

A document written by an older release is upcast when it is read: plain data, one version at a time. One
written by a newer release is read as far as it can be, and never re-saved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar, get_args

import attrs
import msgspec

from orderkit.domain.events import Event
from orderkit.domain.order import Order
from orderkit.errors import NewerSchema, StorageFailed

ORDER_SCHEMA_VERSION: Final = 1

T = TypeVar("T")

Upcaster = Callable[[dict[str, object]], dict[str, object]]
"""Turn plain data of one version into plain data of the next."""

ORDER_UPCASTERS: Final[Mapping[int, Upcaster]] = {}
"""How an order document of a version becomes one of the next."""

EVENT_UPCASTERS: Final[Mapping[tuple[str, int], Upcaster]] = {}
"""How an event of a type and version becomes one of the next version of the type."""

_encode = msgspec.json.Encoder(decimal_format="string").encode
_order_decoder = msgspec.json.Decoder(Order)
_EVENT_TYPES: Final = {event_type.type: event_type for event_type in get_args(Event)}
_event_decoders = {name: msgspec.json.Decoder(event_type) for name, event_type in _EVENT_TYPES.items()}
_metadata_decoder = msgspec.json.Decoder(dict[str, object])


def encode_order(order: Order) -> tuple[str, str]:
    """Return an order as a document without its metadata, and the metadata, both as JSON text."""
    if not order.metadata:
        return _encode(order).decode(), "{}"
    return _encode(attrs.evolve(order, metadata={})).decode(), _encode(order.metadata).decode()


def decode_order(document: str, metadata: str, schema_version: int) -> Order:
    """Return the order that a document describes.

    Raises:
        NewerSchema: It was written by a newer release, in a shape this one cannot read.
        StorageFailed: The document is damaged.
    """
    order = _decode(
        _order_decoder, document, schema_version, ORDER_SCHEMA_VERSION, ORDER_UPCASTERS.__getitem__, "the order's document"
    )
    if metadata in ("{}", ""):
        return order
    return attrs.evolve(order, metadata=_metadata_decoder.decode(metadata))


def encode_event(event: Event) -> str:
    """Return an event as JSON text."""
    return _encode(event).decode()


def decode_event(event_type: str, schema_version: int, data: str) -> Event:
    """Return the event of a type and version that JSON text describes.

    Raises:
        NewerSchema: It was written by a newer release, as a type or in a shape this one cannot read.
        StorageFailed: The text is damaged.
    """
    decoder = _event_decoders.get(event_type)
    if decoder is None:
        raise NewerSchema(f"Events of type {event_type!r} are not known to this release; nothing was changed. Upgrade.")

    def upcaster(version: int) -> Upcaster:
        return EVENT_UPCASTERS[event_type, version]

    current = _EVENT_TYPES[event_type].schema_version
    return _decode(decoder, data, schema_version, current, upcaster, f"an event of type {event_type!r}")


def _decode(
    decoder: msgspec.json.Decoder[T],
    text: str,
    version: int,
    current: int,
    upcaster: Callable[[int], Upcaster],
    what: str,
) -> T:
    """Decode text of any version: directly if it is current, upcast if it is older."""
    try:
        if version >= current:
            return decoder.decode(text)
        plain = msgspec.json.decode(text)
        for step in range(version, current):
            plain = upcaster(step)(plain)
        return msgspec.convert(plain, decoder.type)
    except (msgspec.MsgspecError, RecursionError) as error:
        if version > current:
            raise NewerSchema(
                f"The shape of {what} has version {version}; this release reads up to {current}. Nothing was changed. Upgrade."
            ) from error
        raise StorageFailed(f"The stored text of {what} is damaged; nothing was changed.") from error
