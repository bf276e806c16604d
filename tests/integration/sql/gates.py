"""Stop a commit of PostgreSQL on its way, and see that it has stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

GATE = 4242
"""The advisory lock that a commit of a gated tenant waits for."""


def until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.005)


def build_gate(session: psycopg.Connection) -> None:
    """Have every commit that inserts an order of a tenant named `gated-…` pass the gate."""
    session.execute(
        f"""
        CREATE OR REPLACE FUNCTION pass_gate() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN NULL; END $$;
        DROP TRIGGER IF EXISTS gate ON orderkit_orders;
        CREATE CONSTRAINT TRIGGER gate AFTER INSERT ON orderkit_orders DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.tenant LIKE 'gated-%') EXECUTE FUNCTION pass_gate()
        """.encode()
    )


@contextmanager
def closed_gate(session: psycopg.Connection) -> Iterator[None]:
    """Keep the gate closed for the length of a block."""
    session.execute("SELECT pg_advisory_lock(%s)", [GATE])
    try:
        yield
    finally:
        session.execute("SELECT pg_advisory_unlock(%s)", [GATE])


def waiting(session: psycopg.Connection) -> list[int]:
    """The processes of the server that wait for a lock in this database."""
    rows = session.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return [pid for (pid,) in rows]


def terminate(session: psycopg.Connection, *, waiting_only: bool = True) -> None:
    """End the other sessions of this database, as a restart of the server would."""
    only = "AND wait_event_type = 'Lock'" if waiting_only else ""
    session.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        f"WHERE datname = current_database() AND pid <> pg_backend_pid() {only}".encode()
    )
