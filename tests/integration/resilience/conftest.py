"""A real Redis: what is left in it by a test is removed, and a proxy can cut it off."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import closing

import pytest
import redis as redis_py
from sqlalchemy import make_url

from orderkit.resilience import RedisConnection
from orderkit.resilience.conditions import Conditions, replaced
from orderkit.resilience.redis import masked
from tests.conftest import absent, text_of
from tests.integration.kit.proxy import Proxy
from tests.integration.resilience.worlds import IN_A_LOOP, IN_A_THREAD, PATIENT, World

SERVER = os.environ.get("ORDERKIT_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")


@pytest.fixture(params=["thread", "loop"])
def world(request: pytest.FixtureRequest) -> World:
    return IN_A_THREAD if request.param == "thread" else IN_A_LOOP


@pytest.fixture(scope="session")
def server() -> str:
    with closing(redis_py.Redis.from_url(SERVER, socket_connect_timeout=3)) as client:
        try:
            client.ping()
        except redis_py.RedisError:
            absent(f"no Redis at {masked(SERVER)}; ORDERKIT_TEST_REDIS_URL names another")
    return SERVER


@pytest.fixture
def plain(server: str) -> Iterator[redis_py.Redis]:
    """A client that sees what is really there."""
    with closing(redis_py.Redis.from_url(server)) as client:
        yield client


@pytest.fixture
def prefix(plain: redis_py.Redis) -> Iterator[str]:
    name = f"orderkit-test:{secrets.token_hex(6)}"
    yield name
    for key in plain.scan_iter(f"*{name}*"):
        plain.delete(key)


@pytest.fixture
def connection(server: str) -> Iterator[RedisConnection]:
    with RedisConnection(server, timeout=PATIENT) as made:
        yield made


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    url = make_url(server)
    with Proxy(url.set(port=url.port or 6379)) as made:
        yield made


@pytest.fixture
def cut_off(proxy: Proxy, server: str) -> Iterator[RedisConnection]:
    """A connection that the proxy can cut."""
    with RedisConnection(text_of(proxy.url(make_url(server))), timeout=PATIENT) as made:
        yield made


@pytest.fixture
def seconds() -> Iterator[list[float]]:
    """The time of a clock that stands still, to be changed."""
    now = [1000.0]
    with replaced(Conditions(monotonic=lambda: now[0])):
        yield now
