"""The states of the order axis."""

from __future__ import annotations

from enum import StrEnum


class OrderStatus(StrEnum):
    """Where an order stands in its life. Payment, fulfilment and returns are axes of their own.

    `cancelled`, `expired` and `discarded` are final.
    """

    DRAFT = "draft"
    PENDING = "pending"
    OPEN = "open"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DISCARDED = "discarded"

    @property
    def final(self) -> bool:
        """Whether nothing leads out of this state."""
        return self in _FINAL


_FINAL = frozenset({OrderStatus.CANCELLED, OrderStatus.EXPIRED, OrderStatus.DISCARDED})
