"""What surrounds a write to make it atomic: nothing, a savepoint or a transaction."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from orderkit.errors import StorageBusy
from orderkit.storage.sql.execution import Executor
from orderkit.storage.sql.failures import Phase
from orderkit.storage.sql.locks import WriteLock


class Bracket(Protocol):
    """Open, then either keep or undo. A `keep` that raises is followed by an `undo`."""

    @property
    def writing(self) -> Phase:
        """What a write inside it is: a commit, if there is nothing around it."""
        ...

    @property
    def keeping(self) -> Phase:
        """What its end is."""
        ...

    def open(self) -> None:
        """Begin."""
        ...

    def keep(self) -> None:
        """End, keeping what was written since."""
        ...

    def undo(self) -> None:
        """End, undoing what was written since."""
        ...


class Autocommit:
    """Nothing: the statement is a transaction of its own."""

    writing = keeping = Phase.COMMITTING

    def open(self) -> None:
        """Do nothing."""

    def keep(self) -> None:
        """Do nothing."""

    def undo(self) -> None:
        """Do nothing."""


class Savepoint:
    """A savepoint in a transaction that somebody else ends.

    Those that nest have names of their own: MariaDB forgets a savepoint when another one takes its name.
    """

    writing = keeping = Phase.WRITING

    def __init__(self, executor: Executor, name: str = "orderkit_write") -> None:
        self._executor = executor
        self._name = name

    def open(self) -> None:
        """Set the savepoint."""
        self._executor.execute(f"SAVEPOINT {self._name}")

    def keep(self) -> None:
        """Forget the savepoint."""
        self._executor.execute(f"RELEASE SAVEPOINT {self._name}")

    def undo(self) -> None:
        """Go back to the savepoint and forget it."""
        self._executor.execute(f"ROLLBACK TO SAVEPOINT {self._name}")
        self._executor.execute(f"RELEASE SAVEPOINT {self._name}")


class Transaction:
    """A transaction, on SQLite under the lock of its file."""

    writing = Phase.WRITING
    keeping = Phase.COMMITTING

    def __init__(self, executor: Executor, begin: str, lock: WriteLock | None = None, timeout: float = 0) -> None:
        self._executor = executor
        self._begin = begin
        self._lock = lock
        self._timeout = timeout
        self._holds_lock = False

    def open(self) -> None:
        """Take the lock and begin."""
        if self._lock is not None:
            take(self._lock, self._timeout)
            self._holds_lock = True
        try:
            self._executor.execute(self._begin)
        except BaseException:
            self._release()
            raise

    def keep(self) -> None:
        """Commit and give the lock back."""
        self._executor.execute("COMMIT")
        self._release()

    def undo(self) -> None:
        """Roll back and give the lock back."""
        try:
            self._executor.execute("ROLLBACK")
        finally:
            self._release()

    def _release(self) -> None:
        if self._lock is not None and self._holds_lock:
            self._holds_lock = False
            self._lock.release()


def take(lock: WriteLock, timeout: float) -> None:
    """Take a lock within `timeout` seconds.

    Raises:
        StorageBusy: Others held it for longer.
    """
    if not lock.acquire(timeout):
        raise StorageBusy(f"Others held the database file for {timeout:g} seconds; nothing was written. Repeat it.")


@contextmanager
def held(lock: WriteLock, timeout: float) -> Generator[None]:
    """Hold a lock for the length of a block.

    Raises:
        StorageBusy: Others held it for longer than `timeout` seconds.
    """
    take(lock, timeout)
    try:
        yield
    finally:
        lock.release()
