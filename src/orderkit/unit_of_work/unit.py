"""The unit of work: reads, and the changes gathered from them, of one attempt of one script."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, TypeVar

import attrs

from orderkit.clock import IdSource
from orderkit.domain.codec import ORDER_SCHEMA_VERSION, decode_order
from orderkit.domain.order import Order
from orderkit.errors import AlreadyExists, LeaseLost, NewerSchema, OrderNotFound, VersionConflict
from orderkit.unit_of_work.changes import Advance, ChangeSet, Guard, KeyClaim, KeyReference
from orderkit.unit_of_work.storage import OrderRecord, Outcome, Storage, StoredKey

StorageT_co = TypeVar("StorageT_co", bound=Storage, covariant=True)


# What steers attempts is no `Exception`: an `except Exception` in a function given to `kit.run` must not stop
# it on its way, or half of a command would be written.


class Restart(BaseException):
    """Ask for the script to be run again from its start, since this attempt cannot hold what it wants.

    Attributes:
        transaction: Whether the next attempt needs a real transaction.
    """

    def __init__(self, *, transaction: bool) -> None:
        super().__init__()
        self.transaction = transaction


class KeyTaken(BaseException):
    """The claimed idempotency key was taken, and nothing was written.

    Attributes:
        claim: The claim that failed.
        stored: The record that stands in its place, where it was visible already.
    """

    def __init__(self, claim: KeyClaim, stored: StoredKey | None) -> None:
        super().__init__()
        self.claim = claim
        self.stored = stored


@attrs.frozen
class Context:
    """On whose behalf work is done: bound by the application, kept on every event.

    Attributes:
        tenant: Whose data is seen and written.
        actor: Who does it.
        correlation_id: The request or process it belongs to.
        causation_id: The message or event that led to it.
    """

    tenant: str = "default"
    actor: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None


class UnitOfWork(Generic[StorageT_co]):
    """Read orders, and gather what follows into one change set that is written by one commit.

    A script is a plain function of a unit of work. It may be run more than once: whatever it does, it
    does through the unit of work, and time and ids stay the same from attempt to attempt.

    Args:
        storage: Where to read from and to write to.
        context: On whose behalf.
        now: The time of the whole unit of work, in UTC.
        ids: Where new ids come from; the same ones at every attempt.
        locking: Lock what is read: an earlier attempt lost a race.
        deferred: Gather several commands for one commit at the end, rather than writing each.
        own_time: The time is by a clock that the application gave, rather than by that of this machine.

    Attributes:
        leases_now: The time by which leases are judged; None for that of the storage, on which processes agree.
        chosen: Unique values nobody asked for, such as random numbers: where one is taken, another is chosen.
        counted: How many numbers without gaps were taken.
        met: The ids of the orders that were read from the storage.
        replayed: The last command was answered by what its key had led to before.
        ended: The script is over; what belonged to it must not be used any more.
    """

    def __init__(
        self,
        storage: StorageT_co,
        context: Context,
        *,
        now: datetime,
        ids: IdSource,
        locking: bool = False,
        deferred: bool = False,
        own_time: bool = False,
    ) -> None:
        self.storage = storage
        self.context = context
        self.tenant = context.tenant
        self.now = now
        self.leases_now = now if own_time else None
        self.ids = ids
        self.changes = ChangeSet()
        self.chosen: set[str] = set()
        self.counted = 0
        self.met: set[str] = set()
        self.replayed = False
        self.ended = False
        self._locking = locking
        self._deferred = deferred and not storage.in_transaction
        self._staged: dict[str, Order] = {}
        self._unsaveable: set[str] = set()

    def read(self, order_id: str, key: KeyReference | None = None) -> tuple[Order | None, StoredKey | None]:
        """Return an order as staged or stored, and the record of a key found by the same statement."""
        staged = self._staged.get(order_id)
        if staged is not None:
            return staged, self.storage.read_key(key) if key is not None else None
        self.met.add(order_id)
        reading = self.storage.read(self.tenant, order_id, key=key, lock=self._locking)
        return (None if reading.order is None else self.decode(order_id, reading.order)), reading.stored

    def lock(self, order_ids: set[str]) -> None:
        """Lock orders that an earlier attempt has met, by id: those who lock in one order never deadlock."""
        if self._locking and len(order_ids) > 1:
            for order_id in sorted(order_ids):
                self.storage.read(self.tenant, order_id, lock=True)

    def get(self, order_id: str) -> Order:
        """Return an order as staged or stored.

        Raises:
            OrderNotFound: There is none.
        """
        order, _ = self.read(order_id)
        if order is None:
            raise OrderNotFound(order_id)
        return order

    def decode(self, order_id: str, record: OrderRecord) -> Order:
        """Return the order of a record, remembering if it must not be saved again."""
        if record.schema_version > ORDER_SCHEMA_VERSION:
            self._unsaveable.add(order_id)
        return decode_order(record.document, record.metadata, record.schema_version)

    def guard(self, order: Order) -> None:
        """Pin an order that was only read: the commit fails if it has moved on by then."""
        if order.id not in self._staged:
            pin = Guard(self.tenant, order.id, order.version)
            if pin not in self.changes.guards:
                self.changes.guards.append(pin)

    def stage(self, before: Order | None, after: Order) -> ChangeSet:
        """Take an order's new state into the unit of work and return the change set its rows belong in.

        Raises:
            NewerSchema: The order was written by a newer release.
            Restart: This order was staged before, and only a transaction can hold two writes of it.
        """
        if after.id in self._unsaveable:
            raise NewerSchema(
                f"Order {after.id!r} was written by a newer release of orderkit; it is unchanged. Upgrade to change it."
            )
        if self._deferred and after.id in self._staged:
            raise Restart(transaction=True)
        if before is not None:
            self.guard(before)
        self._staged[after.id] = after
        return self.changes

    def claim(self, claim: KeyClaim) -> None:
        """Claim an idempotency key with the commit.

        Raises:
            Restart: Another key is claimed already, and only a transaction can hold two.
        """
        if self.changes.claim is not None or self.changes.advance is not None:
            raise Restart(transaction=True)
        self.changes.claim = claim

    def advance(self, advance: Advance) -> None:
        """Have a leased operation move on with the commit, which writes nothing if its claim holds it no more.

        Raises:
            Restart: An idempotency key is claimed already, and only a transaction can hold both.
        """
        if self.changes.claim is not None:
            raise Restart(transaction=True)
        self.changes.advance = advance

    @property
    def reads_first(self) -> bool:
        """Whether a key is looked up before it is claimed.

        Inside a transaction a failed claim is dear, and while commands are gathered the next one may build on
        the answer. Otherwise the claim itself finds out, in the one statement that writes.
        """
        return self._deferred or self.storage.in_transaction

    def settle(self) -> None:
        """Have the database show what was gathered, before a statement that would not see it otherwise.

        Raises:
            Restart: That takes a real transaction.
        """
        if self.changes:
            self.require_transaction()
            self.flush()

    def require_transaction(self) -> None:
        """Go on only inside a real transaction.

        Raises:
            Restart: There is none: the script is run again inside one.
        """
        if not self.storage.in_transaction:
            raise Restart(transaction=True)

    def write_now(self) -> None:
        """Have this command written when it ends: it uses a value of its own that may be taken, and says so itself.

        Raises:
            Restart: Commands are gathered: the script is run again inside a transaction.
        """
        if self._deferred:
            raise Restart(transaction=True)

    def finish(self) -> None:
        """End a command: write what it gathered, unless commands are gathered for one commit."""
        if not self._deferred:
            self.flush()

    def flush(self) -> None:
        """Write everything gathered so far.

        Raises:
            VersionConflict: A guarded order has moved on.
            LeaseLost: The claim of a leased operation holds it no more.
            KeyTaken: The claimed key is not free.
        """
        changes = self.changes
        if not changes:
            return
        self.changes = ChangeSet()
        outcome = self._commit(changes)
        if outcome.committed:
            if not self._deferred:
                self._staged.clear()
            return
        self._staged.clear()
        if not outcome.guards_held:
            raise self._conflict(changes.guards)
        if changes.advance is not None and not outcome.lease_held:
            raise LeaseLost(changes.advance.key.key, changes.advance.fence)
        if changes.claim is None:
            raise AssertionError("a change set without a claim is written if its guards hold")
        raise KeyTaken(changes.claim, outcome.stored)

    def _conflict(self, guards: list[Guard]) -> VersionConflict:
        """Return the conflict of the first guarded order that is found to have moved on."""
        for guard in guards[1:]:
            found = self.storage.read(guard.tenant, guard.order_id).order
            if found is None or found.version != guard.version:
                return VersionConflict(guard.order_id, guard.version, found and found.version)
        return VersionConflict(guards[0].order_id, guards[0].version)

    def _commit(self, changes: ChangeSet) -> Outcome:
        try:
            return self.storage.commit(changes)
        except AlreadyExists as error:
            if error.value in self.chosen:
                raise Restart(transaction=False) from error
            raise
