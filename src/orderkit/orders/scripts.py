"""The use cases: transaction scripts over a unit of work, the same for every shell.

Each function returns a script. A script reads, decides, and gathers; it may be run more than once and
does no I/O but through its unit of work.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from types import UnionType

import attrs

from orderkit.domain.codec import decode_event
from orderkit.domain.commands import ORDER_ID, CreateDraft, ImportOrder, OrderCommand, PlaceOrder, kind_of
from orderkit.domain.decisions import decide
from orderkit.domain.events import Event
from orderkit.domain.evolution import replay
from orderkit.domain.numbers import OrderNumbers, RandomNumbers
from orderkit.domain.order import Order
from orderkit.errors import (
    ConfigurationError,
    Conflict,
    FieldError,
    InvalidCommand,
    InvalidInput,
    InvalidKey,
    OrderNotFound,
    Refused,
    VersionConflict,
)
from orderkit.idempotency.keys import DEFAULT_RETENTION, KeyedRequest, RecentKeys, keyed_request
from orderkit.orders.ports import Among, OrderStorage, Search
from orderkit.orders.rows import gather
from orderkit.unit_of_work.storage import StoredKey
from orderkit.unit_of_work.unit import KeyTaken, Restart, UnitOfWork

_order_id_pattern = re.compile(ORDER_ID)
_number_pattern = re.compile(r"[^\x00-\x1F\x7F\uD800-\uDFFF]{1,255}")

NewOrder = CreateDraft | PlaceOrder | ImportOrder
"""The commands that make a new order."""

OrderUnit = UnitOfWork[OrderStorage]
OrderScript = Callable[[OrderUnit], Order]


@attrs.frozen
class OrderPolicy:
    """What an application decides once for all of its orders.

    Attributes:
        numbers: How order numbers are assigned.
        max_lines: How many lines an order has at most.
        key_retention: How long the result of an idempotency key is kept.
        recent: The keys that were used in this process lately.
    """

    numbers: OrderNumbers = attrs.Factory(RandomNumbers)
    max_lines: int = 1000
    key_retention: timedelta = DEFAULT_RETENTION
    recent: RecentKeys = attrs.Factory(RecentKeys)


def create(command: NewOrder, policy: OrderPolicy, *, idempotency_key: str | None = None) -> OrderScript:
    """Return the script that makes a new order.

    Raises:
        InvalidCommand: It is no command that makes one.
    """
    _check_command(command, NewOrder)

    def script(unit: OrderUnit) -> Order:
        _check_lines(len(command.lines), policy)
        request = _request(unit, command.kind, idempotency_key, command, policy)

        def work() -> Order:
            if request is not None and (unit.reads_first or request.reference in policy.recent):
                stored = _stored(unit, request)
                if stored is not None:
                    return _replayed(unit, request, stored)
            return _create(unit, command, policy, request)

        order = _once(unit, request, work)
        if request is not None:
            policy.recent.add(request.reference)
        return order

    return script


def _create(unit: OrderUnit, command: NewOrder, policy: OrderPolicy, request: KeyedRequest | None) -> Order:
    if command.id is not None or getattr(command, "number", None) is not None:
        unit.write_now()
    events = _decided(unit, None, command, policy)
    order = replay(events)
    gather(unit, None, order, events, command)
    _finish(unit, order, request)
    return order


def execute(
    order_id: str,
    command: OrderCommand,
    policy: OrderPolicy,
    *,
    expected_version: int | None = None,
    idempotency_key: str | None = None,
) -> OrderScript:
    """Return the script that applies a command to an order.

    Raises:
        InvalidKey: The id is none that an order can have.
    """
    check_order_id(order_id)
    _check_command(command, OrderCommand)

    def script(unit: OrderUnit) -> Order:
        request = _request(unit, kind_of(type(command)), idempotency_key, (order_id, command), policy)

        def work() -> Order:
            before, stored = unit.read(order_id, request.reference if request else None)
            if request is not None and stored is not None and _fresh(unit, request, stored):
                return _replayed(unit, request, stored)
            if before is None:
                raise OrderNotFound(order_id)
            if expected_version is not None and before.version != expected_version:
                raise VersionConflict(order_id, expected_version, before.version, stated=True)
            return apply(unit, before, command, policy, request)

        try:
            return _once(unit, request, work)
        except VersionConflict as conflict:
            if expected_version is None or conflict.stated:
                raise
            raise VersionConflict(order_id, expected_version, stated=True) from conflict

    return script


def apply(
    unit: OrderUnit, before: Order, command: OrderCommand, policy: OrderPolicy, request: KeyedRequest | None
) -> Order:
    """Apply a command to an order that has been read: the commit fails if it has moved on by then."""
    events = _decided(unit, before, command, policy)
    after = replay(events, before)
    if len(after.lines) > len(before.lines):
        _check_lines(len(after.lines), policy)
    if events:
        gather(unit, before, after, events, command)
    else:
        unit.guard(before)
    _finish(unit, after, request)
    return after


def _finish(unit: OrderUnit, order: Order, request: KeyedRequest | None) -> None:
    """Write what the command gathered, with the claim of its key."""
    if request is not None:
        unit.claim(request.claim(order, unit.now))
    unit.finish()


def _decided(unit: OrderUnit, order: Order | None, command: OrderCommand, policy: OrderPolicy) -> tuple[Event, ...]:
    """Return the events that follow from a command, in this unit of work."""
    return decide(order, command, now=unit.now, ids=unit.ids, number=lambda: _next_number(unit, policy))


def _next_number(unit: OrderUnit, policy: OrderPolicy) -> str:
    """Return a number of the application's strategy.

    A random one that is taken is found out by the commit. A counted one would be counted again with every
    attempt, so that it is looked up, and those that an import has used already are passed over.
    """
    before = unit.counted

    def count() -> int:
        unit.require_transaction()
        unit.counted += 1
        return unit.storage.next_number(unit.tenant)

    while True:
        number = policy.numbers.assign(unit.tenant, count)
        if not _number_pattern.fullmatch(number):
            raise ConfigurationError("An order number has 1 to 255 characters on one line; nothing was changed.")
        unit.chosen.add(number)
        if unit.counted == before or not _number_is_taken(unit, number):
            return number


def _number_is_taken(unit: OrderUnit, number: str) -> bool:
    return bool(unit.storage.search(Search(unit.tenant, (Among("number", (number,)),), "created_at", False, 1)))


def check_order_id(order_id: str) -> None:
    """Refuse what cannot be the id of an order, before a database has to.

    Raises:
        InvalidKey: It cannot.
    """
    if not isinstance(order_id, str) or not _order_id_pattern.fullmatch(order_id):
        raise InvalidKey("The id of an order has 1 to 64 letters, digits and '_.:-'; nothing was read or changed.")


def _check_command(command: object, wanted: type[OrderCommand] | UnionType) -> None:
    """Refuse what is no command, such as a mapping or the class of one."""
    if not isinstance(command, wanted):
        error = FieldError("", "not_a_command", "give an instance of a command; `parse` makes one of a mapping")
        raise InvalidCommand("the command", (error,))


def _check_lines(count: int, policy: OrderPolicy) -> None:
    if count > policy.max_lines:
        error = FieldError("lines", "too_many_lines", f"an order has at most {policy.max_lines} lines")
        raise InvalidCommand("the order", (error,))


# --------------------------------------------------------------------------------------------
# Idempotency
# --------------------------------------------------------------------------------------------


def _request(
    unit: OrderUnit, operation: str, key: str | None, payload: object, policy: OrderPolicy
) -> KeyedRequest | None:
    if key is None:
        return None
    return keyed_request(unit.tenant, operation, key, payload, policy.key_retention)


def _once(unit: OrderUnit, request: KeyedRequest | None, work: Callable[[], Order]) -> Order:
    """Do the work, or answer from what its key has led to before.

    A refusal or a conflict may be the echo of this very request having succeeded a moment ago, so the
    key is looked up in a fresh statement before the error is raised.
    """
    counted = unit.counted
    try:
        return work()
    except (Refused, Conflict, InvalidInput) as error:
        stored = None if request is None else _stored(unit, request)
        if request is None or stored is None:
            raise error
    except KeyTaken as taken:
        if request is None:
            raise
        stored = taken.stored or unit.storage.read_key(request.reference)
        if stored is None or not _fresh(unit, request, stored):
            raise
    if unit.counted != counted:
        # A number without a gap was taken for an order that is not made: it goes back with the transaction.
        raise Restart(transaction=True)
    return _replayed(unit, request, stored)


def _stored(unit: OrderUnit, request: KeyedRequest) -> StoredKey | None:
    stored = unit.storage.read_key(request.reference)
    return stored if stored is not None and _fresh(unit, request, stored) else None


def _fresh(unit: OrderUnit, request: KeyedRequest, stored: StoredKey) -> bool:
    """Tell whether a record still counts; one that has expired is forgotten, so that its key is free again."""
    if stored.expires_at > unit.now:
        return True
    unit.storage.forget_key(request.reference, unit.now)
    return False


def _replayed(unit: OrderUnit, request: KeyedRequest, stored: StoredKey) -> Order:
    """Return the order as the first use of the key left it."""
    request.check(stored)
    unit.replayed = True
    if stored.order is not None and stored.order.version == stored.order_version:
        return unit.decode(stored.order_id, stored.order)
    rows = unit.storage.history(unit.tenant, stored.order_id, version=stored.order_version)
    if not rows:
        raise OrderNotFound(stored.order_id)
    return replay([decode_event(row.type, row.schema_version, row.data) for row in rows])
