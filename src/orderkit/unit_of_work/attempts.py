"""Attempts: which scripts are run again after which failure, how, and after how long."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from orderkit.clock import Clock, IdSource, SystemClock
from orderkit.errors import IdempotencyInFlight, SchemaMissing, StorageBusy, VersionConflict
from orderkit.unit_of_work.storage import Storage
from orderkit.unit_of_work.unit import Context, KeyTaken, Restart, UnitOfWork

T = TypeVar("T")
StorageT = TypeVar("StorageT", bound=Storage)

MAX_ATTEMPTS = 8
"""How often a script is run at most. From the second time on it locks what it reads, so few need a third."""

PATIENCE = 5.0
"""Seconds after which no further attempt is begun: waits for locks do not add up to a multiple of their time-out."""

Script = Callable[[UnitOfWork[StorageT]], T]
"""A transaction script: a plain function of a unit of work that can be run again from its start."""

AGAIN = (VersionConflict, StorageBusy, KeyTaken, Restart)
"""What may lead to another attempt; `Attempts.after` decides."""


class Tape:
    """An id source that plays the same ids again at every attempt."""

    def __init__(self, ids: IdSource) -> None:
        self._ids = ids
        self._minted: list[tuple[str, str]] = []
        self._position = 0

    def new(self, prefix: str) -> str:
        """Return the next id: one minted by an earlier attempt, or a new one."""
        position = self._position
        self._position = position + 1
        if position < len(self._minted) and self._minted[position][0] == prefix:
            return self._minted[position][1]
        del self._minted[position:]
        minted = self._ids.new(prefix)
        self._minted.append((prefix, minted))
        return minted

    def rewind(self) -> None:
        """Start again from the first id."""
        self._position = 0


class Attempts:
    """The attempts of one unit of work: time and ids are minted once, for all of them.

    Attributes:
        number: Which attempt is next, from 1.
        transaction: Whether it needs a real transaction.
    """

    def __init__(self, context: Context, clock: Clock, ids: IdSource, *, deferred: bool = False) -> None:
        self.number = 1
        self.transaction = False
        self._context = context
        self._now: datetime = clock.now()
        self._own_time = not isinstance(clock, SystemClock)
        self._tape = Tape(ids)
        self._deferred = deferred
        self._begun = time.monotonic()
        self._created = False
        self._met: set[str] = set()

    def perform(self, script: Script[StorageT, T], storage: StorageT) -> T:
        """Run the script once over a storage and write what it gathered."""
        self._tape.rewind()
        unit = UnitOfWork(
            storage,
            self._context,
            now=self._now,
            ids=self._tape,
            locking=self.transaction and self.number > 1,
            deferred=self._deferred,
            own_time=self._own_time,
        )
        unit.lock(self._met)
        try:
            result = script(unit)
            unit.flush()
        finally:
            self._met |= unit.met
            unit.ended = True
        return result

    def perform_once(self, script: Script[StorageT, T], storage: StorageT) -> T:
        """Run the script over a storage whose transaction is not ours to begin again.

        Raises:
            OrderKitError: What another attempt might have mended is raised as it is.
        """
        try:
            with storage.savepoint():
                return self.perform(script, storage)
        except AGAIN as error:
            raise _final(error) from error

    def after(self, error: BaseException) -> float:
        """Return the seconds to wait before the next attempt.

        Raises:
            Exception: The error itself, if there is to be none.
        """
        over = self.number >= MAX_ATTEMPTS or time.monotonic() - self._begun >= PATIENCE
        if over or not _worth_another(error):
            raise _final(error)
        self.number += 1
        if isinstance(error, Restart):
            self.transaction = self.transaction or error.transaction
            return 0.0
        self.transaction = True
        if isinstance(error, StorageBusy):
            return random.uniform(0.0, 0.005 * 2**self.number)  # noqa: S311  # jitter, not a secret
        return 0.0

    def after_missing_tables(self, error: SchemaMissing, create: bool) -> float:
        """Return the seconds to wait before the attempt that follows the creation of the tables.

        Raises:
            SchemaMissing: They are not to be created, or have been and are missed still.
        """
        if not create or self._created:
            raise error
        self._created = True
        return 0.0


def _worth_another(error: BaseException) -> bool:
    if isinstance(error, VersionConflict):
        return not error.stated
    return isinstance(error, StorageBusy | KeyTaken | Restart)


def _final(error: BaseException) -> BaseException:
    """Return the error as the caller may see it."""
    if isinstance(error, KeyTaken):
        return IdempotencyInFlight(error.claim.key)
    if isinstance(error, Restart):
        return StorageBusy("The work could not be completed in a bounded number of attempts; nothing was changed.")
    return error
