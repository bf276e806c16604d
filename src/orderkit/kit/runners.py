"""The shells: run a script over a backend, waiting or awaiting, until it is done or finally fails."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Protocol, TypeVar

import attrs

from orderkit.clock import Clock, IdSource, SystemClock, UuidV7
from orderkit.errors import ConfigurationError, SchemaMissing, TransactionEnded
from orderkit.orders.ports import OrderStorage
from orderkit.unit_of_work.attempts import AGAIN, Attempts, Script
from orderkit.unit_of_work.storage import AsyncBackend, Backend, Caller
from orderkit.unit_of_work.unit import Context, UnitOfWork

T = TypeVar("T")

KitScript = Script[OrderStorage, T]
KitUnit = UnitOfWork[OrderStorage]


def look(unit: KitUnit) -> None:
    """Read what is not there: tables that are missing too are missed, and made, before a block that cannot be rerun."""
    unit.storage.read(unit.tenant, "")


def finished(result: T) -> T:
    """Return the result of a function given to `run`, which must have done its work by then.

    Raises:
        ConfigurationError: It is a coroutine or a generator, which would begin only after the commit.
    """
    if isinstance(result, Coroutine | Generator | AsyncGenerator):
        if isinstance(result, Coroutine):
            result.close()
        raise ConfigurationError("Give `run` a plain function; nothing was changed. To await, use `transaction`.")
    return result


class Runner(Protocol):
    """Run a script to its end."""

    def run(self, script: KitScript[T]) -> T:
        """Return what the script returns, once what it gathered is written."""
        ...


class AsyncRunner(Protocol):
    """Run a script to its end, from an event loop."""

    async def run(self, script: KitScript[T]) -> T:
        """Return what the script returns, once what it gathered is written."""
        ...


@attrs.frozen
class Surroundings:
    """What every unit of work is given: on whose behalf, the clock, the source of ids."""

    context: Context = attrs.Factory(Context)
    clock: Clock = attrs.Factory(SystemClock)
    ids: IdSource = attrs.Factory(UuidV7)

    def attempts(self, *, deferred: bool = False) -> Attempts:
        """Return the attempts of a new unit of work."""
        return Attempts(self.context, self.clock, self.ids, deferred=deferred)


@attrs.frozen
class BackendRunner:
    """Run scripts over a backend, again where that may help.

    Attributes:
        deferred: Gather all commands of a script for one commit.
        create_tables: Create missing tables when they are first missed.
    """

    backend: Backend[OrderStorage]
    surroundings: Surroundings
    deferred: bool = False
    create_tables: bool = False

    def gathering(self) -> BackendRunner:
        """Return a runner that writes what a whole script gathers by one commit."""
        return attrs.evolve(self, deferred=True)

    def run(self, script: KitScript[T]) -> T:
        """Return what the script returns, once what it gathered is durable."""
        attempts = self.surroundings.attempts(deferred=self.deferred)
        while True:
            try:
                with self.backend.connect(transaction=attempts.transaction) as storage:
                    return attempts.perform(script, storage)
            except SchemaMissing as error:
                delay = attempts.after_missing_tables(error, self.create_tables)
                self.backend.create_schema()
            except AGAIN as error:
                delay = attempts.after(error)
            if delay:
                time.sleep(delay)


@attrs.frozen
class AsyncBackendRunner:
    """Run scripts over an asynchronous backend, again where that may help."""

    backend: AsyncBackend[OrderStorage]
    surroundings: Surroundings
    deferred: bool = False
    create_tables: bool = False

    def gathering(self) -> AsyncBackendRunner:
        """Return a runner that writes what a whole script gathers by one commit."""
        return attrs.evolve(self, deferred=True)

    async def run(self, script: KitScript[T]) -> T:
        """Return what the script returns, once what it gathered is durable."""
        from asyncio import sleep

        attempts = self.surroundings.attempts(deferred=self.deferred)
        while True:
            try:
                async with self.backend.connect(transaction=attempts.transaction) as call:
                    return await call(lambda storage: attempts.perform(script, storage))
            except SchemaMissing as error:
                delay = attempts.after_missing_tables(error, self.create_tables)
                await self.backend.create_schema()
            except AGAIN as error:
                delay = attempts.after(error)
            if delay:
                await sleep(delay)


@attrs.frozen
class JoinedRunner:
    """Run scripts once each inside a transaction that somebody else ends.

    Attributes:
        open: Return the storage of the transaction, ready for the next command.
    """

    open: Callable[[], OrderStorage]
    surroundings: Surroundings

    def run(self, script: KitScript[T]) -> T:
        """Return what the script returns; what it gathered becomes durable with the transaction."""
        return self.surroundings.attempts().perform_once(script, self.open())


@attrs.frozen
class AsyncJoinedRunner:
    """Run scripts once each inside an asynchronous transaction that somebody else ends."""

    call: Caller[OrderStorage]
    surroundings: Surroundings

    async def run(self, script: KitScript[T]) -> T:
        """Return what the script returns; what it gathered becomes durable with the transaction."""
        return await self.call(lambda storage: self.surroundings.attempts().perform_once(script, storage))


@attrs.frozen
class UnitRunner:
    """Run scripts inside the unit of work of another script."""

    unit: KitUnit

    def run(self, script: KitScript[T]) -> T:
        """Return what the script returns; what it gathered is written with everything else."""
        if self.unit.ended:
            raise TransactionEnded
        with self.unit.storage.savepoint():
            return script(self.unit)
