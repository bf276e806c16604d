"""Circuits that processes share through a real Redis."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import redis as redis_py

from orderkit.resilience import (
    BreakerMode,
    CircuitBreaker,
    CircuitState,
    ConsecutiveFailures,
    EventCounter,
    Policy,
    PolicyEvent,
    RedisCircuits,
    RedisConnection,
)
from orderkit.resilience.conditions import Conditions, replaced
from orderkit.resilience.rejections import CircuitOpen
from orderkit.resilience.runtimes import THREAD
from tests.integration.kit.proxy import Proxy
from tests.integration.resilience.worlds import PATIENT, World


def _fail() -> None:
    raise OSError


async def _fail_in_a_loop() -> None:
    raise OSError


async def _call(world: World, policy: Policy) -> None:
    if world.runtime is THREAD:
        policy.call(_fail)
    else:
        await policy.call(_fail_in_a_loop)


def breaker_of(connection: RedisConnection, prefix: str, name: str = "psp", **settings: Any) -> CircuitBreaker:
    shared = RedisCircuits(connection, prefix=prefix, **settings)
    return CircuitBreaker(name, ConsecutiveFailures(2), open_for=30, shared=shared)


async def _open(world: World, breaker: CircuitBreaker, *listeners: Callable[[PolicyEvent], object]) -> None:
    for _ in range(2):
        with pytest.raises(OSError):  # noqa: PT011 - it is the error of the call
            await _call(world, Policy(breaker, listeners=listeners))


def test_a_circuit_that_one_process_opens_is_open_for_the_others_for_the_rest_of_the_time(
    world: World, connection: RedisConnection, prefix: str, plain: redis_py.Redis
) -> None:
    mine, other = breaker_of(connection, prefix), breaker_of(connection, prefix)
    unrelated = breaker_of(connection, prefix, "bank")

    async def main() -> None:
        await _open(world, mine)
        assert 29_000 < plain.pttl(f"{prefix}:psp") <= 30_000
        plain.pexpire(f"{prefix}:psp", 10_000)
        with pytest.raises(CircuitOpen) as caught:
            await _call(world, Policy(other))
        assert caught.value.retry_after == pytest.approx(10, abs=PATIENT)
        with pytest.raises(OSError):  # noqa: PT011 - it is the error of the call
            await _call(world, Policy(unrelated))

    world.run(main(), connection)


def test_a_shorter_time_never_shortens_a_longer_one(
    world: World, connection: RedisConnection, prefix: str, plain: redis_py.Redis
) -> None:
    plain.set(f"{prefix}:psp", "open", px=300_000)

    async def main() -> None:
        breaker = breaker_of(connection, prefix)
        # Looked at before, so that it opens by its own failures.
        with replaced(Conditions(monotonic=lambda: 0.0)):
            breaker._shared._look_at[breaker] = 1000.0
            await _open(world, breaker)

    world.run(main(), connection)
    assert plain.pttl(f"{prefix}:psp") > 290_000


def test_others_are_looked_at_only_now_and_then(proxy: Proxy, cut_off: RedisConnection, prefix: str) -> None:
    now = [1000.0]
    policy = Policy(breaker_of(cut_off, prefix, refresh=1.0))
    with replaced(Conditions(monotonic=lambda: now[0])):
        policy.call(int)
        before = proxy.round_trips
        for _ in range(100):
            policy.call(int)
        assert proxy.round_trips == before
        now[0] += 1.0
        for _ in range(100):
            policy.call(int)
        assert proxy.round_trips == before + 1


def test_calls_that_fail_later_are_not_told_again(proxy: Proxy, cut_off: RedisConnection, prefix: str) -> None:
    breaker = breaker_of(cut_off, prefix)
    with replaced(Conditions(monotonic=lambda: 1000.0)):
        policy = Policy(breaker)

        def fail_inside() -> None:
            with suppress(OSError):
                policy.call(_fail)
            before = proxy.round_trips
            with suppress(OSError, CircuitOpen):
                policy.call(_fail)
            told.append(proxy.round_trips - before)
            raise OSError

        told: list[int] = []
        with pytest.raises(OSError):  # noqa: PT011 - it is the error of the call
            policy.call(fail_inside)
        before = proxy.round_trips
    assert told in ([1], [2])  # two, where Redis does not know the program yet
    assert proxy.round_trips == before
    assert breaker.state is CircuitState.OPEN


def test_without_redis_a_breaker_is_as_if_it_shared_nothing(
    world: World, proxy: Proxy, cut_off: RedisConnection, prefix: str
) -> None:
    breaker, counter = breaker_of(cut_off, prefix), EventCounter()
    proxy.stop()

    async def main() -> None:
        await _open(world, breaker, counter)
        with pytest.raises(CircuitOpen):
            await _call(world, Policy(breaker))

    world.run(main(), cut_off)
    # It has looked, and has told that it is open.
    assert counter.counts["Degraded", "psp"] == 2
    assert breaker.state is CircuitState.OPEN


def test_a_breaker_that_only_watches_opens_no_others(
    world: World, connection: RedisConnection, prefix: str, plain: redis_py.Redis
) -> None:
    breaker = breaker_of(connection, prefix)
    breaker.switch(BreakerMode.SHADOW)
    world.run(_open(world, breaker), connection)
    assert breaker.state is CircuitState.OPEN
    assert not plain.exists(f"{prefix}:psp")


def test_a_breaker_that_is_reset_stays_closed_although_others_were_told_that_it_is_open(
    world: World, connection: RedisConnection, prefix: str
) -> None:
    async def main() -> None:
        mine, other = (breaker_of(connection, prefix, refresh=1e-6) for _ in range(2))
        await _open(world, mine)
        with pytest.raises(CircuitOpen):
            await _call(world, Policy(other))
        for breaker in (mine, other):
            breaker.reset()
            with pytest.raises(OSError):  # noqa: PT011 - it was called
                await _call(world, Policy(breaker))
            assert breaker.state is CircuitState.CLOSED

    world.run(main(), connection)


def test_a_breaker_that_was_reset_learns_of_what_is_opened_after_that(
    world: World, connection: RedisConnection, prefix: str, plain: redis_py.Redis
) -> None:
    now = [1000.0]

    async def main() -> None:
        mine = breaker_of(connection, prefix)
        await _open(world, mine)
        mine.reset()
        plain.set(f"{prefix}:psp", "open", px=60_000)
        now[0] += 1.0
        with pytest.raises(CircuitOpen):
            await _call(world, Policy(mine))

    with replaced(Conditions(monotonic=lambda: now[0])):
        world.run(main(), connection)
