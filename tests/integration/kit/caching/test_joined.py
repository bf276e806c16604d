"""Transactions of the application: what is told of their end, and what has to be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest

from orderkit import AsyncOrderKit, OrderCache, OrderKit, Transaction
from tests.conftest import text_of
from tests.integration.joining.theirs import KINDS, Theirs
from tests.integration.kit.facade import Loop, blocking
from tests.integration.kit.places import TEA, Place

TELLING = [
    *((database, kind) for database in ("sqlite", "postgresql", "mariadb") for kind in ("session", "django")),
    ("sqlite", "scoped session"),
    ("postgresql", "async session"),
    ("postgresql", "async scoped session"),
    ("postgresql", "asyncpg session"),
]
SILENT = [
    ("sqlite", "connection"),
    ("sqlite", "raw connection"),
    ("sqlite", "sqlite3"),
    ("postgresql", "psycopg"),
    ("postgresql", "psycopg async"),
    ("postgresql", "asyncpg connection"),
    ("mariadb", "pymysql"),
]
SYNCHRONOUS_SHELLS = {"sqlite": "sqlite", "postgresql": "psycopg", "mariadb": "pymysql"}


def joinable(*kinds: tuple[str, str]) -> pytest.MarkDecorator:
    """Return what runs a test with each kind of connection of the application's."""
    named = [
        pytest.param(SYNCHRONOUS_SHELLS[database], kind, id=f"{SYNCHRONOUS_SHELLS[database]} {kind}")
        for database, kind in kinds
    ]
    return pytest.mark.parametrize(("place", "kind"), named, indirect=["place"])


@attrs.frozen
class Guest:
    """A kit with a cache, and the application's side of a transaction that it joins."""

    kit: OrderKit
    theirs: Theirs

    @property
    def joined(self) -> Transaction:
        return self.kit.within(self.theirs.joined)

    def is_kept(self, order_id: str, version: int) -> bool:
        """Tell whether this version is what is found, now and once more."""
        return [self.kit.orders.get(order_id).version for _ in range(2)] == [version] * 2


Join = Callable[[str], Any]


@pytest.fixture
def join(place: Place, tenant: str, cache: OrderCache) -> Join:
    @contextmanager
    def joining(kind: str) -> Iterator[Guest]:
        loop = Loop()
        plain = place.kit()
        plain.create_schema()
        plain.close()
        kit = OrderKit.from_url(place.address, cache=cache)
        if "async" in kind:
            driver = "postgresql+asyncpg" if kind.startswith("asyncpg") else "postgresql+psycopg"
            url = text_of(place.url.set(drivername=driver))
            kit.close()
            kit = blocking(AsyncOrderKit.from_url(url, cache=cache), loop)
        try:
            with KINDS[place.url.get_backend_name()][kind](place.url, loop) as theirs:
                yield Guest(kit.for_tenant(tenant), theirs)
        finally:
            kit.close()
            loop.stop()

    return joining


@joinable(*TELLING)
def test_a_transaction_of_theirs_is_seen_from_its_commit_on(plain: OrderKit, join: Join, kind: str) -> None:
    plain.create_schema()
    order = plain.orders.place(lines=TEA)
    with join(kind) as guest:
        assert guest.is_kept(order.id, 1)
        assert guest.joined.orders.confirm(order.id).version == 2
        assert guest.joined.orders.get(order.id).version == 2
        assert guest.is_kept(order.id, 1)
        guest.theirs.commit()
        assert guest.is_kept(order.id, 2)


@joinable(*TELLING)
def test_a_transaction_of_theirs_that_is_taken_back_is_never_seen(plain: OrderKit, join: Join, kind: str) -> None:
    plain.create_schema()
    order = plain.orders.place(lines=TEA)
    with join(kind) as guest:
        assert guest.is_kept(order.id, 1)
        guest.joined.orders.confirm(order.id)
        guest.theirs.rollback()
        assert guest.is_kept(order.id, 1)


@joinable(("sqlite", "session"), ("sqlite", "scoped session"), ("postgresql", "session"), ("mariadb", "session"))
def test_one_session_has_one_transaction_after_the_other(plain: OrderKit, join: Join, kind: str) -> None:
    plain.create_schema()
    order = plain.orders.place(lines=TEA)
    with join(kind) as guest:
        joined, session = guest.joined, guest.theirs.joined
        version = 1
        for number in range(6):
            assert guest.is_kept(order.id, version)
            joined.orders.hold(order.id, f"h{number}")
            assert guest.is_kept(order.id, version)
            if number == 3:
                session.info.clear()
            if number % 3 == 0:
                session.rollback()
            else:
                session.commit()
                version += 1
            assert not session.info
        assert guest.is_kept(order.id, version)


@joinable(("sqlite", "session"), ("postgresql", "session"))
def test_a_savepoint_of_theirs_is_no_commit(plain: OrderKit, join: Join, kind: str) -> None:
    plain.create_schema()
    first, second = (plain.orders.place(lines=TEA) for _ in range(2))
    with join(kind) as guest:
        session = guest.theirs.joined
        assert guest.is_kept(first.id, 1)
        assert guest.is_kept(second.id, 1)
        guest.theirs.execute("SELECT 1")
        with session.begin_nested():
            guest.joined.orders.confirm(first.id)
        savepoint = session.begin_nested()
        guest.joined.orders.confirm(second.id)
        savepoint.rollback()
        assert guest.is_kept(first.id, 1)
        session.commit()
        assert guest.is_kept(first.id, 2)
        assert guest.is_kept(second.id, 1)


@joinable(("sqlite", "django"), ("postgresql", "django"))
def test_djangos_transactions_begun_by_hand_are_joined_as_well(plain: OrderKit, join: Join, kind: str) -> None:
    """Of their end Django tells nobody."""
    plain.create_schema()
    order = plain.orders.place(lines=TEA)
    with join(kind) as guest:
        guest.theirs.rollback()
        connection = guest.theirs.joined
        connection.set_autocommit(False)
        assert guest.is_kept(order.id, 1)
        guest.joined.orders.confirm(order.id)
        connection.commit()
        connection.set_autocommit(True)
        guest.kit.orders.forget(order.id)
        assert guest.is_kept(order.id, 2)


@joinable(*SILENT)
def test_after_a_commit_that_nobody_tells_of_an_order_is_forgotten_by_hand(
    plain: OrderKit, join: Join, kind: str
) -> None:
    plain.create_schema()
    order = plain.orders.place(lines=TEA)
    with join(kind) as guest:
        assert guest.is_kept(order.id, 1)
        guest.joined.orders.confirm(order.id)
        guest.theirs.commit()
        guest.kit.orders.forget(order.id)
        assert guest.is_kept(order.id, 2)
