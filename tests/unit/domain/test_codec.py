"""What is stored can be read again: today's, yesterday's, and as far as possible tomorrow's."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderkit.domain import codec
from orderkit.domain.codec import ORDER_SCHEMA_VERSION, decode_event, decode_order, encode_event, encode_order
from orderkit.domain.events import OrderHeld, OrderPlaced
from orderkit.domain.order import Hold, Order
from orderkit.errors import InvalidInput, NewerSchema, Refused, StorageFailed
from orderkit.testing.clock import ManualClock
from orderkit.testing.model import canonical
from orderkit.testing.strategies import commands, orders
from tests.unit.domain.stories import BRIEF, placed

NEWER = ORDER_SCHEMA_VERSION + 1


@BRIEF
@given(orders())
def test_an_order_is_read_as_it_was_written(order: Order) -> None:
    document, metadata = encode_order(order)
    assert decode_order(document, metadata, ORDER_SCHEMA_VERSION) == order
    assert canonical(decode_order(document, metadata, ORDER_SCHEMA_VERSION)) == canonical(order)
    assert json.loads(document)["metadata"] == {}


@BRIEF
@given(orders(4), st.data())
def test_an_event_is_read_as_it_was_written(order: Order, data: st.DataObject) -> None:
    story = placed()
    story.events[:] = [OrderPlaced(order.updated_at, order)]
    try:
        events = story.do(data.draw(commands(order, story.clock.now())))
    except (Refused, InvalidInput):
        return
    for event in events:
        assert decode_event(event.type, event.schema_version, encode_event(event)) == event


def test_amounts_are_stored_as_exact_numbers() -> None:
    document, _ = encode_order(placed().order)
    line = json.loads(document)["lines"][0]
    assert (line["unit_price"], line["total"]) == ("4.50", 900)


def test_what_a_newer_release_wrote_is_read_as_far_as_it_can_be() -> None:
    order = placed().order
    document = json.dumps({**json.loads(encode_order(order)[0]), "gift_message": "new here"})
    assert decode_order(document, "{}", NEWER) == order
    with pytest.raises(NewerSchema, match="Nothing was changed"):
        decode_order(json.dumps({"lines": "are text now"}), "{}", NEWER)
    with pytest.raises(NewerSchema, match="nothing was changed"):
        decode_event("order.teleported", 1, "{}")
    with pytest.raises(NewerSchema, match="Nothing was changed"):
        decode_event("order.held", 2, "{}")


def test_damaged_text_is_an_error_of_the_storage() -> None:
    document, _ = encode_order(placed().order)
    for text in ("", "{", "[1]", "nonsense", "[" * 100_000, "\x00", '{"id": "\ud800"}'):
        for decode in (
            lambda text: decode_order(text, "{}", ORDER_SCHEMA_VERSION),
            lambda text: decode_order(document, text, ORDER_SCHEMA_VERSION),
            lambda text: decode_event("order.held", 1, text),
        ):
            with pytest.raises(StorageFailed, match="damaged"):
                decode(text)


def test_a_document_of_the_wrong_shape_is_damaged() -> None:
    for text in ("{}", '{"id": 1}'):
        with pytest.raises(StorageFailed, match="damaged"):
            decode_order(text, "{}", ORDER_SCHEMA_VERSION)


def test_what_an_older_release_wrote_is_made_current_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def to_two(plain: dict[str, Any]) -> dict[str, Any]:
        return {"at": plain["when"], "hold": {"name": plain["name"], "at": plain["when"]}}

    def to_three(plain: dict[str, Any]) -> dict[str, Any]:
        return {**plain, "hold": {**plain["hold"], "reason": "unknown"}}

    current = attrs.evolve(codec._events["order.held"], version=3, upcasters={1: to_two, 2: to_three})
    monkeypatch.setattr(codec, "_events", {**codec._events, "order.held": current})
    at = ManualClock().now()
    assert decode_event("order.held", 1, json.dumps({"when": at.isoformat(), "name": "payment"})) == OrderHeld(
        at, Hold("payment", "unknown", at)
    )
