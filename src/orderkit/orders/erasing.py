"""Erasing personal data: what is left of its rows."""

from __future__ import annotations

from collections.abc import Sequence

from orderkit.domain.events import Event, PersonalDataErased
from orderkit.orders.ports import OrderStorage
from orderkit.orders.tables import PersonalRow
from orderkit.unit_of_work.unit import UnitOfWork


def tombstones(unit: UnitOfWork[OrderStorage], order_id: str, events: Sequence[Event]) -> list[PersonalRow]:
    """Return what replaces the personal rows of an order, if one of its events erased them.

    Every row of the order is emptied, also of contacts and addresses that others have replaced since. That none is
    added meanwhile is for the guard of the order's version: a row is inserted only together with a new version.
    """
    for event in events:
        if isinstance(event, PersonalDataErased):
            return [row._replace(data="", erased_at=event.at) for row in live_rows(unit, order_id)]
    return []


def live_rows(unit: UnitOfWork[OrderStorage], order_id: str) -> list[PersonalRow]:
    """Return the personal rows of an order that are not erased."""
    unit.settle()
    return [row for row in unit.storage.personal(unit.tenant, order_id) if row.erased_at is None]
