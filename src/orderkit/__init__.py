"""Take an order once, never lose it, and tell everyone who must know.

The names of this module are the public surface of the library; they are loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orderkit.domain.lines import Charge, Discount, Line, OrderLine
    from orderkit.domain.money import Money, Rounding, UnitPrice
    from orderkit.domain.numbers import GaplessNumbers, RandomNumbers
    from orderkit.domain.order import Order
    from orderkit.domain.parties import Address, Contact
    from orderkit.domain.pricing import TaxLevel, TaxRate
    from orderkit.domain.status import OrderStatus
    from orderkit.errors import OrderKitError
    from orderkit.kit.async_front import AsyncOrderKit, AsyncTransaction
    from orderkit.kit.front import OrderKit, Transaction
    from orderkit.kit.settings import Profile, Settings
    from orderkit.orders.searching import OrderFilter, Page

_HOMES = {
    "Address": "orderkit.domain.parties",
    "AsyncOrderKit": "orderkit.kit.async_front",
    "AsyncTransaction": "orderkit.kit.async_front",
    "Charge": "orderkit.domain.lines",
    "Contact": "orderkit.domain.parties",
    "Discount": "orderkit.domain.lines",
    "GaplessNumbers": "orderkit.domain.numbers",
    "Line": "orderkit.domain.lines",
    "Money": "orderkit.domain.money",
    "Order": "orderkit.domain.order",
    "OrderFilter": "orderkit.orders.searching",
    "OrderKit": "orderkit.kit.front",
    "OrderKitError": "orderkit.errors",
    "OrderLine": "orderkit.domain.lines",
    "OrderStatus": "orderkit.domain.status",
    "Page": "orderkit.orders.searching",
    "Profile": "orderkit.kit.settings",
    "RandomNumbers": "orderkit.domain.numbers",
    "Rounding": "orderkit.domain.money",
    "Settings": "orderkit.kit.settings",
    "TaxLevel": "orderkit.domain.pricing",
    "TaxRate": "orderkit.domain.pricing",
    "Transaction": "orderkit.kit.front",
    "UnitPrice": "orderkit.domain.money",
}

__all__ = [
    "Address",
    "AsyncOrderKit",
    "AsyncTransaction",
    "Charge",
    "Contact",
    "Discount",
    "GaplessNumbers",
    "Line",
    "Money",
    "Order",
    "OrderFilter",
    "OrderKit",
    "OrderKitError",
    "OrderLine",
    "OrderStatus",
    "Page",
    "Profile",
    "RandomNumbers",
    "Rounding",
    "Settings",
    "TaxLevel",
    "TaxRate",
    "Transaction",
    "UnitPrice",
]


def __getattr__(name: str) -> object:
    """Load a public name when it is first used."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'orderkit' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
