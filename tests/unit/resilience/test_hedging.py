from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

from orderkit.resilience import (
    AttemptTimeout,
    CircuitBreaker,
    CircuitState,
    ConsecutiveFailures,
    Deadline,
    DeadlineExceeded,
    Hedge,
    HedgeStarted,
    InvalidPolicy,
    Operation,
    Policy,
    Retry,
    RetryBudget,
)
from orderkit.testing.resilience import resilience
from tests.unit.resilience.worlds import World, failing

SOON = 0.01
LONG = 60.0


def hedged(*layers: Any, after: float = SOON, attempts: int = 2) -> Policy:
    return Policy(
        *(layer for layer in layers if layer.rank < Hedge.rank),
        Hedge(after, attempts),
        *(layer for layer in layers if layer.rank > Hedge.rank),
        operation=Operation.SAFE,
    )


class Attempts:
    """Hangs or fails at first, by the number of the attempt, and knows how each ended."""

    def __init__(self, **endings: BaseException | str | None) -> None:
        self._endings = [endings[name] for name in sorted(endings)]
        self.begun = 0
        self.cancelled = 0
        self.second_began = asyncio.Event()

    async def __call__(self) -> str:
        ending = self._endings[self.begun]
        self.begun += 1
        if self.begun > 1:
            self.second_began.set()
        try:
            await (asyncio.Event().wait() if ending is None else self.second_began.wait())
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(ending, BaseException):
            raise ending
        assert ending is not None
        return ending


def run(policy: Policy, work: Callable[[], Any]) -> Any:
    """Run a call in an event loop that complains of everything that nobody has asked for."""
    complaints: list[dict[str, Any]] = []

    async def main() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        try:
            return await policy.call(work)
        finally:
            # Those that have lost are cancelled, and end behind the back of the caller.
            await asyncio.sleep(0)
            gc.collect()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    try:
        return asyncio.run(main())
    finally:
        gc.collect()
        assert complaints == []


def test_a_slow_attempt_is_overtaken_and_cancelled() -> None:
    work = Attempts(first=None, second="second")
    with resilience() as observed:
        assert run(hedged(), work) == "second"
    assert (work.begun, work.cancelled) == (2, 1)
    assert [event.attempt for event in observed.of(HedgeStarted)] == [2]


def test_a_quick_attempt_is_left_alone(world: World) -> None:
    with resilience() as observed:
        assert world.call(hedged(after=LONG), failing()) == "done"
    assert observed.events == []


def test_a_failed_attempt_waits_for_the_other() -> None:
    assert run(hedged(), Attempts(first=ValueError(), second="second")) == "second"
    assert run(hedged(), Attempts(first="first", second=ValueError())) == "first"


def test_both_fail() -> None:
    with pytest.raises(ValueError, match="down"):
        run(hedged(), Attempts(first=ValueError("down"), second=ValueError("down")))


def test_what_fails_at_once_is_not_sent_twice(world: World) -> None:
    """That is what a retry is for, which knows whether it may."""
    work = failing(ValueError("wrong"))
    with pytest.raises(ValueError, match="wrong"):
        world.call(hedged(after=LONG), work)
    assert work() == "done"


def test_all_attempts_are_cancelled_with_their_caller() -> None:
    work = Attempts(first=None, second=None)
    breaker = CircuitBreaker("psp", ConsecutiveFailures(1))

    async def main() -> None:
        task = asyncio.create_task(hedged(breaker).call(work))
        await work.second_began.wait()
        task.cancel("by the caller")
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert work.cancelled == 2
    assert breaker.state is CircuitState.CLOSED


def test_attempts_that_hang_are_cancelled_by_the_deadline_and_have_failed() -> None:
    work = Attempts(first=None, second=None)
    breaker = CircuitBreaker("psp", ConsecutiveFailures(1))
    with pytest.raises(DeadlineExceeded):
        run(hedged(Deadline(5 * SOON), breaker), work)
    assert work.cancelled == work.begun
    assert breaker.state is CircuitState.OPEN


def test_a_thread_is_overtaken_by_another() -> None:
    let_go, names = threading.Event(), []

    def work() -> str:
        names.append(threading.current_thread().name)
        if len(names) == 1:
            assert let_go.wait(20)
            return "first"
        return "second"

    assert hedged().call(work) == "second"
    let_go.set()
    assert set(names) == {"orderkit-hedge"}


def test_threads_that_hang_are_waited_for_as_long_as_the_deadline_says() -> None:
    let_go = threading.Event()
    with pytest.raises(DeadlineExceeded) as caught:
        hedged(Deadline(5 * SOON)).call(let_go.wait, 20)
    assert caught.value.sent
    let_go.set()


def test_attempts_see_the_context_of_their_caller(world: World) -> None:
    variable = contextvars.ContextVar("variable", default="lost")
    variable.set("kept")
    assert world.call(hedged(after=LONG), variable.get) == "kept"


@pytest.mark.parametrize("error", [StopIteration("end"), KeyboardInterrupt(), SystemExit(2)], ids=repr)
def test_what_a_thread_raises_is_raised_as_it_is(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        hedged(after=LONG).call(failing(error))
    assert caught.value is error


@pytest.mark.parametrize(
    "build",
    [
        lambda: Hedge(0),
        lambda: Hedge(1, attempts=1),
        lambda: Hedge(1, attempts=True),
        lambda: Hedge(float("nan")),
        lambda: Policy(Hedge(1)),
        lambda: Policy(Hedge(1), operation=Operation.KEYED),
        lambda: Policy(Hedge(1), operation=Operation.UNSAFE),
        lambda: Policy(Hedge(1), AttemptTimeout(1), operation=Operation.SAFE),
        lambda: Policy(Deadline(1), Hedge(1), operation=Operation.SAFE),
    ],
)
def test_a_hedge_that_cannot_be(build: Callable[[], object]) -> None:
    with pytest.raises(InvalidPolicy):
        build()


def test_the_winner_does_not_wait_for_what_the_loser_cleans_up() -> None:
    async def main() -> None:
        cleaned, leave, begun = asyncio.Event(), asyncio.Event(), []

        async def work() -> int:
            begun.append(None)
            if len(begun) == 2:
                return 2
            try:
                await asyncio.Event().wait()
            finally:
                await leave.wait()
                cleaned.set()
                raise OSError("nobody asks for it")

        async with asyncio.timeout(20):
            assert await hedged().call(work) == 2
            assert not cleaned.is_set()
            leave.set()
            await cleaned.wait()

    complaints: list[Any] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        await main()
        await asyncio.sleep(0)
        gc.collect()

    asyncio.run(watched())
    assert complaints == []


def test_hedges_take_out_of_the_budget_of_the_retry_until_it_is_spent(world: World) -> None:
    budget = RetryBudget(14)
    policy = Policy(Retry(on=OSError, budget=budget), Hedge(SOON), operation=Operation.SAFE)
    with resilience() as observed:
        for _ in range(3):
            asyncio.run(policy.call(asyncio.sleep, SOON * 5)) if world.name == "async" else policy.call(sleepy)
    assert len(observed.of(HedgeStarted)) == 1


def sleepy() -> None:
    threading.Event().wait(SOON * 5)
