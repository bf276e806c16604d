"""A storage over another one: the base of those that do a part of it in another way."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime

from orderkit.orders.ports import Found, OrderStorage, Search
from orderkit.orders.tables import EventRow, PersonalRow
from orderkit.unit_of_work.changes import ChangeSet, KeyReference
from orderkit.unit_of_work.storage import Outcome, Reading, Readings, StoredKey


class ForwardingStorage:
    """Do everything as the other storage does it; subclasses say which, and what they do themselves."""

    @property
    def storage(self) -> OrderStorage:
        """The other storage."""
        raise NotImplementedError

    @property
    def in_transaction(self) -> bool:
        """Whether writes become durable only with the end of a surrounding transaction."""
        return self.storage.in_transaction

    def savepoint(self) -> AbstractContextManager[None]:
        """Surround a block inside a transaction: if it raises, what it wrote and counted is undone."""
        return self.storage.savepoint()

    def read(self, tenant: str, order_id: str, *, key: KeyReference | None = None, lock: bool = False) -> Reading:
        """Read an order and the record of an idempotency key."""
        return self.storage.read(tenant, order_id, key=key, lock=lock)

    def read_key(self, key: KeyReference) -> StoredKey | None:
        """Read the record of an idempotency key."""
        return self.storage.read_key(key)

    def read_many(self, tenant: str, order_ids: Sequence[str], keys: Sequence[KeyReference] = ()) -> Readings:
        """Read several orders and the records of several keys."""
        return self.storage.read_many(tenant, order_ids, keys)

    def commit(self, changes: ChangeSet) -> Outcome:
        """Write a change set: all of it, or nothing."""
        return self.storage.commit(changes)

    def commit_each(self, changes: Sequence[ChangeSet]) -> list[Outcome]:
        """Write several change sets by one commit, each of them wholly or not at all."""
        return self.storage.commit_each(changes)

    def search(self, search: Search) -> list[Found]:
        """Return the orders of a page."""
        return self.storage.search(search)

    def history(
        self, tenant: str, order_id: str, *, version: int | None = None, time: datetime | None = None
    ) -> list[EventRow]:
        """Return the events of an order."""
        return self.storage.history(tenant, order_id, version=version, time=time)

    def personal(self, tenant: str, order_id: str) -> list[PersonalRow]:
        """Return the personal rows of an order."""
        return self.storage.personal(tenant, order_id)

    def next_number(self, tenant: str) -> int:
        """Take the tenant's next order number."""
        return self.storage.next_number(tenant)

    def forget_key(self, key: KeyReference, now: datetime) -> None:
        """Remove this record if it has expired."""
        self.storage.forget_key(key, now)

    def forget_expired_keys(self, now: datetime, limit: int) -> int:
        """Remove some records that have expired; return how many."""
        return self.storage.forget_expired_keys(now, limit)
