"""Idempotency keys: what is a key, and what makes two requests the same."""

from __future__ import annotations

import string
from datetime import timedelta
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderkit import Line, Money, OrderKit
from orderkit.domain.commands import OrderCommand, PlaceOrder
from orderkit.errors import IdempotencyMismatch, InvalidKey
from orderkit.idempotency.keys import FINGERPRINT_VERSION, KeyedRequest, RecentKeys, keyed_request
from orderkit.testing.clock import ManualClock
from orderkit.testing.strategies import commands, orders, place_orders
from orderkit.unit_of_work.storage import StoredKey
from tests.inputs import COMMANDS, complete
from tests.unit.domain.stories import BRIEF, line, placed

PRINTABLE = string.ascii_letters + string.digits + string.punctuation + " "


def fingerprint(command: OrderCommand) -> str:
    return keyed_request("acme", "operation", "key", command).fingerprint


def stored(request: KeyedRequest, fingerprint: str | None = None) -> StoredKey:
    return StoredKey(fingerprint or request.fingerprint, "order_1", 1, ManualClock().now(), None)


@given(st.text(PRINTABLE, min_size=1, max_size=255))
def test_printable_text_is_a_key(key: str) -> None:
    assert keyed_request("acme", "place_order", key, {}).reference == ("acme", "place_order", key)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb", "a\x00", "a\x7f", "\u00e9", "\U0001f375", 7, None, b"key"])
def test_anything_else_is_not(key: object) -> None:
    with pytest.raises(InvalidKey, match="nothing was changed"):
        keyed_request("acme", "place_order", cast("str", key), {})


def test_strange_text_is_no_key() -> None:
    for key in ("a\ud800", "x" * 1_000_000):
        with pytest.raises(InvalidKey, match="nothing was changed"):
            keyed_request("acme", "place_order", key, {})


@BRIEF
@given(place_orders())
def test_the_same_order_has_the_same_fingerprint_however_it_came(command: PlaceOrder) -> None:
    assert fingerprint(PlaceOrder.parse(command.model_dump_json())) == fingerprint(command)


@BRIEF
@given(orders(3), st.data())
def test_requests_that_differ_have_fingerprints_that_differ(order: object, data: st.DataObject) -> None:
    one, other = data.draw(commands(order)), data.draw(commands(order))  # type: ignore[arg-type]  # drawn as an order
    if type(one) is type(other):
        assert (fingerprint(one) == fingerprint(other)) is (one.model_dump_json() == other.model_dump_json())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": 1.0}),
        ({"a": 1}, {"a": True}),
        ({"a": 1}, {"a": "1"}),
        ({"a": None}, {}),
        ({"a": []}, {"a": {}}),
    ],
)
def test_values_that_look_alike_are_not_the_same(one: object, other: object) -> None:
    fingerprints = {fingerprint(PlaceOrder.parse({"lines": [line()], "metadata": value})) for value in (one, other)}
    assert len(fingerprints) == 2


def test_the_order_of_names_makes_no_difference() -> None:
    one, other = {"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"d": 2, "c": 1}, "a": 1}
    fingerprints = {fingerprint(PlaceOrder.parse({"lines": [line()], "metadata": value})) for value in (one, other)}
    assert len(fingerprints) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_field_counts(command: type[OrderCommand]) -> None:
    data = complete(command)
    whole = command.parse(data)
    for name, field in command.model_fields.items():
        if not field.is_required() and getattr(whole, name) != field.get_default():
            without = command.parse({key: value for key, value in data.items() if key != name})
            assert fingerprint(without) != fingerprint(whole), name


def test_a_field_at_its_default_makes_no_difference() -> None:
    given_explicitly = PlaceOrder(lines=(line(),), tags=(), customer=None, confirmed=False)
    assert fingerprint(given_explicitly) == fingerprint(PlaceOrder(lines=(line(),)))


def test_a_record_answers_the_request_it_was_made_for() -> None:
    request = keyed_request("acme", "place_order", "key", {"a": 1})
    request.check(stored(request))
    with pytest.raises(IdempotencyMismatch) as caught:
        keyed_request("acme", "place_order", "key", {"a": 2}).check(stored(request))
    assert caught.value.key == "key"


def test_a_record_of_another_release_answers_any_request() -> None:
    request = keyed_request("acme", "place_order", "key", {"a": 1})
    assert request.fingerprint.startswith(f"{FINGERPRINT_VERSION}:")
    request.check(stored(request, "v0:another rule"))


def test_a_claim_says_what_came_of_the_request_and_for_how_long() -> None:
    order, now = placed().order, ManualClock().now()
    request = keyed_request("acme", "place_order", "key", {}, timedelta(hours=30))
    claim = request.claim(order, now)
    assert (claim.tenant, claim.scope, claim.key) == request.reference
    assert (claim.order_id, claim.order_version, claim.fingerprint) == (order.id, 1, request.fingerprint)
    assert (claim.created_at, claim.expires_at) == (now, now + timedelta(hours=30))


def test_the_keys_used_last_are_remembered_and_no_more_than_so_many() -> None:
    recent = RecentKeys(3)
    references = [keyed_request("acme", "place_order", f"key-{number}", {}).reference for number in range(5)]
    for reference in (*references, references[-1]):
        recent.add(reference)
    assert [reference in recent for reference in references] == [False, False, True, True, True]


def test_a_key_that_was_used_lately_is_looked_up_before_anything_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = OrderKit.from_url("memory://")
    lines = [Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR"))]
    order = kit.orders.place(lines=lines, idempotency_key="k")
    monkeypatch.setattr("orderkit.orders.scripts.decide", None)
    assert kit.orders.place(lines=lines, idempotency_key="k") == order
    with pytest.raises(IdempotencyMismatch):
        kit.orders.place(lines=lines, customer="cust-42", idempotency_key="k")
    with pytest.raises(TypeError):
        kit.for_tenant("another").orders.place(lines=lines, idempotency_key="k")
