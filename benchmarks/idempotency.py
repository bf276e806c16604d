"""What a key costs a fresh order, what the answer to a repeated one costs, and what a lease costs."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import URL

from benchmarks.databases import PLACED, expect
from benchmarks.measure import Contender, Plan, Race, Ratio, Stage, Timed, one_by_one
from benchmarks.rooms import on_postgresql
from benchmarks.samples import CUSTOMER, Placed, lines, place
from orderkit import IdempotentOperation, OperationRun
from orderkit.idempotency.operations import Json
from orderkit.orders.tables import ORDERS

USED = 500

LEASED = "orderkit, an operation under a lease that places an order"
LEASED_ALONE = "orderkit, an operation under a lease and nothing else"
LEASED_REPLAY = "orderkit, a used key of an operation"
BARE = "psycopg, the same order inserted without a key"
ONE_ROW = "psycopg, one row inserted in a transaction"
ONE_ROW_INSERT = (
    f"INSERT INTO orderkit_orders ({', '.join(ORDERS.columns)}) VALUES ({', '.join(['%s'] * len(ORDERS.columns))})"
).encode()

REPLAY = "orderkit, a used key"
FRESH = "a fresh place with a key"
WITHOUT = "a place without a key"


@contextmanager
def stage(plan: Plan) -> Generator[Stage, None, None]:
    """Set up placing with a fresh key, with a used one and with none."""
    with on_postgresql() as room:
        kit, without = room.kit(), 0
        used = room.supply.keys(plan.scaled(USED))
        for key in used:
            place(kit, key)

        def no_keys(number: int) -> list[None]:
            nonlocal without
            without += number
            return [None] * number

        def check() -> None:
            keys = room.supply.taken
            counts = {table: each * (keys + without) for table, each in PLACED.items()}
            expect(room.database, {**counts, "idempotency_keys": keys})

        operation = one_by_one(partial(place, kit))
        contenders = {
            REPLAY: partial(Timed, lambda number: random.choices(used, k=number), operation),
            FRESH: partial(Timed, room.supply.keys, operation),
            WITHOUT: partial(Timed, no_keys, operation),
        }
        yield Stage(contenders, check)


@contextmanager
def leased_stage(plan: Plan) -> Generator[Stage, None, None]:
    """Set up operations under a lease: claimed by one commit, ended by another, which places the order."""
    with on_postgresql() as room:
        kit = room.kit()
        orders = kit.operations
        ends = Ends(room.supply.keys)

        def placed(run: OperationRun) -> Json:
            return run.complete(lambda tx: tx.orders.place(lines=lines(), customer=CUSTOMER).id)

        place_leased = IdempotentOperation("place", placed)

        def nothing(_run: OperationRun) -> Json:
            return None

        do_nothing = IdempotentOperation("nothing", nothing)
        used = room.supply.keys(plan.scaled(USED))
        for key in used:
            orders.run(do_nothing, key=key)
        bare = room.raw()
        one_row = room.psycopg()

        def insert_one(rows: Placed) -> None:
            one_row.execute(ONE_ROW_INSERT, rows.order)
            one_row.commit()

        contenders: Mapping[str, Callable[[], Contender]] = {
            LEASED: partial(Timed, ends.placed, one_by_one(lambda key: orders.run(place_leased, key=key))),
            LEASED_ALONE: partial(Timed, ends.nothing, one_by_one(lambda key: orders.run(do_nothing, key=key))),
            LEASED_REPLAY: partial(
                Timed,
                lambda number: random.choices(used, k=number),
                one_by_one(lambda key: orders.run(do_nothing, key=key)),
            ),
            BARE: partial(Timed, ends.bare(room.supply.rows), one_by_one(bare.insert)),
            ONE_ROW: partial(Timed, ends.row(room.supply.rows), one_by_one(insert_one)),
            FRESH: partial(Timed, ends.keyed, one_by_one(partial(place, kit))),
        }

        def check() -> None:
            ends.check(room.database, len(used))

        yield Stage(contenders, check)


class Ends:
    """What each contender writes, counted, so that it can be looked for afterwards."""

    def __init__(self, keys: Callable[[int], list[str]]) -> None:
        self._keys = keys
        self._counts = Counter[str]()

    def placed(self, number: int) -> list[str]:
        """Return keys for operations that place an order."""
        self._counts += Counter(operations=number, orders=number, events=number)
        return self._keys(number)

    def nothing(self, number: int) -> list[str]:
        """Return keys for operations that do nothing else."""
        self._counts += Counter(operations=number)
        return self._keys(number)

    def keyed(self, number: int) -> list[str]:
        """Return keys for orders."""
        self._counts += Counter(keys=number, orders=number, events=number)
        return self._keys(number)

    def bare(self, rows: Callable[[int], list[Placed]]) -> Callable[[int], list[Placed]]:
        """Return the function that gives the rows of orders."""

        def given(number: int) -> list[Placed]:
            self._counts += Counter(orders=number, events=number)
            return rows(number)

        return given

    def row(self, rows: Callable[[int], list[Placed]]) -> Callable[[int], list[Placed]]:
        """Return the function that gives the rows of orders of which only the first is written."""

        def given(number: int) -> list[Placed]:
            self._counts += Counter(orders=number)
            return rows(number)

        return given

    def check(self, database: URL | Path, used: int) -> None:
        """Raise unless everything was written."""
        expect(
            database,
            {
                "idempotent_operations": self._counts["operations"] + used,
                "idempotency_keys": self._counts["keys"],
                "orders": self._counts["orders"],
                "events": self._counts["events"],
                "outbox": self._counts["events"],
            },
        )


BENCHMARKS = (
    Race(
        stage,
        (
            Ratio("idempotency.replay.postgresql", REPLAY, FRESH, 0.5),
            Ratio("idempotency.fresh.postgresql", FRESH, WITHOUT, 1.1),
        ),
    ),
    Race(
        leased_stage,
        (
            Ratio("idempotency.leased.postgresql", LEASED, BARE, 2.7),
            Ratio("idempotency.leased.alone.postgresql", LEASED_ALONE, ONE_ROW, 2.7),
            Ratio("idempotency.leased.replay.postgresql", LEASED_REPLAY, FRESH, 0.5),
        ),
    ),
)
