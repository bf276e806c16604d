"""Loading an order by its id."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from benchmarks import rooms
from benchmarks.databases import Wrong, expect_placed
from benchmarks.measure import Plan, Race, Ratio, Stage, Timed, one_by_one
from benchmarks.rooms import Room

ORDERS = 2_000

KIT = "orderkit"
PSYCOPG = "psycopg, two selects, objects built by hand"
SQLITE = "raw sqlite3, two selects, objects built by hand"


@contextmanager
def stage(open_room: Callable[[], AbstractContextManager[Room]], base: str, plan: Plan) -> Generator[Stage, None, None]:
    """Set up loading random orders of those that are there."""
    with open_room() as room:
        stored = room.supply.rows(plan.scaled(ORDERS))
        room.raw().fill(stored)
        kit, by_hand = room.kit(), room.raw(autocommit=True)

        def some_ids(number: int) -> list[str]:
            return [rows.order.id for rows in random.choices(stored, k=number)]

        def check() -> None:
            expect_placed(room.database, len(stored))
            for order_id in some_ids(20):
                loaded, built = kit.orders.get(order_id), by_hand.load(order_id)
                if (loaded.id, loaded.total, loaded.lines) != (built.id, built.total, built.lines):
                    raise Wrong("the kit and the base load different orders")

        contenders = {KIT: kit.orders.get, base: by_hand.load}
        yield Stage({name: partial(Timed, some_ids, one_by_one(load)) for name, load in contenders.items()}, check)


BENCHMARKS = (
    Race(
        partial(stage, rooms.on_postgresql, PSYCOPG),
        (Ratio("load.postgresql", KIT, PSYCOPG, 1.5),),
        operations=150,
    ),
    Race(
        partial(stage, rooms.on_sqlite, SQLITE),
        (Ratio("load.sqlite", KIT, SQLITE, 5),),
        operations=150,
    ),
)
