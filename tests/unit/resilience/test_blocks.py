from __future__ import annotations

import asyncio
import contextvars
import gc
import traceback
from collections.abc import AsyncIterator, Iterator

import pytest

from orderkit.resilience import (
    AttemptTimeout,
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    CircuitState,
    ConsecutiveFailures,
    Deadline,
    DeadlineExceeded,
    Fallback,
    Hedge,
    InvalidPolicy,
    Operation,
    Policy,
    Retry,
    time_left,
)
from tests.unit.resilience.worlds import World, failing


def full(*, count: int = 1) -> tuple[Policy, CircuitBreaker, Bulkhead]:
    breaker, bulkhead = CircuitBreaker("psp", ConsecutiveFailures(count)), Bulkhead(1)
    return Policy(Deadline(60), breaker, bulkhead, AttemptTimeout(30)), breaker, bulkhead


def test_a_block_is_bounded_and_held_back_like_a_call(world: World) -> None:
    policy, breaker, bulkhead = full()

    def body() -> None:
        assert bulkhead.under_way == 1
        assert 0 < (time_left() or 0) <= 30
        raise ConnectionError("down")

    with pytest.raises(ConnectionError, match="down"):
        world.block(policy, body)
    assert (breaker.state, bulkhead.under_way, time_left()) == (CircuitState.OPEN, 0, None)
    with pytest.raises(CircuitOpen):
        world.block(policy, failing(AssertionError("entered")))


ERRORS = [ValueError, StopIteration, StopAsyncIteration, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt]


@pytest.mark.parametrize("kind", ERRORS)
def test_the_error_of_a_block_is_left_as_it_was(kind: type[BaseException]) -> None:
    policy, _, bulkhead = full()
    error = kind()
    with pytest.raises(kind) as caught, policy:
        raise error
    check_untouched(error, caught.value)
    assert bulkhead.under_way == 0


@pytest.mark.parametrize("kind", ERRORS)
def test_the_error_of_a_block_in_an_event_loop_is_left_as_it_was(kind: type[BaseException]) -> None:
    policy, _, bulkhead = full()
    error = kind()

    async def main() -> None:
        with pytest.raises(kind) as caught:
            async with policy:
                raise error
        check_untouched(error, caught.value)

    asyncio.run(main())
    assert bulkhead.under_way == 0


def check_untouched(error: BaseException, caught: BaseException) -> None:
    assert caught is error
    assert (error.__context__, error.__cause__, error.__suppress_context__) == (None, None, False)
    assert len(traceback.extract_tb(error.__traceback__)) == 1


def test_a_block_that_hangs_is_cut_off() -> None:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(1))

    async def main() -> None:
        with pytest.raises(DeadlineExceeded):
            async with Policy(Deadline(0.01), breaker):
                await asyncio.Event().wait()
        assert breaker.state is CircuitState.OPEN
        assert time_left() is None

    asyncio.run(main())


def test_a_block_whose_task_is_cancelled_stays_cancelled() -> None:
    policy, breaker, bulkhead = full()

    async def body() -> None:
        async with policy:
            await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(body())
        await asyncio.sleep(0)
        assert bulkhead.under_way == 1
        task.cancel("by the caller")
        with pytest.raises(asyncio.CancelledError, match="by the caller"):
            await task

    asyncio.run(main())
    assert (breaker.state, bulkhead.under_way) == (CircuitState.CLOSED, 0)


@pytest.mark.parametrize("outermost", ["policy", "caller"])
def test_time_outs_of_the_caller_and_of_a_block_keep_apart(outermost: str) -> None:
    async def main() -> None:
        if outermost == "policy":
            with pytest.raises(TimeoutError) as caught:
                async with Policy(Deadline(60)), asyncio.timeout(0.01):
                    await asyncio.Event().wait()
        else:
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(0.01), Policy(Deadline(60)):
                    await asyncio.Event().wait()
        assert not isinstance(caught.value, DeadlineExceeded)
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(0.02)

    asyncio.run(main())


def test_blocks_nest(world: World) -> None:
    outer, inner = Policy(Deadline(60)), Policy(Deadline(10), Bulkhead(2))

    def body() -> None:
        with inner, outer, inner:
            assert 0 < (time_left() or 0) <= 10
            assert inner.layers[1].under_way == 2
        assert 10 < (time_left() or 0) <= 60

    world.block(outer, body)
    assert inner.layers[1].under_way == 0
    assert time_left() is None


def test_blocks_of_generators_end_in_any_order() -> None:
    first, second = Bulkhead(1), Bulkhead(1)

    def inside(policy: Policy) -> Iterator[None]:
        with policy:
            yield

    one, other = inside(Policy(first)), inside(Policy(second))
    next(one)
    next(other)
    one.close()
    assert (first.under_way, second.under_way) == (0, 1)
    other.close()
    assert second.under_way == 0


def test_blocks_of_tasks_keep_apart() -> None:
    bulkhead = Bulkhead(100)
    policy = Policy(Deadline(60), bulkhead)

    async def body(number: int) -> int:
        async with policy:
            await asyncio.sleep(0)
            async with policy:
                await asyncio.sleep(0)
                return number

    async def main() -> list[int]:
        async with policy:
            return await asyncio.gather(*(body(number) for number in range(40)))

    assert asyncio.run(main()) == list(range(40))
    assert bulkhead.under_way == 0


def test_a_block_left_elsewhere_says_so() -> None:
    policy = Policy(Bulkhead(1))
    with pytest.raises(InvalidPolicy, match="entered"):
        policy.__exit__(None, None, None)


@pytest.mark.parametrize(
    "layer", [Retry(on=OSError), Hedge(1), Fallback(lambda _error: 0, on=OSError)], ids=lambda layer: layer.kind
)
def test_what_repeats_or_replaces_is_not_for_blocks(world: World, layer: Retry | Hedge | Fallback) -> None:
    with pytest.raises(InvalidPolicy, match=layer.kind):
        world.block(Policy(layer, operation=Operation.SAFE), failing())


def test_a_block_that_is_never_left_gives_back_what_it_holds() -> None:
    policy, breaker, bulkhead = full()
    contextvars.Context().run(policy.__enter__)
    gc.collect()
    assert (bulkhead.under_way, breaker.state) == (0, CircuitState.CLOSED)


def test_a_block_in_an_asynchronous_generator_that_another_task_closes() -> None:
    policy, _, bulkhead = full()

    async def inside() -> AsyncIterator[None]:
        async with policy:
            yield

    async def main() -> None:
        generator = inside()
        await anext(generator)
        await asyncio.create_task(generator.aclose())
        assert bulkhead.under_way == 0

    asyncio.run(main())


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_block_waits_for_a_place(is_cancelled: bool) -> None:
    bulkhead = Bulkhead(1, waiting=1, max_wait=60)
    policy = Policy(Deadline(60), bulkhead)
    entered: list[str] = []

    async def body() -> None:
        async with policy:
            entered.append("entered")

    async def main() -> None:
        async with policy:
            task = asyncio.create_task(body())
            await asyncio.sleep(0)
            assert len(bulkhead._queue) == 1
            if is_cancelled:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
        await asyncio.wait([task])

    asyncio.run(main())
    assert entered == ([] if is_cancelled else ["entered"])
    assert (bulkhead.under_way, len(bulkhead._queue)) == (0, 0)
