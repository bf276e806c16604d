"""What idempotency needs of a storage, beyond reading and claiming a key."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from orderkit.unit_of_work.changes import KeyReference


class KeyStorage(Protocol):
    """Forget idempotency records that have expired."""

    def forget_key(self, key: KeyReference, now: datetime) -> None:
        """Remove this record if it has expired by `now`, so that its key can be claimed again."""
        ...

    def forget_expired_keys(self, now: datetime, limit: int) -> int:
        """Remove at most `limit` records of any tenant that have expired by `now`; return how many."""
        ...
