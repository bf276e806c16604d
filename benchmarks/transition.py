"""Moving an order on: it is read, confirmed and written."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from benchmarks import rooms
from benchmarks.databases import Wrong, count, expect
from benchmarks.measure import Contender, Plan, Race, Ratio, Stage, Timed, one_by_one
from benchmarks.peers import event_sourced
from benchmarks.rooms import Room
from benchmarks.samples import Placed

KIT = "orderkit"
PSYCOPG = "psycopg, one statement per row kind, seven round trips"
SQLITE = "raw sqlite3"
EVENTSOURCING = "eventsourcing 9.5, a fourth event"


def _stored(room: Room) -> Callable[[int], list[Placed]]:
    """Return the function that has new orders placed."""
    filler = room.raw()

    def stored(number: int) -> list[Placed]:
        rows = room.supply.rows(number)
        filler.fill(rows)
        return rows

    return stored


def kit(room: Room) -> Contender:
    """Return the kit."""
    stored, confirm = _stored(room), room.kit().orders.confirm
    return Timed(lambda number: [rows.order.id for rows in stored(number)], one_by_one(confirm))


def base(room: Room) -> Contender:
    """Return the ordinary way: two selects, and a statement for each kind of row."""
    return Timed(_stored(room), one_by_one(room.raw().confirm))


def eventsourcing(room: Room) -> Contender:
    """Return an event-sourced aggregate that gets one more event."""
    if isinstance(room.database, Path):
        raise TypeError("this is measured on PostgreSQL")
    orders = room.stack.enter_context(event_sourced(room.database))
    return Timed(orders.orders, one_by_one(orders.confirm))


@contextmanager
def stage(
    open_room: Callable[[], AbstractContextManager[Room]],
    contenders: Mapping[str, Callable[[Room], Contender]],
    _plan: Plan,
) -> Generator[Stage, None, None]:
    """Set up contenders in a room; every order of its supply is to have been placed and confirmed afterwards."""
    with open_room() as room:

        def check() -> None:
            taken = room.supply.taken
            expect(room.database, {"orders": taken, "order_lines": 3 * taken, "events": 2 * taken, "outbox": 2 * taken})
            confirmed = "SELECT count(*) FROM orderkit_orders WHERE status = 'open' AND version = 2"
            if count(room.database, confirmed) != taken:
                raise Wrong("not every order was confirmed once")

        yield Stage({name: partial(contender, room) for name, contender in contenders.items()}, check)


BENCHMARKS = (
    Race(
        partial(stage, rooms.on_postgresql, {KIT: kit, PSYCOPG: base, EVENTSOURCING: eventsourcing}),
        (
            Ratio("transition.postgresql", KIT, PSYCOPG, 0.90),
            Ratio("transition.vs-eventsourcing.postgresql", KIT, EVENTSOURCING, 0.65),
        ),
    ),
    Race(
        partial(stage, rooms.on_sqlite, {KIT: kit, SQLITE: base}),
        (Ratio("transition.sqlite.full", KIT, SQLITE, 2.2),),
    ),
)
