"""A process that takes orders and confirms them until it is killed, and keeps a diary of what it was told.

Run as `python -m tests.torture.placing URL TENANT DIARY NAME WAY [COUNT]`. Before each request the diary gets
`asked KEY`, after it `placed KEY ORDER` or `confirmed KEY ORDER`, on the disk before the next request. What is
asked under a key follows from the key alone, so that anybody can repeat it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from orderkit import Address, AsyncOrderKit, Contact, Line, Money, OrderKit, Settings, Transaction
from orderkit.orders.fields import PlaceFields

TASKS = 4


class Diary:
    """Lines that survive the death of their writer."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def note(self, *words: str) -> None:
        os.write(self._file, (" ".join(words) + "\n").encode())
        os.fsync(self._file)


def wish(key: str) -> PlaceFields:
    """Return what is ordered under a key."""
    chance = random.Random(key)
    lines = [
        Line(sku=f"SKU-{chance.randrange(50)}", quantity=chance.randint(1, 9), unit_price=Money(f"{price}.50", "EUR"))
        for price in range(chance.randint(1, 12))
    ]
    address = Address(name="Ada", lines=("12 St James's Square",), city="London", country="GB")
    return {
        "lines": lines,
        "contact": Contact(email="ada@example.org"),
        "shipping_address": address,
        "tags": ("torture", key),
        "metadata": {"key": key},
    }


def is_confirmed(key: str) -> bool:
    """Tell whether the order of a key is to be confirmed."""
    return random.Random(f"confirm {key}").random() < 0.5


def place(kit: OrderKit | Transaction, key: str) -> str:
    """Ask for the order of a key, for the first time or again."""
    return kit.orders.place(idempotency_key=key, **wish(key)).id


def take_orders(kit: OrderKit, diary: Diary, name: str, count: int | None) -> None:
    """Take one order after the other; every tenth request takes two by one commit."""
    for number in itertools.count() if count is None else range(count):
        key = f"{name}-{number}"
        if number % 10 == 9:
            take_two(kit, diary, key)
            continue
        diary.note("asked", key)
        order = place(kit, key)
        diary.note("placed", key, order)
        if is_confirmed(key):
            kit.orders.confirm(order, idempotency_key=key)
            diary.note("confirmed", key, order)


def take_two(kit: OrderKit, diary: Diary, key: str) -> None:
    keys = [f"{key}-first", f"{key}-second"]
    for asked in keys:
        diary.note("asked", asked)
    orders = kit.run(lambda tx: [place(tx, asked) for asked in keys])
    for asked, order in zip(keys, orders, strict=True):
        diary.note("placed", asked, order)


async def take_orders_at_once(kit: AsyncOrderKit, diary: Diary, name: str) -> None:
    """Take orders in several tasks of one event loop."""

    async def take(task: int) -> None:
        for number in itertools.count():
            key = f"{name}-{task}-{number}"
            diary.note("asked", key)
            order = await kit.orders.place(idempotency_key=key, **wish(key))
            diary.note("placed", key, order.id)
            if is_confirmed(key):
                await kit.orders.confirm(order.id, idempotency_key=key)
                diary.note("confirmed", key, order.id)

    async with asyncio.TaskGroup() as group:
        for task in range(TASKS):
            group.create_task(take(task))


def take_in_batches(kit: OrderKit, diary: Diary, name: str) -> None:
    """Take orders without end, twenty by one commit."""
    keys: list[str] = []

    def wishes() -> Iterator[Mapping[str, object]]:
        for number in itertools.count():
            keys.append(f"{name}-{number}")
            diary.note("asked", keys[-1])
            yield {**wish(keys[-1]), "idempotency_key": keys[-1]}

    for result in kit.orders.place_many(wishes(), batch_size=20):
        diary.note("placed", keys[result.position], result.unwrap().id)


def take_in_groups(kit: OrderKit, diary: Diary, name: str) -> None:
    """Take orders in several threads, whose commits are written in groups."""
    threads = [
        threading.Thread(target=take_orders, args=(kit, diary, f"{name}-{thread}", None), daemon=True)
        for thread in range(TASKS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main(url: str, tenant: str, diary: Path, name: str, way: str, count: int | None = None) -> None:
    kept = Settings(group_commit=way == "groups")
    if "+asyncpg" in url:
        owner = AsyncOrderKit.from_url(url, settings=kept)
        asyncio.run(take_orders_at_once(owner.for_tenant(tenant), Diary(diary), name))
        return
    with OrderKit.from_url(url, settings=kept) as kit:
        tenants = kit.for_tenant(tenant)
        if way == "batches":
            take_in_batches(tenants, Diary(diary), name)
        elif way == "groups":
            take_in_groups(tenants, Diary(diary), name)
        else:
            take_orders(tenants, Diary(diary), name, count)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4], sys.argv[5], *map(int, sys.argv[6:]))
