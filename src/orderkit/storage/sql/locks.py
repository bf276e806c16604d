"""One writer at a time on a SQLite file: first among the threads of a process, then among processes.

SQLite lets one connection write at a time and makes the others poll. Waiting in a queue of threads instead
was measured at 0.43 of the time (32 threads), and a lock on a file beside the database keeps processes from
polling the database itself. Neither replaces SQLite's own lock: a foreign writer is still waited for.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from orderkit.forking import renew_after_fork, stop_before_fork

if TYPE_CHECKING:
    from sqlalchemy import Engine

_HAS_FILE_LOCKS = sys.platform != "win32"
"""A platform without them relies on SQLite's own lock between processes."""

if sys.platform != "win32":
    from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, lockf

_LONGEST_STOP = 1.0
"""Seconds a fork waits for a writer, which may be the very thread that forks."""

_SHORTEST_WAIT = 0.0002
_LONGEST_WAIT = 0.002

_TURNSTILE, _WRITING = 0, 1
"""The bytes of the side file that are locked."""


class WriteLock:
    """The right to write to one database file. It may be released by another thread than took it.

    Between processes it is a record lock (POSIX, `fcntl`) of one byte of a side file. A second byte is a
    turnstile that every writer passes through first: whoever waits for the file holds it, so that a busy
    process that has just released the file cannot take it again before the others had their turn.

    A child after a fork starts with a lock that nobody holds; record locks stay with the parent. A fork waits
    for the thread that writes: SQLite keeps a table of the locks of its process, and a child that inherits
    the lock of a writer there would wait for it for ever.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = None if path is None or not _HAS_FILE_LOCKS else path.with_name(path.name + "-orderkit-lock")
        self._threads = threading.Lock()
        self._file: int | None = None
        renew_after_fork(self)
        stop_before_fork(self)

    def stop(self) -> bool:
        """Keep the threads of this process from writing; return whether those who were at it have ended."""
        return self._threads.acquire(timeout=_LONGEST_STOP)

    def go_on(self) -> None:
        """Let the threads of this process write again."""
        self._threads.release()

    def renew(self) -> None:
        """Drop, in a child after a fork, what belongs to the parent."""
        self._threads = threading.Lock()
        self._close()

    def acquire(self, timeout: float) -> bool:
        """Take the lock, waiting at most `timeout` seconds; return whether it was had."""
        deadline = time.monotonic() + timeout
        if not self._threads.acquire(timeout=timeout):
            return False
        taken = False
        try:
            taken = self._path is None or self._acquire_file(self._path, deadline)
        finally:
            if not taken:
                self._threads.release()
        return taken

    def _acquire_file(self, path: Path, deadline: float) -> bool:
        """Take the lock between processes, polling: a wait inside the kernel has no time-out."""
        if self._file is None:
            self._file = _opened(path)
        if self._file is None:
            return True
        if not _lock(self._file, _TURNSTILE, deadline):
            return False
        try:
            return _lock(self._file, _WRITING, deadline)
        finally:
            _unlock(self._file, _TURNSTILE)

    def release(self) -> None:
        """Give the lock back; a child after a fork has none of its parent's to give."""
        if not self._threads.locked():
            return
        if self._file is not None:
            _unlock(self._file, _WRITING)
        self._threads.release()

    # Bound here: when the interpreter ends, the module's own names may be gone already.
    def _close(self, close: Callable[[int], None] = os.close) -> None:
        """Close the lock's file; the file itself stays, since removing it would split the lock in two."""
        descriptor, self._file = self._file, None
        if descriptor is not None:
            close(descriptor)

    __del__ = _close


def _opened(path: Path) -> int | None:
    """Open the lock's file; where there is no room or no right to, SQLite's own lock must do."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        return None


def _lock(descriptor: int, byte: int, deadline: float) -> bool:
    """Lock a byte of a file by the deadline; return whether it was had."""
    while not _try_lock(descriptor, byte):
        if time.monotonic() >= deadline:
            return False
        time.sleep(random.uniform(_SHORTEST_WAIT, _LONGEST_WAIT))  # noqa: S311 - spreads waiters, guards nothing
    return True


def _try_lock(descriptor: int, byte: int) -> bool:
    try:
        lockf(descriptor, LOCK_EX | LOCK_NB, 1, byte)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _unlock(descriptor: int, byte: int) -> None:
    lockf(descriptor, LOCK_UN, 1, byte)


_locks: weakref.WeakValueDictionary[Path, WriteLock] = weakref.WeakValueDictionary()


def write_lock(database: str) -> WriteLock:
    """Return the one lock of a database file in this process."""
    path = Path(database).resolve()
    # One step for the interpreter, and so without a lock that a fork could leave taken.
    return _locks.setdefault(path, WriteLock(path))


def write_lock_of(engine: Engine) -> WriteLock | None:
    """Return the lock of the engine's database file; None where the database's own locks are all there is."""
    database = engine.url.database
    if engine.dialect.name != "sqlite" or not database or database == ":memory:" or database.startswith("file:"):
        return None
    return write_lock(database)
