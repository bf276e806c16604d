"""Kits with a cache, and beside them one without: it says what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import redis as redis_py
from sqlalchemy import make_url

from orderkit import Order, OrderCache, OrderKit
from orderkit.testing.clock import ManualClock
from tests.conftest import absent
from tests.integration.kit.caching.kits import REDIS, Heard, OpenCached
from tests.integration.kit.places import OpenKit, Place
from tests.integration.kit.proxy import Proxy


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def cache(heard: Heard) -> OrderCache:
    return OrderCache(listeners=(heard,))


@pytest.fixture
def owner(open_kit: OpenKit, cache: OrderCache, clock: ManualClock) -> OrderKit:
    """A kit with a cache, bound to nobody."""
    return open_kit(cache=cache, clock=clock)


@pytest.fixture
def kit(owner: OrderKit, tenant: str) -> OrderKit:
    """The kit with the cache, of a tenant nobody else uses."""
    return owner.for_tenant(tenant)


@pytest.fixture
def plain(place: Place, tenant: str, clock: ManualClock) -> Iterator[OrderKit]:
    """A kit without a cache over the same orders, of another process as it were: it says what is there."""
    with place.kit(clock=clock) as plain:
        yield plain.for_tenant(tenant)


@pytest.fixture
def warm(kit: OrderKit, heard: Heard) -> Callable[[str], Order]:
    """Look an order up until it is kept."""

    def look(order_id: str) -> Order:
        kit.orders.get(order_id)
        order, outcomes = heard.during(lambda: kit.orders.get(order_id))
        assert outcomes == ["hit"]
        return order

    return look


@pytest.fixture
def open_cached(heard: Heard) -> Iterator[OpenCached]:
    opened = OpenCached(heard)
    yield opened
    opened.close()


@pytest.fixture
def redis_prefix(tenant: str) -> Iterator[str]:
    """What the keys of the test begin with; they are removed with it."""
    with closing(redis_py.Redis.from_url(REDIS, socket_connect_timeout=3)) as client:
        try:
            client.ping()
        except redis_py.RedisError:
            absent("no Redis; ORDERKIT_TEST_REDIS_URL names another")
        prefix = f"orderkit-test:{tenant}"
        yield prefix
        for key in client.scan_iter(f"{prefix}*"):
            client.delete(key)


@pytest.fixture
def redis_proxy() -> Iterator[Proxy]:
    url = make_url(REDIS)
    with Proxy(url.set(port=url.port or 6379)) as proxy:
        yield proxy
