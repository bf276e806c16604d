from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from orderkit.resilience import CircuitBreaker, ConsecutiveFailures, InvalidPolicy, Policy, Registry


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
