"""Steps: each is done once, whoever comes to it. One inside of another is refused, and so is what cannot be called."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from orderkit import AsyncOperationRun, AsyncOrderKit, Found, IdempotentOperation, OnUnknown, OperationRun, OrderKit
from orderkit.errors import ConfigurationError, Conflict, IdempotencyInFlight, LeaseLost
from orderkit.idempotency.operations import OperationLost, OutcomeUnknown
from orderkit.idempotency.runs import OperationNotFound
from orderkit.kit.operations import Operations
from orderkit.resilience import Cache, CircuitBreaker, Fallback, Hedge, Operation, Policy, conditions
from orderkit.storage.memory.leases import MemoryOperations
from orderkit.testing.clock import ManualClock
from tests.integration.kit.places import SHELLS, Place, assert_whole
from tests.integration.operations.world import LEASE, Provider, place_tea, rows, working

on_some = pytest.mark.parametrize("place", SHELLS, indirect=True)

TOGETHER = 4


def at_once(work: Callable[[], Any]) -> list[Any]:
    """Return what a function gives to several threads that call it at the same time."""
    ready = threading.Barrier(TOGETHER)

    def wait_and_work() -> Any:
        ready.wait()
        return work()

    with ThreadPoolExecutor(TOGETHER) as pool:
        return [given.result() for given in [pool.submit(wait_and_work) for _ in range(TOGETHER)]]


@pytest.fixture
def memory() -> Iterator[OrderKit]:
    with OrderKit.from_url("memory://") as kit:
        yield kit


# --------------------------------------------------------------------------------------------
# Side by side, and inside of one another
# --------------------------------------------------------------------------------------------


@on_some
def test_a_call_that_several_come_to_at_once_is_made_once(operations: Operations, provider: Provider) -> None:
    def work(run: OperationRun) -> Any:
        return at_once(lambda: run.call("charge", provider.do))

    answers: Any = operations.run(working(work), key="k")
    assert [answer["number"] for answer in answers] == [1] * TOGETHER
    assert list(provider.arrivals.values()) == [1]


@on_some
def test_a_commit_that_several_come_to_at_once_is_made_once(place: Place, tenant: str, operations: Operations) -> None:
    def work(run: OperationRun) -> Any:
        return at_once(lambda: run.commit("order", place_tea))

    answers: Any = operations.run(working(work), key="k")
    assert len(set(answers)) == 1
    assert assert_whole(place, tenant)["orders"] == 1


def test_one_who_comes_to_a_call_that_has_just_failed_finds_it_unknown(memory: OrderKit, provider: Provider) -> None:
    provider.breaks = lambda key: (_ for _ in ()).throw(TimeoutError())
    ends: list[type[BaseException]] = []

    def work(run: OperationRun) -> Any:
        def call() -> None:
            try:
                run.call("charge", provider.do, on_unknown=OnUnknown.HOLD)
            except (TimeoutError, OutcomeUnknown) as error:
                ends.append(type(error))

        at_once(call)
        return "caught"

    memory.operations.run(working(work), key="k")
    assert sorted(kind.__name__ for kind in ends) == ["OutcomeUnknown"] * (TOGETHER - 1) + ["TimeoutError"]
    assert sum(provider.arrivals.values()) == 1


def test_what_several_tasks_come_to_at_once_is_done_once() -> None:
    calls: list[str] = []

    async def charge(key: str) -> int:
        calls.append(key)
        await asyncio.sleep(0)
        return len(calls)

    async def work(run: AsyncOperationRun) -> Any:
        charges = [run.call("charge", charge) for _ in range(TOGETHER)]
        orders = [run.commit("order", place_tea) for _ in range(TOGETHER)]
        return [await asyncio.gather(*charges), await asyncio.gather(*orders)]

    async def check() -> None:
        async with AsyncOrderKit.from_url("memory://") as kit:
            charged, ordered = await kit.operations.run(IdempotentOperation("work", work), key="k")
        assert charged == [1] * TOGETHER
        assert len(calls) == len(set(ordered)) == 1

    asyncio.run(check())


NESTED: dict[str, Callable[[OperationRun, Callable[[], Any]], Any]] = {
    "call": lambda run, inner: run.call("outer", lambda key: inner()),
    "commit": lambda run, inner: run.commit("outer", lambda tx: inner()),
    "complete": lambda run, inner: run.complete(lambda tx: inner()),
}


@pytest.mark.parametrize("inner", ["call", "commit", "complete"])
@pytest.mark.parametrize("outer", ["call", "commit", "complete"])
def test_a_step_inside_of_a_step_is_refused(memory: OrderKit, outer: str, inner: str) -> None:
    steps: dict[str, Callable[[OperationRun], Any]] = {
        "call": lambda run: run.call("inner", lambda key: pytest.fail("called")),
        "commit": lambda run: run.commit("inner", lambda tx: pytest.fail("committed")),
        "complete": lambda run: run.complete(lambda tx: pytest.fail("completed")),
    }
    operation = working(lambda run: NESTED[outer](run, lambda: steps[inner](run)))
    with pytest.raises(ConfigurationError, match="inside of another step"):
        memory.operations.run(operation, key="k")
    assert memory.operations.run(working(lambda run: run.call("after", lambda key: 1)), key="other") == 1


def test_a_step_inside_of_a_step_is_refused_in_tasks_too() -> None:
    async def work(run: AsyncOperationRun) -> Any:
        async def outer(_key: str) -> Any:
            return await run.call("outer", outer)

        return await run.call("outer", outer)

    async def check() -> None:
        async with AsyncOrderKit.from_url("memory://") as kit:
            with pytest.raises(ConfigurationError, match="inside of another step"):
                await kit.operations.run(IdempotentOperation("work", work), key="k")

    asyncio.run(check())


def test_an_operation_may_be_done_inside_of_a_step_of_another(memory: OrderKit) -> None:
    inner = working(lambda run: run.call("charge", lambda key: "theirs"), "inner")
    outer = working(lambda run: run.call("charge", lambda key: memory.operations.run(inner, key="k")), "outer")
    assert memory.operations.run(outer, key="k") == "theirs"


# --------------------------------------------------------------------------------------------
# What cannot be called
# --------------------------------------------------------------------------------------------


async def in_a_loop(_key: str) -> None:
    pytest.fail("called")


def called(_key: str) -> None:
    pytest.fail("called")


WRONG: dict[str, dict[str, Any]] = {
    "an async function": {"function": in_a_loop},
    "a generator": {"function": lambda key: (yield)},
    "no function": {"function": None},
    "a function of nothing": {"function": lambda: None},
    "a function of two": {"function": lambda key, amount: None},
    "a policy by name": {"policy": "psp"},
    "a look-up that is none": {"look_up": 5},
    "an async look-up": {"look_up": in_a_loop},
    "another word for what is unknown": {"on_unknown": "wait"},
    "a fallback": {"policy": Policy(Fallback(lambda error: None, on=(TimeoutError,)))},
    "a cache": {"policy": Policy(Cache(key=lambda key: "same", ttl=60), operation=Operation.SAFE)},
    "a hedge": {"policy": Policy(Hedge(after=1), operation=Operation.SAFE)},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_called_is_refused_before_it_is_begun(memory: OrderKit, wrong: dict[str, Any]) -> None:
    given: dict[str, Any] = {"function": called, **wrong}
    function = given.pop("function")
    operation = working(lambda run: run.call("charge", function, **given))
    with pytest.raises(ConfigurationError):
        memory.operations.run(operation, key="k")
    assert memory.operations.report(operation, key="k") is None


def coroutine_of(key: str) -> Any:
    return in_a_loop(key)


def generator_of(key: str) -> Any:
    return (letter for letter in key)


@pytest.mark.parametrize("policy", [None, Policy(CircuitBreaker("psp"))], ids=["bare", "policy"])
@pytest.mark.parametrize("lazy", [coroutine_of, generator_of], ids=["coroutine", "generator"])
def test_a_function_that_returns_work_that_has_not_begun_has_sent_nothing(
    memory: OrderKit, lazy: Callable[[str], Any], policy: Policy | None
) -> None:
    operation = working(lambda run: run.call("charge", lazy, policy=policy))
    with pytest.raises(ConfigurationError):
        memory.operations.run(operation, key="k")
    assert memory.operations.report(operation, key="k") is None


def test_a_policy_surrounds_what_a_plain_function_returns_to_be_awaited() -> None:
    async def charge(key: str) -> str:
        return key

    async def work(run: AsyncOperationRun) -> Any:
        return await run.call("charge", lambda key: charge(key + "!"), policy=Policy(CircuitBreaker("psp")))

    async def check() -> None:
        async with AsyncOrderKit.from_url("memory://") as kit:
            assert (
                await kit.operations.run(IdempotentOperation("work", work), key="k")
                == "orderkit:default/work:k:charge!"
            )

    asyncio.run(check())


@on_some
def test_hold_may_be_written_as_text(operations: Operations, provider: Provider) -> None:
    provider.breaks = lambda key: (_ for _ in ()).throw(TimeoutError())
    word: Any = "hold"
    operation = working(lambda run: run.call("charge", provider.do, on_unknown=word))
    with pytest.raises(TimeoutError):
        operations.run(operation, key="k")
    with pytest.raises(OutcomeUnknown):
        operations.run(operation, key="k")
    assert sum(provider.arrivals.values()) == 1


# --------------------------------------------------------------------------------------------
# After the end
# --------------------------------------------------------------------------------------------

LATE: dict[str, Callable[[OperationRun], Any]] = {
    "call": lambda run: run.call("late", called),
    "commit": lambda run: run.commit("late", lambda tx: pytest.fail("committed")),
    "complete": lambda run: run.complete(lambda tx: pytest.fail("completed")),
}


@on_some
@pytest.mark.parametrize("late", LATE.values(), ids=LATE.keys())
def test_a_step_after_complete_is_told_that_the_operation_has_ended(
    operations: Operations, late: Callable[[OperationRun], Any]
) -> None:
    def work(run: OperationRun) -> Any:
        run.complete(lambda tx: "the answer")
        return late(run)

    with pytest.raises(ConfigurationError, match="has ended"):
        operations.run(working(work), key="k")
    assert operations.run(working(work), key="k") == "the answer"


@on_some
def test_an_answer_ends_an_operation_although_a_call_is_unknown(operations: Operations, provider: Provider) -> None:
    provider.breaks = lambda key: (_ for _ in ()).throw(TimeoutError())

    def work(run: OperationRun) -> str:
        with pytest.raises(TimeoutError):
            run.call("charge", provider.do)
        return "without it"

    operation = working(work)
    assert operations.run(operation, key="k") == "without it"
    report = operations.report(operation, key="k")
    assert report is not None
    assert (report.state, report.unknown, report.lapsed) == ("succeeded", ("charge",), False)
    with pytest.raises(Conflict, match="ended"):
        operations.settle(operation, key="k", step="charge", outcome=Found(1))
    assert operations.run(operation, key="k") == "without it"


def test_whoever_was_taken_over_is_told_of_to_listeners(clock: ManualClock) -> None:
    told: list[Any] = []
    with OrderKit.from_url("memory://", clock=clock) as kit:

        def work(run: OperationRun) -> Any:
            if not told:
                told.append("begun")
                clock.advance(LEASE + 1)
                kit.operations.run(working(lambda run: "theirs"), key="k")
            return "mine"

        with pytest.raises(LeaseLost):
            kit.operations.run(working(work, listeners=(told.append,)), key="k")
    assert told == ["begun", OperationLost(policy="work", tenant="default", key="k", fence=1)]


# --------------------------------------------------------------------------------------------
# What is refused before anything is read or written, and what is given up
# --------------------------------------------------------------------------------------------

WORK: Any = working(lambda run: "done")
NO_SECONDS: list[Any] = ["5", None, -1, float("nan"), float("inf"), True, 1e30]
REFUSED: list[Callable[[Any], object]] = [
    *(lambda ops, wait=wait: ops.run(WORK, key="k", wait=wait) for wait in NO_SECONDS),
    *(lambda ops, grace=grace: ops.resume(WORK, grace=grace) for grace in NO_SECONDS),
    *(lambda ops, limit=limit: ops.stuck(WORK, limit=limit) for limit in (0, -1, "1", True, 1e3, 10**9)),
    lambda ops: ops.resume(WORK, working(lambda run: "another")),
    lambda ops: ops.stuck("work"),
    lambda ops: ops.resume("work"),
    lambda ops: ops.report("work", key="k"),
    lambda ops: ops.abandon("work", key="k"),
    lambda ops: ops.settle("work", key="k", step="charge", outcome=None),
    lambda ops: ops.settle(WORK, key="k", step="charge", outcome=5),
]


@pytest.mark.parametrize("refused", REFUSED)
def test_what_cannot_be_asked_is_refused_before_anything_is_read(refused: Callable[[Any], object]) -> None:
    unreachable = OrderKit.from_url("postgresql+psycopg://localhost:1/nowhere")
    with unreachable, pytest.raises(ConfigurationError):
        refused(unreachable.operations)


def test_an_operation_that_is_never_to_go_on_is_abandoned(
    place: Place, tenant: str, operations: Operations, provider: Provider
) -> None:
    provider.breaks = lambda key: (_ for _ in ()).throw(TimeoutError())
    operation = working(lambda run: run.call("charge", provider.do, on_unknown=OnUnknown.HOLD))
    with pytest.raises(OperationNotFound):
        operations.abandon(operation, key="k")
    with pytest.raises(TimeoutError):
        operations.run(operation, key="k", request=1)
    operations.abandon(operation, key="k")
    assert rows(place, tenant) == []
    provider.breaks = lambda key: None
    answer: Any = operations.run(operation, key="k", request=2)
    assert answer["number"] == 1
    with pytest.raises(Conflict, match="ended"):
        operations.abandon(operation, key="k")
    assert operations.run(operation, key="k", request=2) == answer


def test_what_somebody_is_at_work_on_is_not_abandoned(operations: Operations, others: Operations) -> None:
    def work(run: OperationRun) -> str:
        with pytest.raises(IdempotencyInFlight):
            others.abandon(working(work), key="k")
        return "done"

    assert operations.run(working(work), key="k") == "done"


def test_those_who_wait_write_nothing_and_look_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    starts: list[None] = []
    start = MemoryOperations.start

    def counted(self: MemoryOperations, *args: Any, **options: Any) -> Any:
        starts.append(None)
        return start(self, *args, **options)

    monkeypatch.setattr(MemoryOperations, "start", counted)
    with OrderKit.from_url("memory://") as kit:

        def work(run: OperationRun) -> str:
            starts.clear()
            with pytest.raises(IdempotencyInFlight), conditions.replaced(conditions.Conditions(pause=pauses.append)):
                kit.operations.run(operation, key="k", wait=20)
            return "done"

        operation = working(work)
        kit.operations.run(operation, key="k")
    assert len(starts) == 1
    assert sum(pauses) == pytest.approx(20)
    assert pauses[0] <= 0.05
    assert 0.5 <= max(pauses) <= 1
    assert len(pauses) < 60
