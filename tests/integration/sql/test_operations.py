"""Leased operations as statements: how many there are, and what comes of those that fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from uuid import uuid4

import attrs
import psycopg
import pytest

from orderkit.errors import CommitUnknown, StorageBusy
from orderkit.idempotency.leases import Hold, NewOperation, OperationState, Progress
from orderkit.idempotency.ports import OperationStorage
from orderkit.storage.sql import SqlBackend, open_backend
from orderkit.storage.sql.execution import Executor, Rows
from orderkit.unit_of_work.changes import KeyReference
from tests.integration.sql.gates import terminate, until, waiting

MINUTE = timedelta(minutes=1)
SUCCEEDED = Progress(OperationState.SUCCEEDED, "charged", "{}", "1", None, MINUTE)


class Abandoned(Exception):
    """Leaves a transaction."""


@attrs.frozen
class Listener:
    """Hand statements on, and remember how they begin."""

    executor: Executor
    said: list[str] = attrs.Factory(list)

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> Rows:
        self.said.append(sql.split(maxsplit=1)[0])
        return self.executor.execute(sql, parameters)

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        raise AssertionError("operations are written one at a time")


@pytest.fixture
def key() -> KeyReference:
    return KeyReference(f"tenant-{uuid4().hex}", "pay", "key-1")


def starting(key: KeyReference) -> NewOperation:
    return NewOperation(key, "v1:abc", "{}", "first", MINUTE)


def started(backend: SqlBackend, key: KeyReference, lease: timedelta = MINUTE) -> Hold:
    with backend.connect() as storage:
        assert storage.operations.start(starting(key), lease=lease) is None
    return Hold(key, "first", 1)


def said(backend: SqlBackend, work: Callable[[OperationStorage], object]) -> list[str]:
    """Return how the statements begin that a piece of work comes to."""
    with backend.connect() as storage:
        listener = storage._executor = Listener(storage._executor)
        work(storage.operations)
    return listener.said


# --- how many statements ------------------------------------------------------------------------


def test_on_postgresql_everything_is_one_statement(postgresql: str, key: KeyReference) -> None:
    backend, hold = open_backend(postgresql), Hold(key, "first", 1)
    assert isinstance(backend, SqlBackend)
    works: tuple[tuple[str, Callable[[OperationStorage], object]], ...] = (
        ("WITH", lambda kept: kept.start(starting(key), lease=MINUTE)),
        ("WITH", lambda kept: kept.start(starting(key), lease=MINUTE)),
        ("SELECT", lambda kept: kept.read(key)),
        ("UPDATE", lambda kept: kept.take_over(hold, owner="second", lease=MINUTE)),
        ("UPDATE", lambda kept: kept.renew(hold, lease=MINUTE)),
        ("UPDATE", lambda kept: kept.advance(hold, progress=SUCCEEDED, lease=MINUTE)),
        ("DELETE", lambda kept: kept.drop(hold)),
        ("DELETE", lambda kept: kept.forget(key)),
        ("SELECT", lambda kept: kept.stuck(["pay"], grace=MINUTE, limit=1)),
        ("DELETE", lambda kept: kept.forget_expired(1)),
    )
    for verb, work in works:
        assert said(backend, work) == [verb]
    backend.close()


# --- clocks -------------------------------------------------------------------------------------


def test_every_session_agrees_on_the_time(url: str, key: KeyReference) -> None:
    """A time zone of the session moves no lease."""
    backend = open_backend(url)
    assert isinstance(backend, SqlBackend)
    zones = {"postgresql": "SET TIME ZONE 'Asia/Tokyo'", "mysql": "SET time_zone = '+09:00'"}
    hold = started(backend, key)
    with backend.connect() as storage:
        statement = zones.get(backend.engine.dialect.name.replace("mariadb", "mysql"))
        if statement is not None:
            storage._executor.execute(statement)
        stored = storage.operations.read(key)
        assert stored is not None
        assert timedelta(0) < stored.row.locked_until - stored.seen_at <= MINUTE
        assert not storage.operations.take_over(hold, owner="second", lease=MINUTE)
        assert storage.operations.renew(hold, lease=-MINUTE)
        storage.damaged = True
    with backend.connect() as storage:
        assert storage.operations.take_over(hold, owner="second", lease=MINUTE)
    backend.close()


# --- what fails ---------------------------------------------------------------------------------


@contextmanager
def locked(backend: SqlBackend, hold: Hold) -> Iterator[None]:
    """Keep an operation locked by an unfinished transaction, which is taken back after the block."""
    with suppress(Abandoned), backend.connect(transaction=True) as storage:
        assert storage.operations.renew(hold, lease=MINUTE)
        yield
        raise Abandoned


def test_a_connection_that_goes_during_a_write_leaves_it_unknown(
    postgresql: str, session: psycopg.Connection, key: KeyReference
) -> None:
    backend = open_backend(postgresql, lock_timeout=30)
    assert isinstance(backend, SqlBackend)
    hold = started(backend, key)

    def advance() -> bool:
        with backend.connect() as storage:
            return storage.operations.advance(hold, progress=SUCCEEDED, lease=MINUTE)

    with ThreadPoolExecutor(1) as pool, locked(backend, hold):
        writing = pool.submit(advance)
        until(lambda: waiting(session))
        terminate(session)
        with pytest.raises(CommitUnknown):
            writing.result()
    assert advance()
    backend.close()


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_an_operation_that_somebody_has_locked_is_busy(
    request: pytest.FixtureRequest, kind: str, key: KeyReference
) -> None:
    backend = open_backend(request.getfixturevalue(kind), lock_timeout=1 if kind == "mariadb" else 0.05)
    assert isinstance(backend, SqlBackend)
    hold = started(backend, key)
    with locked(backend, hold), pytest.raises(StorageBusy), backend.connect() as storage:
        storage.operations.advance(hold, progress=SUCCEEDED, lease=MINUTE)
    with backend.connect() as storage:
        assert storage.operations.advance(hold, progress=SUCCEEDED, lease=MINUTE)
    backend.close()


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_what_somebody_else_is_about_to_change_is_not_waited_for(
    request: pytest.FixtureRequest, kind: str, key: KeyReference
) -> None:
    backend = open_backend(request.getfixturevalue(kind))
    assert isinstance(backend, SqlBackend)
    other = key._replace(key="key-2")
    ended = SUCCEEDED._replace(retention=-MINUTE)
    with backend.connect() as storage:
        for each in (key, other):
            assert storage.operations.advance(started(backend, each), progress=ended, lease=MINUTE)
    with suppress(Abandoned), backend.connect(transaction=True) as storage:
        assert storage.operations.forget(key)
        with backend.connect() as collector:
            collector.operations.forget_expired(1_000_000)
            assert collector.operations.read(other) is None
        raise Abandoned
    with backend.connect() as storage:
        assert storage.operations.read(key) is not None
    backend.close()
