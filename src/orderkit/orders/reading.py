"""Reading orders: by id, as of a moment, their history, their personal data, and previews."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import attrs

from orderkit.domain.codec import decode_event
from orderkit.domain.commands import CreateDraft, OrderCommand, PlaceOrder
from orderkit.domain.decisions import Permission, Preview, allowed, preview
from orderkit.domain.events import Event
from orderkit.domain.evolution import replay
from orderkit.domain.explain import Explanation, explain
from orderkit.domain.order import Order
from orderkit.domain.parties import Address, Contact, NoteText
from orderkit.errors import InvalidQuery, NotFound, OrderNotFound
from orderkit.orders.scripts import OrderScript, OrderUnit, check_order_id
from orderkit.orders.tables import EventRow, PersonalRow
from orderkit.unit_of_work.storage import OrderRecord


class VersionNotFound(NotFound):
    """The order has not reached this version, or did not exist at this time."""

    code = "version_not_found"


@attrs.frozen
class RecordedEvent:
    """One event of an order's history, with who caused it and why.

    Attributes:
        version: The version of the order after it.
        id: The id of the event, the same in the outbox.
        event: What happened.
    """

    version: int
    id: str
    event: Event
    actor: str | None
    correlation_id: str | None
    causation_id: str | None


@attrs.frozen
class PersonalData:
    """Personal data an order refers to.

    Attributes:
        reference: What documents and events call it.
        slot: What it is for: `contact`, `billing_address`, `shipping_address` or `note`.
        value: The data; None once it is erased.
        created_at: When it was given.
        erased_at: When it was erased, if it was.
    """

    reference: str
    slot: str
    value: Address | Contact | NoteText | None = attrs.field(repr=False)
    created_at: datetime
    erased_at: datetime | None = None


def get(order_id: str) -> OrderScript:
    """Return the script that reads an order."""
    check_order_id(order_id)
    return lambda unit: unit.get(order_id)


def record(order_id: str) -> Callable[[OrderUnit], OrderRecord]:
    """Return the script that reads an order as it is kept."""
    check_order_id(order_id)

    def script(unit: OrderUnit) -> OrderRecord:
        found = unit.storage.read(unit.tenant, order_id).order
        if found is None:
            raise OrderNotFound(order_id)
        return found

    return script


def as_of(order_id: str, *, version: int | None = None, time: datetime | None = None) -> OrderScript:
    """Return the script that rebuilds an order as it was at a version or a time."""
    check_order_id(order_id)
    _check_moment(version, time)

    def script(unit: OrderUnit) -> Order:
        unit.settle()
        rows = unit.storage.history(unit.tenant, order_id, version=version, time=time)
        if not rows or (version is not None and rows[-1].version != version):
            unit.get(order_id)
            raise VersionNotFound(f"Order {order_id!r} has no such version, or did not exist at that time.")
        return replay([_event(row) for row in rows])

    return script


def _check_moment(version: int | None, time: datetime | None) -> None:
    if (version is None) == (time is None):
        raise InvalidQuery("An order is rebuilt as of either a version or a time; nothing was read.")
    if version is not None and (type(version) is not int or not 1 <= version <= _MAX_VERSION):
        raise InvalidQuery("The versions of an order are integers from 1; nothing was read.")
    if time is not None and (not isinstance(time, datetime) or time.utcoffset() is None):
        raise InvalidQuery("A time needs its zone; nothing was read.")


_MAX_VERSION = 2**31 - 1


def history(order_id: str) -> Callable[[OrderUnit], tuple[RecordedEvent, ...]]:
    """Return the script that reads every event of an order."""
    check_order_id(order_id)

    def script(unit: OrderUnit) -> tuple[RecordedEvent, ...]:
        unit.settle()
        rows = unit.storage.history(unit.tenant, order_id)
        if not rows:
            raise OrderNotFound(order_id)
        return tuple(
            RecordedEvent(row.version, row.id, _event(row), row.actor, row.correlation_id, row.causation_id)
            for row in rows
        )

    return script


def _event(row: EventRow) -> Event:
    return decode_event(row.type, row.schema_version, row.data)


def personal(order_id: str) -> Callable[[OrderUnit], Mapping[str, PersonalData]]:
    """Return the script that reads the personal data of an order, by reference."""
    check_order_id(order_id)

    def script(unit: OrderUnit) -> Mapping[str, PersonalData]:
        unit.settle()
        rows = unit.storage.personal(unit.tenant, order_id)
        if not rows:
            unit.get(order_id)
        return {row.id: _personal_data(row) for row in rows}

    return script


_PERSONAL_TYPES: Mapping[str, type[Address | Contact | NoteText]] = {
    "contact": Contact,
    "billing_address": Address,
    "shipping_address": Address,
    "note": NoteText,
}


def _personal_data(row: PersonalRow) -> PersonalData:
    value = None if row.erased_at is not None else _PERSONAL_TYPES[row.kind].parse(row.data)
    return PersonalData(row.id, row.kind, value, row.created_at, row.erased_at)


def preview_of(order_id: str | None, command: OrderCommand) -> Callable[[OrderUnit], Preview]:
    """Return the script that tells what a command would do."""
    if order_id is not None:
        check_order_id(order_id)
    elif not isinstance(command, CreateDraft | PlaceOrder):
        raise InvalidQuery("This command acts on an order that exists: say which; nothing was read.")

    def script(unit: OrderUnit) -> Preview:
        order = None if order_id is None else unit.get(order_id)
        return preview(order, command, now=unit.now, ids=unit.ids)

    return script


def allowed_for(order_id: str) -> Callable[[OrderUnit], Mapping[str, Permission]]:
    """Return the script that asks every rule what it says of an order."""
    script = get(order_id)
    return lambda unit: allowed(script(unit), now=unit.now)


def explain_order(order_id: str) -> Callable[[OrderUnit], Explanation]:
    """Return the script that tells where an order's total comes from."""
    read = get(order_id)

    def script(unit: OrderUnit) -> Explanation:
        order = read(unit)
        return explain(order.lines, order.charges, order.adjustments, rules=order.rules, currency=order.currency)

    return script
