"""A process that forks in the middle of using a kit: parent and children go on with the same one.

Run as `python -m tests.torture.forking URL TENANT`; it fails unless every process could take its orders.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from functools import partial

from orderkit import AsyncOrderKit, Line, Money, OrderKit

TEA = (Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR")),)
EACH = 10


def take(kit: OrderKit, who: str) -> None:
    for number in range(EACH):
        order = kit.orders.place(lines=TEA, idempotency_key=f"{who}-{number}")
        assert kit.orders.confirm(order.id).version == 2


def fork_idle(kit: OrderKit) -> None:
    """Fork while nothing is going on: the parent's connections wait in its pool."""
    children = [child(partial(take, kit, name)) for name in ("first", "second")]
    take(kit, "parent")
    wait(children)
    take(kit, "parent-again")


def fork_inside_a_transaction(kit: OrderKit) -> None:
    """Fork while the parent is inside a transaction: it is the parent's alone to end."""
    with kit.transaction() as tx:
        order = tx.orders.place(lines=TEA, id="order-inside")
        wait([child(lambda: None)])
        tx.orders.confirm(order.id)
    assert kit.orders.get("order-inside").version == 2
    wait([child(lambda: take(kit, "after-a-transaction"))])


def fork_while_others_write(kit: OrderKit) -> None:
    """Fork while another thread of the parent writes: the fork waits for it, and the child goes on without its locks.

    The thread writes once and not without end: what a fork finds in the middle of a library written in C, no
    child can mend (POSIX).
    """
    for number in range(3):
        inside = threading.Event()

        def write(inside: threading.Event = inside) -> None:
            with kit.transaction() as tx:
                tx.orders.place(lines=TEA)
                inside.set()
                threading.Event().wait(0.2)

        writer = threading.Thread(target=write)
        writer.start()
        inside.wait()
        wait([child(partial(take, kit, f"beside-{number}"))])
        writer.join()


def fork_by_multiprocessing(kit: OrderKit) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=take, args=(kit, f"process-{number}")) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]


def fork_an_asynchronous_kit(kit: AsyncOrderKit) -> None:
    async def take_awaiting(who: str) -> None:
        for number in range(EACH):
            await kit.orders.place(lines=TEA, idempotency_key=f"awaiting-{who}-{number}")
        await kit.close()

    children = [child(lambda: asyncio.run(take_awaiting("child")))]
    asyncio.run(take_awaiting("parent"))
    wait(children)


def child(work: Callable[[], object]) -> int:
    """Fork, do the work in the child, and return its process id to the parent."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        work()
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)


def wait(children: list[int]) -> None:
    assert [os.waitpid(process, 0)[1] for process in children] == [0] * len(children)


def main(url: str, tenant: str) -> None:
    with OrderKit.from_url(url) as owner:
        kit = owner.for_tenant(tenant)
        fork_idle(kit)
        fork_inside_a_transaction(kit)
        fork_by_multiprocessing(kit)
        fork_while_others_write(kit)
        take(kit, "parent-at-last")
    fork_an_asynchronous_kit(AsyncOrderKit.from_url(url).for_tenant(tenant))


if __name__ == "__main__":
    main(*sys.argv[1:])
