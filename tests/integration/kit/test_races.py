"""Many clients at once: everyone gets an answer, nothing is lost and nothing is doubled."""

from __future__ import annotations

import collections
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from orderkit import GaplessNumbers, Order, OrderKit, Transaction
from orderkit.domain.commands import ChangeTags
from orderkit.errors import AlreadyExists, InvalidCommand, StorageBusy
from orderkit.unit_of_work import attempts
from orderkit.unit_of_work.attempts import Attempts
from tests.integration.kit.places import (
    SERVERS,
    TEA,
    OpenKit,
    Place,
    assert_whole,
    outcome,
    race,
)

CLIENTS = 32


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of every attempt made during the test."""
    made: list[int] = []
    perform = Attempts.perform

    def counted(self: Attempts, *arguments: Any) -> object:
        made.append(self.number)
        return perform(self, *arguments)

    monkeypatch.setattr(attempts.Attempts, "perform", counted)
    return made


def test_many_clients_write_one_order_once_each(
    kit: OrderKit, place: Place, tenant: str, tries: list[int], record_property: Callable[[str, object], None]
) -> None:
    order = kit.orders.place(lines=TEA)
    tries.clear()
    written = race(CLIENTS, lambda client: kit.orders.execute(order.id, ChangeTags(add=(f"client-{client}",))))
    assert sorted(after.version for after in written) == list(range(2, CLIENTS + 2))
    assert sorted(kit.orders.get(order.id).tags) == sorted(f"client-{client}" for client in range(CLIENTS))
    assert_whole(place, tenant)
    record_property("worst number of attempts", max(tries))
    if place.is_postgresql:
        assert max(tries) <= 3


def test_many_clients_with_one_key_get_one_order(kit: OrderKit, place: Place, tenant: str) -> None:
    placed = race(CLIENTS, lambda _client: kit.orders.place(lines=TEA, idempotency_key="checkout"))
    assert placed == [placed[0]] * CLIENTS
    confirmed = race(CLIENTS, lambda _client: kit.orders.confirm(placed[0].id, idempotency_key="confirm"))
    assert confirmed == [confirmed[0]] * CLIENTS
    kept = assert_whole(place, tenant)
    assert (kept["orders"], kept["events"], kept["idempotency_keys"]) == (1, 2, 2)


def test_a_transition_without_a_key_succeeds_once(kit: OrderKit, place: Place, tenant: str) -> None:
    order = kit.orders.place(lines=TEA)
    results = race(16, lambda _client: outcome(lambda: kit.orders.confirm(order.id)))
    assert collections.Counter(type(result).__name__ for result in results) == {"Order": 1, "IllegalTransition": 15}
    assert assert_whole(place, tenant)["events"] == 2


@pytest.mark.parametrize("taken", ["id", "number"])
def test_an_id_or_number_is_taken_once(kit: OrderKit, place: Place, tenant: str, taken: str) -> None:
    def attempt(client: int) -> Order:
        if taken == "id":
            return kit.orders.place(lines=TEA, id="order-1", customer=f"cust-{client}")
        return kit.orders.place(lines=TEA, number="2026-0001", customer=f"cust-{client}")

    results = race(16, lambda client: outcome(lambda: attempt(client)))
    winners = [result for result in results if isinstance(result, Order)]
    losers = [result for result in results if isinstance(result, AlreadyExists)]
    assert (len(winners), len(losers)) == (1, 15)
    expected = ("order_id", "order-1") if taken == "id" else ("number", "2026-0001")
    assert {(loser.code, loser.what, loser.value) for loser in losers} == {("already_exists", *expected)}
    assert kit.orders.get(winners[0].id) == winners[0]
    assert assert_whole(place, tenant)["orders"] == 1


def test_gapless_numbers_have_no_gaps(open_kit: OpenKit, place: Place, tenant: str) -> None:
    kit = open_kit(numbers=GaplessNumbers(prefix="A-", digits=4)).for_tenant(tenant)
    taken = kit.orders.place(lines=TEA)

    def attempt(client: int) -> list[Order | Exception]:
        return [
            outcome(lambda: kit.orders.place(lines=TEA)),
            outcome(lambda: kit.orders.place(lines=TEA, id=taken.id)),
            outcome(lambda: kit.orders.place(lines=())),
            outcome(lambda: kit.orders.place(lines=TEA, idempotency_key=f"key-{client % 4}")),
        ]

    results = list(itertools.chain(*race(16, attempt)))
    kinds = collections.Counter(type(result) for result in results)
    assert kinds == {Order: 32, AlreadyExists: 16, InvalidCommand: 16}
    numbers = sorted(row["number"] for row in place.rows("orders", tenant))
    assert numbers == [f"A-{number:04d}" for number in range(1, 1 + 16 + 4 + 1)]
    assert_whole(place, tenant)


def test_gapless_numbers_are_counted_for_each_tenant(open_kit: OpenKit) -> None:
    kit = open_kit(numbers=GaplessNumbers())
    first, second = (kit.for_tenant(f"gapless-{name}-{uuid4().hex}") for name in "ab")
    placed = [tenant.orders.place(lines=TEA).number for tenant in (first, second, first)]
    assert placed == ["1", "1", "2"]


class Repeating:
    """Numbers that repeat themselves, as random ones do once in a long while."""

    def __init__(self, numbers: Iterator[str]) -> None:
        self._numbers = numbers
        self._lock = threading.Lock()

    def assign(self, tenant: str, count: Callable[[], int]) -> str:
        del tenant, count  # neither is asked for
        with self._lock:
            return next(self._numbers)


def test_a_number_that_turns_out_to_be_taken_is_chosen_again(open_kit: OpenKit, place: Place, tenant: str) -> None:
    numbers = Repeating(iter(["A", "A", "A", "B", "A", "B", "C", "C", "D"]))
    kit = open_kit(numbers=numbers).for_tenant(tenant)
    assert kit.orders.place(lines=TEA).number == "A"
    second = kit.orders.place(lines=TEA, idempotency_key="k")
    assert second.number == "B"
    assert kit.orders.place(lines=TEA, idempotency_key="k") == second
    third = kit.run(lambda tx: tx.orders.place(lines=TEA))
    assert third.number == "C"
    assert kit.run(lambda tx: (tx.orders.get(third.id), tx.orders.place(lines=TEA))[1]).number == "D"
    assert assert_whole(place, tenant)["orders"] == 4


def test_numbers_that_repeat_for_ever_are_given_up(open_kit: OpenKit, place: Place, tenant: str) -> None:
    kit = open_kit(numbers=Repeating(itertools.repeat("A"))).for_tenant(tenant)
    kit.orders.place(lines=TEA)
    with pytest.raises(StorageBusy) as raised:
        kit.orders.place(lines=TEA)
    assert "nothing was changed" in raised.value.message
    assert place.count("orders", tenant) == 1


def test_work_on_two_orders_in_opposite_order_is_done(kit: OrderKit, place: Place, tenant: str) -> None:
    orders = [kit.orders.place(lines=TEA).id for _ in range(2)]

    def attempt(client: int) -> None:
        def work(tx: Transaction) -> None:
            for order in orders if client % 2 else reversed(orders):
                tx.orders.execute(order, ChangeTags(add=(f"client-{client}",)))

        kit.run(work)

    race(8, attempt)
    assert [kit.orders.get(order).version for order in orders] == [9, 9]
    assert assert_whole(place, tenant)["events"] == 18


@pytest.mark.parametrize("place", SERVERS, indirect=True)
def test_a_deadlock_is_resolved_by_running_again(kit: OrderKit, place: Place, tenant: str, tries: list[int]) -> None:
    """Two transactions each hold what the other wants next: one is ended by the database, and run again."""
    orders = [kit.orders.place(lines=TEA).id for _ in range(2)]
    meeting = threading.Barrier(2)
    met: set[int] = set()

    def attempt(client: int) -> None:
        def work(tx: Transaction) -> None:
            tx.orders.search()  # nothing staged: no transaction yet
            first, second = orders if client else reversed(orders)
            tx.orders.execute(first, ChangeTags(add=(f"client-{client}",)))
            tx.orders.search()  # what was staged is to be found: from here on in a transaction, holding the order
            if client not in met:
                met.add(client)
                meeting.wait()
            tx.orders.execute(second, ChangeTags(add=(f"client-{client}",)))

        with place.kit() as own:
            own.for_tenant(tenant).run(work)

    race(2, attempt)
    assert max(tries) >= 3
    assert [kit.orders.get(order).version for order in orders] == [3, 3]
    assert_whole(place, tenant)
