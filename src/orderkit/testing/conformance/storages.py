"""The suites: every check of the storage contracts, for synchronous and asynchronous backends."""

# ruff: noqa: D102 - the names of checks are sentences

from __future__ import annotations

import asyncio

import pytest

from orderkit.orders.ports import OrderStorage
from orderkit.orders.tables import OrderRow
from orderkit.testing.conformance.base import (
    StorageChecks,
    assert_record,
    moved,
    moving,
    order_row,
    placing,
)
from orderkit.testing.conformance.batches import BatchCommitChecks, BatchReadingChecks
from orderkit.testing.conformance.blocking import Blocking
from orderkit.testing.conformance.commits import AllOrNothingChecks, CommitChecks, GuardChecks
from orderkit.testing.conformance.contention import ContentionChecks
from orderkit.testing.conformance.histories import HistoryChecks, TenancyChecks
from orderkit.testing.conformance.keys import ClaimChecks, ForgettingChecks
from orderkit.testing.conformance.searching import SearchChecks
from orderkit.testing.conformance.transactions import (
    Abandoned,
    NumberChecks,
    SavepointChecks,
    TransactionChecks,
)
from orderkit.unit_of_work.storage import OrderRecord


class StorageConformance(
    CommitChecks,
    GuardChecks,
    AllOrNothingChecks,
    ClaimChecks,
    ForgettingChecks,
    HistoryChecks,
    TenancyChecks,
    TransactionChecks,
    SavepointChecks,
    NumberChecks,
    SearchChecks,
    BatchReadingChecks,
    BatchCommitChecks,
    ContentionChecks,
):
    """Check a storage against every sentence of its contracts.

    Subclass it and supply the fixtures `backend` and `rows`; see `orderkit.testing.conformance`.
    """


class AsyncChecks(StorageChecks):
    """What only an event loop can do to a storage."""

    @pytest.fixture
    def backend(self) -> Blocking[OrderStorage]:
        """Return the backend to be checked, driven by `Blocking`, its schema created."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `backend`: see orderkit.testing.conformance")

    def test_work_returns_and_raises_through_its_caller(self, backend: Blocking[OrderStorage], tenant: str) -> None:
        error = Abandoned()

        def fail(storage: OrderStorage) -> None:
            raise error

        async def check() -> None:
            async with backend.backend.connect() as call:
                assert (await call(lambda storage: storage.read(tenant, "order_absent"))).order is None
                with pytest.raises(Abandoned) as caught:
                    await call(fail)
                assert caught.value is error
                assert await call(lambda storage: storage.read_key) is not None

        backend.run(check())

    @pytest.mark.parametrize("tasks", [2, 12])
    def test_transactions_of_one_loop_wait_for_each_other_without_blocking_it(
        self, backend: Blocking[OrderStorage], tenant: str, tasks: int
    ) -> None:
        orders = [order_row(tenant, f"order_{n}") for n in range(tasks)]

        async def place(order: OrderRow) -> None:
            async with backend.backend.connect(transaction=True) as call:
                await call(lambda storage: storage.commit(placing(order)))
                # Whoever holds a lock gives the others a turn here, while they wait for it.
                await asyncio.sleep(0)
                await call(lambda storage: storage.commit(moving(order)))

        async def check() -> None:
            await asyncio.gather(*map(place, orders))
            for order in orders:
                assert_record(await record_of(backend, order), moved(order))

        backend.run(check())

    def test_a_cancelled_transaction_is_taken_back(self, backend: Blocking[OrderStorage], tenant: str) -> None:
        order = order_row(tenant)

        async def place_and_wait(written: asyncio.Event) -> None:
            async with backend.backend.connect(transaction=True) as call:
                await call(lambda storage: storage.commit(placing(order)))
                written.set()
                await asyncio.Event().wait()

        async def check() -> None:
            written = asyncio.Event()
            task = asyncio.create_task(place_and_wait(written))
            await written.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await record_of(backend, order) is None

        backend.run(check())


async def record_of(backend: Blocking[OrderStorage], order: OrderRow) -> OrderRecord | None:
    """Read an order in a block of its own, inside the loop."""
    async with backend.backend.connect() as call:
        return await call(lambda storage: storage.read(order.tenant, order.id).order)


class AsyncStorageConformance(AsyncChecks, StorageConformance):
    """Check an asynchronous storage against every sentence of its contracts.

    Subclass it and supply the fixtures `backend`, made by `Blocking`, and `rows`.
    """
