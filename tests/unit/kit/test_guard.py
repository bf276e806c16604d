"""An order that was only read can be pinned: what was decided because of it is not written once it has moved on."""

from __future__ import annotations

import pytest

from orderkit import Line, Money, OrderKit, OrderStatus, Transaction
from orderkit.errors import VersionConflict

TEA = [Line(sku="TEA-001", quantity=1, unit_price=Money("4.50", "EUR"))]


def test_a_transaction_over_an_order_that_moved_on_is_not_written() -> None:
    kit = OrderKit.from_url("memory://")
    seen = kit.orders.place(lines=TEA)
    kit.orders.confirm(seen.id)

    def write() -> None:
        with kit.transaction() as tx:
            tx.guard(seen)
            tx.orders.place(lines=TEA, id="because-of-it")

    with pytest.raises(VersionConflict):
        write()
    assert [order.id for order in kit.orders.stream()] == [seen.id]


def test_a_function_is_run_again_over_what_moved_on_meanwhile() -> None:
    kit = OrderKit.from_url("memory://")
    pinned = kit.orders.place(lines=TEA)
    seen = []

    def work(tx: Transaction) -> None:
        order = tx.orders.get(pinned.id)
        tx.guard(order)
        seen.append(order.status)
        if len(seen) == 1:
            kit.orders.confirm(pinned.id)
        tx.orders.place(lines=TEA, metadata={"because": order.status.value})

    kit.run(work)
    assert seen == [OrderStatus.PENDING, OrderStatus.OPEN]
    placed = [order.metadata.get("because") for order in kit.orders.stream() if order.id != pinned.id]
    assert placed == ["open"]
