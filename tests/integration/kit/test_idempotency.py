"""Idempotency keys: the same key gives the same order, costs nothing extra, and hides nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orderkit import Contact, Line, Money, Order, OrderKit, OrderStatus, Settings, Transaction
from orderkit.domain.commands import ChangeMetadata, ConfirmOrder, HoldOrder
from orderkit.errors import (
    AlreadyExists,
    IdempotencyInFlight,
    IdempotencyMismatch,
    InvalidKey,
    OrderKitError,
    OrderNotFound,
)
from orderkit.orders import scripts
from orderkit.testing.clock import ManualClock
from tests.integration.kit.places import (
    POSTGRESQL,
    SERVERS,
    TEA,
    OpenAt,
    OpenKit,
    Place,
    assert_whole,
    each,
    meanwhile,
    new_tenant,
)
from tests.integration.kit.proxy import Proxy
from tests.integration.kit.waiting import until_somebody_waits

COFFEE = (Line(sku="COFFEE", quantity=1, unit_price=Money("7.00", "EUR")),)
RETENTION = timedelta(hours=72)


# --------------------------------------------------------------------------------------------
# What a key costs
# --------------------------------------------------------------------------------------------


def trips(proxy: Proxy, work: Callable[[int], object]) -> int:
    """Return how many round trips some work takes, what a connection does only now and then left out."""
    taken = []
    for repeat in range(3):
        before = proxy.round_trips
        work(repeat)
        taken.append(proxy.round_trips - before)
    return min(taken)


@pytest.mark.parametrize("place", POSTGRESQL, indirect=True)
def test_neither_a_key_nor_a_replay_costs_a_round_trip(
    open_at: OpenAt, proxied: Place, proxy: Proxy, tenant: str
) -> None:
    orders = open_at(proxied).for_tenant(tenant).orders
    for warm in range(6):  # until the driver has prepared every statement
        order = orders.place(lines=TEA, idempotency_key=f"warm-{warm}")
        for _ in range(2):
            orders.confirm(order.id, idempotency_key=f"warm-{warm}")
            orders.place(lines=TEA, idempotency_key=f"warm-{warm}")
        orders.confirm(orders.place(lines=TEA).id)
    placed = [orders.place(lines=TEA).id for _ in range(6)]
    # A placement claims its key in the statement that writes it, which answers with the record of a taken one;
    # a transition reads its key with its order.
    assert trips(proxy, lambda _: orders.place(lines=TEA)) == 1
    assert trips(proxy, lambda repeat: orders.place(lines=TEA, idempotency_key=f"new-{repeat}")) == 1
    assert trips(proxy, lambda repeat: orders.place(lines=TEA, idempotency_key=f"new-{repeat}")) == 1
    assert trips(proxy, lambda repeat: orders.confirm(placed[repeat])) == 2
    assert trips(proxy, lambda repeat: orders.confirm(placed[3 + repeat], idempotency_key=f"new-{repeat}")) == 2
    assert trips(proxy, lambda repeat: orders.confirm(placed[3 + repeat], idempotency_key=f"new-{repeat}")) == 1


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_key_costs_sqlite_one_insert(said: list[str], kit: OrderKit) -> None:
    order = kit.orders.place(lines=TEA)

    def statements(work: Callable[[], object]) -> list[str]:
        said.clear()
        work()
        return [" ".join(statement.split()[:3]) for statement in said]

    plain = statements(lambda: kit.orders.place(lines=TEA))
    keyed = statements(lambda: kit.orders.place(lines=TEA, idempotency_key="new"))
    assert keyed == [plain[0], "INSERT INTO orderkit_idempotency_keys", *plain[1:]]
    assert len(statements(lambda: kit.orders.place(lines=TEA, idempotency_key="new"))) == 1
    kit._assembly.policy.recent._keys.clear()  # as in a process that has not used the key
    elsewhere = statements(lambda: kit.orders.place(lines=TEA, idempotency_key="new"))
    assert elsewhere[:2] == keyed[:2]
    assert len(elsewhere) == 4
    kit.orders.confirm(order.id, idempotency_key="new")
    assert len(statements(lambda: kit.orders.confirm(order.id, idempotency_key="new"))) == 1


# --------------------------------------------------------------------------------------------
# What a key answers
# --------------------------------------------------------------------------------------------


def test_the_same_key_gives_the_same_order_and_makes_nothing_new(kit: OrderKit, place: Place, tenant: str) -> None:
    first = kit.orders.place(lines=TEA, idempotency_key="checkout", metadata={"a": 1}, tags=("x",))
    kept = place.counts(tenant)
    for _ in range(3):
        assert kit.orders.place(lines=TEA, idempotency_key="checkout", metadata={"a": 1}, tags=("x",)) == first
    assert place.counts(tenant) == kept
    assert assert_whole(place, tenant)["orders"] == 1


def test_a_hit_is_answered_before_anything_is_decided(kit: OrderKit, monkeypatch: pytest.MonkeyPatch) -> None:
    order = kit.orders.place(lines=TEA)
    confirmed = kit.orders.confirm(order.id, idempotency_key="confirm")
    kit.orders.complete(order.id)

    def decide(*_arguments: object, **_options: object) -> None:
        raise AssertionError("a replay decides nothing")

    monkeypatch.setattr(scripts, "decide", decide)
    assert kit.orders.confirm(order.id, idempotency_key="confirm") == confirmed


def test_a_placement_that_would_be_refused_by_now_is_replayed(
    open_kit: OpenKit, tenant: str, clock: ManualClock
) -> None:
    kit = open_kit(clock=clock).for_tenant(tenant)
    expires_at = clock.now() + timedelta(hours=1)
    order = kit.orders.place(lines=TEA, expires_at=expires_at, idempotency_key="checkout")
    clock.advance(timedelta(hours=2))
    assert kit.orders.place(lines=TEA, expires_at=expires_at, idempotency_key="checkout") == order


def test_a_replay_gives_the_order_as_the_first_use_left_it(kit: OrderKit) -> None:
    placed = kit.orders.place(lines=TEA, idempotency_key="place", metadata={"basket": 7}, contact=Contact(name="Ada"))
    held = kit.orders.hold(placed.id, "fraud", idempotency_key="hold")
    kit.orders.release(placed.id, "fraud")
    kit.orders.execute(placed.id, ChangeMetadata(metadata={"basket": 8, "more": True}))
    confirmed = kit.orders.confirm(placed.id, idempotency_key="confirm")
    kit.orders.cancel(placed.id)
    replays = (
        kit.orders.place(lines=TEA, idempotency_key="place", metadata={"basket": 7}, contact=Contact(name="Ada")),
        kit.orders.hold(placed.id, "fraud", idempotency_key="hold"),
        kit.orders.confirm(placed.id, idempotency_key="confirm"),
    )
    assert replays == (placed, held, confirmed)
    assert [order.version for order in replays] == [1, 2, 5]
    assert kit.orders.get(placed.id).status is OrderStatus.CANCELLED


def test_another_payload_under_a_used_key_is_a_mismatch(kit: OrderKit, place: Place, tenant: str) -> None:
    order = kit.orders.place(lines=TEA, customer="cust-secret", idempotency_key="checkout")
    other = kit.orders.place(lines=TEA)
    kit.orders.hold(order.id, "fraud", idempotency_key="hold")
    kept = place.counts(tenant)
    for attempt in each(
        lambda: kit.orders.place(lines=COFFEE, customer="cust-secret", idempotency_key="checkout"),
        lambda: kit.orders.place(lines=TEA, idempotency_key="checkout"),
        lambda: kit.orders.hold(order.id, "credit", idempotency_key="hold"),
        lambda: kit.orders.hold(other.id, "fraud", idempotency_key="hold"),
    ):
        with pytest.raises(IdempotencyMismatch) as raised:
            attempt()
        assert raised.value.code == "idempotency_mismatch"
        assert "nothing was changed" in raised.value.message
        assert not any(told in str(raised.value) for told in ("cust-secret", "TEA-001", order.id))
    assert place.counts(tenant) == kept


def test_a_mismatch_is_told_before_a_refusal(kit: OrderKit) -> None:
    order = kit.orders.place(lines=TEA, idempotency_key="checkout", id="order-one")
    with pytest.raises(IdempotencyMismatch):
        kit.orders.place(lines=COFFEE, idempotency_key="checkout", id=order.id)


def test_a_key_counts_for_one_operation_of_one_tenant(kit: OrderKit, place: Place, tenant: str) -> None:
    key = "the-same-everywhere"
    other_tenant = new_tenant()
    order = kit.orders.place(lines=TEA, idempotency_key=key)
    draft = kit.orders.draft(lines=TEA, idempotency_key=key)
    confirmed = kit.orders.confirm(order.id, idempotency_key=key)
    completed = kit.orders.complete(order.id, idempotency_key=key)
    foreign = kit.for_tenant(other_tenant).orders.place(lines=COFFEE, idempotency_key=key)
    assert len({order.id, draft.id, foreign.id}) == 3
    assert (confirmed.version, completed.version) == (2, 3)
    assert place.count("idempotency_keys", tenant) == 4
    assert place.count("idempotency_keys", other_tenant) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "new\nline", "tab\t", "nul\0", "schlüssel", "\x7f", " " * 300])
@pytest.mark.parametrize("place", ["memory"], indirect=True)
def test_a_malformed_key_is_refused(kit: OrderKit, key: str) -> None:
    order = kit.orders.place(lines=TEA)
    for attempt in each(
        lambda: kit.orders.place(lines=TEA, idempotency_key=key),
        lambda: kit.orders.confirm(order.id, idempotency_key=key),
    ):
        with pytest.raises(InvalidKey) as raised:
            attempt()
        assert raised.value.code == "invalid_key"
    assert kit.orders.get(order.id) == order


@pytest.mark.parametrize("key", ["x", "x" * 255, " ", '"quoted"', "a:b/c?d=%20'; --"])
@pytest.mark.parametrize("place", ["memory", "sqlite", "psycopg", "asyncpg"], indirect=True)
def test_every_printable_key_works(kit: OrderKit, key: str) -> None:
    order = kit.orders.place(lines=TEA, idempotency_key=key)
    assert kit.orders.place(lines=TEA, idempotency_key=key) == order


# --------------------------------------------------------------------------------------------
# Refusals, conflicts and races
# --------------------------------------------------------------------------------------------


def test_a_refused_request_leaves_its_key_free(kit: OrderKit, place: Place, tenant: str) -> None:
    order = kit.orders.place(lines=TEA)
    with pytest.raises(OrderKitError) as refused:
        kit.orders.complete(order.id, idempotency_key="complete")
    assert refused.value.code == "illegal_transition"
    with pytest.raises(OrderNotFound):
        kit.orders.confirm("order_absent", idempotency_key="confirm")
    with pytest.raises(AlreadyExists):
        kit.orders.place(lines=TEA, id=order.id, idempotency_key="place")
    assert place.count("idempotency_keys", tenant) == 0
    kit.orders.confirm(order.id)
    assert kit.orders.complete(order.id, idempotency_key="complete").status is OrderStatus.COMPLETED


def test_a_request_that_loses_to_itself_is_answered_with_its_own_result(
    kit: OrderKit, place: Place, tenant: str
) -> None:
    """The same request wins while this one is deciding: its conflict is not told, its result is."""
    order = kit.orders.place(lines=TEA)
    winners: list[Order] = []

    def win() -> None:
        with place.kit() as winner:
            winners.append(winner.for_tenant(tenant).orders.confirm(order.id, idempotency_key="confirm"))

    with meanwhile(win):
        assert [kit.orders.confirm(order.id, idempotency_key="confirm")] == winners
    assert kit.orders.get(order.id).version == 2
    assert_whole(place, tenant)


def test_a_refusal_looks_the_key_up_again(kit: OrderKit, place: Place, tenant: str) -> None:
    """The same request wins after the key was looked for: what then looks like a refusal is its echo."""
    winners: list[Order] = []

    def win() -> None:
        with place.kit() as winner:
            winners.append(winner.for_tenant(tenant).orders.place(lines=TEA, id="order-1", idempotency_key="k"))
        raise AlreadyExists("order_id", "order-1")

    with meanwhile(win):
        assert [kit.orders.place(lines=TEA, id="order-1", idempotency_key="k")] == winners
    assert place.count("orders", tenant) == 1


@pytest.mark.parametrize("place", SERVERS, indirect=True)
def test_a_key_whose_first_use_is_under_way_is_in_flight(open_kit: OpenKit, place: Place, tenant: str) -> None:
    kit = open_kit(settings=Settings(lock_timeout=0.2)).for_tenant(tenant)
    order = kit.orders.place(lines=TEA)
    with place.holder() as execute:
        for scope in ("place_order", "confirm_order"):
            execute(
                "INSERT INTO orderkit_idempotency_keys VALUES (%s, %s, 'busy', 'v1:x', 'order_x', 1, now(), now())",
                (tenant, scope),
            )
        for attempt in each(
            lambda: kit.orders.place(lines=TEA, idempotency_key="busy"),
            lambda: kit.orders.confirm(order.id, idempotency_key="busy"),
            lambda: kit.run(lambda tx: tx.orders.place(lines=TEA, idempotency_key="busy")),
        ):
            started = time.monotonic()
            with pytest.raises(IdempotencyInFlight) as raised:
                attempt()
            # MariaDB counts in whole seconds.
            assert 0.15 < time.monotonic() - started < 2
            assert (raised.value.code, raised.value.key) == ("idempotency_in_flight", "busy")
            assert raised.value.retry_after > 0
            assert "changed nothing" in raised.value.message
    assert kit.orders.get(order.id) == order
    assert kit.orders.place(lines=TEA, idempotency_key="busy").version == 1


@pytest.mark.parametrize("place", SERVERS, indirect=True)
def test_waiting_for_the_first_use_gives_its_result(kit: OrderKit, place: Place, tenant: str) -> None:
    found: list[Order] = []
    with place.kit() as owner, owner.for_tenant(tenant).transaction() as tx:
        first = tx.orders.place(lines=TEA, idempotency_key="k")
        waiting = threading.Thread(target=lambda: found.append(kit.orders.place(lines=TEA, idempotency_key="k")))
        waiting.start()
        until_somebody_waits(place.url)
    waiting.join()
    assert found == [first]


# --------------------------------------------------------------------------------------------
# Expiry
# --------------------------------------------------------------------------------------------


@pytest.fixture
def timed(open_kit: OpenKit, tenant: str, clock: ManualClock) -> OrderKit:
    """A kit on a clock that stands still, keys kept for three days."""
    return open_kit(clock=clock).for_tenant(tenant)


def test_a_key_can_be_used_anew_once_it_has_expired(
    timed: OrderKit, clock: ManualClock, place: Place, tenant: str
) -> None:
    first = timed.orders.place(lines=TEA, idempotency_key="k")
    held = timed.orders.hold(first.id, "fraud", idempotency_key="k")
    clock.advance(RETENTION - timedelta(microseconds=1))
    assert timed.orders.place(lines=TEA, idempotency_key="k") == first
    assert timed.orders.hold(first.id, "fraud", idempotency_key="k") == held
    timed.orders.release(first.id, "fraud")
    clock.advance(timedelta(microseconds=1))
    second = timed.orders.place(lines=COFFEE, idempotency_key="k")
    assert second.id != first.id
    assert timed.orders.place(lines=COFFEE, idempotency_key="k") == second
    assert timed.orders.hold(first.id, "credit", idempotency_key="k").version == 4
    assert place.count("idempotency_keys", tenant) == 2
    assert_whole(place, tenant)


def test_an_expired_key_can_be_used_anew_inside_a_transaction(timed: OrderKit, clock: ManualClock) -> None:
    first = timed.orders.place(lines=TEA, idempotency_key="k")
    clock.advance(RETENTION)
    with timed.transaction() as tx:
        second = tx.orders.place(lines=COFFEE, idempotency_key="k")
    clock.advance(RETENTION)
    third = timed.run(lambda tx: tx.orders.place(lines=TEA, idempotency_key="k"))
    assert len({first.id, second.id, third.id}) == 3
    assert timed.orders.place(lines=TEA, idempotency_key="k") == third


def test_a_sweep_collects_expired_keys_in_batches(
    timed: OrderKit, clock: ManualClock, place: Place, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.advance(timedelta(days=3650))
    while timed.sweep()["collect_keys"].more:  # what other tests have left
        pass
    monkeypatch.setattr("orderkit.worker.KEY_BATCH", 3)
    for number in range(5):
        timed.orders.place(lines=TEA, idempotency_key=f"old-{number}")
    clock.advance(RETENTION)
    kept = timed.orders.place(lines=TEA, idempotency_key="new")
    progress = [timed.sweep()["collect_keys"] for _ in range(2)]
    assert [(step.done, step.more) for step in progress] == [(3, True), (2, False)]
    assert place.counts(tenant) | {"idempotency_keys": 1} == place.counts(tenant)
    assert place.count("orders", tenant) == 6
    assert timed.orders.place(lines=TEA, idempotency_key="new") == kept


# --------------------------------------------------------------------------------------------
# Keys inside units of work
# --------------------------------------------------------------------------------------------


def test_a_key_works_inside_a_transaction(kit: OrderKit, place: Place, tenant: str) -> None:
    with kit.transaction() as tx:
        order = tx.orders.place(lines=TEA, idempotency_key="k")
        assert tx.orders.place(lines=TEA, idempotency_key="k") == order
        confirmed = tx.orders.confirm(order.id, idempotency_key="k")
        tx.orders.complete(order.id)
        assert tx.orders.confirm(order.id, idempotency_key="k") == confirmed
        with pytest.raises(IdempotencyMismatch):
            tx.orders.place(lines=COFFEE, idempotency_key="k")
    assert kit.orders.place(lines=TEA, idempotency_key="k") == order
    with kit.transaction() as tx:
        assert tx.orders.place(lines=TEA, idempotency_key="k") == order
        assert tx.orders.confirm(order.id, idempotency_key="k") == confirmed
    assert assert_whole(place, tenant)["orders"] == 1


def test_a_key_is_free_again_when_its_transaction_is_rolled_back(kit: OrderKit, place: Place, tenant: str) -> None:
    with suppress(LookupError), kit.transaction() as tx:
        tx.orders.place(lines=TEA, idempotency_key="k")
        raise LookupError
    assert set(place.counts(tenant).values()) == {0}
    order = kit.orders.place(lines=COFFEE, idempotency_key="k")
    assert kit.orders.get(order.id) == order


def test_keys_work_inside_run(kit: OrderKit, place: Place, tenant: str) -> None:
    order = kit.run(lambda tx: tx.orders.place(lines=TEA, idempotency_key="k"))
    assert kit.run(lambda tx: tx.orders.place(lines=TEA, idempotency_key="k")) == order
    confirmed = kit.run(lambda tx: tx.orders.confirm(order.id, idempotency_key="k"))
    kit.orders.complete(order.id)
    assert kit.run(lambda tx: tx.orders.confirm(order.id, idempotency_key="k")) == confirmed
    with pytest.raises(IdempotencyMismatch):
        kit.run(lambda tx: tx.orders.place(lines=COFFEE, idempotency_key="k"))
    assert assert_whole(place, tenant)["orders"] == 1


def test_a_run_with_two_keys_claims_both(kit: OrderKit, place: Place, tenant: str) -> None:
    def both(tx: Transaction) -> tuple[Order, Order]:
        return tx.orders.place(lines=TEA, idempotency_key="one"), tx.orders.place(lines=COFFEE, idempotency_key="two")

    first = kit.run(both)
    assert kit.run(both) == first
    assert kit.orders.place(lines=TEA, idempotency_key="one") == first[0]
    assert kit.orders.place(lines=COFFEE, idempotency_key="two") == first[1]
    kept = assert_whole(place, tenant)
    assert (kept["orders"], kept["idempotency_keys"]) == (2, 2)


def test_a_run_whose_second_key_mismatches_writes_nothing(kit: OrderKit, place: Place, tenant: str) -> None:
    kit.orders.place(lines=TEA, idempotency_key="used")

    def both(tx: Transaction) -> None:
        tx.orders.place(lines=TEA, idempotency_key="new")
        tx.orders.place(lines=COFFEE, idempotency_key="used")

    with pytest.raises(IdempotencyMismatch):
        kit.run(both)
    assert place.count("orders", tenant) == 1
    assert place.count("idempotency_keys", tenant) == 1


# --------------------------------------------------------------------------------------------
# Any sequence of requests
# --------------------------------------------------------------------------------------------

requests = st.lists(
    st.tuples(st.sampled_from(["place", "draft", "hold", "confirm", "wait"]), st.sampled_from("ab"), st.integers(0, 1)),
    max_size=12,
)


@pytest.mark.parametrize("place", ["memory", "sqlite", "psycopg"], indirect=True)
def test_any_sequence_of_requests_behaves_as_if_each_had_been_made_once(place: Place) -> None:
    clock = ManualClock()
    owner = place.kit(clock=clock, settings=Settings(durable=False))

    @settings(max_examples=30 if place.shell == "memory" else 12, deadline=None)
    @given(requests)
    def check(sequence: list[tuple[str, str, int]]) -> None:
        kit = owner.for_tenant(new_tenant())
        subject = kit.orders.place(lines=TEA)
        remembered: dict[tuple[str, str], tuple[int, Order]] = {}
        for operation, key, payload in sequence:
            if operation == "wait":
                clock.advance(RETENTION)
                remembered.clear()
                continue
            result = attempt(kit, subject, operation, key, payload)
            before = remembered.get((operation, key))
            if before is None:
                if isinstance(result, Order):
                    remembered[operation, key] = (payload, result)
            elif before[0] == payload:
                assert result == before[1]
            else:
                assert result == "idempotency_mismatch"

    with owner:
        check()


def attempt(kit: OrderKit, subject: Order, operation: str, key: str, payload: int) -> Order | str:
    lines = (TEA, COFFEE)[payload]
    commands = {"hold": HoldOrder(name=f"hold-{payload}"), "confirm": ConfirmOrder()}
    try:
        if operation == "place":
            return kit.orders.place(lines=lines, idempotency_key=key)
        if operation == "draft":
            return kit.orders.draft(lines=lines, idempotency_key=key)
        target = subject.id if payload == 0 or operation == "hold" else "order_absent"
        return kit.orders.execute(target, commands[operation], idempotency_key=key)
    except OrderKitError as error:
        return error.code
