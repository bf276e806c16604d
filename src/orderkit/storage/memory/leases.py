"""Leased operations in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

from orderkit.idempotency.leases import (
    OPERATIONS,
    Hold,
    NewOperation,
    OperationRow,
    Progress,
    StoredOperation,
    advance_of,
)
from orderkit.storage.memory.layer import Layer
from orderkit.unit_of_work.changes import Advance, KeyReference

T = TypeVar("T")


class Run(Protocol):
    """Run an operation on the rows there are."""

    def __call__(self, operation: Callable[[Layer], T], /) -> T:
        """Return what the operation returns."""
        ...


class MemoryOperations:
    """Keep leased operations in memory; times are those of this machine's clock.

    Args:
        look: Runs what only reads.
        change: Runs what writes if it returns true: a transaction runs it again when it ends, and is refused if it
            returns something else by then.
    """

    def __init__(self, look: Run, change: Callable[[Callable[[Layer], bool]], bool]) -> None:
        self._look = look
        self._change = change

    def start(
        self, operation: NewOperation, *, lease: timedelta, now: datetime | None = None
    ) -> StoredOperation | None:
        """Insert an operation unless its key is taken; return what is there."""
        time = _time(now)
        row = OperationRow(
            **operation.values(),  # type: ignore[arg-type]  # the columns by name
            locked_until=time + lease,
            created_at=time,
            updated_at=time,
            expires_at=time + operation.retention,
        )

        def insert(layer: Layer) -> bool:
            free = _find(layer, row.reference) is None
            if free:
                layer.insert(OPERATIONS, row)
            return free

        return None if self._change(insert) else self.read(row.reference, now=now)

    def read(self, key: KeyReference, *, now: datetime | None = None) -> StoredOperation | None:
        """Read an operation, expired or not."""
        time = _time(now)
        row = self._look(lambda layer: _find(layer, key))
        return None if row is None else StoredOperation(row, time)

    def take_over(
        self, hold: Hold, *, owner: str, lease: timedelta, now: datetime | None = None
    ) -> OperationRow | None:
        """Hold an operation whose lease has run out, under the next fence."""
        time = _time(now)
        taken: list[OperationRow] = []

        def take(row: OperationRow) -> OperationRow | None:
            if row.locked_until > time:
                return None
            taken[:] = [
                row._replace(
                    owner=owner,
                    fence=row.fence + 1,
                    attempts=row.attempts + 1,
                    locked_until=time + lease,
                    updated_at=time,
                )
            ]
            return taken[0]

        return taken[0] if self._replace(hold, take) else None

    def advance(self, hold: Hold, *, progress: Progress, lease: timedelta, now: datetime | None = None) -> bool:
        """Write how far an operation has come, and renew its lease."""
        wanted = advance_of(hold, progress, lease, _time(now))
        return self._change(lambda layer: advance(layer, wanted))

    def renew(self, hold: Hold, *, lease: timedelta, now: datetime | None = None) -> bool:
        """Have the lease of an operation run out so long from now."""
        time = _time(now)
        return self._replace(hold, lambda row: row._replace(locked_until=time + lease))

    def drop(self, hold: Hold) -> bool:
        """Remove an operation that had no effect yet, so that its key is free."""
        return self._remove(hold.key, lambda row: not row.finished and row.hold == hold)

    def forget(self, key: KeyReference, *, now: datetime | None = None) -> bool:
        """Remove an operation, if it has finished and expired; return whether that was so."""
        time = _time(now)
        return self._remove(key, lambda row: row.finished and row.expires_at <= time)

    def stuck(
        self, scopes: Sequence[str], *, grace: timedelta, limit: int, now: datetime | None = None
    ) -> list[KeyReference]:
        """Find operations that are in progress although nobody is at work on them, the longest abandoned first."""
        latest = _time(now) - grace
        abandoned = sorted(
            (row.locked_until, row.reference)
            for row in self._look(_all)
            if not row.finished and row.scope in scopes and row.locked_until <= latest
        )
        return [reference for _, reference in abandoned[:limit]]

    def forget_expired(self, limit: int, *, now: datetime | None = None) -> int:
        """Remove some operations that have finished and expired; return how many."""
        time = _time(now)
        expired = [row.reference for row in self._look(_all) if row.finished and row.expires_at <= time]
        return sum(self.forget(reference, now=time) for reference in expired[:limit])

    def _replace(self, hold: Hold, change: Callable[[OperationRow], OperationRow | None]) -> bool:
        """Change an operation if this claim holds it, and the change is one."""
        return self._change(lambda layer: _replace(layer, hold, change))

    def _remove(self, key: KeyReference, condition: Callable[[OperationRow], bool]) -> bool:
        def remove(layer: Layer) -> bool:
            row = _find(layer, key)
            removable = row is not None and condition(row)
            if removable:
                layer.delete(OPERATIONS, key)
            return removable

        return self._change(remove)


def advance(layer: Layer, wanted: Advance) -> bool:
    """Move an operation on, if this claim holds it; tell whether it did."""
    time = _time(wanted.now)
    changed = {**wanted.values, **{column: time + lapse for column, lapse in wanted.lapses.items()}}
    hold = Hold(wanted.key, wanted.owner, wanted.fence)
    return _replace(layer, hold, lambda row: row._replace(**changed))  # type: ignore[arg-type]  # by name


def _replace(layer: Layer, hold: Hold, change: Callable[[OperationRow], OperationRow | None]) -> bool:
    row = _find(layer, hold.key)
    changed = None if row is None or row.finished or row.hold != hold else change(row)
    if changed is not None:
        layer.update(OPERATIONS, changed)
    return changed is not None


def _time(now: datetime | None) -> datetime:
    return datetime.now(UTC) if now is None else now


def _find(layer: Layer, key: KeyReference) -> OperationRow | None:
    row = layer.row(OPERATIONS, key)
    return None if row is None else OperationRow._make(row)


def _all(layer: Layer) -> list[OperationRow]:
    return [OperationRow._make(row) for row in layer.all(OPERATIONS)]
