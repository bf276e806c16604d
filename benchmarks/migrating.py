"""Migrating a million orders while orders are placed: how long the longest of them has to wait."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from uuid import uuid4

from sqlalchemy import Engine, create_engine, text

from benchmarks.databases import PLACED, text_of
from benchmarks.listing import MILLION, filled
from benchmarks.measure import Figure, Plan
from benchmarks.report import TIMES
from benchmarks.samples import place
from orderkit import OrderKit
from orderkit.storage.sql.migrations import Migrations
from orderkit.storage.sql.migrations.versions import REVISIONS

ROUNDS = 3
TENANT = "migrating"
QUIET = 300
"""Orders that are placed before anything migrates, to know how long one takes."""


def measure(plan: Plan) -> tuple[float, int]:
    """Return the longest wait of an order during any revision, in times of an ordinary order.

    What a processor busy with the migration costs an order is in the figure, beside the locks.
    """
    rounds = min(ROUNDS, plan.rounds)
    with filled(plan.scaled(MILLION, least=1_000)) as url, ExitStack() as stack:
        address = text_of(url, "postgresql+psycopg")
        engine = create_engine(address)
        stack.callback(engine.dispose)
        kit = stack.enter_context(OrderKit.from_url(address)).for_tenant(TENANT)
        stack.callback(_tidy_up, engine)
        ordinary = statistics.median(_placing(kit) for _ in range(QUIET))
        longest = [_longest_wait(kit, partial(_again, engine)) for _ in range(rounds)]
    return max(longest) / ordinary, rounds


def _again(engine: Engine) -> None:
    """Take every revision back but the first, which makes the tables, and do them again."""
    migrations = Migrations(engine)
    migrations.downgrade(REVISIONS[0].revision, lose_data=True)
    migrations.upgrade()


def _tidy_up(engine: Engine) -> None:
    """Remove what was placed meanwhile: the database is kept, and others count what it holds."""
    with engine.begin() as connection:
        for table in PLACED:
            connection.execute(text(f"DELETE FROM orderkit_{table} WHERE tenant = :tenant"), {"tenant": TENANT})


def _longest_wait(kit: OrderKit, migrate: Callable[[], None]) -> float:
    """Return how long the longest placing took while something migrated."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            migrate()
        except BaseException as error:  # noqa: BLE001 - it is raised below
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    longest = 0.0
    while thread.is_alive():
        longest = max(longest, _placing(kit))
    thread.join()
    if failures:
        raise failures[0]
    return longest


def _placing(kit: OrderKit) -> float:
    began = time.perf_counter()
    place(kit, uuid4().hex)
    return time.perf_counter() - began


BENCHMARKS = (Figure("migrate.million", measure, TIMES, 100, "one place, while no migration runs; the longest wait"),)
