"""A process that does operations and dies on its way: at one moment after the other, or whenever it is killed.

Run as `python -m tests.torture.operations points URL TENANT LEDGER STRIDE` it forks a child for each moment there is,
or for some of them: the first child kills itself at the first moment, and so on until one comes to its end. The
moments are before and after every statement to the database, and before and after every effect of a foreign call. Run
as `… hammer URL TENANT LEDGER KEYS` it does operations under many keys, in an order of its own, until all are done.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import sqlite3
import sys
from collections.abc import Callable, Generator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from orderkit import AsyncOperationRun, AsyncOrderKit, IdempotentOperation, Line, Money, OperationRun, OrderKit
from orderkit.errors import IdempotencyInFlight, LeaseLost, StorageError
from orderkit.storage.sql import execution

TEA = (Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR")),)

EXECUTORS = (
    execution.DriverExecutor,
    execution.PymysqlExecutor,
    execution.PsycopgExecutor,
    execution.AwaitingExecutor,
    execution.AsyncpgExecutor,
)


class Ledger:
    """Somebody else, on a disk of their own: does what is asked once for each key, and counts how often it is asked."""

    def __init__(self, path: Path, tick: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._tick = tick
        with self._opened() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS arrivals (key TEXT)")
            connection.execute("CREATE TABLE IF NOT EXISTS effects (number INTEGER PRIMARY KEY, key TEXT UNIQUE)")

    @contextlib.contextmanager
    def _opened(self) -> Generator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self._path, timeout=60, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")  # what is killed are processes, not the machine
            yield connection

    def do(self, key: str) -> dict[str, Any]:
        self._tick()
        with self._opened() as connection:
            connection.execute("INSERT INTO arrivals VALUES (?)", (key,))
            connection.execute("INSERT OR IGNORE INTO effects (key) VALUES (?)", (key,))
            (number,) = connection.execute("SELECT number FROM effects WHERE key = ?", (key,)).fetchone()
        self._tick()
        return {"number": number}

    def arrivals(self) -> list[str]:
        with self._opened() as connection:
            return [key for (key,) in connection.execute("SELECT key FROM arrivals")]

    def effects(self) -> dict[str, int]:
        """Return the number of each effect by its key."""
        with self._opened() as connection:
            return dict(connection.execute("SELECT key, number FROM effects"))


def name_of(tenant: str) -> str:
    """Return what the operation of a test is called, so that nobody resumes those of another."""
    return f"shop-{tenant[-12:]}"


def shopping(tenant: str, ledger: Ledger, **options: Any) -> IdempotentOperation[Any]:
    """Return an operation of two foreign calls, with an order between them that is confirmed at the end."""

    def shop(run: OperationRun) -> Any:
        reserved: Any = run.call("reserve", ledger.do)
        order: Any = run.commit("order", lambda tx: tx.orders.place(lines=TEA).id)
        charged: Any = run.call("charge", ledger.do)
        return run.complete(lambda tx: _answer(tx, order, reserved, charged))

    return IdempotentOperation(name_of(tenant), shop, **options)


def shopping_awaited(tenant: str, ledger: Ledger, **options: Any) -> IdempotentOperation[Any]:
    """Return the same operation for an event loop."""

    async def do(key: str) -> Any:
        return ledger.do(key)

    async def shop(run: AsyncOperationRun) -> Any:
        reserved: Any = await run.call("reserve", do)
        order: Any = await run.commit("order", lambda tx: tx.orders.place(lines=TEA).id)
        charged: Any = await run.call("charge", do)
        return await run.complete(lambda tx: _answer(tx, order, reserved, charged))

    return IdempotentOperation(name_of(tenant), shop, **options)


def _answer(tx: Any, order: Any, reserved: Any, charged: Any) -> Any:
    tx.orders.confirm(order)
    return {"order": order, "reserved": reserved["number"], "charged": charged["number"]}


class Deadline:
    """Kills this process at a moment that is counted."""

    def __init__(self, moment: int) -> None:
        self._left: int | None = moment
        self.begun = False

    def tick(self) -> None:
        if not self.begun or self._left is None:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Count a moment before and after everything that is said to the database."""
        for kind, name in itertools.product(EXECUTORS, ("execute", "execute_many", "execute_script", "copy")):
            if name in vars(kind):
                setattr(kind, name, self._watched(vars(kind)[name]))

    def _watched(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any) -> Any:
            self.tick()
            result = method(*args)
            if isinstance(result, Generator):
                return self._yielded(result)
            self.tick()
            return result

        return watched

    def _yielded(self, results: Iterator[None]) -> Iterator[None]:
        for result in results:
            self.tick()
            yield result


def is_asynchronous(url: str) -> bool:
    return "+asyncpg" in url or "+aiomysql" in url


def die(url: str, tenant: str, ledger: Path, moment: int) -> None:
    """Do one operation up to a moment."""
    deadline = Deadline(moment)
    deadline.watch()
    theirs, key = Ledger(ledger, deadline.tick), f"k-{moment}"
    if is_asynchronous(url):
        asyncio.run(_die_awaited(url, tenant, theirs, key, deadline))
        return
    with OrderKit.from_url(url) as owner:
        operations, operation = owner.for_tenant(tenant).operations, shopping(tenant, theirs)
        operations.report(operation, key=key)
        deadline.begun = True
        operations.run(operation, key=key)


async def _die_awaited(url: str, tenant: str, ledger: Ledger, key: str, deadline: Deadline) -> None:
    async with AsyncOrderKit.from_url(url) as owner:
        operations, operation = owner.for_tenant(tenant).operations, shopping_awaited(tenant, ledger)
        await operations.report(operation, key=key)
        deadline.begun = True
        await operations.run(operation, key=key)


def die_at_every_moment(url: str, tenant: str, ledger: Path, stride: int) -> None:
    for moment in itertools.count(1, stride):
        child = os.fork()
        if not child:
            try:
                die(url, tenant, ledger, moment)
            except BaseException as error:  # noqa: BLE001 - told by the status
                sys.stderr.write(f"moment {moment}: {error!r}\n")
                os._exit(1)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status != -signal.SIGKILL:
            sys.stdout.write(f"{moment}\n")
            sys.exit(status)


def stumbling(ledger: Ledger) -> Ledger:
    """Return a ledger whose answers get lost now and then."""
    do = ledger.do

    def lossy(key: str) -> dict[str, Any]:
        result = do(key)
        if random.random() < 0.1:
            raise TimeoutError
        return result

    ledger.do = lossy  # type: ignore[method-assign]
    return ledger


PASSING = (IdempotencyInFlight, LeaseLost, StorageError, TimeoutError)
"""What an operation may end with, so that it is to be repeated."""


def hammer(url: str, tenant: str, ledger: Path, keys: int) -> None:
    """Do operations under many keys until each has its answer."""
    theirs, left = stumbling(Ledger(ledger)), [f"k-{number}" for number in range(keys)]
    options = {"lease": timedelta(seconds=0.3)}
    if is_asynchronous(url):
        asyncio.run(_hammer_awaited(url, tenant, shopping_awaited(tenant, theirs, **options), left))
        return
    with OrderKit.from_url(url) as owner:
        operations, operation = owner.for_tenant(tenant).operations, shopping(tenant, theirs, **options)
        while left:
            key = random.choice(left)
            with contextlib.suppress(*PASSING):
                operations.run(operation, key=key, wait=0.1)
                left.remove(key)


async def _hammer_awaited(url: str, tenant: str, operation: IdempotentOperation[Any], left: list[str]) -> None:
    async with AsyncOrderKit.from_url(url) as owner:
        operations = owner.for_tenant(tenant).operations

        async def work() -> None:
            while left:
                key = random.choice(left)
                with contextlib.suppress(*PASSING):
                    await operations.run(operation, key=key, wait=0.1)
                    left[:] = [other for other in left if other != key]

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(work())


if __name__ == "__main__":
    if sys.argv[1] == "points":
        die_at_every_moment(sys.argv[2], sys.argv[3], Path(sys.argv[4]), int(sys.argv[5]))
    else:
        hammer(sys.argv[2], sys.argv[3], Path(sys.argv[4]), int(sys.argv[5]))
