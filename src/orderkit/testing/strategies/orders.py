"""Strategies for orders, what they are made of, and what may be asked of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, get_args

from hypothesis import strategies as st

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
    ErasePersonalData,
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
from orderkit.domain.decisions import allowed, decide
from orderkit.domain.evolution import replay
from orderkit.domain.lines import Charge, Discount, Line, OrderLine
from orderkit.domain.money import Rounding
from orderkit.domain.order import Order
from orderkit.domain.parties import AddressSlot, NoteText
from orderkit.domain.pricing import TaxLevel
from orderkit.errors import InvalidInput, Refused
from orderkit.testing.clock import ManualClock, SequentialIds
from orderkit.testing.strategies.values import (
    addresses,
    contacts,
    currencies,
    json_values,
    metadata,
    money,
    names,
    prose,
    tax_rates,
    unit_prices,
)

_NAMES: Final = names()
_NAMES_OR_NONE: Final = st.none() | _NAMES
_TAXES: Final = st.lists(tax_rates(), max_size=3, unique=True).map(tuple)
_PERCENTAGES: Final = st.sampled_from((Decimal(10), Decimal(100))) | st.decimals("0.000001", 100, places=6)
_UNITS: Final = st.integers(1, 10) | st.integers(1, 10_000)
_ATTRIBUTES: Final = st.dictionaries(_NAMES, json_values(), max_size=1)
_TAGS: Final = st.lists(_NAMES, max_size=3).map(tuple)
_REFERENCES: Final = st.dictionaries(_NAMES, _NAMES, max_size=2)
_LATER: Final = st.none() | st.timedeltas(timedelta(seconds=1), timedelta(days=30))
_EARLIER: Final = st.none() | st.timedeltas(timedelta(0), timedelta(days=40_000))


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
    units = draw(_UNITS)
    code = currency or draw(currencies())
    return Line(
        sku=draw(_NAMES),
        quantity=Decimal(units).scaleb(-precision) if precision else units,
        unit_price=draw(st.one_of(unit_prices(code), money(code, greatest=10**6))),
        id=line_id,
        description=draw(_NAMES_OR_NONE),
        precision=precision,
        unit=draw(st.sampled_from((None, "kg", "m"))),
        tax_rates=draw(_TAXES),
        attributes=draw(_ATTRIBUTES),
    )


@st.composite
def charges(draw: st.DrawFn, currency: str | None = None, charge_id: str | None = None) -> Charge:
    """Return a strategy for charges such as shipping."""
    return Charge(
        amount=draw(money(currency, greatest=10**6)),
        kind=draw(st.sampled_from(("shipping", "handling", "gift_wrap", "fee", "surcharge", "other"))),
        id=charge_id,
        label=draw(_NAMES_OR_NONE),
        tax_rates=draw(_TAXES),
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
    return Discount(
        label=draw(_NAMES),
        amount=draw(money(currency, least=1, greatest=10**7)) if by_amount else None,
        percent=None if by_amount else draw(_PERCENTAGES),
        code=draw(_NAMES_OR_NONE),
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
    delay = draw(_LATER)
    return {
        "currency": currency,
        "lines": tuple(draw(lines(currency, whole, line_id)) for line_id in line_ids),
        "charges": tuple(draw(charges(currency, charge_id)) for charge_id in charge_ids),
        "discounts": tuple(draw(discounts(currency, targets, discount_id)) for discount_id in discount_ids),
        "customer": draw(_NAMES_OR_NONE),
        "contact": draw(st.none() | contacts()),
        "billing_address": draw(st.none() | addresses()),
        "shipping_address": draw(st.none() | addresses()),
        "rounding": draw(st.sampled_from(Rounding)),
        "prices_include_tax": draw(st.booleans()),
        "tax_level": tax_level,
        "expires_at": None if delay is None or now is None else now + delay,
        "tags": draw(_TAGS),
        "external_references": draw(_REFERENCES),
        "metadata": draw(metadata()),
    }


def _ids(kind: str, least: int, most: int) -> st.SearchStrategy[list[str | None]]:
    """Return a strategy for ids of which none stands twice; None is left to be minted."""
    own = st.none() | st.integers(1, 99).map(lambda number: f"{kind}-{number}")
    return st.lists(own, min_size=least, max_size=most, unique_by=lambda item_id: item_id or object())


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
    age = draw(_EARLIER)
    return PlaceOrder.parse(
        {
            **draw(_contents(1, now)),
            "placed_at": None if age is None or now is None else now - age,
            "confirmed": draw(st.booleans()),
        }
    )


@st.composite
def commands(draw: st.DrawFn, order: Order, now: datetime | None = None) -> OrderCommand:
    """Return a strategy for any command on an order.

    Mostly the commands speak of lines, charges, discounts and holds that the order has, and of quantities that
    are left; sometimes they do not, so that every refusal comes up as well.

    Args:
        draw: Given by Hypothesis.
        order: What is commanded.
        now: Draw only such kinds of commands as are allowed at this time, in UTC; any kind where absent.
    """
    kinds = list(_COMMANDS)
    if now is not None:
        permissions = allowed(order, now=now)
        kinds = [kind for kind in kinds if permissions[kind]]
    steps = [kind for kind in kinds if kind in _STEPS]
    kind = draw(st.sampled_from(steps) | st.sampled_from(kinds) if steps else st.sampled_from(kinds))
    return draw(_COMMANDS[kind](order))


def _known(values: Iterable[str]) -> st.SearchStrategy[str]:
    """Return a strategy for values that are there, and now and then for one that is not."""
    there = sorted(values)
    return st.sampled_from(there) | _NAMES if there else _NAMES


def _new_lines(order: Order) -> st.SearchStrategy[Line]:
    return lines(order.currency, order.rules.tax_level is TaxLevel.UNIT)


def _line_ids(order: Order) -> st.SearchStrategy[str]:
    return _known(line.id for line in order.lines)


def _new_discounts(order: Order) -> st.SearchStrategy[Discount]:
    return discounts(order.currency, [item.id for items in (order.lines, order.charges) for item in items])


def _holds(order: Order) -> st.SearchStrategy[str]:
    return st.sampled_from(("fraud-review", "payment", *(hold.name for hold in order.holds)))


@st.composite
def _quantities(draw: st.DrawFn, order: Order) -> LineQuantity:
    """Draw some units of a line: as a rule of those that are left of one that is there."""
    line: OrderLine | None = draw(st.sampled_from((*order.lines, None)))
    if line is None:
        return LineQuantity(line_id=draw(_NAMES), quantity=draw(st.integers(-1, 10)))
    units = draw(st.integers(1, line.open_units or 1) | st.just(line.open_units) | st.integers(0, line.units + 1))
    return LineQuantity(line_id=line.id, quantity=Decimal(units).scaleb(-line.precision))


def _cancellations(order: Order) -> st.SearchStrategy[CancelLines]:
    some = st.lists(_quantities(order), min_size=1, max_size=3).map(tuple)
    return st.builds(CancelLines, lines=some, reason=_NAMES_OR_NONE)


def _tag_changes(order: Order) -> st.SearchStrategy[ChangeTags]:
    some = st.lists(_known(order.tags), max_size=3).map(tuple)
    return st.builds(ChangeTags, add=some, remove=some)


def _metadata_changes(order: Order) -> st.SearchStrategy[ChangeMetadata]:
    return st.builds(ChangeMetadata, metadata=st.dictionaries(_known(order.metadata), json_values(), max_size=3))


# By the kind of the command; only the one that was chosen makes its strategy.
_COMMANDS: Final[Mapping[str, Callable[[Order], st.SearchStrategy[OrderCommand]]]] = {
    "confirm_order": lambda _: st.just(ConfirmOrder()),
    "place_draft": lambda _: st.builds(PlaceDraft, confirmed=st.booleans()),
    "cancel_lines": _cancellations,
    "complete_order": lambda _: st.just(CompleteOrder()),
    "hold_order": lambda order: st.builds(HoldOrder, name=_holds(order), reason=_NAMES_OR_NONE),
    "release_order": lambda order: st.builds(ReleaseOrder, name=_holds(order)),
    "reopen_order": lambda _: st.builds(ReopenOrder, reason=_NAMES_OR_NONE),
    "expire_order": lambda _: st.just(ExpireOrder()),
    "cancel_order": lambda _: st.builds(CancelOrder, reason=_NAMES_OR_NONE),
    "set_substate": lambda order: st.builds(SetSubstate, substate=_NAMES_OR_NONE | st.just(order.substate)),
    "add_line": lambda order: st.builds(AddLine, line=_new_lines(order)),
    "change_line": lambda order: st.builds(ChangeLine, line_id=_line_ids(order), line=_new_lines(order)),
    "remove_line": lambda order: st.builds(RemoveLine, line_id=_line_ids(order)),
    "add_charge": lambda order: st.builds(AddCharge, charge=charges(order.currency)),
    "remove_charge": lambda order: st.builds(RemoveCharge, charge_id=_known(charge.id for charge in order.charges)),
    "add_discount": lambda order: st.builds(AddDiscount, discount=_new_discounts(order)),
    "remove_discount": lambda order: st.builds(
        RemoveDiscount, discount_id=_known(discount.id for discount in order.discounts)
    ),
    "discard_draft": lambda _: st.just(DiscardDraft()),
    "set_customer": lambda order: st.builds(SetCustomer, customer=_NAMES_OR_NONE | st.just(order.customer)),
    "set_contact": lambda _: st.builds(SetContact, contact=contacts()),
    "set_address": lambda _: st.builds(SetAddress, slot=st.sampled_from(get_args(AddressSlot)), address=addresses()),
    "add_note": lambda _: st.builds(
        AddNote, note=st.builds(NoteText, text=prose()), author=st.sampled_from(("customer", "staff"))
    ),
    "erase_personal_data": lambda _: st.builds(ErasePersonalData, reason=_NAMES_OR_NONE),
    "change_tags": _tag_changes,
    "change_metadata": _metadata_changes,
    "set_external_reference": lambda order: st.builds(
        SetExternalReference, system=_known(order.external_references), reference=_NAMES_OR_NONE
    ),
}


_STEPS: Final = frozenset(
    {
        "cancel_lines",
        "complete_order",
        "confirm_order",
        "discard_draft",
        "expire_order",
        "place_draft",
        "release_order",
        "reopen_order",
    }
)
"""Kinds that lead from state to state; they are drawn more often, or histories would get nowhere."""


@st.composite
def orders(draw: st.DrawFn, max_commands: int = 8) -> Order:
    """Return a strategy for orders in any state that random histories reach.

    Args:
        draw: Given by Hypothesis.
        max_commands: How many commands follow the first one at most; those that are refused do nothing.
    """
    clock, ids = ManualClock(), SequentialIds()
    first: OrderCommand = draw(place_orders(clock.now()) | create_drafts(clock.now()))
    order = replay(decide(None, first, now=clock.now(), ids=ids))
    for _ in range(draw(st.integers(0, max_commands))):
        clock.advance(draw(st.sampled_from((1, 86_400 * 31))))
        try:
            order = replay(decide(order, draw(commands(order, clock.now())), now=clock.now(), ids=ids), order)
        except (Refused, InvalidInput):
            continue
    return order
