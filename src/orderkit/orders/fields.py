"""Keyword arguments of the verbs of the front door, stated once for both shells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Required, TypedDict

from orderkit.domain.lines import Charge, Discount, Line
from orderkit.domain.money import Rounding
from orderkit.domain.parties import Address, Contact
from orderkit.domain.pricing import TaxLevel


class DraftFields(TypedDict, total=False):
    """The fields of `CreateDraft`."""

    id: str | None
    customer: str | None
    contact: Contact | None
    billing_address: Address | None
    shipping_address: Address | None
    currency: str | None
    lines: Sequence[Line]
    charges: Sequence[Charge]
    discounts: Sequence[Discount]
    rounding: Rounding
    prices_include_tax: bool
    tax_level: TaxLevel
    expires_at: datetime | None
    tags: Sequence[str]
    external_references: Mapping[str, str]
    metadata: Mapping[str, object]


class PlaceFields(TypedDict, total=False):
    """The fields of `PlaceOrder`."""

    id: str | None
    customer: str | None
    contact: Contact | None
    billing_address: Address | None
    shipping_address: Address | None
    currency: str | None
    lines: Required[Sequence[Line]]
    charges: Sequence[Charge]
    discounts: Sequence[Discount]
    rounding: Rounding
    prices_include_tax: bool
    tax_level: TaxLevel
    expires_at: datetime | None
    tags: Sequence[str]
    external_references: Mapping[str, str]
    metadata: Mapping[str, object]
    number: str | None
    placed_at: datetime | None
    confirmed: bool


class ExecuteOptions(TypedDict, total=False):
    """What may be said about any command on an order.

    Attributes:
        expected_version: Refuse if the order is not at this version; otherwise a conflict is retried.
        idempotency_key: Repeating the call with the same key gives the same result, once.
    """

    expected_version: int | None
    idempotency_key: str | None
