"""One attempt of one unit of work over one SQL connection."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol, TypeVar

from orderkit.errors import ConfigurationError, OrderKitError, StorageFailed, TransactionEnded
from orderkit.orders.ports import Found, OrderStorage, Search
from orderkit.orders.tables import EventRow, OrderRow, PersonalRow
from orderkit.storage.sql import batches, records, searching
from orderkit.storage.sql.brackets import Bracket, Savepoint
from orderkit.storage.sql.dialect import Dialect, Fault, FaultKind
from orderkit.storage.sql.execution import Executor, Rows, execute_once
from orderkit.storage.sql.failures import Phase, failure
from orderkit.storage.sql.operations import SqlOperations
from orderkit.unit_of_work.changes import KEYS, ChangeSet, KeyReference, Value
from orderkit.unit_of_work.storage import Outcome, Reading, Readings, StoredKey

T = TypeVar("T")


class PhasedStorage(OrderStorage, Protocol):
    """A storage that says what it is doing: while it is committing the outcome is unknown."""

    @property
    def phase(self) -> Phase:
        """What is being done."""
        ...


class SqlStorage:
    """Read and write orders over one connection.

    Args:
        executor: Runs statements on the connection.
        dialect: Speaks the database's SQL.
        bracket: Surrounds a write to make it atomic.
        in_transaction: Whether there is a surrounding transaction.
        transaction: Surrounds a write of several statements, where `bracket` is not enough for one.
        spoil: Called where the database ended the surrounding transaction, which somebody else still believes in.

    Attributes:
        in_transaction: Whether writes become durable only with the end of a surrounding transaction.
        phase: What is being done; while it is `COMMITTING` the outcome is unknown.
        aborted: A statement failed inside the surrounding transaction, which can only be rolled back.
        damaged: The connection must not be used again.
        ended: The block is over, and the connection may be somebody else's by now.
    """

    def __init__(
        self,
        executor: Executor,
        dialect: Dialect,
        bracket: Bracket,
        *,
        in_transaction: bool,
        transaction: Bracket | None = None,
        spoil: Callable[[], None] = lambda: None,
    ) -> None:
        self._executor = executor
        self._dialect = dialect
        self._bracket = bracket
        self._transaction = transaction or bracket
        self._spoil = spoil
        self._depth = 0
        self._process = os.getpid()
        self.in_transaction = in_transaction
        self.phase = Phase.READING
        self.aborted = False
        self.damaged = False
        self.ended = False

    @property
    def is_foreign(self) -> bool:
        """Whether this process is a child, by a fork, of the one that opened the connection."""
        return os.getpid() != self._process

    def read(self, tenant: str, order_id: str, *, key: KeyReference | None = None, lock: bool = False) -> Reading:
        """Read an order and, in the same statement, the record of an idempotency key."""
        row_lock = self._dialect.row_lock if lock and self.in_transaction else ""
        if key is None:
            rows = self._fetch(records.read_order(row_lock), (tenant, order_id))
            return Reading(records.order_record(rows[0]) if rows else None, None)
        row = self._fetch(records.read_order_and_key(row_lock), (tenant, order_id, *key))[0]
        return Reading(records.order_record_if_any(row[:4]), records.stored_key(self._dialect, row[4:]))

    def read_key(self, key: KeyReference) -> StoredKey | None:
        """Read the record of an idempotency key, expired or not, in a statement of its own."""
        rows = self._fetch(records.READ_KEY, key)
        return records.stored_key(self._dialect, rows[0]) if rows else None

    def commit(self, changes: ChangeSet) -> Outcome:
        """Write a change set: all of it, or nothing."""
        if not changes:
            return Outcome(committed=True, guards_held=True)

        def write() -> tuple[Outcome, bool]:
            outcome = self._dialect.write(self._executor, changes)
            return outcome, outcome.committed

        return self._bracketed(write, self._bracket, changes)

    def read_many(self, tenant: str, order_ids: Sequence[str], keys: Sequence[KeyReference] = ()) -> Readings:
        """Read several orders of a tenant, and the records of several keys, expired or not."""
        return Readings(
            batches.find_orders(self._look_up, tenant, order_ids),
            batches.find_keys(self._dialect, self._look_up, tenant, keys),
        )

    def commit_each(self, changes: Sequence[ChangeSet]) -> list[Outcome]:
        """Write several change sets by one commit, each of them wholly or, if its guards or key fail, not at all."""

        def write() -> tuple[list[Outcome], bool]:
            outcomes = batches.write_each(self._dialect, self._executor, changes)
            return outcomes, any(outcome.committed for outcome in outcomes)

        return self._bracketed(write, self._transaction)

    def search(self, search: Search) -> list[Found]:
        """Return the orders of a page."""
        dialect = self._dialect
        template, parameters = searching.page(
            search, compares_rows=dialect.compares_rows, takes_hints=dialect.takes_hints
        )
        return searching.found(dialect, search, self._fetch(template, parameters, once=True))

    def history(
        self, tenant: str, order_id: str, *, version: int | None = None, time: datetime | None = None
    ) -> list[EventRow]:
        """Return the events of an order by version, up to and including a version or a time."""
        parameters: list[Value] = [tenant, order_id]
        parameters += [value for value in (version, time) if value is not None]
        rows = self._fetch(records.history(version, time), parameters)
        return [records.event_row(self._dialect, row) for row in rows]

    def personal(self, tenant: str, order_id: str) -> list[PersonalRow]:
        """Return the personal rows of an order, erased ones as tombstones with empty data."""
        rows = self._fetch(records.READ_PERSONAL, (tenant, order_id))
        return sorted((records.personal_row(self._dialect, row) for row in rows), key=lambda row: row.id)

    def next_number(self, tenant: str) -> int:
        """Take the tenant's next order number: 1, 2, 3, … without gaps.

        Raises:
            ConfigurationError: There is no surrounding transaction, with which the number would go back.
        """
        if not self.in_transaction:
            raise ConfigurationError("An order number without gaps can be taken inside a transaction only.")
        with self._doing(Phase.READING):
            return self._dialect.next_number(self._executor, tenant)

    def forget_key(self, key: KeyReference, now: datetime) -> None:
        """Remove this record if it has expired by `now`, so that its key can be claimed again."""
        values = [*key, self._dialect.encode(now)]
        self._write(lambda executor: executor.execute(self._dialect.compile(records.FORGET_KEY), values))

    def forget_expired_keys(self, now: datetime, limit: int) -> int:
        """Remove at most `limit` records of any tenant that have expired by `now`; return how many."""
        values = [self._dialect.encode(now), limit]
        return self._write(lambda executor: self._dialect.delete_some(executor, KEYS, records.EXPIRED, values))

    @property
    def operations(self) -> SqlOperations:
        """The leased operations, written with everything else the storage writes."""
        return SqlOperations(self._dialect, self._fetch, self._write)

    @contextmanager
    def savepoint(self) -> Generator[None]:
        """Surround a block inside a transaction: if it raises, what it wrote and counted is undone."""
        if not self.in_transaction:
            yield
            return
        self._depth += 1
        try:
            with self.inside(Savepoint(self._executor, f"orderkit_command_{self._depth}")):
                yield
        finally:
            self._depth -= 1

    @contextmanager
    def inside(self, transaction: Bracket) -> Generator[None]:
        """Surround a block with a transaction: committed at its end, rolled back if it raises."""
        with self._doing(transaction.writing):
            transaction.open()
        try:
            yield
            self._end(transaction)
        except BaseException as error:
            self._undo(transaction, error)
            raise

    def _end(self, transaction: Bracket) -> None:
        if self.aborted or self.damaged:
            raise StorageFailed("A statement inside the transaction failed, so that it was rolled back as a whole.")
        with self._doing(transaction.keeping):
            transaction.keep()

    def _fetch(self, template: str, parameters: Iterable[Value], *, once: bool = False) -> Rows:
        """Run a statement that no savepoint surrounds; `once` if its plan depends on the values."""
        statement, values = self._dialect.compile(template), [self._dialect.encode(value) for value in parameters]
        with self._doing(Phase.READING):
            if once:
                return execute_once(self._executor, statement, values)
            return self._executor.execute(statement, values)

    def _look_up(self, template: str, parameters: Iterable[Value]) -> Rows:
        """Read many rows: a plan made while the tables were small would read them all."""
        return self._fetch(template, parameters, once=True)

    def _write(self, write: Callable[[Executor], T]) -> T:
        """Write a row or a batch of them as a commit of its own."""
        return self._bracketed(lambda: (write(self._executor), True), self._bracket)

    def _bracketed(self, write: Callable[[], tuple[T, bool]], bracket: Bracket, changes: ChangeSet | None = None) -> T:
        """Write inside a bracket; undo what `write` says is not to be kept."""
        with self._doing(Phase.WRITING, changes):
            bracket.open()
            try:
                self.phase = bracket.writing
                result, keep = write()
                self.phase = bracket.keeping if keep else Phase.WRITING
                if keep:
                    bracket.keep()
                else:
                    bracket.undo()
            except BaseException as error:
                self._undo(bracket, error)
                raise
        return result

    @contextmanager
    def _doing(self, phase: Phase, changes: ChangeSet | None = None) -> Generator[None]:
        """Turn whatever a driver raises into an error of orderkit, and remember what it did to the connection."""
        if self.is_foreign:
            raise StorageFailed("The block was entered in another process. Open a new one after a fork.")
        if self.ended:
            raise TransactionEnded
        if self.in_transaction and (self.aborted or self.damaged):
            # PostgreSQL says so itself; MariaDB may have ended the transaction, and would keep what comes now.
            raise failure(Fault(FaultKind.ABORTED, "aborted"), phase)
        self.phase = phase
        try:
            yield
        except OrderKitError:
            raise
        except Exception as error:
            raise self._failure(error, changes) from error
        except BaseException:
            self.damaged = True
            raise
        finally:
            # What broke in the middle of a commit is in doubt while its connection is replaced, too.
            if not (self.damaged and self.phase is Phase.COMMITTING):
                self.phase = Phase.READING

    def _failure(self, error: Exception, changes: ChangeSet | None) -> OrderKitError:
        fault = self._dialect.fault(error)
        self.damaged = self.damaged or fault.kind is FaultKind.LOST
        self.aborted = self.aborted or (self.in_transaction and self.phase is Phase.READING)
        return failure(fault, self.phase, changes, self._is_taken)

    def _is_taken(self, order: OrderRow, column: str) -> bool:
        """Tell whether a stored order has this order's id, or another one its number."""
        template = records.TAKEN_ID if column == "id" else records.TAKEN_NUMBER
        parameters = (order.tenant, order.id) if column == "id" else (order.tenant, order.number, order.id)
        try:
            latest = self._dialect.latest if self.in_transaction else ""
            return bool(self._executor.execute(self._dialect.compile(template + latest), parameters))
        except Exception:  # noqa: BLE001 - the error that led here is the one to tell
            self.damaged = True
            return False

    def _undo(self, bracket: Bracket, error: BaseException) -> None:
        """Undo as far as can be; a connection on which that fails is not used again."""
        if self.is_foreign:
            return
        was_damaged, self.damaged = self.damaged, True
        try:
            bracket.undo()
        except Exception:  # noqa: BLE001 - the error that led here is the one to tell
            if isinstance(bracket, Savepoint):
                self._spoil()
                error.add_note("The database ended the surrounding transaction, too: repeat it from its beginning.")
            return
        self.damaged, self.aborted = was_damaged, False
