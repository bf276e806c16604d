"""Rate limits that processes share through a real Redis."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis as redis_py

from orderkit.resilience import (
    Degraded,
    EventCounter,
    Policy,
    PolicyEvent,
    RateLimit,
    RateLimited,
    RateStrategy,
    RedisConnection,
)
from orderkit.resilience.runtimes import THREAD
from tests.integration.kit.proxy import Cut, Proxy
from tests.integration.resilience.worlds import PATIENT, World

in_every_strategy = pytest.mark.parametrize("strategy", list(RateStrategy))


@in_every_strategy
def test_threads_tasks_and_processes_together_get_exactly_what_there_is(
    strategy: RateStrategy, server: str, prefix: str
) -> None:
    def limit(connection: RedisConnection) -> RateLimit:
        return RateLimit("150/hour", strategy=strategy, key="psp", shared=connection, prefix=prefix)

    def threads(connection: RedisConnection) -> int:
        mine = limit(connection)
        with ThreadPoolExecutor(4) as pool:
            return sum(allowance.allowed for allowance in pool.map(lambda _: mine.take("psp"), range(100)))

    async def tasks(connection: RedisConnection) -> int:
        mine = limit(connection)
        async with connection:
            allowances = await asyncio.gather(*(mine.asynchronous.take("psp") for _ in range(100)))
        return sum(allowance.allowed for allowance in allowances)

    # Each as a process of its own would have it.
    one, other = RedisConnection(server, timeout=PATIENT), RedisConnection(server, timeout=PATIENT)
    with one, ThreadPoolExecutor(2) as pool:
        counts = [pool.submit(threads, one), pool.submit(asyncio.run, tasks(other))]
        assert sum(count.result() for count in counts) == 150


@in_every_strategy
def test_what_is_told_of_a_shared_limit_is_what_a_local_one_tells(
    strategy: RateStrategy, world: World, connection: RedisConnection, prefix: str
) -> None:
    async def told(limit: RateLimit) -> list[object]:
        answers: list[object] = []
        for cost in (8, 5, 1, 1, 1):
            allowance = await limit.take_in(world.runtime, "a", cost=cost)
            assert allowance.reset_after == pytest.approx(3600, abs=60)
            answers.append((allowance.allowed, allowance.remaining))
        return answers

    shared = RateLimit("10/hour", strategy=strategy, key="a", shared=connection, prefix=prefix)
    here = [(True, 2), (False, 2), (True, 1), (True, 0), (False, 0)]
    assert world.run(told(RateLimit("10/hour", strategy=strategy))) == here
    assert world.run(told(shared), connection) == here


@pytest.mark.parametrize(
    ("strategy", "seconds"),
    [
        (RateStrategy.MOVING_WINDOW, 3600),
        (RateStrategy.FIXED_WINDOW, 3600),
        # All of a window that has filled at once counts for an hour, and then fades until two of ten are left.
        (RateStrategy.SLIDING_WINDOW_COUNTER, 3600 + 0.7 * 3600),
    ],
)
def test_a_refused_cost_is_told_when_it_fits(
    strategy: RateStrategy, seconds: float, connection: RedisConnection, prefix: str
) -> None:
    shared = RateLimit("10/hour", strategy=strategy, key="a", shared=connection, prefix=prefix)
    shared.take(cost=10)
    assert shared.take(cost=8).retry_after == pytest.approx(seconds, abs=60)


def test_a_refused_cost_waits_for_as_many_of_the_oldest_calls_as_it_needs(
    connection: RedisConnection, prefix: str, plain: redis_py.Redis
) -> None:
    shared = RateLimit("10/hour", key="a", shared=connection, prefix=prefix)
    shared.take(cost=10)
    (calls,) = plain.scan_iter(f"*{prefix}*")
    for oldest in range(6, 10):
        plain.lset(calls, oldest, float(plain.lindex(calls, oldest)) - 1800)
    assert shared.take(cost=4).retry_after == pytest.approx(1800, abs=60)
    assert shared.take(cost=8).retry_after == pytest.approx(3600, abs=60)


@pytest.mark.slow
@in_every_strategy
def test_what_was_told_to_wait_passes_after_that(
    strategy: RateStrategy, connection: RedisConnection, prefix: str
) -> None:
    policy = Policy(RateLimit("2/second", strategy=strategy, key="a", max_wait=30, shared=connection, prefix=prefix))
    begun = time.monotonic()
    assert [policy.call(lambda: 1) for _ in range(3)] == [1, 1, 1]
    assert time.monotonic() - begun >= 0.4


@in_every_strategy
def test_the_keys_of_limits_expire(
    strategy: RateStrategy, connection: RedisConnection, prefix: str, plain: redis_py.Redis
) -> None:
    RateLimit("2/minute", strategy=strategy, key="a", shared=connection, prefix=prefix).take("a")
    keys = list(plain.scan_iter(f"*{prefix}*"))
    assert keys
    assert all(0 < plain.pttl(key) <= 120_000 for key in keys)


def test_when_redis_is_cut_off_a_limit_counts_here_and_returns_to_redis(
    world: World, proxy: Proxy, cut_off: RedisConnection, prefix: str, seconds: list[float]
) -> None:
    events: list[PolicyEvent] = []
    limit = RateLimit("3/hour", key="psp", shared=cut_off, prefix=prefix, listeners=[events.append])

    async def main() -> None:
        async def take() -> int:
            return (await limit.take_in(world.runtime, "psp")).remaining

        assert [await take(), await take()] == [2, 1]
        proxy.cut_at(b"EVALSHA", Cut.BEFORE_STATEMENT)
        assert [await take(), await take()] == [2, 1]
        assert {type(event) for event in events} == {Degraded}
        assert proxy.cuts == 1
        seconds[0] += 1.0
        assert await take() == 0
        assert len(events) == 2

    world.run(main(), cut_off)


def test_when_redis_is_killed_a_policy_goes_on(
    world: World, proxy: Proxy, cut_off: RedisConnection, prefix: str
) -> None:
    counter = EventCounter()
    policy = Policy(RateLimit("5/hour", key="psp", shared=cut_off, prefix=prefix), name="psp", listeners=[counter])

    async def call() -> int:
        if world.runtime is THREAD:
            return policy.call(lambda: 1)

        async def function() -> int:
            return 1

        return await policy.call(function)

    async def main() -> None:
        assert await call() == 1
        proxy.stop()
        assert [await call() for _ in range(5)] == [1] * 5
        with pytest.raises(RateLimited):
            await call()
        assert counter.counts["Degraded", "psp"] == 6

    world.run(main(), cut_off)
