"""A storage that writes nothing yet: it keeps what is committed, for one commit of many."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from datetime import datetime

from orderkit.orders.forwarding import ForwardingStorage
from orderkit.orders.ports import OrderStorage
from orderkit.unit_of_work.batches import WRITTEN
from orderkit.unit_of_work.changes import ChangeSet, KeyReference
from orderkit.unit_of_work.storage import Outcome, Reading, Readings, StoredKey
from orderkit.unit_of_work.unit import Restart


class Gathering(ForwardingStorage):
    """Answer from what was read at once, and keep what one command after the other commits.

    What cannot be foreseen restarts the script, which is then run alone: a counted number, a second commit of one
    command, a key that has expired.

    Args:
        storage: Where everything else is read.
        readings: The orders and keys that the commands speak of.
    """

    def __init__(self, storage: OrderStorage, readings: Readings) -> None:
        self._storage = storage
        self._readings = readings
        self._changes: ChangeSet | None = None

    @property
    def storage(self) -> OrderStorage:
        """The storage that everything else is read from."""
        return self._storage

    @property
    def in_transaction(self) -> bool:
        """Whether writes become durable later only: they do, by the common commit."""
        return True

    def take(self) -> ChangeSet | None:
        """Return what was committed since the last time, if anything was."""
        changes, self._changes = self._changes, None
        return changes

    def savepoint(self) -> AbstractContextManager[None]:
        """Return a block that does nothing: nothing is written."""
        return nullcontext()

    def read(self, tenant: str, order_id: str, *, key: KeyReference | None = None, lock: bool = False) -> Reading:
        """Return an order and the record of a key as they were read."""
        return Reading(self._readings.orders.get(order_id), None if key is None else self.read_key(key))

    def read_key(self, key: KeyReference) -> StoredKey | None:
        """Return the record of a key as it was read."""
        return self._readings.keys.get(key)

    def commit(self, changes: ChangeSet) -> Outcome:
        """Keep a change set."""
        if self._changes is not None:
            raise Restart(transaction=True)
        self._changes = changes
        return WRITTEN

    def next_number(self, tenant: str) -> int:
        """Restart: a number without gaps goes back with its order alone."""
        raise Restart(transaction=True)

    def forget_key(self, key: KeyReference, now: datetime) -> None:
        """Restart: a key that has expired is forgotten before it is claimed again."""
        raise Restart(transaction=False)
