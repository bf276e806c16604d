"""What a key costs a fresh order, and what the answer to a repeated one costs."""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

from benchmarks.databases import PLACED, expect
from benchmarks.measure import Plan, Race, Ratio, Stage, Timed, one_by_one
from benchmarks.rooms import on_postgresql
from benchmarks.samples import place

USED = 500

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


BENCHMARKS = (
    Race(
        stage,
        (
            Ratio("idempotency.replay.postgresql", REPLAY, FRESH, 0.5),
            Ratio("idempotency.fresh.postgresql", FRESH, WITHOUT, 1.1),
        ),
    ),
)
