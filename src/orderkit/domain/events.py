"""The events of the order axis: what has happened, complete enough to rebuild the order from.

Events carry results, never instructions: applying one computes nothing that could come out differently
tomorrow. They carry references to personal data, never the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Literal

import attrs

from orderkit.domain.composition import Composition
from orderkit.domain.order import Hold, Note, Order


@attrs.frozen
class LineCancellation:
    """Some units of a line that were cancelled, and what they cost in minor units."""

    line_id: str
    units: int
    amount: int


@attrs.frozen
class OrderEvent:
    """What every event of the order axis is.

    Attributes:
        type: The stable name of the event.
        schema_version: The version of its shape; older ones are upcast when they are read.
        at: When it happened, in UTC.
    """

    type: ClassVar[str]
    schema_version: ClassVar[int] = 1

    at: datetime


@attrs.frozen
class DraftCreated(OrderEvent):
    """A draft was started; `order` is the draft."""

    type = "order.draft_created"

    order: Order


@attrs.frozen
class DraftEdited(OrderEvent):
    """The lines, charges or discounts of a draft changed.

    Attributes:
        change: The kind of the command that changed it.
        item_id: The line, charge or discount it was about.
        composition: Everything the draft is made of since, priced.
    """

    type = "order.draft_edited"

    change: str
    item_id: str
    composition: Composition


@attrs.frozen
class OrderPlaced(OrderEvent):
    """An order was taken; `order` is the order as placed, with frozen prices and allocations."""

    type = "order.placed"

    order: Order


@attrs.frozen
class DraftDiscarded(OrderEvent):
    """A draft was given up."""

    type = "order.draft_discarded"


@attrs.frozen
class OrderConfirmed(OrderEvent):
    """The seller accepted the order."""

    type = "order.confirmed"


@attrs.frozen
class OrderHeld(OrderEvent):
    """A hold was set."""

    type = "order.held"

    hold: Hold


@attrs.frozen
class OrderReleased(OrderEvent):
    """A hold was lifted."""

    type = "order.released"

    name: str


@attrs.frozen
class LinesCancelled(OrderEvent):
    """Some units were cancelled; `amount` is what they cost together, in minor units."""

    type = "order.lines_cancelled"

    lines: tuple[LineCancellation, ...]
    amount: int
    reason: str | None


@attrs.frozen
class OrderCancelled(OrderEvent):
    """All that was left was cancelled; `amount` is what that cost, charges included, in minor units."""

    type = "order.cancelled"

    amount: int
    reason: str | None


@attrs.frozen
class OrderCompleted(OrderEvent):
    """The order was closed."""

    type = "order.completed"


@attrs.frozen
class OrderReopened(OrderEvent):
    """A completed order was opened again."""

    type = "order.reopened"

    reason: str | None


@attrs.frozen
class OrderExpired(OrderEvent):
    """The order was not confirmed in time."""

    type = "order.expired"


@attrs.frozen
class SubstateSet(OrderEvent):
    """The application refined the state."""

    type = "order.substate_set"

    substate: str | None


@attrs.frozen
class CustomerSet(OrderEvent):
    """The order is another customer's, or a guest's, from now on."""

    type = "order.customer_set"

    customer: str | None


@attrs.frozen
class PersonalDataSet(OrderEvent):
    """Contact or an address was set; `reference` names the row that holds it."""

    type = "order.personal_data_set"

    slot: Literal["contact", "billing_address", "shipping_address"]
    reference: str


@attrs.frozen
class NoteAdded(OrderEvent):
    """Something was written down; the note refers to the row that holds the text."""

    type = "order.note_added"

    note: Note


@attrs.frozen
class PersonalDataErased(OrderEvent):
    """Contact, addresses and notes were erased, and with them all that they had replaced.

    Attributes:
        references: What the order refers to and can no longer be read.
        reason: Why.
    """

    type = "order.personal_data_erased"

    references: tuple[str, ...]
    reason: str | None


@attrs.frozen
class TagsChanged(OrderEvent):
    """Tags were added and removed."""

    type = "order.tags_changed"

    added: tuple[str, ...]
    removed: tuple[str, ...]


@attrs.frozen
class MetadataChanged(OrderEvent):
    """Names of the metadata were set and removed."""

    type = "order.metadata_changed"

    changed: Mapping[str, object]
    removed: tuple[str, ...]


@attrs.frozen
class ExternalReferenceSet(OrderEvent):
    """The order's id in another system became known, or was forgotten."""

    type = "order.external_reference_set"

    system: str
    reference: str | None


Event = (
    DraftCreated
    | DraftEdited
    | OrderPlaced
    | DraftDiscarded
    | OrderConfirmed
    | OrderHeld
    | OrderReleased
    | LinesCancelled
    | OrderCancelled
    | OrderCompleted
    | OrderReopened
    | OrderExpired
    | SubstateSet
    | CustomerSet
    | PersonalDataSet
    | NoteAdded
    | PersonalDataErased
    | TagsChanged
    | MetadataChanged
    | ExternalReferenceSet
)
"""Any event of the order axis."""
