"""The commands of the order axis: what may be asked of an order.

Each is a frozen pydantic model with a `kind`. They are the one source of request bodies, options and
documentation. `Command` is the union of all of them, told apart by `kind`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from orderkit.domain.inputs import Input, Metadata, Name, Telling, UtcTime
from orderkit.domain.lines import Charge, Discount, Line, Quantity
from orderkit.domain.money import Rounding
from orderkit.domain.parties import Address, AddressSlot, Contact, NoteText
from orderkit.domain.pricing import PricingRules, TaxLevel

ORDER_ID: Final = r"^[A-Za-z0-9_.:-]{1,64}$"
"""What the id of an order looks like."""

OrderId = Annotated[
    str,
    StringConstraints(pattern=ORDER_ID, strict=True),
    Telling("invalid_order_id", "the id of an order has 1 to 64 letters, digits and '_.:-'"),
]
"""The id of an order: 1 to 64 letters, digits and `_.:-`."""

CurrencyCode = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Z]{3}$", strict=True),
    Telling("unknown_currency", "a currency is a code of ISO 4217 in capitals, such as 'EUR'"),
]


Tags = Annotated[tuple[Name, ...], AfterValidator(lambda tags: tuple(sorted(set(tags))))]
"""Words to find an order by, each once; their order means nothing."""


class OrderCommand(Input):
    """What every command of the order axis is. Each has a `kind` of its own; see `kind_of`."""

    def personal(self) -> Mapping[str, BaseModel]:
        """Return the personal data in the command by the slot it will be referred to from."""
        return {}


def kind_of(command: type[OrderCommand]) -> str:
    """Return the `kind` of a type of command."""
    return str(command.model_fields["kind"].default)


class _Contents(OrderCommand):
    """What an order is made of, whether drafted or placed."""

    id: OrderId | None = Field(default=None, description="Its own id; minted where absent.")
    customer: Name | None = Field(default=None, description="The application's customer id; absent for a guest.")
    contact: Contact | None = Field(default=None, description="How the buyer is reached.")
    billing_address: Address | None = Field(default=None, description="Where the invoice goes.")
    shipping_address: Address | None = Field(default=None, description="Where the goods go.")
    currency: CurrencyCode | None = Field(default=None, description="Needed only where no line has a price yet.")
    charges: tuple[Charge, ...] = Field(default=(), max_length=1000, description="Shipping, fees, …")
    discounts: tuple[Discount, ...] = Field(default=(), max_length=1000, description="Reductions, applied in order.")
    rounding: Rounding = Field(default=Rounding.HALF_EVEN, description="How fractions of a minor unit are rounded.")
    prices_include_tax: bool = Field(default=False, description="Whether tax is inside the prices.")
    tax_level: TaxLevel = Field(default=TaxLevel.LINE, description="Where tax is rounded.")
    expires_at: UtcTime | None = Field(default=None, description="When it expires unless confirmed.")
    tags: Tags = Field(default=(), max_length=100, description="Words to find it by.")
    external_references: dict[Name, Name] = Field(
        max_length=100, default_factory=dict, description="Ids in other systems, by system."
    )
    metadata: Metadata = Field(default_factory=dict, description="The application's own JSON object.")

    @property
    def rules(self) -> PricingRules:
        """How the order is priced."""
        return PricingRules(self.rounding, self.prices_include_tax, self.tax_level)

    def personal(self) -> Mapping[str, BaseModel]:
        """Return contact and addresses by slot."""
        slots = {
            "contact": self.contact,
            "billing_address": self.billing_address,
            "shipping_address": self.shipping_address,
        }
        return {slot: value for slot, value in slots.items() if value is not None}


class CreateDraft(_Contents):
    """Start an order that is still being put together."""

    kind: Literal["create_draft"] = "create_draft"
    lines: tuple[Line, ...] = Field(default=(), description="What is ordered so far.")


class PlaceOrder(_Contents):
    """Take an order: its prices and allocations are frozen from now on."""

    kind: Literal["place_order"] = "place_order"
    lines: tuple[Line, ...] = Field(description="What is ordered; at least one line.")
    number: Name | None = Field(default=None, description="Its own number; otherwise one is assigned.")
    placed_at: UtcTime | None = Field(default=None, description="When it was placed; now where absent.")
    confirmed: bool = Field(default=False, description="Open it at once rather than leave it pending.")

    @model_validator(mode="after")
    def _check_lines(self) -> PlaceOrder:
        if not self.lines:
            raise PydanticCustomError("order_empty", "an order has at least one line")
        return self


class ImportOrder(_Contents):
    """Take over an order that was taken elsewhere, with its own number, times and state.

    It is made once however often it is repeated, if it has an id or a number. Nobody is told of it, unless
    that is asked for: what happened long ago is no news.
    """

    kind: Literal["import_order"] = "import_order"
    lines: tuple[Line, ...] = Field(min_length=1, description="What was ordered; at least one line.")
    placed_at: UtcTime = Field(description="When it was placed.")
    number: Name | None = Field(default=None, description="Its own number; otherwise one is assigned.")
    status: Literal["pending", "open", "completed", "cancelled", "expired"] = Field(
        default="open", description="What has become of it."
    )
    closed_at: UtcTime | None = Field(
        default=None, description="When it was completed, cancelled or expired; when it was placed where absent."
    )
    reason: Name | None = Field(default=None, description="Why it was cancelled.")
    announce: bool = Field(default=False, description="Whether messages tell of it, as of an order that is placed.")


class PlaceDraft(OrderCommand):
    """Take a draft as an order: its prices and allocations are frozen from now on."""

    kind: Literal["place_draft"] = "place_draft"
    number: Name | None = Field(default=None, description="Its own number; otherwise one is assigned.")
    confirmed: bool = Field(default=False, description="Open it at once rather than leave it pending.")
    expires_at: UtcTime | None = Field(default=None, description="When it expires unless confirmed.")


class DiscardDraft(OrderCommand):
    """Give a draft up."""

    kind: Literal["discard_draft"] = "discard_draft"


class AddLine(OrderCommand):
    """Add a line to a draft."""

    kind: Literal["add_line"] = "add_line"
    line: Line = Field(description="The line.")


class ChangeLine(OrderCommand):
    """Put another line in the place of one of a draft; the id stays."""

    kind: Literal["change_line"] = "change_line"
    line_id: Name = Field(description="Which line.")
    line: Line = Field(description="What it is from now on.")


class RemoveLine(OrderCommand):
    """Take a line out of a draft."""

    kind: Literal["remove_line"] = "remove_line"
    line_id: Name = Field(description="Which line.")


class AddCharge(OrderCommand):
    """Add a charge to a draft."""

    kind: Literal["add_charge"] = "add_charge"
    charge: Charge = Field(description="The charge.")


class RemoveCharge(OrderCommand):
    """Take a charge out of a draft."""

    kind: Literal["remove_charge"] = "remove_charge"
    charge_id: Name = Field(description="Which charge.")


class AddDiscount(OrderCommand):
    """Add a discount to a draft, after those it has."""

    kind: Literal["add_discount"] = "add_discount"
    discount: Discount = Field(description="The discount.")


class RemoveDiscount(OrderCommand):
    """Take a discount out of a draft."""

    kind: Literal["remove_discount"] = "remove_discount"
    discount_id: Name = Field(description="Which discount.")


class ConfirmOrder(OrderCommand):
    """Open a pending order: the seller accepts it."""

    kind: Literal["confirm_order"] = "confirm_order"


class HoldOrder(OrderCommand):
    """Set a named hold: the order is not confirmed or completed while one stands."""

    kind: Literal["hold_order"] = "hold_order"
    name: Name = Field(description="What holds it.", examples=["fraud-review"])
    reason: Name | None = Field(default=None, description="Why.")


class ReleaseOrder(OrderCommand):
    """Lift a named hold."""

    kind: Literal["release_order"] = "release_order"
    name: Name = Field(description="Which hold.", examples=["fraud-review"])


class CancelOrder(OrderCommand):
    """Cancel all that is left of an order, charges included."""

    kind: Literal["cancel_order"] = "cancel_order"
    reason: Name | None = Field(default=None, description="Why.", examples=["customer"])


class LineQuantity(Input):
    """So many of a line."""

    line_id: Name = Field(description="Which line.")
    quantity: Quantity = Field(description="How many, in the precision of the line.")


class CancelLines(OrderCommand):
    """Cancel some units of some lines. When none is left, the order is cancelled."""

    kind: Literal["cancel_lines"] = "cancel_lines"
    lines: tuple[LineQuantity, ...] = Field(min_length=1, max_length=100_000, description="How many of which lines.")
    reason: Name | None = Field(default=None, description="Why.", examples=["out-of-stock"])


class CompleteOrder(OrderCommand):
    """Close an order that is done."""

    kind: Literal["complete_order"] = "complete_order"


class ReopenOrder(OrderCommand):
    """Open a completed order again, for an edit or a return."""

    kind: Literal["reopen_order"] = "reopen_order"
    reason: Name | None = Field(default=None, description="Why.")


class ExpireOrder(OrderCommand):
    """End a pending order whose time is over."""

    kind: Literal["expire_order"] = "expire_order"


class SetSubstate(OrderCommand):
    """Refine the state by one of the application's own; it is cleared when the state changes."""

    kind: Literal["set_substate"] = "set_substate"
    substate: Name | None = Field(description="The application's own state.", examples=["awaiting_print"])


class SetCustomer(OrderCommand):
    """Say whose order it is."""

    kind: Literal["set_customer"] = "set_customer"
    customer: Name | None = Field(description="The application's customer id; null for a guest.")


class SetContact(OrderCommand):
    """Say how the buyer is reached."""

    kind: Literal["set_contact"] = "set_contact"
    contact: Contact = Field(description="How the buyer is reached.")

    def personal(self) -> Mapping[str, BaseModel]:
        """Return the contact."""
        return {"contact": self.contact}


class SetAddress(OrderCommand):
    """Set an address of a draft or of an order that is not closed."""

    kind: Literal["set_address"] = "set_address"
    slot: AddressSlot = Field(description="Which address.")
    address: Address = Field(description="The address.")

    def personal(self) -> Mapping[str, BaseModel]:
        """Return the address by its slot."""
        return {self.slot: self.address}


class AddNote(OrderCommand):
    """Write something down about an order, in any state."""

    kind: Literal["add_note"] = "add_note"
    note: NoteText = Field(description="What to write down.")
    author: Literal["customer", "staff"] = Field(default="staff", description="Who says it.")

    def personal(self) -> Mapping[str, BaseModel]:
        """Return the text: free text may be personal."""
        return {"note": self.note}


class ErasePersonalData(OrderCommand):
    """Erase contact, addresses and notes, in any state. What was ordered, when and for how much stays."""

    kind: Literal["erase_personal_data"] = "erase_personal_data"
    reason: Name | None = Field(
        default=None, description="Why; it is kept, so it names nobody.", examples=["gdpr-art-17"]
    )


class ChangeTags(OrderCommand):
    """Add and remove tags, in any state."""

    kind: Literal["change_tags"] = "change_tags"
    add: tuple[Name, ...] = Field(default=(), max_length=100, description="Tags it shall have.")
    remove: tuple[Name, ...] = Field(default=(), max_length=100, description="Tags it shall not have.")


class ChangeMetadata(OrderCommand):
    """Merge into the metadata, in any state: null removes a name (RFC 7396, at the top level)."""

    kind: Literal["change_metadata"] = "change_metadata"
    metadata: Metadata = Field(description="Names to set or, by null, to remove.")


class SetExternalReference(OrderCommand):
    """Remember the order's id in another system, in any state."""

    kind: Literal["set_external_reference"] = "set_external_reference"
    system: Name = Field(description="Which system.", examples=["netsuite"])
    reference: Name | None = Field(description="The id there; null removes it.")


Command = Annotated[
    CreateDraft
    | PlaceOrder
    | ImportOrder
    | PlaceDraft
    | DiscardDraft
    | AddLine
    | ChangeLine
    | RemoveLine
    | AddCharge
    | RemoveCharge
    | AddDiscount
    | RemoveDiscount
    | ConfirmOrder
    | HoldOrder
    | ReleaseOrder
    | CancelOrder
    | CancelLines
    | CompleteOrder
    | ReopenOrder
    | ExpireOrder
    | SetSubstate
    | SetCustomer
    | SetContact
    | SetAddress
    | AddNote
    | ErasePersonalData
    | ChangeTags
    | ChangeMetadata
    | SetExternalReference,
    Field(discriminator="kind"),
]
"""Any command of the order axis."""
