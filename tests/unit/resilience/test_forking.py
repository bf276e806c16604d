"""A fork in the middle of everything: the child goes on, whatever threads of the parent held."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from orderkit.forking import Guarded
from orderkit.resilience import (
    Backoff,
    Bulkhead,
    Cache,
    CircuitBreaker,
    CircuitOpen,
    CircuitState,
    ConsecutiveFailures,
    EventCounter,
    LocalStore,
    Operation,
    Policy,
    RateLimit,
    RedisClients,
    RedisConnection,
    Registry,
    Retry,
    RetryBudget,
)
from orderkit.resilience.single_flight import _waiting
from orderkit.resilience.stores import RedisStore
from orderkit.storage.memory.backend import MemoryBackend
from orderkit.testing.clock import ManualClock
from orderkit.testing.conformance.base import order_row, placing
from orderkit.testing.resilience import resilience

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

SECONDS = 20


def in_a_child(work: Callable[[], object]) -> bool:
    """Tell whether a child of this process does its work, and before long."""
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        done = False
        try:
            done = bool(work())
        finally:
            os._exit(0 if done else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@contextmanager
def held_elsewhere(*things: Any) -> Generator[None]:
    """Have another thread hold the locks of things."""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with ExitStack() as locks:
            for thing in things:
                locks.enter_context(thing._lock)
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        yield
    finally:
        release.set()
        thread.join()


def test_a_child_reads_from_a_cache_in_which_its_parent_was_reading() -> None:
    store = LocalStore()
    cache = Cache(key=str, ttl=60, store=store)
    policy = Policy(cache, operation=Operation.SAFE)
    with held_elsewhere(store, cache._core._flights, _waiting):
        assert in_a_child(lambda: policy.call(abs, -5) == 5)
    assert policy.call(abs, -5) == 5


def test_a_child_keeps_what_its_parent_had_kept() -> None:
    policy = Policy(Cache(key=lambda: "key", ttl=60), operation=Operation.SAFE)
    read = iter(range(2)).__next__
    assert policy.call(read) == 0
    assert in_a_child(lambda: policy.call(read) == 0)


def test_a_child_does_not_wait_for_what_a_thread_of_its_parent_loads() -> None:
    policy = Policy(Cache(key=str, ttl=60), operation=Operation.SAFE)
    begun, release = threading.Event(), threading.Event()

    def load(key: str) -> str:
        begun.set()
        release.wait()
        return key

    thread = threading.Thread(target=policy.call, args=(load, "a"))
    thread.start()
    begun.wait()

    def again() -> bool:
        release.set()
        return policy.call(load, "a") == "a"

    assert in_a_child(again)
    release.set()
    thread.join()


def test_a_child_counts_where_its_parent_was_counting() -> None:
    limit = RateLimit("2/minute")
    limit.take("a")
    with held_elsewhere(limit._local.storage):
        assert in_a_child(lambda: limit.take("a").remaining == 0)
    assert limit.take("a").remaining == 0


class Server:
    """A client of Redis that answers whatever it is asked."""

    def execute_command(self, *_words: object) -> object:
        return [b""]


def test_a_child_reaches_redis_where_its_parent_was_reaching_it() -> None:
    connection = RedisConnection(RedisClients(Server()))
    store = RedisStore(connection, dumps=bytes, loads=bytes)
    policy = Policy(Cache(key=str, ttl=60, store=store), operation=Operation.SAFE)
    with held_elsewhere(connection, store):
        assert in_a_child(lambda: policy.call(abs, -5) == 5)


def test_a_child_fails_calls_retries_them_and_counts_that_where_its_parent_was_doing_so() -> None:
    counter = EventCounter()
    breaker = CircuitBreaker("psp", ConsecutiveFailures(2), listeners=[counter])
    budget = RetryBudget()
    retry = Retry(on=ConnectionError, attempts=2, backoff=Backoff(0), budget=budget)
    policy = Policy(retry, breaker, operation=Operation.SAFE)

    def fail() -> None:
        raise ConnectionError

    def work() -> bool:
        with suppress(ConnectionError):
            policy.call(fail)
        return breaker.state is CircuitState.OPEN and counter.counts["CircuitChanged", "psp"] == 1

    with held_elsewhere(breaker, budget, counter):
        assert in_a_child(work)
    assert breaker.state is CircuitState.CLOSED


@pytest.mark.parametrize("state", CircuitState)
def test_a_breaker_of_a_child_rejects_calls_while_that_of_its_parent_is_open(
    state: CircuitState, clock: ManualClock
) -> None:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(1), open_for=10)

    def passes() -> bool:
        try:
            breaker.succeeded(breaker.acquire())
        except CircuitOpen:
            return False
        return True

    with resilience(clock=clock):
        if state is not CircuitState.CLOSED:
            breaker.failed(breaker.acquire(), ConnectionError())
        if state is CircuitState.HALF_OPEN:
            clock.advance(10)
            breaker.acquire()  # of which the child never hears the end
        assert breaker.state is state
        with held_elsewhere(breaker):
            assert in_a_child(passes) == (state is not CircuitState.OPEN)


def test_a_breaker_that_is_forced_open_is_so_in_a_child() -> None:
    breaker = CircuitBreaker("psp")
    breaker.force_open()

    def is_forced() -> bool:
        with pytest.raises(CircuitOpen):
            breaker.acquire()
        breaker.reset()
        return bool(breaker.acquire())

    assert in_a_child(is_forced)
    with pytest.raises(CircuitOpen):
        breaker.acquire()


def test_the_calls_of_a_parent_take_no_place_in_its_child() -> None:
    bulkhead = Bulkhead(1)
    policy = Policy(bulkhead)

    def fork() -> bool:
        with held_elsewhere(bulkhead):
            return in_a_child(lambda: policy.call(lambda: bulkhead.under_way == 1) and bulkhead.under_way == 0)

    assert policy.call(fork)
    assert bulkhead.under_way == 0


def test_a_call_that_has_forked_frees_no_place_of_others_when_it_ends_in_the_child() -> None:
    bulkhead = Bulkhead(1)
    policy = Policy(bulkhead)
    inside, leave = threading.Event(), threading.Event()

    def fork() -> int:
        child = os.fork()
        if not child:
            signal.alarm(SECONDS)
            threading.Thread(target=policy.call, args=(lambda: inside.set() or leave.wait(),), daemon=True).start()
            inside.wait()
        return child

    child = policy.call(fork)
    if not child:
        os._exit(0 if bulkhead.under_way == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bulkhead.under_way == 0


class Unruly(Guarded):
    """Cannot be renewed."""

    def renew(self) -> None:
        raise ValueError


def test_what_cannot_be_renewed_keeps_nothing_else_from_it(caplog: pytest.LogCaptureFixture) -> None:
    budgets = [RetryBudget() for _ in range(9)]
    unruly = [Unruly() for _ in range(9)]
    with held_elsewhere(*budgets):
        assert in_a_child(lambda: all(budget.take(throttled=True) for budget in budgets) and len(caplog.records) == 9)
    assert len(unruly) == 9


def test_a_child_asks_a_registry_that_its_parent_was_asking() -> None:
    breakers = Registry(CircuitBreaker)
    known = breakers.get("a")
    with held_elsewhere(breakers):
        assert in_a_child(lambda: breakers.get("a") is known and breakers.get("b") is not known)


def test_a_child_writes_to_a_memory_that_its_parent_was_writing_to() -> None:
    backend = MemoryBackend()
    order = order_row("order_1")

    with backend.connect() as storage, held_elsewhere(backend):
        assert in_a_child(lambda: storage.commit(placing(order)).committed)
