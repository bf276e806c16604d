"""One commit for what belongs together: `transaction`, `run`, and what a script may rely on."""

# pyright: reportPrivateUsage=false
# Scripts are run as the verbs are.

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from typing import cast

import pytest

from orderkit import GaplessNumbers, Order, OrderFilter, OrderKit, OrderStatus, Transaction
from orderkit.domain.commands import ChangeTags
from orderkit.errors import AlreadyExists, OrderNotFound, Refused, SchemaMissing, TransactionEnded, VersionConflict
from orderkit.kit.runners import KitUnit
from orderkit.orders.scripts import OrderPolicy, execute
from orderkit.storage.sql.storage import SqlStorage
from orderkit.testing.clock import ManualClock
from tests.integration.kit.places import DURABLE, SERVERS, SHELLS, TEA, OpenKit, Place, assert_whole, each, meanwhile


class ChangeOfMind(Exception):
    """The application's own error."""


def commits(place: Place, tenant: str) -> int:
    """Return how many commits a tenant's events were written by: each has a transaction id of its own."""
    sql = "SELECT count(DISTINCT xid::text) AS commits FROM orderkit_events WHERE tenant = %s"
    return int(place.query(sql, tenant)[0]["commits"])


# --------------------------------------------------------------------------------------------
# Transactions
# --------------------------------------------------------------------------------------------


def test_a_transaction_is_kept_as_a_whole(kit: OrderKit, place: Place, tenant: str) -> None:
    before = kit.orders.place(lines=TEA)
    with kit.transaction() as tx:
        placed = [tx.orders.place(lines=TEA) for _ in range(3)]
        confirmed = tx.orders.confirm(before.id)
        tx.orders.complete(before.id)
        assert tx.orders.get(before.id).status is OrderStatus.COMPLETED
        assert kit.orders.get(before.id) == before  # nobody else sees it yet
        with pytest.raises(OrderNotFound):
            kit.orders.get(placed[0].id)
    assert confirmed.version == 2
    assert [kit.orders.get(order.id) for order in placed] == placed
    assert kit.orders.get(before.id).version == 3
    if place.is_postgresql:
        assert commits(place, tenant) == 2
    assert_whole(place, tenant)


def test_a_transaction_is_rolled_back_as_a_whole(kit: OrderKit, place: Place, tenant: str) -> None:
    before = kit.orders.place(lines=TEA, tags=("kept",))
    kept = place.counts(tenant)
    with suppress(ChangeOfMind), kit.transaction() as tx:
        tx.orders.place(lines=TEA, idempotency_key="k", tags=("gone",))
        tx.orders.confirm(before.id)
        raise ChangeOfMind
    assert place.counts(tenant) == kept
    assert kit.orders.get(before.id) == before


def test_an_error_caught_inside_a_transaction_leaves_what_went_before(kit: OrderKit, place: Place, tenant: str) -> None:
    taken = kit.orders.place(lines=TEA)
    with kit.transaction() as tx:
        first = tx.orders.place(lines=TEA, customer="cust-1")
        with pytest.raises(AlreadyExists):
            tx.orders.place(lines=TEA, id=taken.id, tags=("gone",))
        with pytest.raises(AlreadyExists):
            tx.orders.place(lines=TEA, number=taken.number)
        with pytest.raises(Refused):
            tx.orders.complete(first.id)
        with pytest.raises(VersionConflict):
            tx.orders.confirm(first.id, expected_version=7)
        with pytest.raises(OrderNotFound):
            tx.orders.confirm("order_absent")
        second = tx.orders.confirm(first.id)
    assert kit.orders.get(first.id) == second
    kept = assert_whole(place, tenant)
    assert (kept["orders"], kept["events"], kept["order_labels"]) == (2, 3, 0)


@pytest.mark.parametrize("place", [shell for shell in SHELLS if not shell.startswith("sqlite")], indirect=True)
def test_a_transaction_is_never_run_again(kit: OrderKit, place: Place, tenant: str) -> None:
    """What somebody else wrote since the block read it is a conflict to the caller, and nothing is written.

    On SQLite that cannot be: there a transaction is the only writer from its start.
    """
    order = kit.orders.place(lines=TEA)
    runs = 0

    def block() -> None:
        nonlocal runs
        with kit.transaction() as tx:
            runs += 1
            tx.orders.get(order.id)
            if place.shell in SERVERS:
                with interfering(place, tenant, order):
                    tx.orders.confirm(order.id)
                return
            tx.orders.confirm(order.id)
            kit.orders.execute(order.id, ChangeTags(add=("meanwhile",)))

    with pytest.raises(VersionConflict):
        block()
    assert runs == 1
    assert kit.orders.get(order.id).tags == ("meanwhile",)
    assert_whole(place, tenant)


def interfering(place: Place, tenant: str, order: Order, tag: str = "meanwhile") -> AbstractContextManager[None]:
    """Let somebody else write an order once, between the reading and the writing of the next command."""

    def write() -> None:
        with place.kit() as owner:
            owner.for_tenant(tenant).orders.execute(order.id, ChangeTags(add=(tag,)))

    return meanwhile(write)


@pytest.mark.parametrize("place", DURABLE, indirect=True)
def test_a_statement_that_fails_leaves_what_went_before(kit: OrderKit, place: Place, tenant: str) -> None:
    """Even an error of the database itself, which would end a transaction of PostgreSQL."""
    with kit.transaction() as tx:
        first = tx.orders.place(lines=TEA)
        with pytest.raises(SchemaMissing):
            tx.orders._run(lambda unit: cast("SqlStorage", unit.storage)._fetch("SELECT 1 FROM orderkit_absent", ()))
        second = tx.orders.place(lines=TEA)
    assert [kit.orders.get(order.id) for order in (first, second)] == [first, second]
    assert assert_whole(place, tenant)["orders"] == 2


def test_a_number_that_leads_to_no_order_goes_back(open_kit: OpenKit, place: Place, tenant: str) -> None:
    """Numbers without gaps stay so although errors are caught inside a transaction or a run that is kept."""
    kit = open_kit(numbers=GaplessNumbers()).for_tenant(tenant)
    taken = kit.orders.place(lines=TEA)

    def work(tx: Transaction) -> tuple[str | None, str | None]:
        first = tx.orders.place(lines=TEA)
        for _ in range(2):
            with suppress(AlreadyExists):
                tx.orders.place(lines=TEA, id=taken.id)
        second = tx.orders.place(lines=TEA)
        with suppress(AlreadyExists):
            tx.orders.place(lines=TEA, id=taken.id)
        return first.number, second.number

    with kit.transaction() as tx:
        assert work(tx) == ("2", "3")
    assert kit.run(work) == ("4", "5")
    assert kit.orders.place(lines=TEA).number == "6"
    assert assert_whole(place, tenant)["orders"] == 6


def test_what_is_over_cannot_be_used(kit: OrderKit, place: Place, tenant: str) -> None:
    with kit.transaction() as ended:
        order = ended.orders.place(lines=TEA)
    left = kit.run(lambda tx: tx)
    for attempt in each(
        lambda: ended.orders.place(lines=TEA),
        lambda: ended.orders.get(order.id),
        ended.orders.search,
        lambda: left.orders.place(lines=TEA),
        lambda: left.orders.confirm(order.id),
    ):
        with pytest.raises(TransactionEnded):
            attempt()
    assert kit.orders.get(order.id) == order
    assert assert_whole(place, tenant)["orders"] == 1


# --------------------------------------------------------------------------------------------
# Runs
# --------------------------------------------------------------------------------------------


def test_a_run_writes_several_orders_by_one_commit(kit: OrderKit, place: Place, tenant: str, said: list[str]) -> None:
    before = kit.orders.place(lines=TEA)
    kit.orders.place(lines=TEA)
    said.clear()

    def work(tx: Transaction) -> list[Order]:
        return [tx.orders.confirm(before.id), *(tx.orders.place(lines=TEA, tags=("x",)) for _ in range(3))]

    results = kit.run(work)
    assert [kit.orders.get(order.id) for order in results] == results
    if place.is_postgresql:
        assert commits(place, tenant) == 3
    if place.is_sqlite:
        assert said.count("COMMIT") == 1
    assert assert_whole(place, tenant)["orders"] == 5


def test_a_run_that_raises_writes_nothing(kit: OrderKit, place: Place, tenant: str) -> None:
    before = kit.orders.place(lines=TEA)

    def work(tx: Transaction) -> None:
        tx.orders.place(lines=TEA)
        tx.orders.confirm(before.id)
        raise ChangeOfMind

    with pytest.raises(ChangeOfMind):
        kit.run(work)
    assert kit.orders.get(before.id) == before
    assert assert_whole(place, tenant)["orders"] == 1


def test_a_run_sees_what_it_has_staged(kit: OrderKit, place: Place, tenant: str) -> None:
    def work(tx: Transaction) -> tuple[Order, Order]:
        placed = tx.orders.place(lines=TEA)
        assert tx.orders.get(placed.id) == placed
        return placed, tx.orders.confirm(placed.id)

    placed, confirmed = kit.run(work)
    assert (placed.version, confirmed.version) == (1, 2)
    assert kit.orders.get(placed.id) == confirmed
    assert [event.version for event in kit.orders.history(placed.id)] == [1, 2]
    assert_whole(place, tenant)


def test_a_run_finds_what_it_has_staged(kit: OrderKit, place: Place, tenant: str) -> None:
    """A search after a staged write runs in a real transaction: the function is run again in one."""
    kit.orders.place(lines=TEA, customer="cust-1")
    runs: list[str] = []

    def work(tx: Transaction) -> list[str]:
        placed = tx.orders.place(lines=TEA, customer="cust-1")
        runs.append(placed.id)
        tx.orders.confirm(placed.id)
        found = tx.orders.search(OrderFilter(customer="cust-1"))
        assert placed.id in [order.id for order in found.items]
        return [order.id for order in tx.orders.search(OrderFilter(status=(OrderStatus.OPEN,))).items]

    assert kit.run(work) == [runs[-1]]
    assert len(set(runs)) == 1
    assert assert_whole(place, tenant)["orders"] == 2


def test_a_run_streams_and_recounts_what_it_has_staged(kit: OrderKit) -> None:
    def work(tx: Transaction) -> tuple[list[str], list[int], list[str], Order]:
        placed = tx.orders.place(lines=TEA)
        tx.orders.confirm(placed.id)
        streamed = [order.id for order in tx.orders.stream()]
        versions = [event.version for event in tx.orders.history(placed.id)]
        return [placed.id], versions, streamed, tx.orders.as_of(placed.id, version=1)

    placed, versions, streamed, first = kit.run(work)
    assert streamed == placed
    assert versions == [1, 2]
    assert first.version == 1


def test_a_run_is_run_again_as_a_whole_with_the_same_ids_and_time(open_kit: OpenKit, place: Place, tenant: str) -> None:
    kit = open_kit().for_tenant(tenant)
    order = kit.orders.place(lines=TEA)
    runs: list[tuple[str, str, object, tuple[str, ...]]] = []

    def work(tx: Transaction) -> Order:
        placed = tx.orders.place(lines=TEA)
        seen = tx.orders.get(order.id)
        runs.append((placed.id, placed.lines[0].id, placed.created_at, seen.tags))
        confirmed = tx.orders.confirm(order.id)
        if len(runs) == 1:
            with place.kit() as owner:
                owner.for_tenant(tenant).orders.execute(order.id, ChangeTags(add=("meanwhile",)))
        return confirmed

    confirmed = kit.run(work)
    assert len(runs) == 2
    assert runs[0][:3] == runs[1][:3]
    assert (runs[0][3], runs[1][3]) == ((), ("meanwhile",))
    assert (confirmed.version, confirmed.tags) == (3, ("meanwhile",))
    assert assert_whole(place, tenant)["orders"] == 2


def test_a_single_command_is_run_again_on_what_somebody_else_has_written(
    kit: OrderKit, place: Place, tenant: str
) -> None:
    order = kit.orders.place(lines=TEA)
    with interfering(place, tenant, order):
        confirmed = kit.orders.confirm(order.id)
    assert (confirmed.version, confirmed.tags) == (3, ("meanwhile",))
    assert_whole(place, tenant)


def test_a_command_that_is_refused_after_a_lost_race_tells_the_refusal(
    kit: OrderKit, place: Place, tenant: str
) -> None:
    order = kit.orders.place(lines=TEA)

    def cancel() -> None:
        with place.kit() as owner:
            owner.for_tenant(tenant).orders.cancel(order.id)

    with meanwhile(cancel), pytest.raises(Refused):
        kit.orders.confirm(order.id)
    assert kit.orders.get(order.id).status is OrderStatus.CANCELLED


# --------------------------------------------------------------------------------------------
# Versions
# --------------------------------------------------------------------------------------------


def test_an_expected_version_is_never_retried_away(kit: OrderKit, place: Place, tenant: str) -> None:
    order = kit.orders.place(lines=TEA)
    with pytest.raises(VersionConflict) as stale:
        kit.orders.confirm(order.id, expected_version=2)
    assert (stale.value.expected, stale.value.actual, stale.value.stated) == (2, 1, True)
    with interfering(place, tenant, order), pytest.raises(VersionConflict) as raced:
        kit.orders.confirm(order.id, expected_version=1)
    assert (raced.value.code, raced.value.expected, raced.value.stated) == ("version_conflict", 1, True)
    assert "nothing was changed" in raced.value.message
    found = kit.orders.get(order.id)
    assert (found.version, found.status) == (2, OrderStatus.PENDING)
    with interfering(place, tenant, order, "again"), pytest.raises(VersionConflict):
        kit.run(lambda tx: tx.orders.confirm(order.id, expected_version=2))
    assert kit.orders.get(order.id).status is OrderStatus.PENDING
    assert kit.orders.confirm(order.id, expected_version=kit.orders.get(order.id).version).status is OrderStatus.OPEN
    assert_whole(place, tenant)


def test_a_guarded_order_must_not_move(kit: OrderKit, place: Place, tenant: str) -> None:
    """A rule over an order that is only read holds when the commit comes, or the script is run again."""
    watched, changed = kit.orders.place(lines=TEA), kit.orders.place(lines=TEA)
    seen: list[int] = []

    def script(unit: KitUnit) -> Order:
        order = unit.get(watched.id)
        unit.guard(order)
        seen.append(order.version)
        if len(seen) == 1:
            with place.kit() as owner:
                owner.for_tenant(tenant).orders.execute(watched.id, ChangeTags(add=("meanwhile",)))
        return execute(changed.id, ChangeTags(add=(f"saw-{order.version}",)), OrderPolicy())(unit)

    result = run_script(kit, script)
    assert seen == [1, 2]
    assert result.tags == ("saw-2",)
    assert kit.orders.get(watched.id).version == 2
    assert_whole(place, tenant)


def run_script(kit: OrderKit, script: Callable[[KitUnit], Order]) -> Order:
    """Run a script as the verbs of a kit are run."""
    return kit._runner.run(script)


# --------------------------------------------------------------------------------------------
# Background work
# --------------------------------------------------------------------------------------------


def test_a_sweep_expires_what_is_due_in_one_commit(
    open_kit: OpenKit, place: Place, tenant: str, clock: ManualClock
) -> None:
    kit = open_kit(clock=clock).for_tenant(tenant)
    soon, later = clock.now() + timedelta(minutes=1), clock.now() + timedelta(days=1)
    due = [kit.orders.place(lines=TEA, expires_at=soon) for _ in range(3)]
    kept = kit.orders.place(lines=TEA, expires_at=later)
    confirmed = kit.orders.confirm(kit.orders.place(lines=TEA, expires_at=soon).id)
    clock.advance(timedelta(minutes=2))
    assert kit.sweep()["expire_orders"].done == 3
    assert {kit.orders.get(order.id).status for order in due} == {OrderStatus.EXPIRED}
    assert kit.orders.get(kept.id) == kept
    assert kit.orders.get(confirmed.id) == confirmed
    assert kit.sweep()["expire_orders"].done == 0
    if place.is_postgresql:
        assert commits(place, tenant) == 7
    assert_whole(place, tenant)


@pytest.mark.parametrize("place", DURABLE, indirect=True)
def test_what_is_bound_to_a_kit_is_kept_on_every_event(kit: OrderKit, place: Place, tenant: str) -> None:
    bound = kit.bound(actor="ada", correlation_id="request-1").bound(causation_id="message-9")
    order = bound.orders.place(lines=TEA)
    with bound.transaction() as tx:
        tx.orders.confirm(order.id)
    bound.run(lambda tx: tx.orders.complete(order.id))
    kit.orders.reopen(order.id)
    kept = [(row["actor"], row["correlation_id"], row["causation_id"]) for row in place.rows("events", tenant)]
    assert kept == [("ada", "request-1", "message-9")] * 3 + [(None, None, None)]
    assert [event.actor for event in kit.orders.history(order.id)] == ["ada", "ada", "ada", None]
