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


THROUGHOUT = {"test_zombies.py", "test_faults.py", "test_cancellation.py"}
"""What differs from one database to the other, so that the everyday part goes through SQLite as well."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave SQLite to the whole suite, where memory and PostgreSQL stand for it."""
    for item in items:
        is_ours = item.path.parent == Path(__file__).parent and item.path.name not in THROUGHOUT
        callspec = getattr(item, "callspec", None)
        if is_ours and callspec is not None and callspec.params.get("place") in {"sqlite", "sqlite-async"}:
            item.add_marker(pytest.mark.slow)
