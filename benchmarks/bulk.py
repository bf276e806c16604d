"""Placing a thousand orders in one go, and the same with the drivers' fastest ways and with Django."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from benchmarks import rooms
from benchmarks.databases import Wrong
from benchmarks.measure import Contender, Race, Ratio, Timed
from benchmarks.peers import django_place
from benchmarks.place import stage
from benchmarks.rooms import Room
from benchmarks.samples import CUSTOMER, Placed, lines
from orderkit import BulkItem, PlaceOrder
from orderkit.messaging.outbox import OUTBOX
from orderkit.orders.tables import EVENTS, LINES, ORDERS
from orderkit.unit_of_work.changes import KEYS, Row, Table

KIT = "orderkit, place_many"
COPY = "raw COPY, rows made beforehand"
EXECUTEMANY = "raw executemany, rows made beforehand"
DJANGO = "Django, bulk_create"

THOUSAND = 1_000


def kit(room: Room) -> Contender:
    """Return the kit, given commands that were made beforehand."""
    kit = room.kit()

    def items(number: int) -> list[BulkItem]:
        keys = room.supply.keys(number)
        return [BulkItem(PlaceOrder(lines=tuple(lines()), customer=CUSTOMER), idempotency_key=key) for key in keys]

    def perform(given: Sequence[BulkItem]) -> None:
        failed = sum(result.error is not None for result in kit.orders.place_many(given, batch_size=THOUSAND))
        if failed:
            raise Wrong(f"{failed} orders were not placed")

    return Timed(items, perform)


def copy(room: Room) -> Contender:
    """Return a stream of rows for each table, in one transaction."""
    connection = room.psycopg()
    cursor = connection.cursor()

    def perform(orders: Sequence[Placed]) -> None:
        for table, rows in _by_table(orders).items():
            columns = ", ".join(f'"{column}"' for column in table.columns)
            with cursor.copy(f"COPY orderkit_{table.name} ({columns}) FROM STDIN".encode()) as stream:
                for row in rows:
                    stream.write_row(row)
        connection.commit()

    return Timed(room.supply.rows, perform)


def executemany(room: Room) -> Contender:
    """Return a statement for each table, repeated for each row, in one transaction."""
    return Timed(room.supply.rows, room.raw().fill)


def django(room: Room) -> Contender:
    """Return Django's bulk_create for each table, in one transaction."""
    return Timed(room.supply.rows, room.stack.enter_context(django_place(room.database)).many)


def _by_table(orders: Sequence[Placed]) -> Mapping[Table, Sequence[Row]]:
    return {
        KEYS: [rows.key for rows in orders],
        ORDERS: [rows.order for rows in orders],
        LINES: [line for rows in orders for line in rows.lines],
        EVENTS: [rows.event for rows in orders],
        OUTBOX: [rows.message for rows in orders],
    }


POSTGRESQL: Mapping[str, Callable[[Room], Contender]] = {KIT: kit, COPY: copy, DJANGO: django}
SQLITE: Mapping[str, Callable[[Room], Contender]] = {KIT: kit, EXECUTEMANY: executemany, DJANGO: django}

BENCHMARKS = (
    Race(
        partial(stage, rooms.on_postgresql, POSTGRESQL),
        (
            Ratio("bulk.postgresql", KIT, COPY, 1.8),
            Ratio("place.vs-django.bulk.postgresql", KIT, DJANGO, 0.4),
        ),
        operations=THOUSAND,
    ),
    Race(
        partial(stage, rooms.on_sqlite, SQLITE),
        (
            Ratio("bulk.sqlite", KIT, EXECUTEMANY, 3.0),
            Ratio("place.vs-django.bulk.sqlite", KIT, DJANGO, 0.55),
        ),
        operations=THOUSAND,
    ),
)
