"""The command line over each database."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from orderkit import OrderKit
from tests.conftest import text_of
from tests.integration.cli.shops import Shop

DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}


@pytest.fixture(scope="session")
def migrated() -> set[str]:
    """The databases of servers that have their tables by now."""
    return set()


@pytest.fixture(params=DRIVERS)
def shop(request: pytest.FixtureRequest, tmp_path: Path, migrated: set[str]) -> Iterator[Shop]:
    """A tenant of each database in turn, unless the test names some."""
    database: URL = request.getfixturevalue(f"{request.param}_database")
    url = text_of(database.set(drivername=DRIVERS[request.param]))
    tenant = f"tenant-{secrets.token_hex(6)}"
    with OrderKit.from_url(url) as kit:
        if url not in migrated:
            kit.create_schema()
            migrated.add(url)
        yield Shop(url, tenant, kit.for_tenant(tenant), tmp_path)


on_sqlite = pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
"""For what has nothing to do with the database."""
