"""A fork in the middle of everything: the child goes on, whatever threads of the parent held."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from orderkit.resilience import Cache, LocalStore, Operation, Policy, RateLimit, RedisClients, RedisConnection
from orderkit.resilience.single_flight import _waiting
from orderkit.resilience.stores import RedisStore

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
