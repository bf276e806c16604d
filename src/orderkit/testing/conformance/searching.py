"""Checks of `search`, against a plain filter and sort of the same orders."""

# ruff: noqa: D102 - the names of checks are sentences

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderkit.orders.ports import Among, Between, Condition, Found, HasLabel, HasLine, OrderStorage, Search
from orderkit.orders.tables import LABELS, LINES, ORDERS, LabelRow, LineRow, OrderRow
from orderkit.testing.conformance.base import (
    NOON,
    StorageChecks,
    assert_record,
    commit,
    fresh_tenant,
    order_row,
)
from orderkit.testing.conformance.commits import A_FEW
from orderkit.testing.conformance.samples import line_row
from orderkit.unit_of_work.changes import ChangeSet, Value
from orderkit.unit_of_work.storage import Backend

# Texts whose order differs by code point, by UTF-16 unit, by locale and by case.
WORDS = ("", "a", "B", "b", "ä", "a\u0308", "z", "Z", "\uffee", "🫖", "a b", "%", "_", "10", "9")
MOMENTS = tuple(NOON + timedelta(microseconds=n) for n in (-86_400_000_000, -1, 0, 1, 999_877, 86_400_000_000))
AMOUNTS = (-(2**63), -(2**31) - 1, -1, 0, 1, 1200, 2**53 + 1, 2**63 - 1)

POOLS: dict[str, tuple[Any, ...]] = {
    "id": tuple(f"order_{word}" for word in WORDS),
    "number": (None, *WORDS),
    "status": WORDS[:4],
    "substate": (None, *WORDS[2:6]),
    "held": (False, True),
    "customer": (None, *WORDS[4:9]),
    "currency": ("EUR", "JPY", "KWD"),
    "total": AMOUNTS,
    "current_total": AMOUNTS[::3],
    "placed_at": (None, *MOMENTS),
    "created_at": MOMENTS,
    "updated_at": MOMENTS[:2],
    "expires_at": (None, *MOMENTS[1:4]),
    "version": (1, 2, 2**31 - 1),
    "schema_version": (1, 2),
}
"""For each column that is filtered or sorted by, the values its orders have: few, so that many are alike."""

SKUS: tuple[str, ...] = ("TEA", "tea", "TEA ", "TÉE", "")
LABELED = tuple((kind, name, value) for kind in ("tag", "ref") for name in ("a", "A") for value in ("1", "2", ""))


@attrs.frozen
class Shop:
    """Some orders of one tenant, with the lines and labels they are found by."""

    tenant: str
    orders: tuple[OrderRow, ...]
    skus: dict[str, set[str]]
    labels: dict[str, set[tuple[str, str, str]]]

    def stocked(self) -> ChangeSet:
        """Return the change set that inserts everything."""
        changes = ChangeSet()
        changes.insert(ORDERS, self.orders)
        for order in self.orders:
            changes.insert(LINES, [line_row(order, f"line_{n}", sku) for n, sku in enumerate(self.skus[order.id])])
            changes.insert(LABELS, [LabelRow(self.tenant, *label, order.id) for label in self.labels[order.id]])
        return changes

    def expected(self, search: Search) -> list[OrderRow]:
        """Return all orders that are found, in the order of the list."""
        found = [order for order in self.orders if getattr(order, search.sort) is not None]
        found = [order for order in found if all(self._holds(order, each) for each in search.conditions)]
        return sorted(found, key=lambda order: (getattr(order, search.sort), order.id), reverse=search.descending)

    def _holds(self, order: OrderRow, condition: Condition) -> bool:
        if isinstance(condition, HasLine):
            return condition.sku in self.skus[order.id]
        if isinstance(condition, HasLabel):
            return (condition.kind, condition.name, condition.value) in self.labels[order.id]
        value: Any = getattr(order, condition.column)
        if isinstance(condition, Among):
            return value in condition.values
        lower: Any = condition.lower
        upper: Any = condition.upper
        return value is not None and (lower is None or value >= lower) and (upper is None or value < upper)


@st.composite
def shops(draw: st.DrawFn, *, fewest: int = 0, most: int = 10) -> Shop:
    """Generate orders that have many values in common."""
    tenant = fresh_tenant()
    columns = st.fixed_dictionaries({column: st.sampled_from(pool) for column, pool in POOLS.items()})
    chosen = draw(st.lists(columns, min_size=fewest, max_size=most, unique_by=lambda values: values["id"]))
    numbers: set[Value] = set()
    orders: list[OrderRow] = []
    for values in chosen:
        number = None if values["number"] in numbers else values["number"]
        numbers.add(number)
        orders.append(order_row(tenant)._replace(**{**values, "number": number}, document=json.dumps(values["id"])))
    skus = {order.id: draw(st.sets(st.sampled_from(SKUS), max_size=2)) for order in orders}
    labels = {order.id: draw(st.sets(st.sampled_from(LABELED), max_size=3)) for order in orders}
    return Shop(tenant, tuple(orders), skus, labels)


def _conditions_on(column: str) -> st.SearchStrategy[Condition]:
    values = st.sampled_from(POOLS[column])
    among = st.builds(Among, st.just(column), st.lists(values, max_size=3).map(tuple))
    if column == "held":
        return among
    return among | st.builds(Between, st.just(column), values, values)


conditions: st.SearchStrategy[Condition] = st.one_of(
    st.sampled_from(sorted(POOLS)).flatmap(_conditions_on),
    st.builds(HasLine, st.sampled_from(SKUS)),
    st.sampled_from(LABELED).map(lambda label: HasLabel(*label)),
)


searches = st.builds(
    Search,
    tenant=st.just(""),
    conditions=st.lists(conditions, max_size=4).map(tuple),
    sort=st.sampled_from(sorted(POOLS)),
    descending=st.booleans(),
    limit=st.integers(1, 4),
    backwards=st.booleans(),
)


def walk(storage: OrderStorage, search: Search) -> list[Found]:
    """Page from an end of the list to the other; return everything in the order of the list."""
    found: list[Found] = []
    while page := storage.search(search):
        assert len(page) <= search.limit
        found = [*page, *found] if search.backwards else [*found, *page]
        assert len(found) == len({each.order_id for each in found}), "an order was found twice"
        edge = page[0] if search.backwards else page[-1]
        search = attrs.evolve(search, after=(edge.sort_value, edge.order_id))
    return found


def assert_found(found: Sequence[Found], expected: Sequence[OrderRow], sort: str) -> None:
    """Insist on these orders in this order, each with its record and its sort value."""
    assert [each.order_id for each in found] == [order.id for order in expected]
    for each, order in zip(found, expected, strict=True):
        assert_record(each.record, order)
        value = getattr(order, sort)
        assert (type(each.sort_value), each.sort_value) == (type(value), value)


class SearchChecks(StorageChecks):
    """A search finds what its conditions say, sorted, and page by page everything once."""

    def test_every_condition_finds_what_it_says(self, backend: Backend[OrderStorage]) -> None:
        shop = everything()
        commit(backend, shop.stocked())
        with backend.connect() as storage:
            for condition in each_condition():
                search = Search(shop.tenant, (condition,), "created_at", descending=False, limit=100)
                assert_found(storage.search(search), shop.expected(search), "created_at")

    def test_conditions_hold_together_and_page_by_page(self, backend: Backend[OrderStorage]) -> None:
        @A_FEW
        @given(shops(), searches)
        def check(shop: Shop, search: Search) -> None:
            commit(backend, shop.stocked())
            search = attrs.evolve(search, tenant=shop.tenant)
            with backend.connect() as storage:
                assert_found(walk(storage, search), shop.expected(search), search.sort)

        check()

    @pytest.mark.parametrize("descending", [False, True])
    def test_every_column_sorts_both_ways_and_pages_cover_everything_once(
        self, backend: Backend[OrderStorage], descending: bool
    ) -> None:
        shop = everything()
        commit(backend, shop.stocked())
        with backend.connect() as storage:
            for sort in POOLS:
                for backwards in (False, True):
                    search = Search(shop.tenant, (), sort, descending=descending, limit=4, backwards=backwards)
                    assert_found(walk(storage, search), shop.expected(search), sort)

    @pytest.mark.parametrize("backwards", [False, True])
    def test_a_page_starts_behind_its_mark_even_where_that_is_gone(
        self, backend: Backend[OrderStorage], backwards: bool
    ) -> None:
        shop = everything()
        commit(backend, shop.stocked())
        search = Search(shop.tenant, (), "created_at", descending=False, limit=3, backwards=backwards)
        listed = shop.expected(search)
        mark = listed[len(listed) // 2]
        commit(backend, ChangeSet(deletes={ORDERS: [(shop.tenant, mark.id)]}))
        at = listed.index(mark)
        with backend.connect() as storage:
            found = storage.search(attrs.evolve(search, after=(mark.created_at, mark.id)))
        assert_found(found, listed[at - 3 : at] if backwards else listed[at + 1 : at + 4], "created_at")

    def test_one_order_is_found_once_however_many_lines_match(
        self, backend: Backend[OrderStorage], tenant: str
    ) -> None:
        order = order_row(tenant)
        changes = ChangeSet(inserts={ORDERS: [order]})
        changes.insert(LINES, [line_row(order, f"line_{n}") for n in range(3)])
        commit(backend, changes)
        search = Search(tenant, (HasLine("TEA-001"),), "id", descending=False, limit=10)
        with backend.connect() as storage:
            assert_found(storage.search(search), [order], "id")

    def test_a_cancelled_line_is_found_and_another_orders_is_not(
        self, backend: Backend[OrderStorage], tenant: str
    ) -> None:
        order, other = order_row(tenant), order_row(tenant, "order_2")
        line: LineRow = line_row(order)._replace(units=2, cancelled=2)
        commit(backend, ChangeSet(inserts={ORDERS: [order, other], LINES: [line]}))
        with backend.connect() as storage:
            found = storage.search(Search(tenant, (HasLine(line.sku),), "id", descending=False, limit=10))
        assert_found(found, [order], "id")


def everything() -> Shop:
    """Return a shop in which every value of every pool occurs, and some of them often."""
    tenant = fresh_tenant()
    values = [{column: pool[n % len(pool)] for column, pool in POOLS.items()} for n in range(15)]
    orders = tuple(order_row(tenant)._replace(**each) for each in values)
    skus = {order.id: set(SKUS[n % 4 : n % 4 + 2]) for n, order in enumerate(orders)}
    labels = {order.id: set(LABELED[n % 13 : n % 13 + 2]) for n, order in enumerate(orders)}
    return Shop(tenant, orders, skus, labels)


def each_condition() -> Iterator[Condition]:
    """Yield every condition on one or two neighbouring values of a pool, and none."""
    for column, pool in POOLS.items():
        yield Among(column, ())
        yield Among(column, pool)
        for value, neighbour in zip(pool, [*pool[1:], pool[0]], strict=True):
            yield Among(column, (value,))
            yield Among(column, (value, neighbour))
            if column != "held":
                yield Between(column, value, neighbour)
                yield Between(column, None, value)
                yield Between(column, value, None)
    yield from map(HasLine, (*SKUS, "absent"))
    yield from (HasLabel(*label) for label in (*LABELED, ("tag", "a", "absent")))
