"""What a search asks the storage for, and what it refuses to ask."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderkit.domain.money import Money
from orderkit.domain.status import OrderStatus
from orderkit.errors import InvalidCommand, InvalidQuery
from orderkit.orders.cursors import Position
from orderkit.orders.ports import Among, Between, HasLabel, HasLine
from orderkit.orders.searching import OrderFilter, Query, Sort

DAY = datetime(2026, 1, 1, tzinfo=UTC)


def test_an_empty_filter_asks_for_everything() -> None:
    assert OrderFilter().conditions() == ()


def test_everything_given_becomes_a_condition() -> None:
    wanted = OrderFilter(
        status=(OrderStatus.OPEN, OrderStatus.PENDING),
        substate="printing",
        held=False,
        customer="ada",
        guest=False,
        sku="tea",
        number="7",
        external_references={"erp": "1"},
        tags=("gift", "vip"),
        metadata={"channel": "web", "score": 1, "vip": True},
        placed_from=DAY,
        updated_until=DAY,
        expires_until=DAY,
        total_from=Money("1.00", "EUR"),
        total_until=Money("9.00", "EUR"),
    )
    assert set(wanted.conditions()) == {
        Among("status", ("open", "pending")),
        Among("substate", ("printing",)),
        Among("held", (False,)),
        Among("customer", ("ada",)),
        Among("number", ("7",)),
        Between("customer"),
        HasLine("tea"),
        Between("placed_at", DAY, None),
        Between("updated_at", None, DAY),
        Between("expires_at", None, DAY),
        Among("currency", ("EUR",)),
        Between("current_total", 100, 900),
        HasLabel("tag", "", "gift"),
        HasLabel("tag", "", "vip"),
        HasLabel("external", "erp", "1"),
        HasLabel("metadata", "channel", '"web"'),
        HasLabel("metadata", "score", "1"),
        HasLabel("metadata", "vip", "true"),
    }


def test_a_guest_has_no_customer() -> None:
    assert OrderFilter(guest=True).conditions() == (Among("customer", (None,)),)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"status": ("shipped",)}, "not_a_choice"),
        ({"held": "yes"}, "wrong_type"),
        ({"placed_from": "noon"}, "not_a_time"),
        ({"placed_from": DAY.replace(tzinfo=None)}, "date_without_zone"),
        ({"total_from": 1.5}, "float_money"),
        ({"metadata": {"a": 2**63}}, "invalid_metadata_value"),
        ({"metadata": {"a": 1.5}}, "invalid_metadata_value"),
        ({"metadata": {"a": None}}, "invalid_metadata_value"),
        ({"tags": ["x"] * 21}, "too_many_items"),
        ({"metadata": {str(number): 1 for number in range(21)}}, "too_many_items"),
        ({"external_references": {str(number): "1" for number in range(21)}}, "too_many_items"),
        ({"colour": "red"}, "unknown_field"),
    ],
)
def test_a_filter_of_things_that_cannot_be_is_not_valid(fields: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidCommand) as caught:
        OrderFilter.parse(fields)
    assert (caught.value.code, caught.value.subject) == (code, "OrderFilter")


@pytest.mark.parametrize(
    "wanted",
    [
        OrderFilter(total_from=Money("1.00", "EUR"), total_until=Money("9.00", "USD")),
        OrderFilter(metadata={"a": "x" * 255}),
    ],
)
def test_a_filter_that_contradicts_itself_is_no_query(wanted: OrderFilter) -> None:
    with pytest.raises(InvalidQuery):
        wanted.conditions()


@pytest.mark.parametrize("limit", [0, -1, 501, 2**70, True, 1.0, "5", None])
def test_a_page_has_a_size(limit: object) -> None:
    with pytest.raises(InvalidQuery, match="1 to 500"):
        Query(OrderFilter(), limit=cast("int", limit))


@pytest.mark.parametrize("sort", ["", "colour", "--total", "created_at; DROP TABLE", "\x00"])
def test_a_list_is_sorted_by_what_is_indexed(sort: str) -> None:
    with pytest.raises(InvalidQuery, match="cannot be sorted like that"):
        Query(OrderFilter(), cast("Sort", sort))


def test_a_cursor_is_bound_to_the_filter_and_the_sort_and_not_to_the_size_of_the_page() -> None:
    queries = [
        Query(OrderFilter()),
        Query(OrderFilter(customer="a")),
        Query(OrderFilter(customer="b")),
        Query(OrderFilter(number="a")),
        Query(OrderFilter(metadata={"a": 1})),
        Query(OrderFilter(metadata={"a": True})),
        Query(OrderFilter(metadata={"a": "1"})),
        Query(OrderFilter(total_from=Money("1.00", "EUR"))),
        Query(OrderFilter(placed_from=DAY)),
        Query(OrderFilter(), "created_at"),
    ]
    assert len({query.identity for query in queries}) == len(queries)
    assert Query(OrderFilter(), limit=10).identity == Query(OrderFilter(), limit=20).identity


@given(st.permutations([("a", "1"), ("b", "2"), ("c", "3")]), st.timedeltas(timedelta(-1), timedelta(1)))
def test_the_same_search_written_differently_is_the_same(references: list[tuple[str, str]], shift: timedelta) -> None:
    wanted = OrderFilter(external_references=dict(sorted(references)), placed_from=DAY)
    same = OrderFilter.parse({"external_references": dict(references), "placed_from": DAY.isoformat()})
    assert Query(wanted).identity == Query(same).identity
    assert shift == timedelta(0) or Query(OrderFilter(placed_from=DAY + shift)).identity != Query(wanted).identity


@pytest.mark.parametrize(("sort", "column"), [("total", "current_total"), ("-number", "number")])
def test_a_page_continues_behind_its_cursor(sort: Sort, column: str) -> None:
    position = Position.at(7, "order_1", backwards=True)
    search = Query(OrderFilter(), sort).search("acme", position, 11)
    assert (search.tenant, search.sort, search.limit, search.descending) == ("acme", column, 11, sort[0] == "-")
    assert (search.after, search.backwards) == ((7, "order_1"), True)
    assert Query(OrderFilter(), sort).search("acme", None, 11).after is None
