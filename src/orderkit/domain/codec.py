"""Documents and events as JSON text, with the version of their shape.

A document written by an older release is upcast when it is read: plain data, one version at a time. One
written by a newer release is read as far as it can be, and never re-saved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar, get_args

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

EVENT_UPCASTERS: Final[Mapping[str, Mapping[int, Upcaster]]] = {}
"""How an event of a type and a version becomes one of the next version of the type."""


@attrs.frozen
class Shape(Generic[T]):
    """How something is read from JSON text of any version.

    Attributes:
        name: What it is, for messages.
        decoder: Reads the current version.
        version: The current version.
        upcasters: How a version becomes the next.
    """

    name: str
    decoder: msgspec.json.Decoder[T]
    version: int
    upcasters: Mapping[int, Upcaster]

    def decode(self, text: str, version: int) -> T:
        """Return what text of a version describes.

        Raises:
            NewerSchema: It was written by a newer release, in a shape this one cannot read.
            StorageFailed: The text is damaged.
        """
        try:
            return self.decoder.decode(text) if version >= self.version else self._upcast(text, version)
        except (msgspec.MsgspecError, RecursionError, UnicodeError, KeyError) as error:
            if version > self.version:
                raise NewerSchema(
                    f"The shape of {self.name} has version {version}, and this release reads up to {self.version}. "
                    "Nothing was changed. Upgrade orderkit."
                ) from error
            raise StorageFailed(f"The stored text of {self.name} is damaged; nothing was changed.") from error

    def _upcast(self, text: str, version: int) -> T:
        plain: dict[str, object] = msgspec.json.decode(text)
        for step in range(version, self.version):
            plain = self.upcasters[step](plain)
        return msgspec.convert(plain, self.decoder.type)


_encode = msgspec.json.Encoder(decimal_format="string").encode
_metadata = Shape("metadata", msgspec.json.Decoder(dict[str, object]), 1, {})
_order = Shape("the order's document", msgspec.json.Decoder(Order), ORDER_SCHEMA_VERSION, ORDER_UPCASTERS)
_events: Final[Mapping[str, Shape[Event]]] = {
    event_type.type: Shape(
        f"an event {event_type.type!r}",
        msgspec.json.Decoder(event_type),
        event_type.schema_version,
        EVENT_UPCASTERS.get(event_type.type, {}),
    )
    for event_type in get_args(Event)
}


def encode_order(order: Order) -> tuple[str, str]:
    """Return an order as a document without its metadata, and the metadata, both as JSON text."""
    if not order.metadata:
        return _encode(order).decode(), "{}"
    return _encode(attrs.evolve(order, metadata={})).decode(), _encode(order.metadata).decode()


def decode_order(document: str, metadata: str, schema_version: int) -> Order:
    """Return the order that a document and its metadata describe.

    Raises:
        NewerSchema: It was written by a newer release, in a shape this one cannot read.
        StorageFailed: The text is damaged.
    """
    order = _order.decode(document, schema_version)
    return order if metadata == "{}" else attrs.evolve(order, metadata=_metadata.decode(metadata, 1))


def encode_event(event: Event) -> str:
    """Return an event as JSON text."""
    return _encode(event).decode()


def decode_event(event_type: str, schema_version: int, data: str) -> Event:
    """Return the event of a type and version that JSON text describes.

    Raises:
        NewerSchema: It was written by a newer release, as a type or in a shape this one cannot read.
        StorageFailed: The text is damaged.
    """
    shape = _events.get(event_type)
    if shape is None:
        raise NewerSchema(f"Events {event_type!r} are not known to this release; nothing was changed. Upgrade.")
    return shape.decode(data, schema_version)
