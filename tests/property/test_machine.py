"""Random histories on every storage: what always holds, holds after each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import URL, Engine, create_engine

from orderkit import OrderKit
from orderkit.messaging.outbox import OUTBOX, OutboxRow
from orderkit.testing.machine import OrderMachine
from tests.effort import examples

# Steps are drawn from what an order is at the time, which a busy machine makes look like slow generation.
PATIENT = settings(
    deadline=None, report_multiple_bugs=False, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


class SqlMachine(OrderMachine):
    """The machine on a database that all histories share."""

    engine: ClassVar[Engine]

    def make_kit(self) -> OrderKit:
        return OrderKit.from_engine(self.engine, clock=self.clock)

    def outbox(self, tenant: str) -> Sequence[OutboxRow]:
        columns = ", ".join(OUTBOX.columns)
        with self.engine.connect() as connection:
            found = connection.exec_driver_sql(f"SELECT {columns} FROM orderkit_outbox WHERE tenant = '{tenant}'")
            return [OutboxRow._make(row) for row in found]


@contextmanager
def machine_on(url: URL) -> Iterator[type[OrderMachine]]:
    """Prepare a database for the length of a block, and yield the machine that works on it."""
    SqlMachine.engine = create_engine(url)
    OrderKit.from_engine(SqlMachine.engine).create_schema()
    try:
        yield SqlMachine
    finally:
        SqlMachine.engine.dispose()


def test_in_memory() -> None:
    run_state_machine_as_test(
        OrderMachine, settings=settings(PATIENT, max_examples=examples(60), stateful_step_count=25)
    )


@pytest.mark.slow
def test_on_sqlite(sqlite_database: URL) -> None:
    with machine_on(sqlite_database) as machine:
        run_state_machine_as_test(
            machine, settings=settings(PATIENT, max_examples=examples(15), stateful_step_count=20)
        )


@pytest.mark.slow
def test_on_postgresql(postgresql_database: URL) -> None:
    with machine_on(postgresql_database.set(drivername="postgresql+psycopg")) as machine:
        run_state_machine_as_test(machine, settings=settings(PATIENT, max_examples=examples(8), stateful_step_count=20))
