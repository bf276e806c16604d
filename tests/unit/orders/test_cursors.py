"""A cursor leads back to its place, and nowhere for anybody else."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderkit.errors import InvalidCursor
from orderkit.orders.cursors import Cursors, Position

CURSORS = Cursors(b"secret")
QUERY = b'[{"status":["open"]},"-created_at"]'

times = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001  # given one there
values = st.text() | st.integers(-(2**63), 2**63 - 1) | times


@given(values, st.text(min_size=1), st.booleans())
def test_a_cursor_leads_back_to_its_place(value: str | int | datetime, order_id: str, backwards: bool) -> None:
    position = Position.at(value, order_id, backwards=backwards)
    found = CURSORS.read(CURSORS.write(position, "acme", QUERY), "acme", QUERY)
    assert found == position
    assert (found.value, found.order_id, found.backwards) == (value, order_id, backwards)


@given(st.data())
def test_a_cursor_with_one_bit_changed_is_refused(data: st.DataObject) -> None:
    cursor = CURSORS.write(Position.at("2026", "order_1", backwards=False), "acme", QUERY)
    raw = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    refused(base64.urlsafe_b64encode(raw).rstrip(b"=").decode())


def refused(cursor: str, tenant: str = "acme", query: bytes = QUERY, cursors: Cursors = CURSORS) -> None:
    with pytest.raises(InvalidCursor, match="Nothing was read"):
        cursors.read(cursor, tenant, query)


@pytest.mark.parametrize("cursor", ["", "=", "a", "AAAA", "not base64!", "\u00e9", "a b", "A" * 24, "A" * 25])
def test_what_never_was_a_cursor_is_refused(cursor: str) -> None:
    refused(cursor)


def test_strange_text_is_no_cursor() -> None:
    for cursor in ("\x00", "\ud800", "x" * 1_000_000):
        refused(cursor)


def test_a_cursor_belongs_to_its_tenant_its_query_and_its_secret() -> None:
    cursor = CURSORS.write(Position.at(7, "order_1", backwards=True), "acme", QUERY)
    refused(cursor, tenant="other")
    refused(cursor, query=QUERY + b" ")
    refused(cursor, cursors=Cursors(b"another"))


def test_what_is_signed_cannot_be_moved_between_its_parts() -> None:
    cursor = CURSORS.write(Position.at(7, "order_1", backwards=True), "ab", b"c")
    refused(cursor, tenant="a", query=b"bc")


def test_a_list_is_sorted_by_what_has_an_order() -> None:
    with pytest.raises(TypeError, match="sorted by"):
        Position.at(None, "order_1", backwards=False)
