"""The life of a placed order: what may happen, what may not, and what each step leaves."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderkit.domain.commands import (
    CancelLines,
    CancelOrder,
    CompleteOrder,
    ConfirmOrder,
    ExpireOrder,
    HoldOrder,
    LineQuantity,
    OrderCommand,
    ReleaseOrder,
    ReopenOrder,
    SetSubstate,
)
from orderkit.domain.events import LinesCancelled, OrderCancelled, SubstateSet
from orderkit.domain.lifecycle import CancellationRefused, HoldRefused, NotExpiredYet, OrderOnHold
from orderkit.domain.rules import IllegalTransition
from orderkit.domain.status import OrderStatus
from orderkit.testing.clock import ManualClock
from tests.unit.domain.stories import BRIEF, VAT, Story, charge, discount, line, placed


def cancel(*wanted: tuple[str, int | Decimal]) -> CancelLines:
    return CancelLines(lines=tuple(LineQuantity(line_id=item, quantity=quantity) for item, quantity in wanted))


def refused(story: Story, command: OrderCommand, refusal: type[Exception]) -> Exception:
    """Give a command that is refused, and insist that the order is what it was."""
    before = story.order
    with pytest.raises(refusal, match="unchanged") as caught:
        story.do(command)
    assert story.order == before
    return caught.value


def test_an_order_is_pending_until_confirmed() -> None:
    story = placed()
    reached = [story.order.status]
    for command in (ConfirmOrder(), CompleteOrder(), ReopenOrder(reason="return")):
        story.do(command)
        reached.append(story.order.status)
    assert reached == [OrderStatus.PENDING, OrderStatus.OPEN, OrderStatus.COMPLETED, OrderStatus.OPEN]


@pytest.mark.parametrize("command", [ConfirmOrder(), CompleteOrder()])
def test_what_is_on_hold_gets_no_further(command: OrderCommand) -> None:
    story = placed(confirmed=isinstance(command, CompleteOrder))
    story.do(HoldOrder(name="fraud-review", reason="new customer"))
    story.do(HoldOrder(name="payment"))
    error = refused(story, command, OrderOnHold)
    assert isinstance(error, OrderOnHold)
    assert error.holds == ("fraud-review", "payment")
    story.do(ReleaseOrder(name="payment"))
    refused(story, command, OrderOnHold)
    story.do(ReleaseOrder(name="fraud-review"))
    assert not story.order.held
    assert story.do(command)


def test_a_hold_is_set_once_and_lifted_once() -> None:
    story = placed()
    refused(story, ReleaseOrder(name="payment"), HoldRefused)
    story.do(HoldOrder(name="payment"))
    refused(story, HoldOrder(name="payment"), HoldRefused)
    refused(story, ReleaseOrder(name="stock"), HoldRefused)
    story.do(ReleaseOrder(name="payment"))
    refused(story, ReleaseOrder(name="payment"), HoldRefused)


def test_a_hold_does_not_keep_an_order_from_being_cancelled() -> None:
    story = placed()
    story.do(HoldOrder(name="payment"))
    story.do(CancelOrder())
    assert (story.order.status, story.order.holds) == (OrderStatus.CANCELLED, ())


def test_an_order_expires_when_its_time_is_over_and_not_before() -> None:
    expires_at = ManualClock().now() + timedelta(hours=1)
    story = placed(expires_at=expires_at)
    error = refused(story, ExpireOrder(), NotExpiredYet)
    assert isinstance(error, NotExpiredYet)
    assert error.expires_at == expires_at
    assert not story.allowed()["expire_order"]
    story.clock.advance(timedelta(hours=1))
    assert story.allowed()["expire_order"]
    story.do(ExpireOrder())
    assert story.order.status is OrderStatus.EXPIRED


def test_an_order_without_a_time_to_expire_does_not() -> None:
    story = placed()
    story.clock.advance(timedelta(days=10_000))
    refused(story, ExpireOrder(), NotExpiredYet)


def test_an_order_that_was_confirmed_does_not_expire() -> None:
    story = placed(expires_at=ManualClock().now() + timedelta(hours=1))
    story.do(ConfirmOrder())
    story.clock.advance(timedelta(days=1))
    error = refused(story, ExpireOrder(), IllegalTransition)
    assert isinstance(error, IllegalTransition)
    assert (error.command, error.status, error.possible_in) == (
        "expire_order",
        OrderStatus.OPEN,
        frozenset({OrderStatus.PENDING}),
    )


def test_cancelling_takes_all_that_is_left_charges_included() -> None:
    story = placed(line(tax_rates=(VAT,)), line("rice"), charges=(charge(),), discounts=(discount(),))
    (event,) = story.do(CancelOrder(reason="customer"))
    assert isinstance(event, OrderCancelled)
    assert (event.amount, event.reason) == (story.order.total.minor, "customer")
    assert [item.open_units for item in story.order.lines] == [0, 0]
    assert not story.order.current_total
    assert story.order.cancelled_total == story.order.total


def test_a_state_of_the_applications_own_ends_with_the_state_it_refined() -> None:
    story = placed()
    (event,) = story.do(SetSubstate(substate="awaiting_print"))
    assert event == SubstateSet(story.clock.now(), "awaiting_print")
    assert story.do(SetSubstate(substate="awaiting_print")) == ()
    assert story.order.substate == "awaiting_print"
    story.do(ConfirmOrder())
    assert story.order.substate is None


@BRIEF
@given(st.data())
def test_units_are_cancelled_in_any_order_and_the_parts_sum_to_the_line(data: st.DataObject) -> None:
    units = data.draw(st.integers(2, 40))
    price = data.draw(st.sampled_from(("0.01", "3.33", "19.99")))
    story = placed(
        line(quantity=units, price=price, id="a", tax_rates=(VAT,)),
        line("rice", id="b"),
        discounts=(discount(data.draw(st.integers(1, 100))),),
    )
    amounts = 0
    while open_units := story.order.lines[0].open_units:
        taken = data.draw(st.integers(1, open_units))
        (event,) = story.do(cancel(("a", taken)))
        assert isinstance(event, LinesCancelled)
        amounts += event.amount
        assert story.order.lines[0].open_units == open_units - taken
    assert amounts == story.order.lines[0].total == story.order.cancelled_total.minor


def test_the_last_unit_takes_the_order_with_it() -> None:
    story = placed(line(id="a"), line("rice", id="b"), charges=(charge(),), confirmed=True)
    story.do(cancel(("a", 2)))
    assert story.allowed()["complete_order"]
    lines_cancelled, cancelled = story.do(cancel(("b", 1), ("b", 1)))
    assert isinstance(lines_cancelled, LinesCancelled)
    assert isinstance(cancelled, OrderCancelled)
    assert cancelled.amount == charge().amount.minor
    assert story.order.status is OrderStatus.CANCELLED
    assert not story.order.current_total


def test_decimal_units_are_cancelled_in_the_precision_of_their_line() -> None:
    story = placed(line(quantity=Decimal("1.25"), precision=2, id="a"))
    story.do(cancel(("a", Decimal("0.50"))))
    assert story.order.lines[0].open_units == 75
    refused(story, cancel(("a", Decimal("0.001"))), CancellationRefused)


@pytest.mark.parametrize(
    ("wanted", "line_id", "open_units"),
    [
        ((("a", 3),), "a", 2),
        ((("a", 1), ("a", 2)), "a", 1),
        ((("a", 0),), "a", 2),
        ((("a", -1),), "a", 2),
        ((("a", Decimal("0.5")),), "a", 2),
        ((("a", 2**31),), "a", 2),
        ((("z", 1),), "z", 0),
        ((("b", 1), ("z", 1)), "z", 0),
    ],
)
def test_only_units_that_are_left_can_be_cancelled(
    wanted: tuple[tuple[str, int | Decimal], ...], line_id: str, open_units: int
) -> None:
    story = placed(line(id="a"), line("rice", id="b"))
    error = refused(story, cancel(*wanted), CancellationRefused)
    assert isinstance(error, CancellationRefused)
    assert (error.line_id, error.open_units) == (line_id, open_units)


@pytest.mark.parametrize("last", [CancelOrder(), ExpireOrder()])
def test_nothing_leads_out_of_a_final_state(last: OrderCommand) -> None:
    story = placed(expires_at=ManualClock().now() + timedelta(hours=1))
    story.clock.advance(timedelta(hours=1))
    story.do(last)
    assert story.order.status.final
    possible = {kind for kind, permission in story.allowed().items() if permission}
    assert possible == {
        "add_note",
        "change_metadata",
        "change_tags",
        "erase_personal_data",
        "set_external_reference",
    }
