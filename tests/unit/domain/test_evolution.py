"""Orders are rebuilt from their events, and from nothing else."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderkit.domain import evolution
from orderkit.domain.commands import ConfirmOrder, PlaceOrder
from orderkit.domain.events import DraftCreated, Event, OrderConfirmed, OrderPlaced
from orderkit.domain.evolution import evolve, replay
from orderkit.errors import InvalidInput, Refused
from orderkit.testing.clock import ManualClock
from orderkit.testing.strategies import commands, place_orders
from tests.unit.domain.stories import BRIEF, Story, placed


def test_every_event_is_understood() -> None:
    assert {*evolution._CHANGES, DraftCreated, OrderPlaced} == set(get_args(Event))


@BRIEF
@given(place_orders(ManualClock().now()), st.data())
def test_each_event_makes_one_version_and_is_the_latest_change(command: PlaceOrder, data: st.DataObject) -> None:
    story = Story()
    story.do(command)
    for _ in range(data.draw(st.integers(0, 5))):
        story.clock.advance(1)
        try:
            story.do(data.draw(commands(story.order, story.clock.now())))
        except (Refused, InvalidInput):
            continue
    order = None
    for version, event in enumerate(story.events, 1):
        order = evolve(order, event)
        assert (order.version, order.updated_at) == (version, event.at)
    assert order == story.order


def test_an_order_is_continued_from_where_it_was() -> None:
    story = placed()
    before = story.order
    story.do(ConfirmOrder())
    assert replay(story.events[1:], before) == story.order
    assert replay([], before) == before


def test_a_history_begins_with_a_new_order() -> None:
    with pytest.raises(ValueError, match="begins with a new order"):
        evolve(None, OrderConfirmed(ManualClock().now()))
    with pytest.raises(ValueError, match="empty history"):
        replay([])


def test_an_earlier_state_is_not_changed_by_a_later_event() -> None:
    story = placed(metadata={"a": [1]}, tags=["x"])
    before = story.order
    told = repr(before)
    story.do(ConfirmOrder())
    assert repr(before) == told
    assert json.dumps(before.metadata) == '{"a": [1]}'
