"""Bulk work: every item has the result it would have had alone, and a run that was broken off is run again."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orderkit import (
    AsyncOrderKit,
    BulkItem,
    BulkResult,
    CancelOrder,
    CompleteOrder,
    ConfirmOrder,
    GaplessNumbers,
    ImportOrder,
    Line,
    Money,
    OrderFilter,
    OrderKit,
    OrderStatus,
    PlaceOrder,
    Settings,
    Transaction,
)
from orderkit.errors import (
    AlreadyExists,
    IdempotencyMismatch,
    InvalidCommand,
    InvalidInput,
    InvalidKey,
    InvalidQuery,
    OrderKitError,
    OrderNotFound,
    Refused,
    StorageUnavailable,
    VersionConflict,
)
from orderkit.storage.memory import MemoryBackend
from orderkit.testing.clock import ManualClock, SequentialIds
from tests.integration.kit.places import TEA, OpenKit, Place, assert_whole, new_tenant, race
from tests.integration.kit.proxy import Proxy

PLACED_AT = datetime(2024, 5, 1, 9, 30, tzinfo=UTC)


def wish(number: int, **fields: object) -> dict[str, object]:
    """Return what is ordered, and under which key."""
    return {"lines": TEA, "customer": f"customer-{number % 3}", "idempotency_key": f"key-{number}", **fields}


def historical(number: int, **fields: object) -> dict[str, object]:
    return {"lines": TEA, "number": f"H-{number}", "placed_at": PLACED_AT + timedelta(hours=number), **fields}


def codes(results: Iterable[BulkResult]) -> list[str]:
    return ["replayed" if result.replayed else result.error.code if result.error else "done" for result in results]


def collect(results: Iterable[BulkResult], into: list[BulkResult]) -> None:
    """Keep results as they come, so that those before an error are there."""
    for result in results:
        into.append(result)  # noqa: PERF402 - `extend` keeps none of them where the last one fails


def test_every_item_has_its_result(place: Place, kit: OrderKit, tenant: str) -> None:
    results = list(kit.orders.place_many((wish(number) for number in range(25)), batch_size=10))
    assert [result.position for result in results] == list(range(25))
    assert codes(results) == ["done"] * 25
    orders = [result.unwrap() for result in results]
    assert [kit.orders.get(order.id) for order in orders] == orders
    assert assert_whole(place, tenant)["orders"] == 25


def test_a_run_is_repeated_without_making_anything_twice(place: Place, kit: OrderKit, tenant: str) -> None:
    first = [result.unwrap() for result in kit.orders.place_many(map(wish, range(8)), batch_size=3)]
    kit.orders.confirm(first[2].id)
    again = list(kit.orders.place_many(map(wish, range(12)), batch_size=5))
    assert codes(again) == ["replayed"] * 8 + ["done"] * 4
    assert [result.unwrap() for result in again[:8]] == first
    assert assert_whole(place, tenant)["orders"] == 12


def test_bad_items_are_reported_and_the_rest_is_kept(place: Place, kit: OrderKit, tenant: str) -> None:
    taken = kit.orders.place(lines=TEA, id="order_taken", number="N-1", idempotency_key="taken")
    bad: list[tuple[object, type[OrderKitError]]] = [
        (None, InvalidCommand),
        (42, InvalidCommand),
        ("a text", InvalidCommand),
        ({}, InvalidCommand),
        ({"lines": []}, InvalidCommand),
        ({"lines": TEA, "no_such_field": 1}, InvalidCommand),
        ({"lines": TEA, "customer": "NUL \0"}, InvalidCommand),
        ({"lines": TEA, "customer": "\ud800"}, InvalidCommand),
        ({1: 2}, InvalidCommand),
        (ConfirmOrder(), InvalidCommand),
        (BulkItem(ConfirmOrder()), InvalidCommand),
        (wish(1, idempotency_key="ü"), InvalidKey),
        (wish(1, idempotency_key=7), InvalidKey),
        (wish(1, idempotency_key=""), InvalidKey),
        (wish(2, idempotency_key="taken"), IdempotencyMismatch),
        (wish(3, id=taken.id), AlreadyExists),
        (wish(4) | {"number": "N-1"}, AlreadyExists),
        (wish(5, expires_at=datetime(2020, 1, 1, tzinfo=UTC)), InvalidCommand),
        (wish(6, lines=[*TEA, Line(sku="YEN", quantity=1, unit_price=Money("5", "JPY"))]), InvalidInput),
        (wish(7, lines=TEA * 2000), InvalidCommand),
    ]
    good = list(map(wish, range(100, 100 + len(bad))))
    mixed = [item for pair in zip((item for item, _ in bad), good, strict=True) for item in pair]
    results = list(kit.orders.place_many(mixed, batch_size=16))
    assert codes(results[1::2]) == ["done"] * len(good)
    for result, (item, error) in zip(results[::2], bad, strict=True):
        assert isinstance(result.error, error), item
        with pytest.raises(error):
            result.unwrap()
    assert assert_whole(place, tenant)["orders"] == len(good) + 1


def test_a_key_that_comes_twice_is_one_order(kit: OrderKit) -> None:
    results = list(kit.orders.place_many([wish(1), wish(2), wish(1), wish(2, customer="another"), wish(1)]))
    assert codes(results) == ["done", "done", "replayed", "idempotency_mismatch", "replayed"]
    assert len({result.unwrap().id for result in results if result.order}) == 2


def test_commands_are_applied_to_their_orders(place: Place, kit: OrderKit, tenant: str) -> None:
    one, two, three = (kit.orders.place(lines=TEA) for _ in range(3))
    results = list(
        kit.orders.execute_many(
            [
                (one.id, ConfirmOrder()),
                (one.id, CompleteOrder()),
                (two.id, CompleteOrder()),
                ("order_absent", ConfirmOrder()),
                ("no order's id", ConfirmOrder()),
                BulkItem(ConfirmOrder(), three.id, expected_version=9),
                BulkItem(CancelOrder(), three.id, expected_version=1, idempotency_key="cancel"),
                BulkItem(CancelOrder(), three.id, expected_version=1, idempotency_key="cancel"),
                (one.id, CompleteOrder()),
                (two.id,),
                BulkItem(PlaceOrder(lines=TEA)),
            ]  # type: ignore[list-item]  # one is none, on purpose
        )
    )
    assert [type(result.error) for result in results[:1]] == [type(None)]
    assert results[1].unwrap().status is OrderStatus.COMPLETED
    wrong = {2: Refused, 3: OrderNotFound, 4: InvalidKey, 5: VersionConflict, 8: Refused, 9: InvalidCommand}
    assert {at: type(result.error) for at, result in enumerate(results) if result.error} == {
        at: type(results[at].error) for at in wrong
    }
    assert all(isinstance(results[at].error, error) for at, error in wrong.items())
    assert results[6].unwrap().status is OrderStatus.CANCELLED
    assert results[7].replayed
    assert results[7].unwrap() == results[6].unwrap()
    assert results[10].unwrap().version == 1
    assert assert_whole(place, tenant)["orders"] == 4


@pytest.mark.parametrize("place", ["memory", "sqlite"], indirect=True)
def test_a_batch_gives_what_its_items_give_alone(open_kit: OpenKit) -> None:
    numbers = st.integers(0, 5)
    wishes = st.builds(
        lambda number, customer, own: wish(number, customer=customer) | ({"number": own} if own else {}),
        numbers,
        st.sampled_from(["Ada", "Grace"]),
        st.sampled_from([None, None, "N-1", "N-2"]),
    )

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(wishes, max_size=12), st.integers(1, 12))
    def check(items: list[dict[str, object]], size: int) -> None:
        together, alone = (open_kit(clock=ManualClock()).for_tenant(new_tenant()) for _ in range(2))
        results = list(together.orders.place_many(items, batch_size=size))
        expected = [result for item in items for result in alone.orders.place_many([item], batch_size=1)]
        assert codes(results) == codes(expected)
        assert [result.order and result.order.lines[0].total for result in results] == [
            result.order and result.order.lines[0].total for result in expected
        ]
        assert len(list(together.orders.stream())) == len(list(alone.orders.stream()))

    check()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["memory", "sqlite"], indirect=True)
@pytest.mark.parametrize("gapless", [False, True])
def test_a_batch_of_commands_gives_what_they_give_alone(open_kit: OpenKit, gapless: bool) -> None:
    """Commands that build on each other, under keys that are shared, and that may have expired."""
    ids = st.sampled_from(["order_1", "order_2"])
    keys = st.sampled_from([None, None, "key-1", "key-2", "old"])
    placing = st.builds(lambda order_id, key: BulkItem(PlaceOrder(id=order_id, lines=TEA), None, None, key), ids, keys)
    verbs = st.sampled_from([ConfirmOrder(), CompleteOrder(), CancelOrder()])
    changing = st.builds(lambda order_id, command, key: BulkItem(command, order_id, None, key), ids, verbs, keys)
    begun = datetime(2026, 1, 1, tzinfo=UTC)

    def outcomes(items: list[BulkItem], size: int) -> list[tuple[str, object]]:
        clock = ManualClock(begun)
        kit = open_kit(clock=clock, **({"numbers": GaplessNumbers()} if gapless else {})).for_tenant(new_tenant())
        for command in (PlaceOrder(id="order_old", lines=TEA), ConfirmOrder(), CompleteOrder(), CancelOrder()):
            made = isinstance(command, PlaceOrder)
            list(kit.orders.execute_many([BulkItem(command, None if made else "order_old", None, "old")]))
        clock.advance(timedelta(days=30))
        results = list(kit.orders.execute_many(items, batch_size=size))
        shown = [result.order and (result.order.id, result.order.status, result.order.version) for result in results]
        return list(zip(codes(results), shown, strict=True))

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(placing | changing, max_size=8), st.integers(2, 8))
    def check(items: list[BulkItem], size: int) -> None:
        assert outcomes(items, size) == outcomes(items, 1)

    check()


def test_orders_that_cannot_be_read_stop_no_other(place: Place, kit: OrderKit, tenant: str) -> None:
    if place.shell.startswith("memory"):
        pytest.skip("nobody can write past orderkit there")
    orders = [result.unwrap() for result in kit.orders.place_many(map(wish, range(4)))]
    for order, damage in ((orders[1], "schema_version = 99"), (orders[2], "document = '{'")):
        place.query(f"UPDATE orderkit_orders SET {damage} WHERE id = '{order.id}'")
    results = list(kit.orders.execute_many((order.id, ConfirmOrder()) for order in orders))
    assert codes(results) == ["done", "newer_schema", "storage_failed", "done"]


@pytest.mark.slow
@pytest.mark.parametrize("place", ["psycopg", "asyncpg", "pymysql"], indirect=True)
def test_an_order_that_is_locked_keeps_no_other_waiting(place: Place, open_kit: OpenKit, tenant: str) -> None:
    kit = open_kit(settings=Settings(lock_timeout=0.2)).for_tenant(tenant)
    orders = [result.unwrap() for result in kit.orders.place_many(map(wish, range(60)))]
    began = time.monotonic()
    with place.kit() as other, other.for_tenant(tenant).transaction() as tx:
        tx.orders.hold(orders[7].id, "elsewhere")
        results = list(kit.orders.execute_many((order.id, ConfirmOrder()) for order in orders))
    assert {at: result.error.code for at, result in enumerate(results) if result.error} == {7: "storage_busy"}
    assert time.monotonic() - began < 30


def test_an_error_that_is_kept_keeps_nothing_else(kit: OrderKit) -> None:
    results = list(kit.orders.place_many([wish(1), {}, wish(2, lines=TEA * 2000), 42, *map(wish, range(3, 50))]))
    results += kit.orders.execute_many([("order_absent", ConfirmOrder())])
    errors = [result.error for result in results if result.error]
    assert len(errors) == 4
    for error in errors:
        chained: BaseException | None = error
        while chained is not None:
            assert chained.__traceback__ is None
            chained = chained.__cause__ or chained.__context__


@pytest.mark.parametrize("place", ["memory", "sqlite"], indirect=True)
def test_an_item_says_nothing_that_would_not_be_heard(kit: OrderKit) -> None:
    order = PlaceOrder(lines=TEA)
    for item in (BulkItem(order, "order_1"), BulkItem(order, expected_version=1)):
        (result,) = kit.orders.place_many([item])
        assert isinstance(result.error, InvalidCommand)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_batch_with_nothing_to_write_waits_for_nobody(place: Place, open_kit: OpenKit, tenant: str) -> None:
    kit = open_kit(settings=Settings(lock_timeout=0.05)).for_tenant(tenant)
    list(kit.orders.place_many(map(wish, range(3))))
    with place.kit() as other, other.for_tenant(tenant).transaction() as tx:
        tx.orders.place(lines=TEA)
        assert codes(kit.orders.place_many([*map(wish, range(3)), {}])) == ["replayed"] * 3 + ["field_missing"]


@pytest.mark.parametrize("place", ["memory", "sqlite"], indirect=True)
def test_what_was_replayed_before_is_not_said_of_what_is_new(open_kit: OpenKit, tenant: str) -> None:
    kit = open_kit(numbers=GaplessNumbers()).for_tenant(tenant)
    kit.orders.place(lines=TEA, idempotency_key="before")

    def work(tx: Transaction) -> list[str]:
        tx.orders.place(lines=TEA, idempotency_key="before")
        return codes(tx.orders.place_many(map(wish, range(2))))

    assert kit.run(work) == ["done", "done"]


def test_results_before_an_error_are_given(monkeypatch: pytest.MonkeyPatch, kit: OrderKit) -> None:
    def lost(_task: object) -> Callable[[object], object]:
        def script(_unit: object) -> object:
            raise StorageUnavailable("gone")

        return script

    monkeypatch.setattr("orderkit.orders.bulk.alone", lost)
    got: list[BulkResult] = []
    with pytest.raises(StorageUnavailable):
        collect(kit.orders.place_many([wish(0), wish(0), *map(wish, range(1, 8))]), got)
    assert [result.position for result in got] == [0, *range(2, 9)]


def test_no_more_than_a_batch_is_read_ahead(kit: OrderKit) -> None:
    asked = itertools.count()

    def endless() -> Iterator[dict[str, object]]:
        while True:
            yield wish(next(asked))

    results = kit.orders.place_many(endless(), batch_size=7)
    assert next(asked) == 0
    assert next(results).error is None
    assert next(asked) == 8


@pytest.mark.parametrize("size", [0, -1, 10_001, 1.5, True, None])
def test_a_batch_has_a_sensible_size(kit: OrderKit, size: object) -> None:
    for many in (kit.orders.place_many, kit.orders.execute_many, kit.orders.import_orders):
        with pytest.raises(InvalidQuery):
            many([], batch_size=size)  # type: ignore[arg-type]  # that is the point


def test_what_was_broken_off_is_run_again(place: Place, kit: OrderKit, tenant: str) -> None:
    def interrupted() -> Iterator[dict[str, object]]:
        yield from map(wish, range(13))
        raise KeyboardInterrupt

    if place.asynchronous:
        pytest.skip("an event loop ends with the interrupt")
    got: list[BulkResult] = []
    with pytest.raises(KeyboardInterrupt):
        collect(kit.orders.place_many(interrupted(), batch_size=5), got)
    assert codes(got) == ["done"] * 10
    assert codes(kit.orders.place_many(map(wish, range(13)), batch_size=5)) == ["replayed"] * 10 + ["done"] * 3
    assert assert_whole(place, tenant)["orders"] == 13


@pytest.mark.parametrize("place", ["psycopg", "psycopg-async", "asyncpg"], indirect=True)
def test_a_database_that_goes_away_ends_the_run(
    proxied: Place, proxy: Proxy, open_at: Callable[..., OrderKit], tenant: str
) -> None:
    kit = open_at(proxied).for_tenant(tenant)
    results = kit.orders.place_many(map(wish, range(20)), batch_size=5)
    got = [next(results)]
    proxy.stop()
    with pytest.raises(StorageUnavailable):
        collect(results, got)
    assert codes(got) == ["done"] * 5


def test_four_runs_at_once_make_everything_once(place: Place, kit: OrderKit, tenant: str) -> None:
    def run(contender: int) -> list[BulkResult]:
        mine = [wish(number) for number in range(24)]
        return list(kit.orders.place_many(mine[contender * 6 :] + mine[: contender * 6], batch_size=6))

    results = [result for some in race(4, run) for result in some]
    assert set(codes(results)) <= {"done", "replayed"}
    assert codes(results).count("done") == 24
    assert assert_whole(place, tenant)["orders"] == 24


def test_a_transaction_keeps_all_or_nothing(place: Place, kit: OrderKit, tenant: str) -> None:
    def abandon() -> None:
        with kit.transaction() as tx:
            results = tx.orders.place_many([*map(wish, range(6)), {}], batch_size=4)
            assert codes(results) == ["done"] * 6 + ["field_missing"]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        abandon()
    assert place.count("orders", tenant) == 0
    with kit.transaction() as tx:
        assert codes(tx.orders.place_many(map(wish, range(6)), batch_size=4)) == ["done"] * 6
    assert assert_whole(place, tenant)["orders"] == 6


@pytest.mark.parametrize("place", ["memory", "sqlite", "psycopg"], indirect=True)
def test_work_that_is_run_as_one_takes_batches_along(place: Place, kit: OrderKit, tenant: str) -> None:
    def work(tx: Transaction) -> list[str]:
        single = tx.orders.place(lines=TEA)
        many = list(tx.orders.place_many(map(wish, range(6)), batch_size=4))
        return [single.id, *(result.unwrap().id for result in many)]

    assert len(set(kit.run(work))) == 7
    assert assert_whole(place, tenant)["orders"] == 7


def test_numbers_without_gaps_have_none(open_kit: OpenKit, tenant: str) -> None:
    kit = open_kit(numbers=GaplessNumbers()).for_tenant(tenant)
    results = list(kit.orders.place_many([wish(1), {"lines": []}, wish(2), wish(1), wish(3)]))
    assert codes(results) == ["done", "order_empty", "done", "replayed", "done"]
    assert sorted(str(order.number) for order in kit.orders.stream()) == ["1", "2", "3"]


def test_tenants_do_not_meet(kit: OrderKit) -> None:
    other = kit.for_tenant(new_tenant())
    mine = [result.unwrap() for result in kit.orders.place_many(map(wish, range(3)))]
    theirs = list(other.orders.place_many(map(wish, range(3))))
    assert codes(theirs) == ["done"] * 3
    assert codes(other.orders.execute_many((order.id, ConfirmOrder()) for order in mine)) == ["order_not_found"] * 3


# --------------------------------------------------------------------------------------------
# Orders from elsewhere
# --------------------------------------------------------------------------------------------


def test_orders_are_taken_over_with_number_times_and_state(place: Place, kit: OrderKit, tenant: str) -> None:
    closed_at = PLACED_AT + timedelta(days=3)
    rows = [
        historical(1),
        historical(2, status="pending"),
        historical(3, status="completed", closed_at=closed_at),
        historical(4, status="cancelled", closed_at=closed_at, reason="out-of-stock"),
        historical(5, status="expired", expires_at=closed_at),
    ]
    orders = [result.unwrap() for result in kit.orders.import_orders(rows)]
    assert [order.status.value for order in orders] == ["open", "pending", "completed", "cancelled", "expired"]
    assert [order.number for order in orders] == [f"H-{number}" for number in range(1, 6)]
    assert [order.placed_at for order in orders] == [PLACED_AT + timedelta(hours=number) for number in range(1, 6)]
    assert all(order.created_at == order.placed_at for order in orders)
    assert [order.updated_at for order in orders[2:]] == [closed_at] * 3
    assert [kit.orders.get(order.id) for order in orders] == orders
    assert [kit.orders.as_of(order.id, version=order.version) for order in orders] == orders
    assert place.counts(tenant)["outbox"] == 0
    assert place.count("events", tenant) == 8
    found = kit.orders.search(OrderFilter(status=(OrderStatus.COMPLETED,)), sort="-placed_at")
    assert [order.id for order in found.items] == [orders[2].id]


def test_an_import_is_repeated_by_its_numbers(place: Place, kit: OrderKit, tenant: str) -> None:
    rows = [historical(number) for number in range(5)]
    first = [result.unwrap() for result in kit.orders.import_orders(rows, batch_size=2)]
    again = list(kit.orders.import_orders([*rows, historical(9) | {"number": None, "id": "order_9"}]))
    assert codes(again) == ["replayed"] * 5 + ["done"]
    assert [result.unwrap() for result in again[:5]] == first
    changed = list(kit.orders.import_orders([historical(0, customer="somebody else")]))
    assert codes(changed) == ["idempotency_mismatch"]
    assert place.count("orders", tenant) == 6


def test_an_import_is_announced_where_that_is_wanted(place: Place, kit: OrderKit, tenant: str) -> None:
    assert codes(kit.orders.import_orders([historical(1, announce=True)])) == ["done"]
    assert assert_whole(place, tenant)["outbox"] == 1


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"placed_at": datetime(2999, 1, 1, tzinfo=UTC)}, "placed_in_the_future"),
        ({"placed_at": datetime(2024, 1, 1)}, "date_without_zone"),  # noqa: DTZ001 - that is the point
        ({"closed_at": PLACED_AT + timedelta(days=1)}, "not_closed"),
        ({"status": "completed", "closed_at": PLACED_AT - timedelta(days=1)}, "closed_at_no_time"),
        ({"status": "completed", "closed_at": datetime(2999, 1, 1, tzinfo=UTC)}, "closed_at_no_time"),
        ({"status": "expired"}, "field_missing"),
        ({"status": "expired", "expires_at": datetime(2999, 1, 1, tzinfo=UTC)}, "not_expired_yet"),
        (
            {
                "status": "expired",
                "expires_at": PLACED_AT + timedelta(days=9),
                "closed_at": PLACED_AT + timedelta(days=8),
            },
            "not_expired_yet",
        ),
        ({"reason": "a whim"}, "not_cancelled"),
        ({"status": "shipped"}, "not_a_choice"),
        ({"lines": []}, "too_few_items"),
    ],
)
@pytest.mark.parametrize("place", ["memory", "sqlite"], indirect=True)
def test_times_that_cannot_be_are_refused(kit: OrderKit, fields: Mapping[str, object], code: str) -> None:
    results = list(kit.orders.import_orders([historical(0), historical(1, **fields), historical(2)]))
    assert codes(results) == ["done", code, "done"]


def test_one_order_is_taken_over_by_itself(kit: OrderKit) -> None:
    command = ImportOrder(lines=TEA, placed_at=PLACED_AT, number="H-1", status="completed")
    order = kit.orders.create(command, idempotency_key="import-1")
    assert (order.status, order.version) == (OrderStatus.COMPLETED, 2)
    assert kit.orders.create(command, idempotency_key="import-1") == order


@pytest.mark.parametrize("place", ["memory", "sqlite", "psycopg"], indirect=True)
def test_together_or_one_by_one_the_documents_are_the_same(place: Place, open_kit: OpenKit) -> None:
    rows = [historical(number, id=f"order_{number}", status="completed") for number in range(30)]
    documents = []
    for size in (1, 30):
        tenant = new_tenant()
        kit = open_kit(clock=ManualClock(), ids=SequentialIds()).for_tenant(tenant)
        assert codes(kit.orders.import_orders(rows, batch_size=size)) == ["done"] * 30
        documents.append([(row["id"], row["document"]) for row in place.rows("orders", tenant)])
    assert documents[0] == documents[1]


# --------------------------------------------------------------------------------------------
# From an event loop
# --------------------------------------------------------------------------------------------


def test_items_may_come_one_by_one_from_elsewhere() -> None:
    async def arriving() -> AsyncIterator[dict[str, object]]:
        for number in range(7):
            await asyncio.sleep(0)
            yield wish(number)

    async def run() -> list[str]:
        async with AsyncOrderKit.from_url("memory://") as kit:
            return codes([result async for result in kit.orders.place_many(arriving(), batch_size=3)])

    assert asyncio.run(run()) == ["done"] * 7


def test_others_have_their_turn_between_batches() -> None:
    async def run() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with AsyncOrderKit.from_url("memory://") as kit:
            task = asyncio.create_task(other())
            _ = [result async for result in kit.orders.place_many(map(wish, range(20)), batch_size=2)]
            task.cancel()
        return turns

    assert asyncio.run(run()) >= 10


def test_memory_is_a_storage_like_the_others() -> None:
    backend = MemoryBackend()
    with OrderKit.from_backend(backend) as kit:
        assert codes(kit.orders.place_many(map(wish, range(3)))) == ["done"] * 3
