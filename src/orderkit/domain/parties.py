"""Who an order concerns: personal input, kept in rows of its own and referred to by id."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from orderkit.domain.inputs import Input, Name, Prose, Telling

Country = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Z]{2}$", strict=True),
    Telling("invalid_country", "a country is two capital letters of ISO 3166-1, such as 'GB'"),
]
"""A country as two capital letters (ISO 3166-1 alpha-2)."""

Email = Annotated[
    str,
    StringConstraints(pattern=r"^[^@\s\x00-\x1F\x7F]+@[^@\s\x00-\x1F\x7F]+$", max_length=320, strict=True),
    Telling("invalid_email", "an e-mail address has one @ and at most 320 characters, and no spaces"),
]
"""An e-mail address, roughly: what is on either side of the @ is for the mail server to judge."""

AddressSlot = Literal["billing_address", "shipping_address"]
"""The addresses an order refers to."""


class Address(Input):
    """A postal address, kept as it was on the day of the order until it is erased.

    Example:
        >>> Address(name="Ada Lovelace", lines=("12 St James's Square",), city="London", country="GB").country
        'GB'
    """

    name: Name = Field(description="Who receives it.", examples=["Ada Lovelace"], repr=False)
    lines: tuple[Name, ...] = Field(min_length=1, max_length=6, description="Street, house, floor, …", repr=False)
    city: Name = Field(description="City or town.", examples=["London"], repr=False)
    country: Country = Field(description="ISO 3166-1 alpha-2.", examples=["GB"])
    postal_code: Name | None = Field(default=None, description="Postal code.", examples=["SW1Y 4JH"], repr=False)
    region: Name | None = Field(default=None, description="State, province or county.", repr=False)
    company: Name | None = Field(default=None, description="Company.", repr=False)
    phone: Name | None = Field(default=None, description="Telephone for the carrier.", repr=False)


class Contact(Input):
    """How the buyer is reached, customer or guest."""

    email: Email | None = Field(default=None, description="E-mail address.", examples=["ada@example.org"], repr=False)
    phone: Name | None = Field(default=None, description="Telephone in international form.", repr=False)
    name: Name | None = Field(default=None, description="What to call them.", repr=False)
    locale: Name | None = Field(default=None, description="BCP 47 language tag.", examples=["en-GB"])


class NoteText(Input):
    """What somebody wrote about an order."""

    text: Prose = Field(description="The note.", repr=False)
