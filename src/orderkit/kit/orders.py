"""`Orders`: the order use cases for synchronous callers. Each method names a script and runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Unpack

from orderkit.domain.commands import (
    CancelLines,
    CancelOrder,
    CompleteOrder,
    ConfirmOrder,
    CreateDraft,
    DiscardDraft,
    ExpireOrder,
    HoldOrder,
    LineQuantity,
    OrderCommand,
    PlaceOrder,
    ReleaseOrder,
    ReopenOrder,
)
from orderkit.domain.decisions import Permission, Preview
from orderkit.domain.explain import Explanation
from orderkit.domain.order import Order
from orderkit.kit.runners import Runner
from orderkit.orders import reading, scripts, searching
from orderkit.orders.cursors import Cursors
from orderkit.orders.fields import DraftFields, ExecuteOptions, PlaceFields
from orderkit.orders.searching import OrderFilter, Page, Query, Sort


class Orders:
    """Take orders, change them and find them. Made by a kit, bound to its tenant."""

    def __init__(self, runner: Runner, policy: scripts.OrderPolicy, cursors: Cursors) -> None:
        self._run = runner.run
        self._policy = policy
        self._cursors = cursors

    # Taking orders

    def create(self, command: CreateDraft | PlaceOrder, *, idempotency_key: str | None = None) -> Order:
        """Make a new order by a command, for example one parsed from the body of a request.

        Args:
            command: What is asked.
            idempotency_key: Repeating the call with the same key gives the same order, and makes nothing new.

        Raises:
            InvalidCommand: Something in it is not valid as a whole.
            IdempotencyMismatch: The key was used with another payload.
            AlreadyExists: Its own id or number is taken.
        """
        return self._run(scripts.create(command, self._policy, idempotency_key=idempotency_key))

    def place(self, *, idempotency_key: str | None = None, **fields: Unpack[PlaceFields]) -> Order:
        """Take an order.

        Args:
            idempotency_key: Repeating the call with the same key gives the same order, and makes nothing new.
            **fields: The fields of `PlaceOrder`.

        Raises:
            InvalidCommand: Something in it is not valid.
            IdempotencyMismatch: The key was used with another payload.
            AlreadyExists: Its own id or number is taken.
        """
        return self.create(PlaceOrder.parse(fields), idempotency_key=idempotency_key)

    def draft(self, *, idempotency_key: str | None = None, **fields: Unpack[DraftFields]) -> Order:
        """Start an order that is still being put together; see `CreateDraft` and `place`."""
        return self.create(CreateDraft.parse(fields), idempotency_key=idempotency_key)

    # Changing orders

    def execute(self, order_id: str, command: OrderCommand, **options: Unpack[ExecuteOptions]) -> Order:
        """Apply any command to an order; the verbs below are sugar for it.

        Args:
            order_id: Which order.
            command: What is asked of it.
            **options: `expected_version`: refuse if the order is not at this version; otherwise a conflict
                is retried. `idempotency_key`: repeating the call gives the same result, once.

        Raises:
            OrderNotFound: There is no such order.
            Refused: A rule speaks against it; the order is unchanged.
            VersionConflict: The order is not at the expected version.
            IdempotencyMismatch: The key was used with another payload.
        """
        return self._run(scripts.execute(order_id, command, self._policy, **options))

    def confirm(self, order_id: str, **options: Unpack[ExecuteOptions]) -> Order:
        """Open a pending order; see `ConfirmOrder` and `execute`."""
        return self.execute(order_id, ConfirmOrder(), **options)

    def hold(self, order_id: str, name: str, *, reason: str | None = None, **options: Unpack[ExecuteOptions]) -> Order:
        """Set a named hold; see `HoldOrder` and `execute`."""
        return self.execute(order_id, HoldOrder(name=name, reason=reason), **options)

    def release(self, order_id: str, name: str, **options: Unpack[ExecuteOptions]) -> Order:
        """Lift a named hold; see `ReleaseOrder` and `execute`."""
        return self.execute(order_id, ReleaseOrder(name=name), **options)

    def cancel(self, order_id: str, *, reason: str | None = None, **options: Unpack[ExecuteOptions]) -> Order:
        """Cancel all that is left of an order; see `CancelOrder` and `execute`."""
        return self.execute(order_id, CancelOrder(reason=reason), **options)

    def cancel_lines(
        self,
        order_id: str,
        lines: Sequence[LineQuantity],
        *,
        reason: str | None = None,
        **options: Unpack[ExecuteOptions],
    ) -> Order:
        """Cancel some units of some lines; see `CancelLines` and `execute`."""
        return self.execute(order_id, CancelLines.parse({"lines": lines, "reason": reason}), **options)

    def complete(self, order_id: str, **options: Unpack[ExecuteOptions]) -> Order:
        """Close an order that is done; see `CompleteOrder` and `execute`."""
        return self.execute(order_id, CompleteOrder(), **options)

    def reopen(self, order_id: str, *, reason: str | None = None, **options: Unpack[ExecuteOptions]) -> Order:
        """Open a completed order again; see `ReopenOrder` and `execute`."""
        return self.execute(order_id, ReopenOrder(reason=reason), **options)

    def expire(self, order_id: str, **options: Unpack[ExecuteOptions]) -> Order:
        """End a pending order whose time is over; see `ExpireOrder` and `execute`."""
        return self.execute(order_id, ExpireOrder(), **options)

    def discard(self, order_id: str, **options: Unpack[ExecuteOptions]) -> Order:
        """Give a draft up; see `DiscardDraft` and `execute`."""
        return self.execute(order_id, DiscardDraft(), **options)

    # Asking about orders

    def get(self, order_id: str) -> Order:
        """Return an order.

        Raises:
            OrderNotFound: There is no such order for this tenant.
        """
        return self._run(reading.get(order_id))

    def as_of(self, order_id: str, *, version: int | None = None, time: datetime | None = None) -> Order:
        """Return an order as it was at a version or at a time.

        Raises:
            OrderNotFound: There is no such order for this tenant.
            VersionNotFound: It has no such version, or did not exist at that time.
            InvalidQuery: Neither or both were given, or the time has no zone.
        """
        return self._run(reading.as_of(order_id, version=version, time=time))

    def history(self, order_id: str) -> tuple[reading.RecordedEvent, ...]:
        """Return every event of an order, from the first."""
        return self._run(reading.history(order_id))

    def personal(self, order_id: str) -> Mapping[str, reading.PersonalData]:
        """Return the personal data an order refers to, by reference."""
        return self._run(reading.personal(order_id))

    def preview(self, order_id: str | None, command: OrderCommand) -> Preview:
        """Return what a command would do, without doing it; a new order has no id yet."""
        return self._run(reading.preview_of(order_id, command))

    def allowed(self, order_id: str) -> Mapping[str, Permission]:
        """Return for every command whether it is allowed now, and if not, why."""
        return self._run(reading.allowed_for(order_id))

    def explain(self, order_id: str) -> Explanation:
        """Return where each minor unit of an order's total comes from."""
        return self._run(reading.explain_order(order_id))

    # Finding orders

    def search(
        self,
        wanted: OrderFilter | None = None,
        *,
        sort: Sort = "-created_at",
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Return a page of orders.

        Args:
            wanted: Which orders; all of them where absent.
            sort: What the list is sorted by.
            limit: How many orders a page has, at most 500.
            cursor: `next` or `previous` of another page of the same search.

        Raises:
            InvalidQuery: The search cannot be run as asked.
            InvalidCursor: The cursor was altered, or belongs to another search.
        """
        return self._run(searching.page(Query(wanted or OrderFilter(), sort, limit), cursor, self._cursors))

    def stream(
        self, wanted: OrderFilter | None = None, *, sort: Sort = "created_at", batch: int = 500
    ) -> Iterator[Order]:
        """Yield all orders, a batch in memory at a time.

        Orders that are changed meanwhile are given as they are when their batch is read.
        """
        query = Query(wanted or OrderFilter(), sort, batch)
        position = None
        while True:
            found, position = self._run(searching.batch(query, position))
            yield from found
            if position is None:
                return
