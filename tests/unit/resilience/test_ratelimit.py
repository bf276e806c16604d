"""The rate limit: never more calls in a time than there may be, in threads and event loops alike."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderkit.resilience import (
    Allowance,
    CallRejected,
    Deadline,
    Degraded,
    InvalidPolicy,
    Policy,
    PolicyEvent,
    RateLimit,
    RateLimited,
    RateStrategy,
    RedisClients,
    RedisConnection,
)
from orderkit.resilience.conditions import Conditions, replaced


@attrs.define
class Time:
    """A clock that only a test moves, by waiting."""

    now: float = 1000.0
    waited: list[float] = attrs.field(factory=list)

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds


@pytest.fixture
def time() -> Iterator[Time]:
    clock = Time()
    with replaced(Conditions(monotonic=clock, pause=clock.pause)):
        yield clock


Call = Callable[[Policy], int]


def _call(policy: Policy) -> int:
    return policy.call(lambda: 1)


def _await(policy: Policy) -> int:
    async def function() -> int:
        return 1

    return asyncio.run(_awaited(policy, function))


async def _awaited(policy: Policy, function: Callable[[], object]) -> int:
    return await policy.call(function)


def _block(policy: Policy) -> int:
    with policy:
        return 1


in_both_worlds = pytest.mark.parametrize("call", [_call, _await, _block])
in_every_strategy = pytest.mark.parametrize("strategy", list(RateStrategy))


@in_both_worlds
@in_every_strategy
def test_calls_over_the_limit_are_rejected_and_told_when_to_come_again(
    call: Call, strategy: RateStrategy, time: Time
) -> None:
    events: list[PolicyEvent] = []
    policy = Policy(RateLimit("2/second", strategy=strategy), name="psp", listeners=[events.append])
    assert [call(policy), call(policy)] == [1, 1]
    with pytest.raises(RateLimited) as caught:
        call(policy)
    assert caught.value.policy == "psp"
    assert caught.value.retry_after == pytest.approx(1.0, abs=0.01)
    assert events == [CallRejected(policy="psp", layer="rate_limit", retry_after=caught.value.retry_after)]
    time.now += 2.0
    assert call(policy) == 1


@in_both_worlds
@in_every_strategy
def test_a_call_waits_for_its_turn_when_it_may(call: Call, strategy: RateStrategy, time: Time) -> None:
    policy = Policy(RateLimit("1/second", strategy=strategy, max_wait=5.0))
    assert [call(policy) for _ in range(3)] == [1, 1, 1]
    assert 2.0 <= sum(time.waited) <= 4.1


@in_both_worlds
def test_a_call_that_would_wait_too_long_is_rejected_at_once(call: Call, time: Time) -> None:
    policy = Policy(RateLimit("1/minute", max_wait=5.0))
    call(policy)
    with pytest.raises(RateLimited):
        call(policy)
    assert not time.waited


@in_both_worlds
def test_nobody_waits_past_the_deadline(call: Call, time: Time) -> None:
    policy = Policy(Deadline(0.5), RateLimit("1/second", max_wait=5.0))
    call(policy)
    with pytest.raises(RateLimited):
        call(policy)
    assert not time.waited


@given(
    gaps=st.lists(st.tuples(st.floats(0, 0.7), st.integers(1, 3)), min_size=1, max_size=60),
    strategy=st.sampled_from(RateStrategy),
)
def test_no_window_ever_holds_more_than_the_limit(gaps: list[tuple[float, int]], strategy: RateStrategy) -> None:
    clock = Time()
    passed: list[tuple[float, int]] = []
    with replaced(Conditions(monotonic=clock)):
        limit = RateLimit("5/second", strategy=strategy)
        for gap, cost in gaps:
            clock.now += gap
            allowance = limit.take("a", cost=cost)
            assert 0 <= allowance.remaining <= 5
            if allowance.allowed:
                passed.append((clock.now, cost))
    # Around its end a fixed window lets through those of two; the counters approximate the window before.
    most = 5 if strategy is RateStrategy.MOVING_WINDOW else 10
    for begin, _ in passed:
        assert sum(cost for at, cost in passed if begin <= at < begin + 1.0) <= most


@given(gaps=st.lists(st.floats(0, 0.7), min_size=1, max_size=60))
def test_a_moving_window_refuses_only_when_it_is_full(gaps: list[float]) -> None:
    clock = Time()
    passed: list[float] = []
    with replaced(Conditions(monotonic=clock)):
        limit = RateLimit("5/second")
        for gap in gaps:
            clock.now += gap
            allowed = limit.take().allowed
            assert allowed == (sum(clock.now < at + 1.0 for at in passed) < 5)
            passed += [clock.now] if allowed else []


@in_every_strategy
def test_what_was_told_to_wait_passes_after_that(strategy: RateStrategy, time: Time) -> None:
    limit = RateLimit("3/minute", strategy=strategy)
    for _ in range(50):
        allowance = limit.take()
        while not allowance.allowed:
            assert allowance.retry_after > 0
            time.now += allowance.retry_after
            allowance = limit.take()
    assert time.now - 1000.0 <= 50 / 3 * 60 * 1.1


@in_every_strategy
@given(st.lists(st.tuples(st.floats(0, 15), st.integers(1, 10)), min_size=1, max_size=30))
def test_a_refused_cost_fits_after_the_time_that_was_told_and_not_before(
    strategy: RateStrategy, asked: list[tuple[float, int]]
) -> None:
    clock = Time()
    with replaced(Conditions(monotonic=clock)):
        limit = RateLimit("10 per 10 seconds", strategy=strategy)
        for gap, cost in asked:
            clock.now += gap
            refused = limit.take("a", cost=cost)
            if not refused.allowed:
                begun = clock.now
                clock.now = begun + refused.retry_after * 0.99 - 0.01
                assert clock.now < begun or not limit.take("a", cost=cost).allowed
                clock.now = begun + refused.retry_after + 0.01
                assert limit.take("a", cost=cost).allowed


@in_every_strategy
def test_no_more_keys_are_counted_than_there_may_be(strategy: RateStrategy, time: Time) -> None:
    limit = RateLimit("5/day", strategy=strategy, max_keys=1000)
    for number in range(5000):
        limit.take("busy")
        limit.take(str(number))
    assert len(limit._local.storage._windows) == 1000
    assert not limit.take("busy").allowed
    assert limit.take("0").remaining == 4


@in_every_strategy
def test_a_refused_cost_leaves_what_is_left(strategy: RateStrategy, time: Time) -> None:
    limit = RateLimit("10/second", strategy=strategy)
    assert limit.take("a", cost=8).remaining == 2
    assert not limit.take("a", cost=5).allowed
    assert limit.take("a", cost=2).allowed
    assert not limit.take("a").allowed


@in_every_strategy
def test_threads_together_get_exactly_what_there_is(strategy: RateStrategy) -> None:
    limit = RateLimit("100/hour", strategy=strategy)
    start = threading.Barrier(8)

    def work() -> int:
        start.wait()
        return sum(limit.take("a").allowed for _ in range(50))

    with ThreadPoolExecutor(8) as pool:
        assert sum(future.result() for future in [pool.submit(work) for _ in range(8)]) == 100


@in_every_strategy
def test_a_thousand_tasks_and_a_thread_share_one_limit(strategy: RateStrategy) -> None:
    limit = RateLimit("300/hour", strategy=strategy)
    assert sum(limit.take("a").allowed for _ in range(100)) == 100

    async def main() -> int:
        allowances = await asyncio.gather(*(limit.asynchronous.take("a") for _ in range(1000)))
        return sum(allowance.allowed for allowance in allowances)

    assert asyncio.run(main()) == 200


def test_counting_starts_no_thread() -> None:
    before = threading.active_count()
    RateLimit("1/second").take()
    assert threading.active_count() == before


def test_keys_are_counted_apart(time: Time) -> None:
    policy = Policy(RateLimit("1/second", key=lambda merchant: merchant))
    assert [policy.call(str, "a"), policy.call(str, "b")] == ["a", "b"]
    with pytest.raises(RateLimited):
        policy.call(str, "a")


def test_targets_are_counted_apart(time: Time) -> None:
    policy = Policy(RateLimit("1/second", key="psp"))
    for target in ("a", "b"):
        policy.for_target(target).call(int)
    policy.call(int)
    with pytest.raises(RateLimited):
        policy.call(int)


def test_a_limit_by_itself_counts_with_the_policies_it_stands_in(time: Time) -> None:
    limit = RateLimit("2/second", key="psp")
    Policy(limit).call(int)
    assert limit.take().remaining == 0
    with pytest.raises(RateLimited):
        Policy(limit).call(int)


def test_a_limit_is_shared_by_the_policies_it_stands_in(time: Time) -> None:
    limit = RateLimit("1/second")
    Policy(limit).call(int)
    with pytest.raises(RateLimited):
        Policy(limit).call(int)


@in_every_strategy
def test_keys_whose_time_is_over_are_forgotten(strategy: RateStrategy, time: Time) -> None:
    limit = RateLimit("5/second", strategy=strategy)
    for number in range(20_000):
        limit.take(str(number))
        time.now += 0.01
    assert len(limit._local.storage._windows) <= 2000


@pytest.mark.parametrize(
    "rate",
    [
        "",
        "often",
        "0/second",
        "-1/second",
        "1/fortnight",
        "1/second; 5/minute",
        "1.5/second",
        "1 per 0 second",
        5,
        None,
    ],
)
def test_a_rate_that_cannot_be_read_is_refused_at_build(rate: str) -> None:
    with pytest.raises(InvalidPolicy):
        RateLimit(rate)


@pytest.mark.parametrize("rate", ["100/second", "5 per minute", "5 PER 10 minutes", "1000/2hours", "1/day"])
def test_rates_of_limits_are_read(rate: str) -> None:
    assert RateLimit(rate).settings()["rate"] == rate


def test_what_could_never_pass_is_refused() -> None:
    with pytest.raises(InvalidPolicy):
        RateLimit("5/second", cost=6)
    with pytest.raises(InvalidPolicy):
        RateLimit("5/second").take(cost=6)
    with pytest.raises(InvalidPolicy):
        RateLimit("5/second", strategy="leaky bucket")
    with pytest.raises(InvalidPolicy):
        RateLimit("5/second", max_wait=-1)
    with pytest.raises(InvalidPolicy):
        RateLimit("5/second", max_keys=0)
    with pytest.raises(InvalidPolicy, match="RedisConnection"):
        RateLimit("5/second", key="psp", shared=5)


async def later(*_words: object) -> str:
    return "later"


@pytest.mark.parametrize("key", [later, functools.partial(later, 1), 5])
def test_what_computes_no_key_at_once_is_refused_at_build(key: Callable[..., str]) -> None:
    with pytest.raises(InvalidPolicy, match="key"):
        RateLimit("5/second", key=key)


def test_a_key_that_is_no_string_is_refused() -> None:
    policy = Policy(RateLimit("5/second", key=lambda number: number))
    with pytest.raises(InvalidPolicy, match="int"):
        policy.call(abs, 1)


def test_a_shared_limit_needs_a_key() -> None:
    with pytest.raises(InvalidPolicy, match="key"):
        RateLimit("5/second", shared=RedisConnection(RedisClients()))


def test_an_allowance_gives_the_fields_of_http(time: Time) -> None:
    limit = RateLimit("2/minute")
    assert limit.take().headers() == {"RateLimit-Policy": '"default";q=2;w=60', "RateLimit": '"default";r=1;t=60'}
    time.now += 19.5
    limit.take()
    assert limit.take().headers("per ip") == {
        "RateLimit-Policy": '"per ip";q=2;w=60',
        "RateLimit": '"per ip";r=0;t=41',
        "Retry-After": "41",
    }


def test_a_refusal_never_asks_to_come_again_at_once() -> None:
    refused = Allowance(allowed=False, limit=1, window=1, remaining=0, retry_after=0.001, reset_after=0.001)
    assert refused.headers()["Retry-After"] == "1"


# --- Redis that is not there ----------------------------------------------------------------------


class Gone:
    """A client whose server is gone."""

    def __init__(self) -> None:
        self.asked = 0

    def execute_command(self, *_words: object) -> object:
        from redis.exceptions import ConnectionError as NotConnected

        self.asked += 1
        raise NotConnected("refused")


def test_without_redis_the_limit_holds_here_and_redis_is_left_alone_for_a_while(time: Time) -> None:
    events: list[PolicyEvent] = []
    client = Gone()
    shared = RedisConnection(RedisClients(client), rest=1.0)
    limit = RateLimit("3/minute", key="psp", shared=shared)
    policy = Policy(limit, name="psp", listeners=[events.append])
    for _ in range(3):
        policy.call(int)
    with pytest.raises(RateLimited):
        policy.call(int)
    degraded = Degraded(policy="psp", layer="rate_limit", error="ConnectionError")
    assert set(events[:-1]) == {degraded}
    assert client.asked == 1
    time.now += 1.0
    with pytest.raises(RateLimited):
        policy.call(int)
    assert client.asked == 2


def test_without_a_policy_the_listeners_of_the_limit_are_told(time: Time) -> None:
    events: list[PolicyEvent] = []
    shared = RedisConnection(RedisClients(Gone()))
    RateLimit("3/minute", key="ip", shared=shared, listeners=[events.append]).take("127.0.0.1")
    assert events == [Degraded(policy="rate_limit", layer="rate_limit", error="ConnectionError")]
