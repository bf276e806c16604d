"""What users of other idempotency libraries complained of, and do not meet here."""

from __future__ import annotations

import asyncio
import copy
from functools import partial
from typing import Any

import pytest

from orderkit import AsyncOperationRun, AsyncOrderKit, IdempotentOperation, OperationRun
from orderkit.errors import IdempotencyInFlight, IdempotencyMismatch, LeaseLost
from orderkit.kit.operations import Operations
from orderkit.testing.clock import ManualClock
from tests.integration.kit.places import Place, outcome
from tests.integration.operations.world import LEASE, place_tea, rows, working


def test_express_idempotency_32_a_key_whose_holder_died_is_free_after_its_lease(
    operations: Operations, others: Operations, clock: ManualClock
) -> None:
    """VilledeMontreal/express-idempotency#32: it is in progress for days, until the record itself expires."""
    repetition = partial(others.run, working(lambda run: "done by somebody else"), key="k")

    def work(_run: OperationRun) -> Any:
        # Whoever stays in here for longer than the lease is as good as dead.
        busy = outcome(repetition)
        assert isinstance(busy, IdempotencyInFlight)
        assert 0 < busy.retry_after <= LEASE
        clock.advance(LEASE + 1)
        assert repetition() == "done by somebody else"

    with pytest.raises(LeaseLost):
        operations.run(working(work), key="k")
    assert repetition() == "done by somebody else"


def test_powertools_python_4483_what_is_idempotent_can_be_asynchronous() -> None:
    """aws-powertools/powertools-lambda-python#4483: there is no idempotent decorator for asynchronous functions."""
    done: list[str] = []

    async def charge(key: str) -> str:
        await asyncio.sleep(0)
        done.append(key)
        return "charged"

    async def work(run: AsyncOperationRun) -> Any:
        return await run.call("charge", charge)

    async def check() -> None:
        async with AsyncOrderKit.from_url("memory://") as kit:
            pay = IdempotentOperation("pay", work)
            assert await kit.for_tenant("acme").operations.run(pay, key="k") == "charged"
            assert await kit.for_tenant("acme").operations.run(pay, key="k") == "charged"

    asyncio.run(check())
    assert len(done) == 1


# aws-powertools/powertools-lambda-typescript#5675, #5678 and #5715, and others of that series, of which #5707 is one: a
# record is overwritten, completed or deleted by somebody whose it is not.


def test_powertools_typescript_5707_a_late_holder_overwrites_nothing(
    place: Place, tenant: str, operations: Operations, others: Operations, clock: ManualClock
) -> None:
    kept: list[object] = []

    def work(_run: OperationRun) -> Any:
        clock.advance(LEASE + 1)
        others.run(working(lambda run: run.commit("order", place_tea)), key="k")
        kept.extend(rows(place, tenant))
        return "the answer of somebody who was too late"

    with pytest.raises(LeaseLost):
        operations.run(working(work), key="k")
    assert rows(place, tenant) == kept


def test_powertools_typescript_5675_whoever_is_rejected_deletes_nothing(
    place: Place, tenant: str, operations: Operations, others: Operations
) -> None:
    def work(_run: OperationRun) -> Any:
        before = rows(place, tenant)
        repetition = outcome(partial(others.run, working(pytest.fail), key="k", request=1))
        another = outcome(partial(others.run, working(pytest.fail), key="k", request=2))
        assert (type(repetition), type(another)) == (IdempotencyInFlight, IdempotencyMismatch)
        assert rows(place, tenant) == before
        return "done"

    assert operations.run(working(work), key="k", request=1) == "done"
    kept = rows(place, tenant)
    assert isinstance(outcome(partial(others.run, working(pytest.fail), key="k", request=2)), IdempotencyMismatch)
    assert rows(place, tenant) == kept


def test_powertools_typescript_5678_what_is_under_way_is_held_until_its_lease_is_over(
    operations: Operations, others: Operations, clock: ManualClock
) -> None:
    def work(_run: OperationRun) -> Any:
        clock.advance(LEASE - 1)
        assert isinstance(outcome(partial(others.run, working(pytest.fail), key="k")), IdempotencyInFlight)
        return "done"

    assert operations.run(working(work), key="k") == "done"


@pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "fails"])
def test_powertools_typescript_5715_what_changes_its_input_ends_under_the_key_it_began_with(
    operations: Operations, fails: bool
) -> None:
    asked: dict[str, Any] = {"amount": 900, "lines": ["tea"]}
    first = copy.deepcopy(asked)

    def work(run: OperationRun) -> Any:
        asked["processed"] = True
        asked["lines"].append("sugar")
        given: Any = run.request
        given["processed"] = True
        if fails:
            raise ConnectionError
        return run.request

    ended = outcome(partial(operations.run, working(work), key="k", request=asked))
    assert isinstance(ended, ConnectionError) if fails else ended == first
    again = outcome(partial(operations.run, working(lambda run: run.request), key="k", request=first))
    assert again == first
