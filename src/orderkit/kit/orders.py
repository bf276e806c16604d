"""`Orders`: the order use cases for synchronous callers. Each method names a script and runs it."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Unpack

from orderkit.domain.commands import (
    CancelLines,
    CancelOrder,
    CompleteOrder,
    ConfirmOrder,
    CreateDraft,
    DiscardDraft,
    ErasePersonalData,
    ExpireOrder,
    HoldOrder,
    ImportOrder,
    LineQuantity,
    OrderCommand,
    PlaceOrder,
    ReleaseOrder,
    ReopenOrder,
)
from orderkit.domain.decisions import Permission, Preview
from orderkit.domain.explain import Explanation
from orderkit.domain.order import Order
from orderkit.errors import OrderKitError
from orderkit.kit.caching import CachedOrders
from orderkit.kit.runners import Runner
from orderkit.orders import bulk, reading, scripts, searching
from orderkit.orders.bulk import BulkItem, BulkResult
from orderkit.orders.cursors import Cursors
from orderkit.orders.fields import DraftFields, ExecuteOptions, PlaceFields
from orderkit.orders.searching import OrderFilter, Page, Query, Sort
from orderkit.resilience.runtimes import THREAD, drive
from orderkit.unit_of_work.storage import OrderRecord


class Orders:
    """Take orders, change them and find them. Made by a kit, bound to its tenant."""

    def __init__(
        self,
        runner: Runner,
        policy: scripts.OrderPolicy,
        cursors: Cursors,
        cached: CachedOrders | None = None,
    ) -> None:
        self._run = runner.run
        self._cached = cached
        self._policy = policy
        self._cursors = cursors

    # Taking orders

    def create(self, command: scripts.NewOrder, *, idempotency_key: str | None = None) -> Order:
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

    def erase_personal_data(
        self, order_id: str, *, reason: str | None = None, **options: Unpack[ExecuteOptions]
    ) -> Order:
        """Erase contact, addresses and notes of an order; see `ErasePersonalData` and `execute`."""
        return self.execute(order_id, ErasePersonalData(reason=reason), **options)

    # Many at once

    def place_many(
        self, items: Iterable[PlaceOrder | BulkItem | Mapping[str, object]], *, batch_size: int = bulk.BATCH
    ) -> Generator[BulkResult]:
        """Take many orders, a batch by one commit, each with a result of its own.

        An item that is wrong or refused stops no other. Nothing is done before the results are read, and only
        a batch is in memory at a time. With keys a run that was broken off can be run again from its start.

        Args:
            items: What `place` takes, as mappings with their `idempotency_key`, commands or items.
            batch_size: How many are decided and written together.

        Raises:
            InvalidQuery: That is no size of a batch.
            StorageError: The run cannot go on; what has had its result is kept.
        """
        return self._many(items, bulk.placement, batch_size)

    def execute_many(
        self, items: Iterable[tuple[str, OrderCommand] | BulkItem], *, batch_size: int = bulk.BATCH
    ) -> Generator[BulkResult]:
        """Apply many commands, each to an order and with a result of its own; see `execute` and `place_many`.

        Commands on one order are applied in their order; they go faster where they are batches apart.
        """
        return self._many(items, bulk.execution, batch_size)

    def import_orders(
        self, items: Iterable[ImportOrder | BulkItem | Mapping[str, object]], *, batch_size: int = bulk.BATCH
    ) -> Generator[BulkResult]:
        """Take over orders from elsewhere with their own numbers, times and states; see `ImportOrder` and `place_many`.

        One with an id or a number is made once, however often the import is run.
        """
        return self._many(items, bulk.importation, batch_size)

    def _many(self, items: Iterable[object], read: bulk.Read, size: int) -> Generator[BulkResult]:
        bulk.check_size(size)
        return self._results(items, read, size)

    def _results(self, items: Iterable[object], read: bulk.Read, size: int) -> Generator[BulkResult]:
        done = 0
        for batch in bulk.batches(items, size):
            tasks = bulk.prepare(batch, done, read, self._policy)
            done += len(tasks)
            results, error = self._settled(tasks)
            yield from results
            if error is not None:
                raise error

    def _settled(self, tasks: Sequence[bulk.Task]) -> tuple[list[BulkResult], OrderKitError | None]:
        """Return the results of a batch, and the error after which the run cannot go on, if there was one."""
        results = self._run(bulk.together(tasks))
        for index, task in enumerate(tasks):
            try:
                results[index] = results[index] or self._run(bulk.alone(task))
            except OrderKitError as error:
                if bulk.ends_run(error):
                    return [result for result in results if result is not None], error
                results[index] = bulk.failed(task, error)
        return [result for result in results if result is not None], None

    # Asking about orders

    def get(self, order_id: str) -> Order:
        """Return an order.

        Raises:
            OrderNotFound: There is no such order for this tenant.
        """
        if self._cached is None:
            return self._run(reading.get(order_id))
        read = reading.record(order_id)

        async def load() -> OrderRecord:
            return self._run(read)

        return drive(self._cached.get(THREAD, order_id, load))

    def forget(self, order_id: str) -> None:
        """Forget what a cache keeps of an order, after a commit of the application's own has changed it.

        Only where `kit.within` has joined a transaction whose end the cache does not learn of; see `OrderCache`.
        """
        if self._cached is not None:
            drive(self._cached.forget(THREAD, order_id))

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
