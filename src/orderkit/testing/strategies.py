"""Hypothesis strategies for everything an order is made of: valid by construction, awkward by intent.

What they make is taken by a kit without complaint, and is as strange as valid input gets: prices finer than
the currency, quantities of declared precision, taxes at every level, names of right-to-left marks and
combining characters. Hypothesis shrinks all of it to the plainest order that still shows a fault.

Example:
    ```python
    from hypothesis import given
    from orderkit import OrderKit
    from orderkit.domain.commands import PlaceOrder
    from orderkit.testing.strategies import place_orders

    @given(place_orders())
    def test_my_total(command: PlaceOrder) -> None:
        order = kit.orders.place(**command.fields())
        assert my_total(order) == order.total
    ```
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, TypeVar

from hypothesis import strategies as st
from pydantic import JsonValue

from orderkit.domain.commands import (
    AddCharge,
    AddDiscount,
    AddLine,
    AddNote,
    CancelLines,
    CancelOrder,
    ChangeLine,
    ChangeMetadata,
    ChangeTags,
    CompleteOrder,
    ConfirmOrder,
    CreateDraft,
    DiscardDraft,
    ExpireOrder,
    HoldOrder,
    LineQuantity,
    OrderCommand,
    PlaceDraft,
    PlaceOrder,
    ReleaseOrder,
    RemoveCharge,
    RemoveDiscount,
    RemoveLine,
    ReopenOrder,
    SetAddress,
    SetContact,
    SetCustomer,
    SetExternalReference,
    SetSubstate,
)
from orderkit.domain.currencies import MINOR_UNITS
from orderkit.domain.decisions import decide
from orderkit.domain.evolution import evolve, replay
from orderkit.domain.lines import Charge, Discount, Line, OrderLine
from orderkit.domain.money import Money, Rounding, UnitPrice, exponent_of
from orderkit.domain.order import Order
from orderkit.domain.parties import Address, Contact, NoteText
from orderkit.domain.pricing import TaxLevel, TaxRate
from orderkit.errors import InvalidInput, Refused
from orderkit.testing.clock import ManualClock, SequentialIds

T = TypeVar("T")

_USUAL: Final = ("EUR", "USD", "JPY", "KWD", "CLF")
"""One currency for each number of decimal places, the most usual first: what a failure shrinks to."""

_CURRENCIES: Final = (*_USUAL, *sorted(code for code, places in MINOR_UNITS.items() if places is not None))

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
)

_ONE_LINE: Final = st.characters(exclude_categories=("Cs", "Cc"))
_PRINTABLE: Final = st.characters(exclude_categories=("C", "Z"), include_characters=" ")


def currencies() -> st.SearchStrategy[str]:
    """Return a strategy for the codes of ISO 4217 that a price can be in."""
    return st.sampled_from(_CURRENCIES)


@st.composite
def money(draw: st.DrawFn, currency: str | None = None, least: int = 0, greatest: int = 10**9) -> Money:
    """Return a strategy for amounts of money.

    Args:
        draw: Given by Hypothesis.
        currency: The currency of all of them; any where absent.
        least: The least, in minor units.
        greatest: The greatest, in minor units.
    """
    return Money.from_minor(draw(st.integers(least, greatest)), currency or draw(currencies()))


@st.composite
def unit_prices(draw: st.DrawFn, currency: str | None = None) -> UnitPrice:
    """Return a strategy for prices of one, from zero to 100,000, as coarse or as fine as any may be."""
    code = currency or draw(currencies())
    places = draw(st.sampled_from((exponent_of(code), 0, exponent_of(code) + 2, 12)))
    units = draw(st.integers(0, 10**5) | st.integers(0, 10 ** (5 + places)))
    return UnitPrice(Decimal(units).scaleb(-places) if units <= 10 ** (5 + places) else units, code)


def names() -> st.SearchStrategy[str]:
    """Return a strategy for names, codes and foreign ids: one line of 1 to 255 characters."""
    plain = st.text(string.ascii_letters + string.digits + "-_.", min_size=1, max_size=12)
    return plain | st.sampled_from(_AWKWARD) | st.text(_ONE_LINE, min_size=1, max_size=20) | _long(_ONE_LINE)


def _long(alphabet: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda character: character * 255, alphabet)


def prose() -> st.SearchStrategy[str]:
    """Return a strategy for text that people write: some lines, 1 to 10,000 characters."""
    paragraphs = st.lists(names(), min_size=1, max_size=4)
    return st.builds(lambda lines, end: end.join(lines), paragraphs, st.sampled_from(("\n", "\r\n", "\n\t")))


def metadata(max_size: int = 4) -> st.SearchStrategy[dict[str, JsonValue]]:
    """Return a strategy for the application's own JSON objects, nested a few levels deep."""
    scalars: st.SearchStrategy[JsonValue] = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(-1e15, 1e15, allow_nan=False).map(lambda number: number + 0.0),
        st.text(_ONE_LINE, max_size=20),
    )
    values = st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(_ONE_LINE, max_size=8), inner, max_size=3),
        max_leaves=6,
    )
    return st.dictionaries(names(), values, max_size=max_size)


def tax_rates() -> st.SearchStrategy[TaxRate]:
    """Return a strategy for taxes of 0 to 100 %."""
    usual = st.sampled_from(("0.19", "0.07", "0", "0.05", "0.09975", "0.33333333")).map(Decimal)
    fractions = usual | st.decimals(0, 1, places=8)
    tax_names = st.sampled_from(("VAT", "GST", "PST")) | st.text(_PRINTABLE, min_size=1, max_size=12)
    return st.builds(TaxRate, tax_names, fractions)


def _taxes() -> st.SearchStrategy[tuple[TaxRate, ...]]:
    return st.lists(tax_rates(), max_size=3, unique=True).map(tuple)


def addresses() -> st.SearchStrategy[Address]:
    """Return a strategy for postal addresses."""
    return st.builds(
        Address,
        name=names(),
        lines=st.lists(names(), min_size=1, max_size=6).map(tuple),
        city=names(),
        country=st.sampled_from(("GB", "DE", "JP", "US")),
        postal_code=_optional(names()),
        region=_optional(names()),
        company=_optional(names()),
        phone=_optional(names()),
    )


def contacts() -> st.SearchStrategy[Contact]:
    """Return a strategy for what is known of how a buyer is reached."""
    emails = st.builds(
        "{}@{}.example".format, st.text(string.ascii_letters, min_size=1), st.text(string.ascii_lowercase, min_size=1)
    )
    return st.builds(Contact, email=_optional(emails), phone=_optional(names()), name=_optional(names()))


def _optional(strategy: st.SearchStrategy[T]) -> st.SearchStrategy[T | None]:
    return st.none() | strategy


@st.composite
def lines(draw: st.DrawFn, currency: str | None = None, whole: bool = False, line_id: str | None = None) -> Line:
    """Return a strategy for lines of 1 to 10,000 units.

    Args:
        draw: Given by Hypothesis.
        currency: The currency of all of them; any where absent.
        whole: Count in whole units only, as tax by unit demands.
        line_id: The id; without one, lines leave it to be minted.
    """
    precision = 0 if whole else draw(st.sampled_from((0, 0, 1, 3)))
    units = draw(st.integers(1, 10) | st.integers(1, 10_000))
    code = currency or draw(currencies())
    return Line(
        sku=draw(names()),
        quantity=Decimal(units).scaleb(-precision) if precision else units,
        unit_price=draw(unit_prices(code) | money(code, greatest=10**6)),
        id=line_id,
        description=draw(_optional(names())),
        precision=precision,
        unit=draw(_optional(st.sampled_from(("kg", "m", "h")))),
        tax_rates=draw(_taxes()),
        attributes=draw(metadata(1)),
    )


@st.composite
def charges(draw: st.DrawFn, currency: str | None = None, charge_id: str | None = None) -> Charge:
    """Return a strategy for charges such as shipping."""
    return Charge(
        amount=draw(money(currency, greatest=10**6)),
        kind=draw(st.sampled_from(("shipping", "handling", "gift_wrap", "fee", "surcharge", "other"))),
        id=charge_id,
        label=draw(_optional(names())),
        tax_rates=draw(_taxes()),
    )


@st.composite
def discounts(
    draw: st.DrawFn, currency: str | None = None, item_ids: Sequence[str] = (), discount_id: str | None = None
) -> Discount:
    """Return a strategy for discounts: of a percentage or an amount, even of more than there is to pay.

    Args:
        draw: Given by Hypothesis.
        currency: The currency of the amounts; any where absent.
        item_ids: Lines and charges that some of them apply to; the others apply to all lines.
        discount_id: The id; without one, it is left to be minted.
    """
    by_amount = draw(st.booleans())
    percent = st.sampled_from((Decimal(10), Decimal(100))) | st.decimals("0.000001", 100, places=6)
    return Discount(
        label=draw(names()),
        amount=draw(money(currency, least=1, greatest=10**7)) if by_amount else None,
        percent=None if by_amount else draw(percent),
        code=draw(_optional(names())),
        applies_to=draw(st.lists(st.sampled_from(item_ids), unique=True).map(tuple)) if item_ids else (),
        id=discount_id,
    )


@st.composite
def _contents(draw: st.DrawFn, least_lines: int, now: datetime | None) -> dict[str, object]:
    """Draw what drafts and orders have in common."""
    currency = draw(currencies())
    tax_level = draw(st.sampled_from(TaxLevel))
    line_ids = draw(_ids("line", least_lines, 4))
    charge_ids = draw(_ids("charge", 0, 2))
    discount_ids = draw(_ids("discount", 0, 2))
    targets = [item_id for item_id in (*line_ids, *charge_ids) if item_id is not None]
    whole = tax_level is TaxLevel.UNIT
    later = st.timedeltas(timedelta(seconds=1), timedelta(days=30))
    return {
        "currency": currency,
        "lines": tuple(draw(lines(currency, whole, line_id)) for line_id in line_ids),
        "charges": tuple(draw(charges(currency, charge_id)) for charge_id in charge_ids),
        "discounts": tuple(draw(discounts(currency, targets, discount_id)) for discount_id in discount_ids),
        "customer": draw(_optional(names())),
        "contact": draw(_optional(contacts())),
        "billing_address": draw(_optional(addresses())),
        "shipping_address": draw(_optional(addresses())),
        "rounding": draw(st.sampled_from(Rounding)),
        "prices_include_tax": draw(st.booleans()),
        "tax_level": tax_level,
        "expires_at": None if now is None else draw(_optional(later.map(lambda delta: now + delta))),
        "tags": draw(st.lists(names(), max_size=3).map(tuple)),
        "external_references": draw(st.dictionaries(names(), names(), max_size=2)),
        "metadata": draw(metadata()),
    }


def _ids(kind: str, least: int, most: int) -> st.SearchStrategy[list[str | None]]:
    """Return a strategy for ids of which none stands twice; None is left to be minted."""
    own = st.integers(1, 99).map(lambda number: f"{kind}-{number}")
    return st.lists(_optional(own), min_size=least, max_size=most, unique_by=lambda item_id: item_id or object())


@st.composite
def create_drafts(draw: st.DrawFn, now: datetime | None = None) -> CreateDraft:
    """Return a strategy for commands that start a draft; see `place_orders`."""
    return CreateDraft.parse(draw(_contents(0, now)))


@st.composite
def place_orders(draw: st.DrawFn, now: datetime | None = None) -> PlaceOrder:
    """Return a strategy for commands that take a new order.

    Args:
        draw: Given by Hypothesis.
        now: The time of the kit that will take it, in UTC: some orders then expire within thirty days, and some
            were placed in the years before.
    """
    earlier = st.timedeltas(timedelta(0), timedelta(days=40_000))
    return PlaceOrder.parse(
        {
            **draw(_contents(1, now)),
            "placed_at": None if now is None else draw(_optional(earlier.map(lambda delta: now - delta))),
            "confirmed": draw(st.booleans()),
        }
    )


def commands(order: Order) -> st.SearchStrategy[OrderCommand]:
    """Return a strategy for any command on an order, whether its state allows it or not.

    Mostly the commands speak of lines, charges, discounts and holds that the order has, and of quantities that
    are left; sometimes they do not, so that every refusal comes up as well.
    """
    return st.one_of(_edits(order), _steps(order), _details(order))


def _edits(order: Order) -> st.SearchStrategy[OrderCommand]:
    """Return a strategy for the edits of a draft."""
    line_ids = _known([line.id for line in order.lines])
    charge_ids = _known([charge.id for charge in order.charges])
    discount_ids = _known([discount.id for discount in order.discounts])
    targets = [item.id for items in (order.lines, order.charges) for item in items]
    line = lines(order.currency, order.rules.tax_level is TaxLevel.UNIT)
    return st.one_of(
        st.builds(AddLine, line=line),
        st.builds(ChangeLine, line_id=line_ids, line=line),
        st.builds(RemoveLine, line_id=line_ids),
        st.builds(AddCharge, charge=charges(order.currency)),
        st.builds(RemoveCharge, charge_id=charge_ids),
        st.builds(AddDiscount, discount=discounts(order.currency, targets)),
        st.builds(RemoveDiscount, discount_id=discount_ids),
        st.builds(PlaceDraft, confirmed=st.booleans()),
        st.just(DiscardDraft()),
    )


def _steps(order: Order) -> st.SearchStrategy[OrderCommand]:
    """Return a strategy for the steps of an order's life."""
    holds = st.sampled_from(("fraud-review", "payment", "stock")) | _known([hold.name for hold in order.holds])
    reason = _optional(names())
    return st.one_of(
        st.just(ConfirmOrder()),
        st.builds(HoldOrder, name=holds, reason=reason),
        st.builds(ReleaseOrder, name=holds),
        st.builds(CancelOrder, reason=reason),
        st.builds(CancelLines, lines=st.lists(_quantities(order), min_size=1, max_size=3).map(tuple), reason=reason),
        st.just(CompleteOrder()),
        st.builds(ReopenOrder, reason=reason),
        st.just(ExpireOrder()),
        st.builds(SetSubstate, substate=_optional(names())),
    )


@st.composite
def _quantities(draw: st.DrawFn, order: Order) -> LineQuantity:
    """Draw some units of a line: as a rule of those that are left of one that is there."""
    line: OrderLine | None = draw(st.sampled_from((*order.lines, None)))
    if line is None:
        return LineQuantity(line_id=draw(names()), quantity=draw(st.integers(-1, 10)))
    units = draw(st.integers(1, line.open_units or 1) | st.just(line.open_units) | st.integers(0, line.units + 1))
    return LineQuantity(line_id=line.id, quantity=Decimal(units).scaleb(-line.precision))


def _details(order: Order) -> st.SearchStrategy[OrderCommand]:
    """Return a strategy for what is known about an order besides what was ordered."""
    tags = st.lists(_known(order.tags), max_size=3).map(tuple)
    changes = st.dictionaries(_known(tuple(order.metadata)), st.none() | st.booleans(), max_size=2)
    return st.one_of(
        st.builds(SetCustomer, customer=_optional(names())),
        st.builds(SetContact, contact=contacts()),
        st.builds(SetAddress, slot=st.sampled_from(("billing_address", "shipping_address")), address=addresses()),
        st.builds(
            AddNote, note=st.builds(NoteText, text=prose()), author=st.sampled_from(("customer", "staff"))
        ),
        st.builds(ChangeTags, add=tags, remove=tags),
        st.builds(ChangeMetadata, metadata=metadata() | changes),
        st.builds(
            SetExternalReference,
            system=_known(tuple(order.external_references)),
            reference=_optional(names()),
        ),
    )


def _known(values: Sequence[str]) -> st.SearchStrategy[str]:
    """Return a strategy for values that are there, and now and then for one that is not."""
    return st.sampled_from(values) | names() if values else names()


@st.composite
def orders(draw: st.DrawFn, max_commands: int = 8) -> Order:
    """Return a strategy for orders in any state that random histories reach.

    Args:
        draw: Given by Hypothesis.
        max_commands: How many commands follow the first one at most; those that are refused do nothing.
    """
    clock, ids = ManualClock(datetime(2026, 1, 1, tzinfo=UTC)), SequentialIds()
    first: OrderCommand = draw(place_orders(clock.now()) | create_drafts(clock.now()))
    order = replay(decide(None, first, now=clock.now(), ids=ids))
    for _ in range(draw(st.integers(0, max_commands))):
        clock.advance(draw(st.sampled_from((1, 60, 86_400 * 31))))
        try:
            events = decide(order, draw(commands(order)), now=clock.now(), ids=ids)
        except (Refused, InvalidInput):
            continue
        for event in events:
            order = evolve(order, event)
    return order
