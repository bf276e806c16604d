"""`AsyncCustomers`: what is kept about one customer, for asynchronous callers."""

from __future__ import annotations

from collections.abc import AsyncIterator

from orderkit.domain.commands import ErasePersonalData
from orderkit.domain.order import Order
from orderkit.kit.runners import AsyncRunner
from orderkit.orders import customers, searching
from orderkit.orders.customers import CustomerExport, Erasure, OrderExport
from orderkit.orders.scripts import OrderPolicy


class AsyncCustomers:
    """Export and erase what is personal in a customer's orders. Made by a kit, bound to its tenant."""

    def __init__(self, runner: AsyncRunner, policy: OrderPolicy) -> None:
        self._run = runner.run
        self._policy = policy

    async def export(self, customer: str) -> CustomerExport:
        """Return everything kept about a customer's orders; without any, there is nothing in it.

        All of it is in memory at once: `export_orders` is for customers with very many orders.

        Args:
            customer: The application's customer id.

        Raises:
            InvalidKey: No customer can have this id.
        """
        return CustomerExport(customer, tuple([order async for order in self.export_orders(customer)]))

    async def export_orders(self, customer: str) -> AsyncIterator[OrderExport]:
        """Yield everything kept about each of a customer's orders, the oldest first, some in memory at a time.

        Raises:
            InvalidKey: No customer can have this id.
        """
        async for order in self._orders_of(customer):
            yield await self._run(customers.export_order(order))

    async def erase(self, customer: str, *, reason: str | None = None) -> Erasure:
        """Erase contact, addresses and notes of all of a customer's orders; what the orders are stays.

        Each order is erased by a commit of its own. Repeat a call that was interrupted: it goes on where that ended,
        and several may run at once. Orders placed meanwhile may be missed: stop taking any first, or repeat it.

        Args:
            customer: The application's customer id.
            reason: Why; it is kept with each order, so it names nobody.

        Raises:
            InvalidKey: No customer can have this id; nothing was erased.
        """
        command, erased = ErasePersonalData(reason=reason), Erasure()
        async for order in self._orders_of(customer):
            erased = erased.and_of_order(await self._run(customers.erase_order(order.id, command, self._policy)))
        return erased

    async def _orders_of(self, customer: str) -> AsyncIterator[Order]:
        query, position = customers.orders_of(customer), None
        while True:
            found, position = await self._run(searching.batch(query, position))
            for order in found:
                yield order
            if position is None:
                return
