"""An application behind the middleware of each protocol, over every storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Protocol, Unpack

import attrs
import pytest
from sqlalchemy import URL

from orderkit import OrderKit
from orderkit.integrations.requests import RuleFields
from orderkit.kit.assembly import KitOptions
from orderkit.storage.memory import MemoryBackend
from tests.conftest import text_of
from tests.integration.kit.facade import Loop
from tests.integration.kit.places import DRIVERS, SHELLS, SYNCHRONOUS, Place, new_tenant
from tests.integration.web.worlds import AsgiClient, Client, Handler, Request, WsgiClient

EMBEDDED = ("memory", "memory-async", pytest.param("sqlite", marks=pytest.mark.slow), "sqlite-async")
"""Each protocol and each kind of storage in the everyday part; every pair of them in the whole suite."""


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], URL]:
    """Return the URL of a database that has the tables; servers are asked for only when needed."""
    known: dict[str, URL] = {}

    def url(name: str) -> URL:
        if name not in known:
            file = URL.create("sqlite", database=str(tmp_path_factory.mktemp("web") / "shop.db"))
            bare = file if name == "sqlite" else request.getfixturevalue(f"{name}_database")
            known[name] = bare.set(drivername=SYNCHRONOUS[name])
            with OrderKit.from_url(text_of(known[name])) as kit:
                kit.create_schema()
        return known[name]

    return url


@pytest.fixture(params=SHELLS)
def place(request: pytest.FixtureRequest, databases: Callable[[str], URL]) -> Place:
    """Where responses are kept, and by which protocol the application is spoken to."""
    shell: str = request.param
    if shell.startswith("memory"):
        return Place(shell, URL.create("memory"), MemoryBackend())
    return Place(shell, databases(DRIVERS[shell].partition("+")[0]).set(drivername=DRIVERS[shell]), MemoryBackend())


class Serve(Protocol):
    """Put the middleware around an application, over the place of the test or another."""

    def __call__(
        self, handler: Handler, options: KitOptions | None = None, at: Place | None = None, **rules: Unpack[RuleFields]
    ) -> Client: ...


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.stop()


@pytest.fixture
def serve(place: Place, loop: Loop) -> Iterator[Serve]:
    with ExitStack() as opened:

        def serving(
            handler: Handler, options: KitOptions | None = None, at: Place | None = None, **rules: Unpack[RuleFields]
        ) -> Client:
            where = at or place
            if not where.asynchronous:
                kit = opened.enter_context(where.kit(**(options or {})))
                return WsgiClient.of(kit, handler, **rules)
            async_kit = where.async_kit(**(options or {}))
            opened.callback(lambda: loop.run(async_kit.close()))
            return AsgiClient.of(async_kit, loop, handler, **rules)

        yield serving


@pytest.fixture
def order() -> Request:
    """A request of a tenant nobody else uses."""
    return Request(new_tenant())


@pytest.fixture
def other(order: Request) -> Request:
    """The same request, of somebody else."""
    return attrs.evolve(order, tenant=new_tenant())
