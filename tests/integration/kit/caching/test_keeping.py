"""What is kept of orders, for whom and for how long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import pytest

from orderkit import IdempotentOperation, Order, OrderCache, OrderKit
from orderkit.errors import ConfigurationError, InvalidKey, OrderNotFound
from orderkit.kit.assembly import KitOptions
from orderkit.orders import reading
from orderkit.orders.forwarding import ForwardingStorage
from orderkit.resilience.conditions import Conditions, replaced
from orderkit.storage.memory import MemoryBackend
from tests.integration.kit.caching.kits import Heard
from tests.integration.kit.places import TEA, OpenKit, new_tenant, outcome

embedded = pytest.mark.parametrize("place", ["memory", "sqlite-async"], indirect=True)


def test_kits_that_share_a_cache_learn_of_each_other(
    owner: OrderKit, kit: OrderKit, open_kit: OpenKit, cache: OrderCache, tenant: str, heard: Heard
) -> None:
    order = kit.orders.place(lines=TEA)
    kit.orders.get(order.id)
    others = (
        owner.for_tenant(tenant),
        kit.bound(actor="ada"),
        kit.for_tenant(new_tenant()).for_tenant(tenant).bound(correlation_id="c-1"),
        open_kit(cache=cache).for_tenant(tenant),
    )
    for number, other in enumerate(others):
        assert heard.during(partial(other.orders.get, order.id))[1] == ["hit"]
        changed = other.orders.hold(order.id, f"hold-{number}")
        assert kit.orders.get(order.id) == changed


def test_orders_of_two_tenants_with_one_id_are_two(owner: OrderKit) -> None:
    kits = [owner.for_tenant(name) for name in (new_tenant(), f"{new_tenant()}@x", new_tenant())]
    for number, kit in enumerate(kits[:2]):
        kit.orders.place(lines=TEA, id="order-1", metadata={"of": number})
    for _ in range(2):
        assert [kit.orders.get("order-1").metadata for kit in kits[:2]] == [{"of": 0}, {"of": 1}]
        with pytest.raises(OrderNotFound):
            kits[2].orders.get("order-1")
    kits[0].orders.confirm("order-1")
    assert [kit.orders.get("order-1").version for kit in kits[:2]] == [2, 1]


@pytest.mark.parametrize("wrong", ["", "a b", "order-1@tenant", "é", "x" * 65, "a\nb", "\udcff", None, 7, b"order"])
def test_what_is_no_id_is_refused_as_without_a_cache(kit: OrderKit, plain: OrderKit, wrong: Any) -> None:
    for look in (kit.orders.get, plain.orders.get):
        with pytest.raises(InvalidKey):
            look(wrong)


def test_that_there_is_no_order_is_not_kept(kit: OrderKit, plain: OrderKit) -> None:
    with pytest.raises(OrderNotFound):
        kit.orders.get("order-1")
    plain.orders.place(lines=TEA, id="order-1")
    assert kit.orders.get("order-1").version == 1


def test_inside_a_transaction_the_database_is_asked(
    kit: OrderKit, plain: OrderKit, warm: Callable[[str], Order]
) -> None:
    order = kit.orders.place(lines=TEA)
    warm(order.id)
    plain.orders.confirm(order.id)
    assert kit.orders.get(order.id).version == 1
    assert kit.run(lambda tx: tx.orders.get(order.id).version) == 2
    with kit.transaction() as tx:
        assert tx.orders.get(order.id).version == 2
    assert kit.orders.search().items[0].version == 2
    assert kit.orders.hold(order.id, "fraud").version == 3


def test_what_others_write_is_seen_when_its_time_is_over(open_kit: OpenKit, plain: OrderKit, tenant: str) -> None:
    seconds = [1000.0]
    kit = open_kit(cache=OrderCache(ttl=30.0)).for_tenant(tenant)
    with replaced(Conditions(monotonic=lambda: seconds[0])):
        order = plain.orders.place(lines=TEA)
        assert kit.orders.get(order.id).version == 1
        plain.orders.confirm(order.id)
        seconds[0] += 29.9
        assert kit.orders.get(order.id).version == 1
        seconds[0] += 0.1
        assert kit.orders.get(order.id).version == 2


@embedded
def test_forgetting_an_order_is_harmless(kit: OrderKit, plain: OrderKit, warm: Callable[[str], Order]) -> None:
    order = kit.orders.place(lines=TEA)
    warm(order.id)
    plain.orders.confirm(order.id)
    for order_id in (order.id, "nobody's", "a@b"):
        kit.orders.forget(order_id)
        plain.orders.forget(order_id)
    assert kit.orders.get(order.id).version == 2


@embedded
def test_no_more_orders_are_kept_than_was_said(open_kit: OpenKit, tenant: str, heard: Heard) -> None:
    kit = open_kit(cache=OrderCache(max_entries=2, listeners=(heard,))).for_tenant(tenant)
    ids = [kit.orders.place(lines=TEA).id for _ in range(3)]
    for order_id in ids:
        kit.orders.get(order_id)
    hits = [heard.during(partial(kit.orders.get, order_id))[1] for order_id in reversed(ids)]
    assert hits == [["hit"], ["hit"], ["miss"]]


def test_what_a_caller_does_to_an_order_is_nobody_elses_affair(kit: OrderKit, plain: OrderKit) -> None:
    order = kit.orders.place(lines=TEA, metadata={"a": {"b": [1]}})
    mine: Any = [kit.orders.get(order.id) for _ in range(2)]
    for found in mine:
        with suppress(TypeError):  # or it cannot be changed at all
            found.metadata["a"]["b"].append(2)
            found.metadata["c"] = "d"
    assert kit.orders.get(order.id) == plain.orders.get(order.id) == order
    assert kit.orders.get(order.id).metadata == {"a": {"b": [1]}}


class Bare(ForwardingStorage):
    """A storage of an application's own, that keeps no leased operations."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage

    @property
    def storage(self) -> Any:
        return self._storage


class BareBackend:
    def __init__(self) -> None:
        self._memory = MemoryBackend()

    @contextmanager
    def connect(self, *, transaction: bool = False) -> Iterator[Bare]:
        with self._memory.connect(transaction=transaction) as storage:
            yield Bare(storage)

    def create_schema(self) -> None:
        self._memory.create_schema()

    def close(self) -> None:
        self._memory.close()


@pytest.mark.parametrize("options", [{}, {"cache": OrderCache()}], ids=["without", "with"])
def test_a_storage_without_operations_is_one_behind_a_cache_too(options: KitOptions) -> None:
    kit = OrderKit.from_backend(BareBackend(), **options)
    order = kit.orders.place(lines=TEA)
    assert kit.orders.get(order.id) == order
    assert kit.sweep()["collect_operations"].done == 0
    assert kit.pool() is None
    with pytest.raises(ConfigurationError, match="no leased operations"):
        kit.operations.run(IdempotentOperation("work", lambda _run: None), key="k")


def test_the_figures_of_the_pool_are_told(kit: OrderKit, plain: OrderKit) -> None:
    kit.orders.place(lines=TEA)
    plain.orders.search()
    figures, usual = kit.pool(), plain.pool()
    assert (figures is None) is (usual is None)
    assert figures is None or (figures.in_use, figures.size) == (0, usual and usual.size)


def test_failures_reach_everybody_who_waits_and_are_not_kept(
    kit: OrderKit, plain: OrderKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = plain.orders.place(lines=TEA)
    with monkeypatch.context() as patch:

        def failing(_order_id: str) -> Callable[[Any], Any]:
            def script(_unit: Any) -> Any:
                raise LookupError("of the storage")

            return script

        patch.setattr(reading, "record", failing)
        for _ in range(2):
            assert isinstance(outcome(lambda: kit.orders.get(order.id)), LookupError)
    assert kit.orders.get(order.id) == order
