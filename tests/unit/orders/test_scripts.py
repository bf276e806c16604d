"""What a function given to `run` may do wrong without harm, and what is looked at before what."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orderkit import Line, Order, OrderKit, Settings, Transaction
from orderkit.domain.commands import AddLine, ConfirmOrder, OrderCommand, PlaceOrder, SetCustomer
from orderkit.domain.rules import IllegalTransition
from orderkit.errors import InvalidCommand, InvalidQuery, OrderKitError
from orderkit.testing.clock import ManualClock
from tests.unit.domain.stories import line


@pytest.fixture
def kit(clock: ManualClock) -> OrderKit:
    return OrderKit.from_url("memory://", clock=clock, settings=Settings(max_lines=3))


def code_of(kit: OrderKit, order: Order, command: OrderCommand) -> str:
    with pytest.raises(OrderKitError) as caught:
        kit.orders.execute(order.id, command)
    return caught.value.code


def test_a_function_that_catches_everything_does_not_stop_its_own_restart(kit: OrderKit) -> None:
    placed: list[Order] = []

    def work(transaction: Transaction) -> None:
        placed.clear()
        for key in ("one", "two"):
            try:
                placed.append(transaction.orders.place(lines=[line()], idempotency_key=key))
            except Exception:  # noqa: BLE001  # what applications do
                continue

    kit.run(work)
    assert len(placed) == 2
    again = [kit.orders.place(lines=[line()], idempotency_key=key) for key in ("one", "two")]
    assert again == placed
    assert len(list(kit.orders.stream())) == 2


def test_the_state_of_an_order_is_looked_at_before_the_number_of_its_lines(kit: OrderKit) -> None:
    full: list[Line] = [line()] * 3
    draft = kit.orders.draft(lines=full)
    assert code_of(kit, draft, AddLine(line=line())) == "too_many_lines"
    order = kit.orders.place(lines=full)
    assert code_of(kit, order, AddLine(line=line())) == "illegal_transition"


def test_an_order_with_more_lines_than_are_allowed_since_can_still_be_changed() -> None:
    kit = OrderKit.from_url("memory://")
    draft = kit.orders.draft(lines=[line()] * 3)
    stricter = OrderKit.from_backend(kit._backend, settings=Settings(max_lines=2))
    assert stricter.orders.execute(draft.id, SetCustomer(customer="ada")).customer == "ada"
    assert code_of(stricter, draft, AddLine(line=line())) == "too_many_lines"


def test_a_preview_refuses_what_would_be_refused(kit: OrderKit) -> None:
    order = kit.orders.place(lines=[line()])
    with pytest.raises(IllegalTransition):
        kit.orders.preview(order.id, PlaceOrder(lines=(line(),)))
    with pytest.raises(InvalidQuery, match="say which"):
        kit.orders.preview(None, ConfirmOrder())
    with pytest.raises(InvalidCommand):
        kit.orders.preview(None, PlaceOrder(lines=(line(id="a"), line(id="a"))))


def test_a_clock_that_runs_behind_leaves_no_hole_in_time(kit: OrderKit, clock: ManualClock) -> None:
    clock.advance(timedelta(hours=1))
    order = kit.orders.place(lines=[line()])
    noon = clock.now()
    clock.advance(timedelta(hours=-1))
    kit.orders.confirm(order.id)
    assert kit.orders.as_of(order.id, time=noon).version == 2
    times = [record.event.at for record in kit.orders.history(order.id)]
    assert times == sorted(times)
