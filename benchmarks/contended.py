"""Many clients that write to one order at once: how often the unluckiest of them had to try."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import create_engine, event

from benchmarks.databases import Wrong
from benchmarks.measure import Figure, Plan
from benchmarks.rooms import on_postgresql
from benchmarks.samples import place
from orderkit import Order, OrderKit

CLIENTS = 32


def worst_attempts(plan: Plan) -> tuple[float, int]:
    """Return the largest number of attempts of any client in any round, and the number of rounds."""
    with on_postgresql() as room:
        url = room.postgresql_url("postgresql+psycopg")
        engine = create_engine(url, isolation_level="AUTOCOMMIT", pool_size=CLIENTS)
        room.stack.callback(engine.dispose)
        attempts: Counter[int] = Counter()

        @event.listens_for(engine, "checkout")
        def count(*_: object) -> None:
            # Each attempt takes a connection, in the client's own thread.
            attempts[threading.get_ident()] += 1

        kit, threads, worst = OrderKit.from_engine(engine), room.threads(CLIENTS), 0
        for _ in range(plan.rounds):
            order_id = place(kit, None).id
            attempts.clear()
            _all_at_once(kit, threads, order_id)
            worst = max(worst, *attempts.values())
            _check(kit.orders.get(order_id))
    return worst, plan.rounds


def _all_at_once(kit: OrderKit, threads: ThreadPoolExecutor, order_id: str) -> None:
    """Have every client put a hold of its own on the order."""
    start = threading.Barrier(CLIENTS)

    def client(number: int) -> None:
        start.wait()
        kit.orders.hold(order_id, f"hold-{number}")

    for done in [threads.submit(client, number) for number in range(CLIENTS)]:
        done.result()


def _check(order: Order) -> None:
    if order.version != 1 + CLIENTS or len(order.holds) != CLIENTS:
        raise Wrong(f"{CLIENTS} clients left {len(order.holds)} holds at version {order.version}")


BENCHMARKS = (
    Figure(
        "contended.postgresql.32",
        worst_attempts,
        unit="attempts",
        goal=3,
        base="one write each, 32 clients on one order; the worst number of attempts",
    ),
)
