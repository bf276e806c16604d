"""What operations call in these tests, what they are, and what is kept of them, read without orderkit."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from orderkit import IdempotentOperation, OperationRun
from orderkit.idempotency.leases import OPERATIONS
from tests.integration.kit.places import TEA, Place, Record

LEASE = 60.0
"""Seconds for which an operation is held, where nothing else is said."""


class Provider:
    """Somebody else, who does what is asked once for each key, and answers every repetition alike.

    Attributes:
        arrivals: How often each key has arrived.
        effects: What was done, by its key.
        fails: Is called with the key of a call before it has an effect.
        breaks: Is called with the key of a call after it had its effect, and before it is answered.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.arrivals: Counter[str] = Counter()
        self.effects: dict[str, int] = {}
        self.fails: Callable[[str], object] = lambda key: None
        self.breaks: Callable[[str], object] = lambda key: None

    def do(self, key: str) -> dict[str, Any]:
        with self._lock:
            self.arrivals[key] += 1
        self.fails(key)
        with self._lock:
            number = self.effects.setdefault(key, len(self.effects) + 1)
        self.breaks(key)
        return {"number": number, "key": key}


def place_tea(tx: Any) -> str:
    """Place an order, and return its id."""
    order_id: str = tx.orders.place(lines=TEA).id
    return order_id


def shopping(provider: Provider, **options: Any) -> IdempotentOperation[Any]:
    """Return an operation that reserves, takes an order, charges, and confirms the order with its end."""

    def shop(run: OperationRun) -> Any:
        reserved: Any = run.call("reserve", provider.do)
        order: Any = run.commit("order", place_tea)
        charged: Any = run.call("charge", provider.do)

        def confirm(tx: Any) -> Any:
            confirmed = tx.orders.confirm(order)
            return {"order": confirmed.id, "reserved": reserved["number"], "charged": charged["number"]}

        return run.complete(confirm)

    return IdempotentOperation("shop", shop, **options)


def working(work: Callable[[Any], Any], name: str = "work", **options: Any) -> IdempotentOperation[Any]:
    return IdempotentOperation(name, work, **options)


def rows(place: Place, tenant: str) -> list[Record]:
    """Return the operations that are kept of a tenant, past orderkit."""
    if place.shell.startswith("memory"):
        found = place.memory.rows(OPERATIONS, tenant)
        return [dict(zip(OPERATIONS.columns, row, strict=True)) for row in found]
    mark = place.placeholder
    return place.query(f"SELECT * FROM orderkit_idempotent_operations WHERE tenant = {mark}", tenant)


def states(place: Place, tenant: str) -> list[str]:
    return sorted(row["state"] for row in rows(place, tenant))
