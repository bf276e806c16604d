"""Hypothesis strategies for everything an order is made of: valid by construction, awkward by intent.

What they make is taken by a kit without complaint, and is as strange as valid input gets: prices finer than
the currency, quantities of declared precision, taxes at every level, names of right-to-left marks and
combining characters. Hypothesis shrinks all of it to the plainest order that still shows a fault.

Example:
    ```python
    from hypothesis import given
    from orderkit import OrderKit
    from orderkit.domain.commands import PlaceOrder
    from orderkit.testing.strategies import place_orders

    @given(place_orders())
    def test_my_total(command: PlaceOrder) -> None:
        order = kit.orders.preview(None, command).after
        assert my_total(order) == order.total
    ```
"""

from __future__ import annotations

from orderkit.testing.strategies.orders import (
    charges,
    commands,
    create_drafts,
    discounts,
    lines,
    orders,
    place_orders,
)
from orderkit.testing.strategies.values import (
    addresses,
    contacts,
    currencies,
    json_values,
    metadata,
    money,
    names,
    prose,
    tax_rates,
    unit_prices,
)

__all__ = [
    "addresses",
    "charges",
    "commands",
    "contacts",
    "create_drafts",
    "currencies",
    "discounts",
    "json_values",
    "lines",
    "metadata",
    "money",
    "names",
    "orders",
    "place_orders",
    "prose",
    "tax_rates",
    "unit_prices",
]
