"""Putting an order together: drafts, their edits, and what is frozen when they are placed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderkit.domain.commands import (
    AddCharge,
    AddDiscount,
    AddLine,
    ChangeLine,
    CreateDraft,
    DiscardDraft,
    OrderCommand,
    PlaceDraft,
    PlaceOrder,
    RemoveCharge,
    RemoveDiscount,
    RemoveLine,
)
from orderkit.domain.drafting import OrderEmpty, UnknownItem
from orderkit.domain.events import DraftEdited
from orderkit.domain.lines import Discount, Line
from orderkit.domain.money import CurrencyMismatch, Money, MoneyOutOfRange, UnknownCurrency
from orderkit.domain.rules import IllegalTransition
from orderkit.domain.status import OrderStatus
from orderkit.errors import InvalidCommand, OrderKitError
from orderkit.testing.clock import ManualClock
from orderkit.testing.model import check_figures
from orderkit.testing.strategies import create_drafts, lines
from tests.unit.domain.stories import BRIEF, Story, charge, discount, drafted, line, placed

NOW = ManualClock().now()
DOLLARS = Line(sku="tea", quantity=1, unit_price=Money("1.00", "USD"))


def fails(story: Story, command: OrderCommand, error: type[OrderKitError], code: str) -> OrderKitError:
    before = list(story.events)
    with pytest.raises(error) as caught:
        story.do(command)
    assert caught.value.code == code
    assert story.events == before
    return caught.value


def test_a_draft_is_edited_until_it_is_placed() -> None:
    story = drafted()
    story.do(AddLine(line=line(id="a")))
    story.do(AddLine(line=line("rice")))
    story.do(AddCharge(charge=charge(id="post")))
    story.do(AddDiscount(discount=discount(50, id="half")))
    assert story.order.total == Money("12.90", "EUR")
    story.do(RemoveDiscount(discount_id="half"))
    story.do(RemoveCharge(charge_id="post"))
    story.do(RemoveLine(line_id=story.order.lines[1].id))
    story.do(ChangeLine(line_id="a", line=line("rum", 1, "10.00")))
    assert [(item.id, item.sku, item.units) for item in story.order.lines] == [("a", "rum", 1)]
    assert story.order.total == Money("10.00", "EUR")
    assert (story.order.number, story.order.placed_at) == (None, None)
    story.do(PlaceDraft(number="2026-1"))
    assert (story.order.status, story.order.number) == (OrderStatus.PENDING, "2026-1")
    assert story.order.placed_at == story.clock.now()


def test_an_edit_tells_what_it_changed() -> None:
    story = drafted()
    (event,) = story.do(AddLine(line=line()))
    assert isinstance(event, DraftEdited)
    assert (event.change, event.item_id) == ("add_line", story.order.lines[0].id)


@BRIEF
@given(create_drafts(), st.data())
def test_edits_in_any_order_come_to_the_same_as_ordering_at_once(command: CreateDraft, data: st.DataObject) -> None:
    empty = command.model_copy(update={"lines": (), "discounts": ()})
    story, at_once = Story(), Story()
    ids = [f"l{number}" for number in range(len(command.lines))]
    own = tuple(item.model_copy(update={"id": item_id}) for item, item_id in zip(command.lines, ids, strict=True))
    at_once.do(command.model_copy(update={"lines": own, "discounts": ()}))
    story.do(empty)
    for item in data.draw(st.permutations(own)):
        story.do(AddLine(line=item))
    assert story.order.total == at_once.order.total
    assert {item.id: item for item in story.order.lines} == {item.id: item for item in at_once.order.lines}


@BRIEF
@given(create_drafts(), st.data())
def test_whatever_is_edited_the_figures_add_up(command: CreateDraft, data: st.DataObject) -> None:
    story = Story()
    story.do(command)
    for added in data.draw(st.lists(lines(story.order.currency, whole=True), max_size=2)):
        story.do(AddLine(line=added))
    for line_id in [item.id for item in story.order.lines if data.draw(st.booleans())]:
        story.do(RemoveLine(line_id=line_id))
    check_figures(story.order)


def test_a_changed_line_keeps_its_id_whatever_the_new_one_says() -> None:
    story = drafted(line(id="a"), discounts=(discount(applies_to=("a",)),))
    story.do(ChangeLine(line_id="a", line=line("rum", id="b")))
    assert [item.id for item in story.order.lines] == ["a"]
    assert story.order.discounts[0].applies_to == ("a",)


def test_a_discount_goes_with_the_last_item_it_applied_to() -> None:
    both = discount(id="both", applies_to=("a", "post"))
    story = drafted(line(id="a"), charges=(charge(id="post"),), discounts=(both, discount(id="all")))
    story.do(RemoveLine(line_id="a"))
    assert [(item.id, item.applies_to) for item in story.order.discounts] == [("both", ("post",)), ("all", ())]
    story.do(RemoveCharge(charge_id="post"))
    assert [item.id for item in story.order.discounts] == ["all"]


@pytest.mark.parametrize(
    "command",
    [
        ChangeLine(line_id="z", line=line()),
        RemoveLine(line_id="z"),
        RemoveCharge(charge_id="z"),
        RemoveDiscount(discount_id="z"),
    ],
)
def test_what_is_not_there_cannot_be_changed(command: OrderCommand) -> None:
    error = fails(drafted(line()), command, UnknownItem, "unknown_item")
    assert isinstance(error, UnknownItem)
    assert error.item_id == "z"


@pytest.mark.parametrize(
    "command",
    [
        AddLine(line=DOLLARS),
        ChangeLine(line_id="a", line=DOLLARS),
        AddCharge(charge=charge().model_copy(update={"amount": Money("1.00", "USD")})),
        AddDiscount(discount=Discount(label="off", amount=Money("1.00", "USD"))),
    ],
)
def test_a_draft_has_one_currency(command: OrderCommand) -> None:
    fails(drafted(line(id="a")), command, CurrencyMismatch, "currency_mismatch")


@pytest.mark.parametrize(
    ("fields", "error", "code"),
    [
        ({"lines": [line(), DOLLARS]}, CurrencyMismatch, "currency_mismatch"),
        ({"lines": [line()], "currency": "USD"}, CurrencyMismatch, "currency_mismatch"),
        ({"lines": [line(id="a"), line(id="a")]}, InvalidCommand, "duplicate_line_id"),
        ({"lines": [line(id="a")], "charges": [charge(id="a")]}, InvalidCommand, "duplicate_line_id"),
        ({"discounts": [discount(id="d"), discount(id="d")]}, InvalidCommand, "duplicate_discount_id"),
        ({"discounts": [discount(applies_to=("z",))]}, InvalidCommand, "unknown_item"),
        ({"lines": [line(quantity=10**9, price="9999999.00")]}, MoneyOutOfRange, "money_out_of_range"),
        ({"lines": [line(quantity=10**8, price="99999.00")] * 101}, MoneyOutOfRange, "money_out_of_range"),
        ({"expires_at": NOW}, InvalidCommand, "expires_in_the_past"),
    ],
)
@pytest.mark.parametrize("kind", [CreateDraft, PlaceOrder])
def test_what_cannot_be_as_a_whole_is_not_made(
    kind: type[CreateDraft | PlaceOrder], fields: dict[str, Any], error: type[OrderKitError], code: str
) -> None:
    fails(Story(), kind(**{"lines": [line()], **fields}), error, code)


def test_a_draft_without_a_price_needs_a_currency_that_exists() -> None:
    fails(Story(), CreateDraft(), InvalidCommand, "currency_missing")
    fails(Story(), CreateDraft(currency="ABC"), UnknownCurrency, "unknown_currency")


@pytest.mark.parametrize(
    ("placed_at", "fits"),
    [
        (datetime(1899, 12, 31, tzinfo=UTC), False),
        (datetime(1900, 1, 1, tzinfo=UTC), True),
        (NOW + timedelta(days=1), True),
        (NOW + timedelta(days=1, seconds=1), False),
        (datetime(9999, 12, 31, tzinfo=UTC), False),
    ],
)
def test_an_order_was_placed_at_a_time_an_order_can_have_been(placed_at: datetime, fits: bool) -> None:
    command = PlaceOrder(lines=(line(),), placed_at=placed_at)
    if fits:
        story = Story()
        story.do(command)
        assert story.order.placed_at == placed_at
    else:
        fails(Story(), command, InvalidCommand, "placed_at_out_of_range")


def test_a_draft_is_not_placed_when_its_time_is_over() -> None:
    story = drafted(line(), expires_at=NOW + timedelta(hours=1))
    story.clock.advance(timedelta(hours=2))
    fails(story, PlaceDraft(), InvalidCommand, "expires_in_the_past")
    later = story.clock.now() + timedelta(hours=1)
    story.do(PlaceDraft(expires_at=later))
    assert story.order.expires_at == later


def test_an_edit_that_would_break_the_whole_is_refused() -> None:
    story = drafted(line(id="a"), charges=(charge(id="post"),), discounts=(discount(id="d"),))
    fails(story, AddLine(line=line(id="a")), InvalidCommand, "duplicate_line_id")
    fails(story, AddCharge(charge=charge(id="a")), InvalidCommand, "duplicate_line_id")
    fails(story, AddDiscount(discount=discount(id="d")), InvalidCommand, "duplicate_discount_id")
    fails(story, AddDiscount(discount=discount(applies_to=("z",))), InvalidCommand, "unknown_item")
    fails(story, AddLine(line=line(quantity=10**9, price="9999999.00")), MoneyOutOfRange, "money_out_of_range")


def test_an_empty_draft_is_not_placed() -> None:
    story = drafted()
    assert not story.allowed()["place_draft"]
    fails(story, PlaceDraft(), OrderEmpty, "order_empty")


def test_a_draft_can_be_given_up() -> None:
    story = drafted(line())
    story.do(DiscardDraft())
    assert story.order.status is OrderStatus.DISCARDED
    fails(story, PlaceDraft(), IllegalTransition, "illegal_transition")


def test_the_lines_of_a_placed_order_are_frozen() -> None:
    story = placed(line(id="a"))
    for command in (AddLine(line=line()), RemoveLine(line_id="a"), ChangeLine(line_id="a", line=line())):
        fails(story, command, IllegalTransition, "illegal_transition")


@pytest.mark.parametrize("confirmed", [False, True])
def test_placing_a_draft_and_placing_at_once_come_to_the_same(confirmed: bool) -> None:
    at_once = placed(line(id="a"), number="1", confirmed=confirmed, tags=["b", "a", "b"], customer="ada").order
    story = drafted(line(id="a"), tags=["b", "a", "b"], customer="ada")
    story.do(PlaceDraft(number="1", confirmed=confirmed))
    assert story.order.version == 2
    assert attrs.evolve(story.order, version=1) == at_once
    assert at_once.status is (OrderStatus.OPEN if confirmed else OrderStatus.PENDING)
    assert at_once.tags == ("a", "b")


def test_a_second_order_is_not_made_of_an_order() -> None:
    story = placed()
    fails(story, PlaceOrder(lines=(line(),)), IllegalTransition, "illegal_transition")
