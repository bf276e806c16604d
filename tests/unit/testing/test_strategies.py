"""The strategies make what a kit takes, and reach what there is to reach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from orderkit import Order, OrderStatus
from orderkit.domain.commands import CreateDraft, PlaceOrder, kind_of
from orderkit.domain.currencies import MINOR_UNITS
from orderkit.domain.decisions import RULES, allowed, decide
from orderkit.domain.evolution import replay
from orderkit.domain.money import Money
from orderkit.testing import strategies
from orderkit.testing.clock import ManualClock, SequentialIds
from orderkit.testing.model import check_figures
from orderkit.testing.strategies import commands, create_drafts, currencies, names, orders, place_orders, unit_prices

T = TypeVar("T")

BRIEF = settings(max_examples=50, deadline=None)
SEEKING = settings(max_examples=3000, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
NOW = ManualClock().now()


def sought(strategy: st.SearchStrategy[T], look: Callable[[T], object], wanted: object) -> T:
    """Return what a strategy makes that looks as wanted."""
    return find(strategy, lambda value: look(value) == wanted, settings=SEEKING)


def test_every_strategy_is_listed_and_described() -> None:
    assert strategies.__all__ == sorted(strategies.__all__)
    assert all(getattr(strategies, name).__doc__ for name in strategies.__all__)


@BRIEF
@given(place_orders(NOW) | create_drafts(NOW) | place_orders())
def test_a_new_order_is_taken_as_it_is(command: PlaceOrder | CreateDraft) -> None:
    check_figures(replay(decide(None, command, now=NOW, ids=SequentialIds())))


@BRIEF
@given(orders(), st.data())
def test_commands_for_a_time_are_allowed_at_that_time(order: Order, data: st.DataObject) -> None:
    command = data.draw(commands(order, order.updated_at))
    assert allowed(order, now=order.updated_at)[kind_of(type(command))]


@given(currencies())
def test_a_currency_has_a_minor_unit(currency: str) -> None:
    assert MINOR_UNITS[currency] is not None


@pytest.mark.slow
def test_orders_come_in_every_state() -> None:
    seen: Counter[OrderStatus] = Counter()

    @settings(max_examples=250, deadline=None, database=None, phases=[Phase.generate])
    @given(orders())
    def draw(order: Order) -> None:
        seen[order.status] += 1

    draw()
    for status in set(OrderStatus) - set(seen):
        assert sought(orders(), lambda order: order.status, status).version


@pytest.mark.slow
def test_commands_come_in_every_kind() -> None:
    order = replay(decide(None, find(place_orders(), lambda _: True), now=NOW, ids=SequentialIds()))
    for kind in (rule.kind for rule in RULES.values()):
        assert sought(commands(order), lambda command: kind_of(type(command)), kind).model_dump()


def test_a_failure_shrinks_to_the_plainest_order() -> None:
    command = find(place_orders(), lambda command: len(command.lines) == 2, settings=settings(max_examples=2000))
    assert command.currency == "EUR"
    assert [(line.sku, line.units, str(line.price)) for line in command.lines] == [("0", 1, "0.00 EUR")] * 2
    assert (command.charges, command.discounts, command.tags, command.metadata) == ((), (), (), {})


def test_prices_come_finer_than_the_currency() -> None:
    assert find(unit_prices("EUR"), lambda price: price.amount % 1 * 10_000 % 100 != 0, settings=SEEKING).amount


def test_discounts_come_greater_than_what_there_is_to_pay() -> None:
    def beyond(order: Order) -> bool:
        return any(adjustment.requested > adjustment.amount for adjustment in order.adjustments)

    assert find(orders(0), beyond, settings=SEEKING).adjustments


def test_names_come_as_long_as_they_may_be_and_outside_of_any_alphabet() -> None:
    assert find(names(), lambda name: len(name.encode()) == 4 * 255, settings=SEEKING)
    assert find(names(), lambda name: "\u202e" in name, settings=SEEKING)


def test_money_is_of_the_currency_that_was_asked_for() -> None:
    assert find(strategies.money("JPY", 5, 7), lambda _: True) == Money.from_minor(5, "JPY")
