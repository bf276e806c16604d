"""Bulk work: many commands in few commits, each with a result of its own.

A batch is an optimist. The orders and keys it needs are read at once, every command is decided over them, and
what all of them gathered is written by one commit in which each decides for itself. Whatever did not go through
is run again alone, by the ordinary way, which retries, replays or says what is wrong. The result of an item is
therefore the same as if it had been alone from the start.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar, cast

import attrs

from orderkit.domain.commands import ImportOrder, OrderCommand, PlaceOrder, kind_of
from orderkit.domain.order import Order
from orderkit.errors import (
    Conflict,
    FieldError,
    InvalidCommand,
    InvalidQuery,
    NewerSchema,
    OrderKitError,
    StorageBusy,
    StorageError,
    StorageFailed,
)
from orderkit.idempotency.keys import key_reference
from orderkit.orders.gathering import Gathering
from orderkit.orders.ports import OrderStorage
from orderkit.orders.scripts import OrderPolicy, OrderScript, OrderUnit, create, execute
from orderkit.unit_of_work.batches import STALE, write_apart
from orderkit.unit_of_work.changes import ChangeSet, KeyReference
from orderkit.unit_of_work.storage import Outcome, Storage
from orderkit.unit_of_work.unit import KeyTaken, Restart, UnitOfWork

BATCH = 500
"""How many items are decided and written together where nothing else is asked for."""

MAX_BATCH = 10_000

T = TypeVar("T")


@attrs.frozen
class BulkItem:
    """A command of a bulk run, with what else may be said about it.

    Attributes:
        command: What is asked.
        order_id: Which order; None for a command that makes a new one.
        expected_version: Refuse if the order is not at this version.
        idempotency_key: A later run with the same key gives the same result, and makes nothing new.
    """

    command: OrderCommand
    order_id: str | None = None
    expected_version: int | None = None
    idempotency_key: str | None = None


@attrs.frozen
class BulkResult:
    """What has become of one item of a bulk run.

    Attributes:
        position: Which item, counted from 0.
        order: The order as the command left it; None if it failed.
        error: Why it failed; nothing of it was written.
        replayed: An earlier run has done it, under the same key.
    """

    position: int
    order: Order | None
    error: OrderKitError | None = None
    replayed: bool = False

    def unwrap(self) -> Order:
        """Return the order.

        Raises:
            OrderKitError: The error, if there is one.
        """
        if self.order is None:
            raise self.error or AssertionError("a result has an order or an error")
        return self.order


@attrs.frozen
class Task:
    """An item made ready: the script that does it, or the error of an item that cannot be one."""

    position: int
    item: BulkItem | None = None
    script: OrderScript | None = None
    error: OrderKitError | None = None

    def subjects(self, tenant: str) -> set[object]:
        """Return the id, number and key that no later task can be decided over before this one is done."""
        if self.item is None:
            return set()
        command, number = self.item.command, getattr(self.item.command, "number", None)
        named: set[object] = {self.item.order_id, getattr(command, "id", None), self.key(tenant)}
        return named - {None} if number is None else {*named, ("number", number)} - {None}

    def key(self, tenant: str) -> KeyReference | None:
        """Return the idempotency record the item asks for, if it has a key."""
        if self.item is None or self.item.idempotency_key is None:
            return None
        return key_reference(tenant, kind_of(type(self.item.command)), self.item.idempotency_key)


Read = Callable[[object], BulkItem]
"""Make an item of what the application gave."""


def placement(given: object) -> BulkItem:
    """Return the item of a `PlaceOrder`, or of a mapping of its fields and `idempotency_key`."""
    return _new_order(given, PlaceOrder)


def importation(given: object) -> BulkItem:
    """Return the item of an `ImportOrder`, or of a mapping of its fields and `idempotency_key`.

    One without a key has that of its id or number, so that an import can be repeated.
    """
    item = _new_order(given, ImportOrder)
    names = ((kind, getattr(item.command, kind, None)) for kind in ("id", "number"))
    kind, name = next((found for found in names if found[1] is not None), ("", None))
    if item.idempotency_key is not None or name is None:
        return item
    return attrs.evolve(item, idempotency_key=f"import:{kind}:{hashlib.sha256(name.encode()).hexdigest()}")


def execution(given: object) -> BulkItem:
    """Return an item, or that of a pair of an order id and a command."""
    match given:
        case BulkItem():
            return given
        case (str(order_id), OrderCommand() as command):
            return BulkItem(command, order_id)
        case _:
            raise _not_an_item("give a BulkItem, or a pair of an order id and a command")


def _new_order(given: object, wanted: type[OrderCommand]) -> BulkItem:
    match given:
        case BulkItem(command=OrderCommand() as command, order_id=None, expected_version=None) if isinstance(
            command, wanted
        ):
            return given
        case OrderCommand() if isinstance(given, wanted):
            return BulkItem(given)
        case Mapping():
            fields = {str(name): value for name, value in given.items()}
            key = fields.pop("idempotency_key", None)
            return BulkItem(wanted.parse(fields), idempotency_key=cast("str | None", key))
        case _:
            raise _not_an_item(
                f"give a {wanted.__name__}, a BulkItem of one and perhaps a key, or a mapping of its fields"
            )


def _not_an_item(message: str) -> InvalidCommand:
    return InvalidCommand("the item", (FieldError("", "not_a_command", message),))


def batches(given: Iterable[T], size: int) -> Iterator[list[T]]:
    """Return lists of at most `size` items, read as they are asked for.

    Raises:
        InvalidQuery: That is no size of a batch.
    """
    check_size(size)
    rest = iter(given)
    return iter(lambda: list(islice(rest, size)), [])


async def async_batches(given: Iterable[T] | AsyncIterable[T], size: int) -> AsyncGenerator[list[T]]:
    """Yield lists of at most `size` items, with a turn for others between two of them."""
    from asyncio import sleep

    if isinstance(given, Iterable):
        for batch in batches(given, size):
            yield batch
            await sleep(0)
        return
    batch = []
    async for item in given:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def check_size(size: int) -> None:
    """Refuse what is no size of a batch.

    Raises:
        InvalidQuery: It is none.
    """
    if type(size) is not int or not 1 <= size <= MAX_BATCH:
        raise InvalidQuery(f"A batch has 1 to {MAX_BATCH} items; nothing was read or changed.")


def prepare(given: Sequence[object], first: int, read: Read, policy: OrderPolicy) -> list[Task]:
    """Return a task for each item of a batch, counted from `first`."""
    return [_prepared(position, item, read, policy) for position, item in enumerate(given, first)]


def _prepared(position: int, given: object, read: Read, policy: OrderPolicy) -> Task:
    try:
        item = read(given)
        if item.order_id is None:
            script = create(item.command, policy, idempotency_key=item.idempotency_key)  # type: ignore[arg-type]  # it looks itself
        else:
            script = execute(
                item.order_id,
                item.command,
                policy,
                expected_version=item.expected_version,
                idempotency_key=item.idempotency_key,
            )
        task = Task(position, item, script)
        task.key("")
    except OrderKitError as error:
        return Task(position, error=bare(error))
    return task


def together(tasks: Sequence[Task]) -> Callable[[OrderUnit], list[BulkResult | None]]:
    """Return the script that does a batch by one commit; a result is None where a task is to be run alone."""

    def script(unit: OrderUnit) -> list[BulkResult | None]:
        unit.write_now()
        ids = [task.item.order_id for task in tasks if task.item is not None and task.item.order_id is not None]
        keys = [key for task in tasks if (key := task.key(unit.tenant)) is not None]
        gathering = Gathering(unit.storage, unit.storage.read_many(unit.tenant, ids, keys))
        open_to_change: set[object] = set()
        foreseen = []
        for task in tasks:
            result, changes = _foreseen(unit, gathering, task, open_to_change)
            foreseen.append((result, changes))
            if result is None or changes is not None:
                open_to_change |= task.subjects(unit.tenant)
        outcomes = iter(_written(unit.storage, [changes for _, changes in foreseen if changes is not None]))
        return [result if changes is None or next(outcomes).committed else None for result, changes in foreseen]

    return script


def _foreseen(
    unit: OrderUnit, gathering: Gathering, task: Task, open_to_change: set[object]
) -> tuple[BulkResult | None, ChangeSet | None]:
    """Return the result of a task if what it has gathered, which comes with it, can be written as it is.

    A task that speaks of what an earlier one is about to change, or may change when it is run alone, cannot be
    decided yet.
    """
    if task.script is None:
        return BulkResult(task.position, None, task.error), None
    if not open_to_change.isdisjoint(task.subjects(unit.tenant)):
        return None, None
    alone = UnitOfWork[OrderStorage](gathering, unit.context, now=unit.now, ids=unit.ids)
    try:
        order = task.script(alone)
    except (Restart, KeyTaken, NewerSchema, StorageFailed):
        gathering.take()
        return None, None
    except StorageError:
        raise
    except OrderKitError as error:
        return BulkResult(task.position, None, bare(error)), None
    return BulkResult(task.position, order, replayed=alone.replayed), gathering.take()


def _written(storage: Storage, changes: Sequence[ChangeSet]) -> list[Outcome]:
    """Write what can be written; what cannot is left to be run alone, which tells why."""

    def alone(part: ChangeSet) -> Outcome:
        try:
            return storage.commit_each([part])[0]
        except (Conflict, StorageFailed):
            return STALE

    return write_apart(storage.commit_each, alone, changes)


def alone(task: Task) -> Callable[[OrderUnit], BulkResult]:
    """Return the script that does one task in the ordinary way."""
    if task.script is None:
        raise AssertionError("a task without a script has had its result in the batch")
    work = task.script

    def script(unit: OrderUnit) -> BulkResult:
        unit.replayed = False
        return BulkResult(task.position, work(unit), replayed=unit.replayed)

    return script


def ends_run(error: OrderKitError) -> bool:
    """Tell whether a run cannot go on after an error: the database cannot be reached, is full, …."""
    return isinstance(error, StorageError) and not isinstance(error, StorageBusy | StorageFailed | NewerSchema)


def failed(task: Task, error: OrderKitError) -> BulkResult:
    """Return the result of a task that failed, alone."""
    return BulkResult(task.position, None, bare(error))


def bare(error: OrderKitError) -> OrderKitError:
    """Return an error without its tracebacks: whoever keeps it would keep the batch that their frames hold."""
    chained: BaseException | None = error
    while chained is not None:
        chained.__traceback__ = None
        chained = chained.__cause__ or chained.__context__
    return error
