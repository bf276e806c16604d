"""A process is killed while it erases a customer: every order is erased or is not, and the rest follows later."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterable

import pytest

from orderkit import Address, Contact, OrderKit
from tests.integration.kit.places import TABLES, TEA, Place, assert_whole
from tests.torture.test_crash import ROOT, prepare, with_paths

pytestmark = pytest.mark.slow

CUSTOMER, ORDERS, PIECES, PLANT = "cust-42", 40, 2, "planted"


def begin(place: Place, tenant: str, *limit: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.torture.erasing", place.address, tenant, CUSTOMER, *limit]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=with_paths(), stdin=pipe, stdout=pipe, text=True)


def fill(kit: OrderKit) -> None:
    address = Address(name=PLANT, lines=(PLANT,), city=PLANT, country="GB")
    for _ in range(ORDERS):
        kit.orders.place(
            customer=CUSTOMER, lines=TEA, contact=Contact(email=f"{PLANT}@example.org"), shipping_address=address
        )


def erased_orders(place: Place, tenant: str) -> int:
    """Return how many orders are erased, each of them as a whole."""
    live: dict[str, list[bool]] = {}
    for row in place.rows("personal", tenant):
        live.setdefault(row["order_id"], []).append(row["erased_at"] is None)
        assert (row["data"] == "") is (row["erased_at"] is not None)
    for row in place.rows("orders", tenant):
        assert live[row["id"]] == [row["version"] == 1] * PIECES
        assert len(json.loads(row["document"])["erased"]) == (0 if row["version"] == 1 else PIECES)
    return sum(not any(pieces) for pieces in live.values())


def results(erasers: Iterable[subprocess.Popen[str]]) -> list[tuple[int, int]]:
    """Return what processes that were left to end say they have erased."""
    said = [eraser.communicate()[0].splitlines()[-1].split() for eraser in erasers]
    return [(int(orders), int(pieces)) for _, orders, pieces in said]


@pytest.mark.parametrize("place", ["sqlite", "psycopg", "pymysql"], indirect=True)
def test_a_killed_erasure_is_finished_by_four_others(place: Place, tenant: str) -> None:
    prepare(place)
    with place.kit() as kit:
        fill(kit.for_tenant(tenant))
    limit = ORDERS - 5
    with begin(place, tenant, str(limit)) as killed:
        assert killed.stdout is not None
        for _ in range(random.randint(3, limit)):
            assert killed.stdout.readline() == "begun\n"
        killed.kill()
    done = erased_orders(place, tenant)
    assert 1 <= done < ORDERS
    assert_whole(place, tenant)
    others = [begin(place, tenant) for _ in range(4)]
    shares = results(others)
    assert sum(orders for orders, _ in shares) == ORDERS - done
    assert sum(pieces for _, pieces in shares) == PIECES * (ORDERS - done)
    assert erased_orders(place, tenant) == ORDERS
    assert [table for table in TABLES if PLANT in repr(place.rows(table, tenant))] == []
    assert_whole(place, tenant)
