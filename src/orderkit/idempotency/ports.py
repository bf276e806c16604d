"""What idempotency needs of a storage, beyond reading and claiming a key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from orderkit.idempotency.leases import Hold, NewOperation, OperationRow, Progress, StoredOperation
from orderkit.unit_of_work.changes import KeyReference


class KeyStorage(Protocol):
    """Forget idempotency records that have expired."""

    def forget_key(self, key: KeyReference, now: datetime) -> None:
        """Remove this record if it has expired by `now`, so that its key can be claimed again."""
        ...

    def forget_expired_keys(self, now: datetime, limit: int) -> int:
        """Remove at most `limit` records of any tenant that have expired by `now`; return how many."""
        ...


class OperationStorage(Protocol):
    """Keep leased operations.

    Every method is a commit of its own, or part of the surrounding transaction where there is one. Times are those
    of the storage's own clock, on which all processes agree; a `now` that is given, as tests do, is used in its
    place. Whatever fails raises one of the storage errors of `orderkit.errors`.
    """

    def start(
        self, operation: NewOperation, *, lease: timedelta, now: datetime | None = None
    ) -> StoredOperation | None:
        """Insert an operation, held under the fence 1 for the length of a lease, unless its key is taken.

        Returns:
            None if it was inserted, and otherwise what is there, expired or not.

        Raises:
            StorageBusy: What had the key is no longer there, or cannot be seen from this transaction.
        """
        ...

    def read(self, key: KeyReference, *, now: datetime | None = None) -> StoredOperation | None:
        """Read an operation, expired or not."""
        ...

    def take_over(
        self, hold: Hold, *, owner: str, lease: timedelta, now: datetime | None = None
    ) -> OperationRow | None:
        """Hold an operation whose lease has run out, under the next fence.

        Args:
            hold: The claim that let its lease run out.
            owner: A random id of the new claim.
            lease: How long it is held.
            now: The time to be used in place of the storage's own clock.

        Returns:
            What is there now: its holder may have come further since it was looked at. None if it was not in progress,
            this claim did not hold it or its lease had not run out; nothing was written then.
        """
        ...

    def advance(self, hold: Hold, *, progress: Progress, lease: timedelta, now: datetime | None = None) -> bool:
        """Write how far an operation has come, and renew its lease.

        Inside a transaction it is locked until the end, so that whatever else the transaction writes is written by
        whoever holds the operation, or not at all.

        Returns:
            Whether it was in progress and this claim held it still. Otherwise nothing was written.
        """
        ...

    def renew(self, hold: Hold, *, lease: timedelta, now: datetime | None = None) -> bool:
        """Have the lease of an operation run out so long from now; at once if that is no time at all.

        Returns:
            Whether it was in progress and this claim held it still. Otherwise nothing was written.
        """
        ...

    def drop(self, hold: Hold) -> bool:
        """Remove an operation that had no effect yet, so that its key is free.

        Returns:
            Whether it was in progress and this claim held it still. Otherwise nothing was removed.
        """
        ...

    def forget(self, key: KeyReference, *, now: datetime | None = None) -> bool:
        """Remove an operation, if it has finished and expired; return whether that was so."""
        ...

    def stuck(
        self, scopes: Sequence[str], *, grace: timedelta, limit: int, now: datetime | None = None
    ) -> list[KeyReference]:
        """Find operations of any tenant that are in progress although nobody is at work on them.

        Args:
            scopes: Which operations.
            grace: For how long their lease must have run out.
            limit: How many at most.
            now: The time to be used in place of the storage's own clock.

        Returns:
            Those whose lease has run out first come first.
        """
        ...

    def forget_expired(self, limit: int, *, now: datetime | None = None) -> int:
        """Remove at most `limit` operations of any tenant that have finished and expired; return how many."""
        ...


@runtime_checkable
class KeepsOperations(Protocol):
    """A storage that also keeps leased operations."""

    @property
    def operations(self) -> OperationStorage:
        """The leased operations, written with everything else the storage writes."""
        ...
