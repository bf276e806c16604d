"""One front door after the other, over every storage: memory, SQLite, PostgreSQL and MariaDB, both shells."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Unpack

import attrs
import pytest
from sqlalchemy import URL, event
from sqlalchemy.pool import Pool

from orderkit import OrderKit
from orderkit.kit.assembly import KitOptions
from orderkit.storage.memory import MemoryBackend
from tests.integration.kit.facade import Loop, blocking
from tests.integration.kit.places import DRIVERS, SHELLS, OpenAt, OpenKit, Place, new_tenant
from tests.integration.kit.proxy import Proxy


@pytest.fixture(scope="session")
def postgresql(postgresql_database: URL) -> URL:
    """The URL of a PostgreSQL database that has the tables."""
    url = postgresql_database.set(drivername="postgresql+psycopg")
    with OrderKit.from_url(url.render_as_string(hide_password=False)) as kit:
        kit.create_schema()
    return url


@pytest.fixture(scope="session")
def mariadb(mariadb_database: URL) -> URL:
    """The URL of a MariaDB database that has the tables."""
    url = mariadb_database.set(drivername="mariadb+pymysql")
    with OrderKit.from_url(url.render_as_string(hide_password=False)) as kit:
        kit.create_schema()
    return url


@pytest.fixture(params=SHELLS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where the orders of the test are kept; each shell in turn unless the test names some."""
    shell: str = request.param
    if shell.startswith("memory"):
        return Place(shell, URL.create("memory"), MemoryBackend())
    if shell.startswith("sqlite"):
        return Place(shell, URL.create("sqlite", database=str(tmp_path / "orders.db")), MemoryBackend())
    url: URL = request.getfixturevalue(DRIVERS[shell].partition("+")[0])
    return Place(shell, url.set(drivername=DRIVERS[shell]), MemoryBackend())


@pytest.fixture
def open_at() -> Iterator[OpenAt]:
    """Open front doors, each over a place; all are closed with the test."""
    opened: list[OrderKit] = []
    loops: list[Loop] = []

    def open_one(place: Place, **options: Unpack[KitOptions]) -> OrderKit:
        if place.asynchronous:
            loops[:] = loops or [Loop()]
            opened.append(blocking(place.async_kit(**options), loops[0]))
        else:
            opened.append(place.kit(**options))
        return opened[-1]

    yield open_one
    for kit in opened:
        kit.close()
    for loop in loops:
        loop.stop()


@pytest.fixture
def open_kit(place: Place, open_at: OpenAt) -> OpenKit:
    """Open front doors over the place of the test."""
    return partial(open_at, place)


@pytest.fixture
def proxy(place: Place) -> Iterator[Proxy]:
    """A proxy in front of the place's server."""
    with Proxy(place.url) as proxy:
        yield proxy


@pytest.fixture
def proxied(place: Place, proxy: Proxy) -> Place:
    """The place, reached through the proxy."""
    return attrs.evolve(place, url=proxy.url(place.url))


@pytest.fixture
def tenant() -> str:
    return new_tenant()


@pytest.fixture
def kit(open_kit: OpenKit, tenant: str) -> OrderKit:
    """The front door of a tenant nobody else uses."""
    return open_kit().for_tenant(tenant)


@pytest.fixture
def said() -> Iterator[list[str]]:
    """Every statement that SQLite is given on connections opened during the test."""
    heard: list[str] = []

    def listen(connection: object, _record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.set_trace_callback(heard.append)

    event.listen(Pool, "connect", listen)
    yield heard
    event.remove(Pool, "connect", listen)
