"""The storages of the front-door tests, and operations over them whose leases run out when the clock is told to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orderkit import OrderKit
from orderkit.kit.operations import Operations
from orderkit.testing.clock import ManualClock
from tests.integration.kit.conftest import mariadb, open_at, open_kit, place, postgresql, proxied, proxy, tenant
from tests.integration.kit.places import OpenKit, Place
from tests.integration.operations.facade import operations_of
from tests.integration.operations.world import Provider

__all__ = ["mariadb", "open_at", "open_kit", "place", "postgresql", "proxied", "proxy", "tenant"]


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def kit(open_kit: OpenKit, tenant: str, clock: ManualClock) -> OrderKit:
    return open_kit(clock=clock).for_tenant(tenant)


@pytest.fixture
def operations(kit: OrderKit) -> Operations:
    """The operations of the tenant."""
    return operations_of(kit)


@pytest.fixture
def others(place: Place, tenant: str, clock: ManualClock, kit: OrderKit) -> Iterator[Operations]:
    """The operations of the tenant as somebody else sees them, in a process of their own: synchronous everywhere."""
    with place.kit(clock=clock) as other:
        yield other.for_tenant(tenant).operations


EVERYDAY = {"memory", "memory-async", "psycopg", "asyncpg"}
"""Where the everyday part looks; the others differ from these by what the conformance suites see to."""

THROUGHOUT = {"test_zombies.py", "test_faults.py", "test_cancellation.py"}
"""What differs from one database to the other, so that the everyday part goes through SQLite as well."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to the whole suite what the everyday part need not look at."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        place = None if callspec is None else callspec.params.get("place")
        if item.path.parent != Path(__file__).parent or place is None or place in EVERYDAY:
            continue
        if item.path.name not in THROUGHOUT or place != "sqlite":
            item.add_marker(pytest.mark.slow)
