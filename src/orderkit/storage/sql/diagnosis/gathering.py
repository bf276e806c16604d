"""Find out everything that can be known of a database, a part at a time: what fails takes nothing else with it."""

# ruff: noqa: S608 - statements are made of the names of tables and columns, never of values

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.pool import PoolProxiedConnection

from orderkit.errors import OrderKitError
from orderkit.storage.sql.databases import dialect_for
from orderkit.storage.sql.diagnosis import mariadb, postgresql, sqlite
from orderkit.storage.sql.diagnosis.facts import Backlog, Facts, Heap, Link, Server, TableFacts
from orderkit.storage.sql.diagnosis.probe import Probe, whole

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from orderkit.storage.sql.migrations import Migrations

T = TypeVar("T")

_ROUNDS = 7
_STUCK = "{idempotent_operations} WHERE state = 'in_progress' AND locked_until <= :time"


def gather(engine: Engine, *, schema: str | None, migrations: Migrations) -> Facts:
    """Return what can be found out about a database. Nothing is changed.

    Args:
        engine: A synchronous engine for it.
        schema: The schema of the tables.
        migrations: What knows the tables of this release.

    Raises:
        ConfigurationError: A pooler is in between and the settings do not say so.
    """
    began = time.monotonic()
    try:
        connection = engine.raw_connection()
    except OrderKitError:
        raise
    except Exception as error:  # noqa: BLE001 - why it was not reached is what is wanted
        return Facts(unreachable=_reason(error))
    connect = time.monotonic() - began
    with closing(connection):
        return _Looking(engine, connection, schema).facts(connect, migrations)


def _reason(error: Exception) -> str:
    """Return what an error says, in one line; the driver's own words where it is one of SQLAlchemy's."""
    told = str(getattr(error, "orig", None) or error).strip()
    return " ".join(told.split()) or type(error).__name__


class _Looking:
    """Look at one part after the other, and remember what could not be looked at."""

    def __init__(self, engine: Engine, connection: PoolProxiedConnection, schema: str | None) -> None:
        dialect = dialect_for(engine.dialect.name, engine.dialect.driver, schema)
        self._engine = engine
        self._probe = Probe(dialect.executor(connection), dialect, schema)
        self._unknown: dict[str, str] = {}

    def facts(self, connect: float, migrations: Migrations) -> Facts:
        """Return everything that can be found out."""
        link = self._try("link", lambda: self._link(connect))
        server = self._try("server", self._server)
        tables = self._try("tables", lambda: _tables(migrations))
        there = tables is None or not tables.absent
        # Tables of an older revision keep no leased operations.
        keeps_operations = tables is None or not any("idempotent_operations" in name for name in tables.missing)
        backlog = self._try("backlog", lambda: self._backlog(keeps_operations)) if there else None
        return Facts(link, tables, server, backlog, unknown=self._unknown)

    def _try(self, part: str, look: Callable[[], T]) -> T | None:
        try:
            return look()
        except Exception as error:  # noqa: BLE001 - the other parts are looked at all the same
            self._unknown[part] = _reason(error)
            return None

    @property
    def _is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    def _link(self, connect: float) -> Link:
        rounds = [self._timed("SELECT 1")[1] for _ in range(_ROUNDS)]
        return Link(self._driver(), connect, statistics.median(rounds), None if self._is_sqlite else self._clock())

    def _timed(self, statement: str) -> tuple[object, float]:
        began = time.perf_counter()
        (value,) = self._probe.row(statement)
        return value, time.perf_counter() - began

    def _clock(self) -> float:
        """Return by how much the server's clock is ahead, asked where the least time passes meanwhile."""
        asked = postgresql.NOW if self._engine.dialect.name == "postgresql" else mariadb.NOW
        found: list[tuple[float, float]] = []
        for _ in range(_ROUNDS):
            before = datetime.now(UTC)
            value, took = self._timed(asked)
            found.append((took, (self._probe.time(value) - before).total_seconds() - took / 2))
        return min(found)[1]

    def _driver(self) -> str:
        name = self._engine.dialect.driver
        if self._is_sqlite:
            return "sqlite3"
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            return name

    def _server(self) -> Server:
        if self._is_sqlite:
            return sqlite.look(self._probe, self._engine.url.database or "")
        if self._engine.dialect.name == "postgresql":
            return postgresql.look(self._probe)
        return mariadb.look(self._probe)

    def _backlog(self, keeps_operations: bool) -> Backlog:
        now = datetime.now(UTC)

        def heap(rows: str, oldest: str) -> Heap:
            # An index has the oldest first; counting ends where nobody would read the number any more.
            (count,) = self._probe.row(f"SELECT COUNT(*) FROM (SELECT 1 FROM {rows} LIMIT {Heap.MOST}) AS counted", now)
            first = self._probe.rows(f"SELECT {oldest} FROM {rows} ORDER BY {oldest} LIMIT 1", now)
            return Heap(whole(count), (now - self._probe.time(first[0][0])).total_seconds() if first else None)

        overdue = "{orders} WHERE status = 'pending' AND expires_at <= :time"
        return Backlog(
            self._outbox(now),
            heap("{idempotency_keys} WHERE expires_at <= :time", "expires_at"),
            heap(overdue, "expires_at"),
            tuple(str(tenant) for (tenant,) in self._probe.rows(f"SELECT DISTINCT tenant FROM {overdue} LIMIT 5", now)),
            heap(_STUCK, "locked_until") if keeps_operations else None,
        )

    def _outbox(self, now: datetime) -> Heap:
        (count,) = self._probe.row(f"SELECT COUNT(*) FROM (SELECT 1 FROM {{outbox}} LIMIT {Heap.MOST}) AS counted")
        first = self._probe.rows("SELECT occurred_at FROM {outbox} ORDER BY seq LIMIT 1")
        return Heap(whole(count), (now - self._probe.time(first[0][0])).total_seconds() if first else None)


def _tables(migrations: Migrations) -> TableFacts:
    current = migrations.current()
    differences = migrations.check()
    missing = [str(one) for one in differences if one.what.startswith("missing")]
    tables = [one for one in missing if one.startswith("missing table")]
    return TableFacts(
        revision=current.revision,
        head=current.head,
        migrating_to=current.migrating_to,
        compatible_from=current.compatible_from,
        outstanding=tuple(step.revision for step in current.outstanding),
        missing=tuple(missing),
        different=tuple(str(one) for one in differences if not one.what.startswith("missing")),
        absent=current.revision is None and len(tables) == len(_all_tables()),
    )


def _all_tables() -> tuple[str, ...]:
    from orderkit.storage.sql.tables import metadata

    return tuple(metadata.tables)
