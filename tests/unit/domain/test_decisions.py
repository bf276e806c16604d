"""Deciding is pure, previewing is deciding, and what is allowed is what would not be refused."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderkit.domain.commands import ConfirmOrder, HoldOrder, PlaceDraft, PlaceOrder, kind_of
from orderkit.domain.decisions import RULES, allowed, decide, preview
from orderkit.domain.evolution import replay
from orderkit.domain.order import Order
from orderkit.errors import InvalidInput, OrderKitError, Refused
from orderkit.testing.clock import ManualClock, SequentialIds
from orderkit.testing.model import Expectation, canonical, check_figures
from orderkit.testing.strategies import commands, orders, place_orders
from tests.unit.domain.stories import BRIEF, drafted, line, placed


@BRIEF
@given(orders(), st.data())
def test_a_decision_changes_nothing_and_comes_out_the_same_again(order: Order, data: st.DataObject) -> None:
    command = data.draw(commands(order))
    before, now = canonical(order), order.updated_at
    outcomes = []
    for _ in range(2):
        try:
            outcomes.append(repr(decide(order, command, now=now, ids=SequentialIds())))
        except OrderKitError as error:
            outcomes.append(repr((type(error), error.message)))
    assert outcomes[0] == outcomes[1]
    assert canonical(order) == before


@BRIEF
@given(orders(), st.data())
def test_what_is_not_allowed_is_refused_for_one_of_the_reasons_told(order: Order, data: st.DataObject) -> None:
    command = data.draw(commands(order))
    now = order.updated_at + data.draw(st.timedeltas(timedelta(0), timedelta(days=60)))
    permission = allowed(order, now=now)[kind_of(type(command))]
    assert bool(permission) is Expectation.of(order).allows(command, now)
    refused: type[OrderKitError] | None = None
    try:
        decide(order, command, now=now, ids=SequentialIds())
    except (Refused, InvalidInput) as error:
        refused = type(error)
    assert permission or refused in {type(refusal) for refusal in permission.refusals}


def later_ids() -> SequentialIds:
    """Return ids that no order of the strategies has."""
    ids = SequentialIds()
    for _ in range(1000):
        ids.new("personal")
    return ids


@BRIEF
@given(orders(), st.data())
def test_what_is_previewed_is_what_happens(order: Order, data: st.DataObject) -> None:
    command, now = data.draw(commands(order, order.updated_at)), order.updated_at
    try:
        events = decide(order, command, now=now, ids=later_ids())
    except OrderKitError as error:
        with pytest.raises(type(error)):
            preview(order, command, now=now, ids=later_ids())
        return
    seen = preview(order, command, now=now, ids=later_ids())
    assert (seen.before, seen.events) == (order, events)
    assert seen.after == replay(events, order)
    assert canonical(Expectation.of(seen.after)) == canonical(Expectation.of(order).after(command, seen.after))
    check_figures(seen.after)


@BRIEF
@given(place_orders())
def test_a_new_order_is_previewed_without_one(command: PlaceOrder) -> None:
    clock = ManualClock()
    seen = preview(None, command, now=clock.now(), ids=SequentialIds())
    assert seen.before is None
    assert seen.after.version == len(seen.events) == 1
    check_figures(seen.after)


def test_every_command_on_an_order_is_asked_about() -> None:
    permissions = placed().allowed()
    assert set(permissions) == {rule.kind for rule in RULES.values()}
    assert all(permission.kind == kind for kind, permission in permissions.items())
    assert all(permission.command in RULES for permission in permissions.values())


def test_every_reason_is_told_at_once() -> None:
    story = placed(expires_at=ManualClock().now() + timedelta(days=1))
    story.do(HoldOrder(name="payment"))
    assert [refusal.code for refusal in story.allowed()["confirm_order"].refusals] == ["order_on_hold"]
    assert [refusal.code for refusal in story.allowed()["expire_order"].refusals] == ["not_expired_yet"]
    assert [refusal.code for refusal in story.allowed()["reopen_order"].refusals] == ["illegal_transition"]


def test_time_does_not_run_backwards_for_an_order() -> None:
    story = placed(line())
    story.clock.advance(-3600)
    (event,) = story.do(ConfirmOrder())
    assert event.at == story.order.updated_at == story.order.created_at


def test_a_command_on_an_order_needs_one() -> None:
    with pytest.raises(ValueError, match="acts on an order that exists"):
        decide(None, ConfirmOrder(), now=ManualClock().now(), ids=SequentialIds())


def test_an_order_that_is_placed_asks_for_a_number_and_a_refused_one_takes_none() -> None:
    now, ids = ManualClock().now(), SequentialIds()
    asked: list[str] = []

    def number() -> str:
        asked.append(f"A{len(asked) + 1}")
        return asked[-1]

    (event,) = decide(None, PlaceOrder(lines=(line(),)), now=now, ids=ids, number=number)
    assert replay((event,)).number == "A1"
    (event,) = decide(None, PlaceOrder(lines=(line(),), number="own"), now=now, ids=ids, number=number)
    assert replay((event,)).number == "own"
    twice, empty = PlaceOrder(lines=(line(id="same"), line(id="same"))), drafted().order
    with pytest.raises(InvalidInput):
        decide(None, twice, now=now, ids=ids, number=number)
    with pytest.raises(Refused):
        decide(empty, PlaceDraft(), now=now, ids=ids, number=number)
    assert asked == ["A1"]
