"""Placing an order: one worker, 32 workers, and the same with Django."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import psycopg

from benchmarks import raw, rooms
from benchmarks.databases import expect_placed
from benchmarks.measure import Contender, Plan, Race, Ratio, Stage, Timed, awaited, in_threads, one_by_one
from benchmarks.peers import django_place
from benchmarks.rooms import Room
from benchmarks.samples import CUSTOMER, Placed, lines, place
from orderkit import AsyncOrderKit, Settings

WORKERS = 32

KIT = "orderkit"
ASYNC_KIT = "orderkit, asyncpg"
SEVEN = "psycopg, one statement per row kind, seven round trips"
SAME_CTE = "raw psycopg, the same CTE"
PIPELINE = "raw psycopg, pipeline"
ONE_ROW = "a commit of one row"
SELECT_1 = "select 1"
DJANGO = "Django ORM, same rows"
SQLITE = "raw sqlite3"
PSYCOPG_32 = "psycopg in 32 threads"
GROUPS = "orderkit, 32 threads, group commit"
ASYNC_GROUPS = "orderkit, 32 tasks on asyncpg, group commit"
PYMYSQL = "raw PyMySQL, same statements"
SQLITE_32 = "raw sqlite3 with busy_timeout, 32 threads"


def kit(room: Room) -> Contender:
    """Return the kit in one thread."""
    return Timed(room.supply.keys, one_by_one(partial(place, room.kit())))


def kit_in_a_crowd(room: Room, *, group_commit: bool = False) -> Contender:
    """Return the kit in 32 threads."""
    operation = partial(place, room.kit(pool_size=4 if group_commit else WORKERS, group_commit=group_commit))
    return Timed(room.supply.keys, in_threads(room.threads(WORKERS), [operation] * WORKERS))


def async_kit(room: Room) -> Contender:
    """Return the kit on asyncpg, in one task."""
    runner = room.stack.enter_context(asyncio.Runner())
    kit = AsyncOrderKit.from_url(room.postgresql_url("postgresql+asyncpg"))
    room.stack.callback(lambda: runner.run(kit.close()))

    async def operation(key: str) -> None:
        await kit.orders.place(lines=lines(), customer=CUSTOMER, idempotency_key=key)

    return Timed(room.supply.keys, awaited(runner, operation))


def async_kit_in_groups(room: Room) -> Contender:
    """Return the kit on asyncpg in 32 tasks, whose commits are written in groups."""
    runner = room.stack.enter_context(asyncio.Runner())
    settings = Settings(pool_size=4, group_commit=True)
    kit = AsyncOrderKit.from_url(room.postgresql_url("postgresql+asyncpg"), settings=settings)
    room.stack.callback(lambda: runner.run(kit.close()))

    async def share(keys: Sequence[str]) -> None:
        for key in keys:
            await kit.orders.place(lines=lines(), customer=CUSTOMER, idempotency_key=key)

    async def perform(keys: Sequence[str]) -> None:
        await asyncio.gather(*(share(keys[first::WORKERS]) for first in range(WORKERS)))

    return Timed(room.supply.keys, lambda keys: runner.run(perform(keys)))


def base(room: Room) -> Contender:
    """Return the ordinary way: a statement for each kind of row."""
    return Timed(room.supply.rows, one_by_one(room.raw().place))


def base_in_a_crowd(room: Room) -> Contender:
    """Return the ordinary way in 32 threads with a connection each."""
    operations = [room.raw().place for _ in range(WORKERS)]
    return Timed(room.supply.rows, in_threads(room.threads(WORKERS), operations))


def django(room: Room) -> Contender:
    """Return Django's ORM."""
    return Timed(room.supply.rows, one_by_one(room.stack.enter_context(django_place(room.database)).one))


def same_cte(room: Room) -> Contender:
    """Return the statement of the kit on a bare driver."""
    cursor = psycopg.RawCursor(room.psycopg(autocommit=True))

    def operation(prepared: tuple[bytes, Sequence[object]]) -> None:
        cursor.execute(*prepared)
        cursor.fetchone()

    return Timed(lambda number: list(map(raw.one_statement, room.supply.rows(number))), one_by_one(operation))


def pipeline(room: Room) -> Contender:
    """Return the statements of the base, sent at once."""
    connection = room.psycopg()
    base = raw.on_psycopg(connection)

    def operation(rows: Placed) -> None:
        with connection.pipeline():
            base.place(rows)

    return Timed(room.supply.rows, one_by_one(operation))


def one_row(room: Room) -> Contender:
    """Return a durable commit of one row."""
    cursor = room.psycopg(autocommit=True).cursor()
    cursor.execute("CREATE TABLE bench_floor (id bigserial PRIMARY KEY, value text)")
    statement = "INSERT INTO bench_floor (value) VALUES (%s)"
    return Timed(range, one_by_one(lambda number: cursor.execute(statement, (str(number),))))


def select_1(room: Room) -> Contender:
    """Return a round trip."""
    cursor = room.psycopg(autocommit=True).cursor()
    return Timed(range, one_by_one(lambda _: cursor.execute("SELECT 1").fetchone()))


@contextmanager
def stage(
    open_room: Callable[[], AbstractContextManager[Room]],
    contenders: Mapping[str, Callable[[Room], Contender]],
    _plan: Plan,
) -> Generator[Stage, None, None]:
    """Set up contenders in a room; every order they took from its supply is to be there afterwards."""
    with open_room() as room:
        yield Stage(
            {name: partial(contender, room) for name, contender in contenders.items()},
            lambda: expect_placed(room.database, room.supply.taken),
        )


POSTGRESQL: Mapping[str, Callable[[Room], Contender]] = {
    KIT: kit,
    ASYNC_KIT: async_kit,
    SEVEN: base,
    SAME_CTE: same_cte,
    PIPELINE: pipeline,
    ONE_ROW: one_row,
    SELECT_1: select_1,
    DJANGO: django,
}

BENCHMARKS = (
    Race(
        partial(stage, rooms.on_postgresql, POSTGRESQL),
        (
            Ratio("place.postgresql.1", KIT, SEVEN, 0.80),
            Ratio("place.postgresql.1.async", ASYNC_KIT, SEVEN, 0.75),
            Ratio("place.postgresql.1.vs-cte", KIT, SAME_CTE, 1.7),
            Ratio("place.vs-django.postgresql", KIT, DJANGO, 0.4),
        ),
        floors=(SELECT_1, ONE_ROW, SAME_CTE, PIPELINE),
    ),
    Race(
        partial(
            stage,
            rooms.on_postgresql,
            {
                KIT: kit_in_a_crowd,
                GROUPS: partial(kit_in_a_crowd, group_commit=True),
                ASYNC_GROUPS: async_kit_in_groups,
                PSYCOPG_32: base_in_a_crowd,
            },
        ),
        (
            Ratio("place.postgresql.32", KIT, PSYCOPG_32, 0.85),
            Ratio("place.postgresql.32.groups", GROUPS, PSYCOPG_32, 0.45),
            Ratio("place.postgresql.32.groups.async", ASYNC_GROUPS, PSYCOPG_32, 0.45),
        ),
        operations=320,
    ),
    Race(
        partial(stage, rooms.on_mariadb, {KIT: kit, PYMYSQL: base}),
        (Ratio("place.mariadb.1", KIT, PYMYSQL, 1.3),),
    ),
    Race(
        partial(stage, rooms.on_sqlite, {KIT: kit, SQLITE: base, DJANGO: django}),
        (Ratio("place.sqlite.full", KIT, SQLITE, 1.6), Ratio("place.vs-django.sqlite", KIT, DJANGO, 0.55)),
    ),
    Race(
        partial(stage, partial(rooms.on_sqlite, "normal"), {KIT: kit, SQLITE: base}),
        (Ratio("place.sqlite.normal", KIT, SQLITE, 2.3),),
    ),
    Race(
        partial(
            stage,
            rooms.on_sqlite,
            {
                KIT: kit_in_a_crowd,
                GROUPS: partial(kit_in_a_crowd, group_commit=True),
                SQLITE_32: base_in_a_crowd,
            },
        ),
        (
            Ratio("place.sqlite.full.32", KIT, SQLITE_32, 0.75),
            Ratio("place.sqlite.full.32.groups", GROUPS, SQLITE_32, 0.45),
        ),
        operations=160,
    ),
)
