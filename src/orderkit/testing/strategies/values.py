"""Strategies for the values an order is made of."""

from __future__ import annotations

import string
from decimal import Decimal
from typing import Final, cast

from hypothesis import strategies as st
from pydantic import JsonValue

from orderkit.domain.currencies import MINOR_UNITS
from orderkit.domain.money import Money, UnitPrice, exponent_of
from orderkit.domain.parties import Address, Contact
from orderkit.domain.pricing import TaxRate

# Strategies are made once: making one takes longer than drawing from it.

_MINOR_UNITS: Final = sorted(code for code, places in MINOR_UNITS.items() if places is not None)

# One currency for each number of decimal places first, the most usual before all: what a failure shrinks to.
_CURRENCIES: Final = st.sampled_from(("EUR", "USD", "JPY", "KWD", "CLF", *_MINOR_UNITS))

_AWKWARD: Final = (
    "O'Brien; DROP TABLE orders --",
    'say "%s" {0} \\ :text ?',
    "e\u0301 \u00e9 \u1e9e \u0130\u0131",
    "\u202ereversed\u202c \u200b\u200d\ufeff",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea",
    "\u2028\u2029\u0085\u00a0 \u3000",
    "\ufffe\uffff\U0010ffff",
    " leading and trailing ",
    "null",
    "x" * 255,
    "\U0010ffff" * 255,
)
_ONE_LINE: Final = st.characters(exclude_categories=("Cs", "Cc"))
_NAMES: Final = st.one_of(
    st.text(string.ascii_letters + string.digits, min_size=1, max_size=6),
    st.sampled_from(_AWKWARD),
    st.text(_ONE_LINE, min_size=1, max_size=12),
)
_NAMES_OR_NONE: Final = st.none() | _NAMES
_PROSE: Final = st.builds(
    lambda texts, end: end.join(texts),
    st.lists(_NAMES, min_size=1, max_size=4),
    st.sampled_from(("\n", "\r\n", "\n\t")),
)

_SCALARS: Final[st.SearchStrategy[JsonValue]] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(_ONE_LINE, max_size=12),
)
_KEYS: Final = st.sampled_from(("", "a", "b")) | st.text(_ONE_LINE, max_size=6)
_LISTS: Final = cast("st.SearchStrategy[JsonValue]", st.lists(_SCALARS, max_size=2))
_OBJECTS: Final = cast("st.SearchStrategy[JsonValue]", st.dictionaries(_KEYS, _SCALARS | _LISTS, max_size=2))
_OBJECT_LISTS: Final = cast("st.SearchStrategy[JsonValue]", st.lists(_OBJECTS, max_size=2))
_VALUES: Final = st.one_of(_SCALARS, _LISTS, _OBJECTS, _OBJECT_LISTS)
_METADATA: Final = st.dictionaries(_NAMES, _VALUES, max_size=4)

_TAX_RATES: Final = st.builds(
    TaxRate,
    st.sampled_from(("VAT", "GST", "PST"))
    | st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=9),
    st.sampled_from(("0.19", "0.07", "0", "0.05", "0.09975", "0.33333333")) | st.decimals(0, 1, places=8),
)

_ADDRESSES: Final = st.builds(
    Address,
    name=_NAMES,
    lines=st.lists(_NAMES, min_size=1, max_size=2).map(tuple),
    city=_NAMES,
    country=st.sampled_from(("GB", "DE", "JP", "US")),
    postal_code=_NAMES_OR_NONE,
    company=_NAMES_OR_NONE,
)
_CONTACTS: Final = st.builds(
    Contact,
    email=st.sampled_from((None, "ada@example.org", "\u0444@\u043f\u0440\u0438\u043c\u0435\u0440.example")),
    phone=_NAMES_OR_NONE,
    name=_NAMES_OR_NONE,
    locale=st.sampled_from((None, "en-GB", "ar")),
)


def currencies() -> st.SearchStrategy[str]:
    """Return a strategy for the codes of ISO 4217 that a price can be in."""
    return _CURRENCIES


def names() -> st.SearchStrategy[str]:
    """Return a strategy for names, codes and foreign ids: one line of 1 to 255 characters."""
    return _NAMES


def prose() -> st.SearchStrategy[str]:
    """Return a strategy for text that people write: some lines, 1 to 10,000 characters."""
    return _PROSE


def metadata() -> st.SearchStrategy[dict[str, JsonValue]]:
    """Return a strategy for the application's own JSON objects, nested a few levels deep."""
    return _METADATA


def json_values() -> st.SearchStrategy[JsonValue]:
    """Return a strategy for what may stand under a name of the metadata."""
    return _VALUES


def tax_rates() -> st.SearchStrategy[TaxRate]:
    """Return a strategy for taxes of 0 to 100 %."""
    return _TAX_RATES


def addresses() -> st.SearchStrategy[Address]:
    """Return a strategy for postal addresses."""
    return _ADDRESSES


def contacts() -> st.SearchStrategy[Contact]:
    """Return a strategy for what is known of how a buyer is reached."""
    return _CONTACTS


@st.composite
def money(draw: st.DrawFn, currency: str | None = None, least: int = 0, greatest: int = 10**9) -> Money:
    """Return a strategy for amounts of money.

    Args:
        draw: Given by Hypothesis.
        currency: The currency of all of them; any where absent.
        least: The least, in minor units.
        greatest: The greatest, in minor units.
    """
    return Money.from_minor(draw(st.integers(least, greatest)), currency or draw(_CURRENCIES))


@st.composite
def unit_prices(draw: st.DrawFn, currency: str | None = None) -> UnitPrice:
    """Return a strategy for prices of one, from zero to 100,000, as coarse or as fine as any may be."""
    code = currency or draw(_CURRENCIES)
    places = draw(st.sampled_from((exponent_of(code), 0, exponent_of(code) + 2, 12)))
    return UnitPrice(Decimal(draw(st.integers(0, 10 ** (5 + places)))).scaleb(-places), code)
