"""Whoever was taken over without noticing wakes up, and writes nothing any more."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import attrs
import pytest

from orderkit import Found, IdempotentOperation, OperationRun, OrderKit
from orderkit.errors import Conflict, LeaseLost, Refused
from orderkit.idempotency import claims, runs
from orderkit.idempotency.claims import Claim, Surroundings
from orderkit.idempotency.leases import OperationRow
from orderkit.kit.operations import Operations
from orderkit.testing.clock import ManualClock
from tests.integration.kit.places import SERVERS, SHELLS, TEA, Place, assert_whole, outcome
from tests.integration.operations.world import LEASE, Provider, place_tea, rows, working

# A transaction of SQLite holds its file, so that nobody can take over what is inside one.
ASIDE = ("memory", "memory-async", *SERVERS)

Act = Callable[[OperationRun], object]


def refuse(_given: Any) -> object:
    raise Refused("no")


ACTS: dict[str, Act] = {
    "call": lambda run: run.call("late", lambda key: pytest.fail("a call of somebody who was taken over")),
    "commit": lambda run: run.commit("late", place_tea),
    "complete": lambda run: run.complete(place_tea),
    "refusal in a phase": lambda run: run.commit("late", refuse),
    "refusal": refuse,
    "return": lambda run: "the answer of somebody who was taken over",
}


@pytest.fixture
def take_over(others: Operations, clock: ManualClock) -> Callable[[], object]:
    """Let the lease run out, and somebody else bring the operation to its end."""

    def bring_to_its_end() -> object:
        clock.advance(LEASE + 1)
        return others.run(working(lambda run: run.complete(lambda tx: [place_tea(tx), "theirs"])), key="k")

    return bring_to_its_end


def assert_theirs(place: Place, tenant: str, operations: Operations) -> None:
    """Insist that there is the one order of whoever has taken over, and their answer."""
    (row,) = rows(place, tenant)
    assert (row["state"], row["fence"]) == ("succeeded", 2)
    answer: Any = operations.run(working(lambda run: pytest.fail("done again")), key="k")
    assert answer[1] == "theirs"
    assert assert_whole(place, tenant)["orders"] == 1
    assert place.rows("orders", tenant)[0]["id"] == answer[0]


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS.keys())
def test_one_who_was_taken_over_writes_nothing(
    place: Place, tenant: str, operations: Operations, take_over: Callable[[], object], act: Act
) -> None:
    def work(run: OperationRun) -> Any:
        take_over()
        return act(run)

    with pytest.raises(LeaseLost) as lost:
        operations.run(working(work), key="k")
    assert (lost.value.key, lost.value.fence) == ("k", 1)
    assert_theirs(place, tenant, operations)


def test_one_who_catches_it_is_told_again(
    place: Place, tenant: str, operations: Operations, take_over: Callable[[], object]
) -> None:
    caught: list[object] = []

    def work(run: OperationRun) -> Any:
        take_over()
        caught.extend(outcome(partial(act, run)) for act in list(ACTS.values())[:3])
        return "nevertheless"

    with pytest.raises(LeaseLost):
        operations.run(working(work), key="k")
    assert [type(error) for error in caught] == [LeaseLost] * 3
    assert_theirs(place, tenant, operations)


def test_one_who_is_taken_over_during_a_call_cannot_keep_what_it_gave(
    place: Place, tenant: str, operations: Operations, take_over: Callable[[], object]
) -> None:
    def work(run: OperationRun) -> Any:
        return run.call("charge", lambda key: take_over())

    with pytest.raises(LeaseLost):
        operations.run(working(work), key="k")
    assert_theirs(place, tenant, operations)


@pytest.mark.parametrize("place", ASIDE, indirect=True)
@pytest.mark.parametrize("method", ["commit", "complete"])
def test_the_orders_of_one_who_is_taken_over_inside_a_phase_are_rolled_back(
    place: Place, tenant: str, operations: Operations, take_over: Callable[[], object], method: str
) -> None:
    def phase(tx: Any) -> Any:
        order = place_tea(tx)
        take_over()
        tx.orders.confirm(order)
        return order

    def work(run: OperationRun) -> Any:
        return run.commit("order", phase) if method == "commit" else run.complete(phase)

    with pytest.raises(LeaseLost):
        operations.run(working(work), key="k")
    assert_theirs(place, tenant, operations)


def test_an_error_that_is_no_answer_does_not_free_what_somebody_else_holds(
    place: Place, tenant: str, operations: Operations, take_over: Callable[[], object]
) -> None:
    def work(run: OperationRun) -> Any:
        take_over()
        raise ConnectionError

    with pytest.raises(ConnectionError):
        operations.run(working(work), key="k")
    assert_theirs(place, tenant, operations)


@attrs.frozen
class Slow:
    """A holder whose lease has run out without its noticing, and who goes on when it is told to.

    Attributes:
        operation: What it does.
        go_on: Have it come a step further and let go of the operation, and return once it has.
    """

    operation: IdempotentOperation[Any]
    go_on: Callable[[], object]


@pytest.fixture
def slow(tenant: str, operations: Operations, clock: ManualClock) -> Iterator[Slow]:
    """An operation whose holder is in the middle of a charge, when its lease has run out."""
    begun, further = threading.Event(), threading.Event()
    fails = [TimeoutError()]

    def charge(_key: str) -> str:
        begun.set()
        further.wait()
        return "charged"

    def work(run: OperationRun) -> Any:
        charged = run.call("charge", charge)
        order: Any = run.commit("order", place_tea)
        if fails:
            raise fails.pop()
        return [charged, order]

    operation = working(work, f"work-{tenant[-12:]}")
    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(outcome, lambda: operations.run(operation, key="k"))
        begun.wait()
        clock.advance(LEASE + 1)

        def go_on() -> object:
            further.set()
            return holder.result()

        yield Slow(operation, go_on)
        go_on()


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch, slow: Slow) -> None:
    """Have whoever takes the operation over look at it first, and the holder go on between that and the takeover."""
    taking_over = partial(_late, claims.take_over, slow)
    for module in (claims, runs):
        monkeypatch.setattr(module, "take_over", taking_over)


async def _late(
    take_over: Callable[[Claim, OperationRow, Surroundings], Awaitable[Claim | None]],
    slow: Slow,
    claim: Claim,
    row: OperationRow,
    around: Surroundings,
) -> Claim | None:
    slow.go_on()
    return await take_over(claim, row, around)


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("by", ["run", "resume"])
def test_whoever_takes_over_goes_on_from_what_the_holder_has_done_meanwhile(
    place: Place, tenant: str, others: Operations, slow: Slow, by: str
) -> None:
    if by == "resume":
        assert others.resume(slow.operation, grace=0).done == 1
    answer: Any = others.run(slow.operation, key="k")
    assert answer == ["charged", place.rows("orders", tenant)[0]["id"]]
    assert assert_whole(place, tenant)["orders"] == 1


@pytest.mark.usefixtures("late")
def test_what_became_known_meanwhile_is_not_settled_otherwise(others: Operations, slow: Slow) -> None:
    with pytest.raises(Conflict, match="known"):
        others.settle(slow.operation, key="k", step="charge", outcome=Found("something else"))
    answer: Any = others.run(slow.operation, key="k")
    assert answer[0] == "charged"


@pytest.mark.parametrize("place", SHELLS, indirect=True)
def test_many_who_pause_and_many_who_take_over(
    place: Place, tenant: str, kit: OrderKit, operations: Operations, others: Operations, clock: ManualClock
) -> None:
    """Sleepers wake up while others are in the middle of what was theirs."""
    keys = [f"k-{number}" for number in range(8)]
    asleep, taken = threading.Barrier(len(keys) + 1), threading.Barrier(len(keys))
    awake = threading.Event()
    provider = Provider()

    def sleep(run: OperationRun) -> Any:
        run.call("reserve", provider.do)
        asleep.wait()
        awake.wait()
        return run.complete(lambda tx: [place_tea(tx), "sleeper"])

    def finish(run: OperationRun) -> Any:
        taken.wait()
        awake.set()
        run.call("reserve", provider.do)
        run.commit("order", lambda tx: tx.orders.place(lines=TEA, id=f"order-{run.key}").id)
        return "taken over"

    def at_once(runner: Operations, work: Callable[[OperationRun], Any], pool: ThreadPoolExecutor) -> Iterable[Any]:
        return [pool.submit(outcome, lambda key=key: runner.run(working(work), key=key)) for key in keys]

    with ThreadPoolExecutor(2 * len(keys)) as pool:
        sleepers = at_once(operations, sleep, pool)
        asleep.wait()
        clock.advance(LEASE + 1)
        takers = at_once(others, finish, pool)
        assert [taker.result() for taker in takers] == ["taken over"] * len(keys)
        assert {type(sleeper.result()) for sleeper in sleepers} == {LeaseLost}
    assert set(provider.arrivals.values()) == {1}
    assert sorted(row["id"] for row in place.rows("orders", tenant)) == sorted(f"order-{key}" for key in keys)
    assert {operations.run(working(sleep), key=key) for key in keys} == {"taken over"}
