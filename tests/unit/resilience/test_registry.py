from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from orderkit.resilience import (
    BreakerMode,
    CircuitBreaker,
    ConsecutiveFailures,
    FailureRate,
    InvalidPolicy,
    Policy,
    Registry,
)
from orderkit.resilience.tripping import Trip


def breaker(name: str) -> CircuitBreaker:
    return CircuitBreaker(name, ConsecutiveFailures(1))


def test_a_member_is_made_once() -> None:
    registry = Registry(breaker)
    assert registry.get("a") is registry.get("a")
    assert registry.get("a") is not registry.get("b")
    assert [(name, member.name) for name, member in registry] == [("a", "a"), ("b", "b")]


def test_what_was_used_longest_ago_is_dropped() -> None:
    registry = Registry(breaker, limit=3)
    for name in ("a", "b", "c", "a", "d", "e"):
        registry.get(name)
    assert [name for name, _ in registry] == ["a", "d", "e"]


@pytest.mark.parametrize("make", [breaker, lambda name: Policy(breaker(name))], ids=["breakers", "policies"])
def test_an_open_circuit_is_kept(make: type[CircuitBreaker]) -> None:
    registry = Registry(make, limit=3)
    kept = registry.get("open")
    broken = kept if isinstance(kept, CircuitBreaker) else kept.layers[0]
    broken.failed(broken.acquire(), ConnectionError())
    for number in range(100):
        registry.get(str(number))
    assert registry.get("open") is kept
    assert len(registry) == 3


@pytest.mark.parametrize("mode", [mode for mode in BreakerMode if mode is not BreakerMode.ENFORCED])
def test_a_breaker_that_was_switched_is_kept(mode: BreakerMode) -> None:
    registry = Registry(breaker, limit=3)
    registry.get("kept").switch(mode)
    for number in range(100):
        registry.get(str(number))
    assert registry.get("kept").mode is mode


@pytest.mark.parametrize("trip", [ConsecutiveFailures(5), FailureRate()], ids=["row", "rate"])
def test_what_has_counted_failures_is_kept_though_not_before_what_is_open(trip: Trip) -> None:
    registry = Registry(lambda name: CircuitBreaker(name, trip), limit=3)
    counting, switched = registry.get("counting"), registry.get("switched")
    counting.failed(counting.acquire(), ConnectionError())
    switched.force_open()
    for number in range(100):
        registry.get(str(number))
    assert registry.get("counting") is counting
    for number in range(100):
        other = registry.get(str(number))
        other.failed(other.acquire(), ConnectionError())
    assert registry.get("switched") is switched


def test_what_makes_a_member_may_ask_the_registry() -> None:
    registry: Registry[Policy] = Registry(
        lambda name: Policy(breaker("psp")) if name == "psp" else registry.get("psp").for_target(name)
    )
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(registry.get, "eu").result(20).name == "psp:eu"


def test_it_is_bounded_also_where_all_circuits_are_open() -> None:
    registry = Registry(breaker, limit=3)
    for number in range(10):
        member = registry.get(str(number))
        member.failed(member.acquire(), ConnectionError())
    assert [name for name, _ in registry] == ["7", "8", "9"]


def test_what_cannot_be_made_drops_nothing() -> None:
    registry = Registry(CircuitBreaker, limit=1)
    kept = registry.get("a")
    with pytest.raises(InvalidPolicy):
        registry.get("")
    assert registry.get("a") is kept


def test_threads_get_the_same_member() -> None:
    registry = Registry(breaker, limit=50)
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda number: registry.get(str(number % 50)), range(5000)))
    assert len({id(member) for member in found}) == len(registry) == 50


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "3"], ids=repr)
def test_a_registry_that_cannot_be(limit: int) -> None:
    with pytest.raises(InvalidPolicy):
        Registry(breaker, limit=limit)
