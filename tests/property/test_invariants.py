"""What must always hold of orders and their money; each test is one sentence that the library promises."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orderkit import Order, OrderKit
from orderkit.domain.commands import AddNote, CancelLines, CreateDraft, LineQuantity, OrderCommand, PlaceOrder
from orderkit.domain.decisions import decide
from orderkit.domain.evolution import replay
from orderkit.domain.parties import NoteText
from orderkit.domain.rounding import allocate, share
from orderkit.errors import IdempotencyMismatch, InvalidInput, OrderKitError, Refused
from orderkit.testing.clock import ManualClock, SequentialIds
from orderkit.testing.model import canonical
from orderkit.testing.strategies import commands, create_drafts, names, orders, place_orders
from tests.effort import examples

T = TypeVar("T")

BRIEF = settings(max_examples=examples(60), deadline=None)
NOW = ManualClock().now()
NEW_ORDERS = place_orders(NOW) | create_drafts(NOW)


def new_kit() -> OrderKit:
    return OrderKit.from_url("memory://", clock=ManualClock(), ids=SequentialIds())


@BRIEF
@given(orders())
def test_the_shares_of_an_adjustment_sum_to_the_adjustment(order: Order) -> None:
    for adjustment in order.adjustments:
        assert sum(part.amount for part in adjustment.allocations) == adjustment.amount
        assert adjustment.amount <= adjustment.requested


@BRIEF
@given(orders())
def test_a_line_without_a_price_bears_no_share_of_a_discount(order: Order) -> None:
    free = {line.id for line in order.lines if not line.gross} | {item.id for item in order.charges if not item.gross}
    borne = {part.item_id for adjustment in order.adjustments for part in adjustment.allocations}
    assert not free & borne


@given(st.integers(0, 10**15), st.lists(st.integers(0, 10**12), min_size=1))
def test_a_weight_of_zero_gets_nothing(amount: int, weights: list[int]) -> None:
    shares = allocate(min(amount, sum(weights)), weights)
    assert all(part == 0 for part, weight in zip(shares, weights, strict=True) if weight == 0)
    assert all(0 <= part <= weight for part, weight in zip(shares, weights, strict=True))


@BRIEF
@given(orders())
def test_no_share_exceeds_its_line(order: Order) -> None:
    assert all(0 <= line.discount <= line.gross for line in order.lines)
    assert all(0 <= charge.discount <= charge.gross for charge in order.charges)


@BRIEF
@given(orders(), st.data())
def test_any_partition_of_the_units_of_a_line_sums_exactly_to_the_line(order: Order, data: st.DataObject) -> None:
    for line in order.lines:
        cuts = sorted(data.draw(st.sets(st.integers(0, line.units), max_size=5)) | {0, line.units})
        parts = [line.part(start, stop) for start, stop in itertools.pairwise(cuts)]
        whole = (line.gross, line.discount, line.tax, line.total)
        assert tuple(map(sum, zip(*parts, strict=True))) == whole


@given(st.integers(-(10**15), 10**15), st.integers(1, 10**6), st.data())
def test_any_partition_of_an_amount_sums_exactly_to_the_amount(amount: int, units: int, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, units), max_size=8)) | {0, units})
    assert sum(share(amount, start, stop, units) for start, stop in itertools.pairwise(cuts)) == amount


@BRIEF
@given(orders())
def test_a_total_is_lines_and_charges_less_adjustments_plus_tax_that_is_not_inside_them(order: Order) -> None:
    gross = sum(line.gross for line in order.lines) + sum(charge.gross for charge in order.charges)
    adjusted = sum(adjustment.amount for adjustment in order.adjustments)
    tax = 0 if order.rules.prices_include_tax else sum(tax.amount for tax in order.taxes)
    assert order.totals.total == gross - adjusted + tax


@BRIEF
@given(place_orders(), st.data())
def test_what_was_cancelled_of_a_line_never_exceeds_what_was_ordered(command: PlaceOrder, data: st.DataObject) -> None:
    kit = new_kit()
    order = kit.orders.create(command)
    for _ in range(3):
        line = data.draw(st.sampled_from(order.lines))
        units = data.draw(st.integers(1, line.units))
        quantity = LineQuantity(line_id=line.id, quantity=units if not line.precision else line.quantity)
        try:
            order = kit.orders.execute(order.id, CancelLines(lines=(quantity,)))
        except Refused:
            assert kit.orders.get(order.id) == order
        assert all(0 <= line.cancelled <= line.units for line in order.lines)
        assert 0 <= order.current_total.minor <= order.total.minor


@BRIEF
@given(NEW_ORDERS, st.data())
def test_replaying_the_events_gives_the_stored_snapshot(command: PlaceOrder | CreateDraft, data: st.DataObject) -> None:
    kit = new_kit()
    order = kit.orders.create(command)
    for _ in range(data.draw(st.integers(0, 4))):
        attempt(kit, order, data.draw(commands(order, NOW)))
        order = kit.orders.get(order.id)
        history = kit.orders.history(order.id)
        assert canonical(replay([record.event for record in history])) == canonical(order)


@BRIEF
@given(NEW_ORDERS, st.data())
def test_the_version_rises_by_the_number_of_events_of_a_commit_without_gaps(
    command: PlaceOrder | CreateDraft, data: st.DataObject
) -> None:
    kit = new_kit()
    order = kit.orders.create(command)
    for _ in range(data.draw(st.integers(0, 4))):
        before, asked = order, data.draw(commands(order, NOW))
        foreseen = outcome(partial(kit.orders.preview, before.id, asked))
        attempt(kit, before, asked)
        order = kit.orders.get(order.id)
        events = 0 if isinstance(foreseen, OrderKitError) else len(foreseen.events)
        assert order.version == before.version + events
    assert [record.version for record in kit.orders.history(order.id)] == list(range(1, order.version + 1))


@BRIEF
@given(NEW_ORDERS, st.data())
def test_the_same_key_and_payload_give_the_same_result_and_no_new_events(
    command: PlaceOrder | CreateDraft, data: st.DataObject
) -> None:
    kit = new_kit()
    order = kit.orders.create(command, idempotency_key="create")
    asked = data.draw(commands(order, NOW))
    first = outcome(lambda: kit.orders.execute(order.id, asked, idempotency_key="execute"))
    kit.orders.execute(order.id, AddNote(note=NoteText(text="meanwhile")))
    history = kit.orders.history(order.id)
    assert canonical(kit.orders.create(command, idempotency_key="create")) == canonical(order)
    if isinstance(first, Order):
        assert canonical(kit.orders.execute(order.id, asked, idempotency_key="execute")) == canonical(first)
        assert kit.orders.history(order.id) == history
    assert [known.id for known in kit.orders.stream()] == [order.id]


@BRIEF
@given(NEW_ORDERS, names())
def test_another_payload_under_a_used_key_is_an_error(command: PlaceOrder | CreateDraft, customer: str) -> None:
    kit = new_kit()
    order = kit.orders.create(command, idempotency_key="create")
    other = command.model_copy(update={"customer": customer})
    if other != command:
        with pytest.raises(IdempotencyMismatch):
            kit.orders.create(other, idempotency_key="create")
    assert [canonical(known) for known in kit.orders.stream()] == [canonical(order)]


@BRIEF
@given(orders(), st.data())
def test_a_refused_command_leaves_the_order_equal_to_what_it_was(order: Order, data: st.DataObject) -> None:
    before = canonical(order)
    refused = outcome(lambda: decide(order, data.draw(commands(order)), now=order.updated_at, ids=SequentialIds()))
    assert canonical(order) == before
    if isinstance(refused, Refused | InvalidInput):
        assert "unchanged" in refused.message or "nothing was" in refused.message.lower()


def attempt(kit: OrderKit, order: Order, command: OrderCommand) -> None:
    """Give a command that may be refused."""
    outcome(lambda: kit.orders.execute(order.id, command))


def outcome(work: Callable[[], T]) -> T | OrderKitError:
    """Return what the work returns, or the error that it raises on purpose."""
    try:
        return work()
    except OrderKitError as error:
        return error
