"""Everything orderkit reads or deletes by, and how many rows of tables and indexes each may read for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

import attrs

from orderkit import Money, OrderFilter, OrderStatus
from orderkit.idempotency.ports import KeepsOperations, OperationStorage
from orderkit.orders.cursors import Position
from orderkit.orders.ports import OrderStorage
from orderkit.orders.searching import Query, Sort
from orderkit.storage.sql.storage import SqlStorage
from orderkit.unit_of_work.changes import KeyReference, Value
from orderkit.worker import EXPIRY_BATCH, KEY_BATCH
from tests.integration.plans.shop import RARE, created_at, number_of, order_id

PAGE = 50
SORTS: tuple[Sort, ...] = (
    "created_at",
    "-created_at",
    "placed_at",
    "-placed_at",
    "updated_at",
    "-updated_at",
    "total",
    "-total",
    "number",
    "-number",
)
BY_CREATION: tuple[Sort, ...] = ("created_at", "-created_at")

ONE_PAGE = 3 * PAGE
"""A page and the order behind it, found in an index and fetched: twice as many rows, and some to find them."""

FEW = 8 * RARE
"""Each of a few orders is found in one table, and fetched from another."""


@attrs.frozen
class Asked:
    """One query.

    Attributes:
        name: What it is called in the table of figures.
        ask: Ask it of a storage, on behalf of a tenant.
        most: How many rows it may read.
        elsewhere: The same on databases where the plan does not depend on the values.
    """

    name: str
    ask: Callable[[OrderStorage, str], object]
    most: int
    elsewhere: int | None = None


def searches(orders: int) -> Iterator[Asked]:
    """Yield every search that has an index, or a few matches to be sorted, in a shop of so many orders."""
    middle = orders // 2
    yield from _pages("everything", OrderFilter(), SORTS, ONE_PAGE, orders)
    for status in (OrderStatus.COMPLETED, OrderStatus.OPEN, OrderStatus.PENDING):
        yield from _pages(f"status {status.value}", OrderFilter(status=(status,)), BY_CREATION, ONE_PAGE, orders)
    under_way = OrderFilter(status=(OrderStatus.OPEN, OrderStatus.PENDING))
    yield from _pages("several states", under_way, BY_CREATION, 3 * ONE_PAGE, orders)
    for customer in ("cust-big", "cust-17", "nobody"):
        yield from _pages(f"customer {customer}", OrderFilter(customer=customer), BY_CREATION, ONE_PAGE, orders)
    yield from _pages("held", OrderFilter(held=True), BY_CREATION, ONE_PAGE, orders)
    yield from _pages("substate", OrderFilter(substate="awaiting_print"), BY_CREATION, ONE_PAGE, orders)
    for name, few in _FEW.items():
        yield from _pages(name, few, SORTS, FEW, orders)
    yield from _pages("number", OrderFilter(number=number_of(middle)), SORTS, FEW, orders)
    ordinary = 4 * orders // 20_011 + FEW
    yield from _pages("ordinary customer", OrderFilter(customer="cust-17"), SORTS, max(ordinary, ONE_PAGE), orders)
    yield from _ranges(orders)
    yield from _busy_together(orders)


_FEW: Mapping[str, OrderFilter] = {
    "SKU of a few": OrderFilter(sku="RARE"),
    "SKU of none": OrderFilter(sku="NONE"),
    "tag of a few": OrderFilter(tags=("rare",)),
    "external reference": OrderFilter(external_references={"shop": "S-1"}),
    "number of none": OrderFilter(number="none"),
}


def _ranges(orders: int) -> Iterator[Asked]:
    """Yield searches by a range: sorted by what the range is of, they read a page; else all that is in the range."""
    start, end = created_at(orders // 2), created_at(orders // 2 + 200)
    for name in ("created", "placed", "updated"):
        wanted = OrderFilter.model_validate({f"{name}_from": start, f"{name}_until": end})
        same: tuple[Sort, ...] = tuple(sort for sort in SORTS if sort.strip("-") == f"{name}_at")
        yield from _pages(f"{name} in a range", wanted, same, ONE_PAGE, orders)
        yield from _pages(f"{name} in a range, sorted otherwise", wanted, ("total",), 4 * 200 + ONE_PAGE, orders)
    dear = OrderFilter(total_from=Money("900.00", "EUR"))
    yield from _pages("total in a range", dear, ("total", "-total"), 2 * ONE_PAGE, orders)


def _busy_together(orders: int) -> Iterator[Asked]:
    """Yield searches for what many orders have: the plan has to know that they are many."""
    everything = 3 * orders
    many = {"SKU of many": OrderFilter(sku="TEA-001"), "tag of many": OrderFilter(tags=("web",))}
    for name, wanted in many.items():
        for asked in _pages(name, wanted, ("-created_at",), 8 * ONE_PAGE, orders):
            yield attrs.evolve(asked, elsewhere=everything)
    recent = OrderFilter(status=(OrderStatus.OPEN,), placed_from=created_at(orders - orders // 50))
    yield from _pages("status with a companion", recent, ("-placed_at", "placed_at"), 4 * ONE_PAGE, orders)


def _pages(name: str, wanted: OrderFilter, sorts: tuple[Sort, ...], most: int, orders: int) -> Iterator[Asked]:
    """Yield the first page, one deep in the list, and the one before it."""
    for sort in sorts:
        query = Query(wanted, sort, PAGE)
        deep = _middle_of(query.column, orders)
        for place, position in {
            "first page": None,
            "deep": Position.at(deep, order_id(orders // 2), backwards=False),
            "backwards": Position.at(deep, order_id(orders // 2), backwards=True),
        }.items():
            yield Asked(f"{name}, by {sort}, {place}", _search(query, position), most)


def _search(query: Query, position: Position | None) -> Callable[[OrderStorage, str], object]:
    return lambda storage, tenant: storage.search(query.search(tenant, position, PAGE + 1))


def _middle_of(column: str, orders: int) -> Value:
    """Return a value from the middle of a column."""
    middles: dict[str, Value] = {"current_total": 900, "number": number_of(orders // 2)}
    return middles.get(column, created_at(orders // 2))


def lookups(orders: int) -> Iterator[Asked]:
    """Yield everything else that is read or removed."""
    recent = orders - 5
    one, now = order_id(recent), created_at(orders)

    def key(tenant: str, number: int = recent) -> KeyReference:
        return KeyReference(tenant, "place_order", f"key-{number}")

    def due(storage: OrderStorage, tenant: str) -> object:
        wanted = OrderFilter(
            status=(OrderStatus.PENDING,), expires_until=created_at(orders * 0.982) + timedelta(days=1)
        )
        return storage.search(Query(wanted, "created_at", EXPIRY_BATCH).search(tenant, None, EXPIRY_BATCH))

    some = [recent - step for step in range(20)]
    yield Asked("get", lambda storage, tenant: storage.read(tenant, one), 2)
    yield Asked("get under a key", lambda storage, tenant: storage.read(tenant, one, key=key(tenant)), 6)
    yield Asked("a key", lambda storage, tenant: storage.read_key(key(tenant)), 4)
    yield Asked(
        "many orders and keys",
        lambda storage, tenant: storage.read_many(
            tenant, [order_id(number) for number in some], [key(tenant, number) for number in some]
        ),
        5 * len(some),
    )
    yield Asked("history", lambda storage, tenant: storage.history(tenant, one), 6)
    yield Asked("history to a version", lambda storage, tenant: storage.history(tenant, one, version=1), 6)
    yield Asked("history to a time", lambda storage, tenant: storage.history(tenant, one, time=now), 6)
    yield Asked("personal data", lambda storage, tenant: storage.personal(tenant, one), 6)
    yield Asked("is this id taken", _taken("id", one), 3)
    yield Asked("is this number taken", _taken("number", one), 3)
    yield Asked("orders that are due", due, orders // 500 + 4 * EXPIRY_BATCH)
    yield from _operations(key(""), now, orders // 1000)
    yield Asked("forget a key", lambda storage, tenant: storage.forget_key(key(tenant), now), 4)
    yield Asked("forget expired keys", lambda storage, _: storage.forget_expired_keys(now, KEY_BATCH), 6 * KEY_BATCH)


def _operations(key: KeyReference, now: datetime, unfinished: int) -> Iterator[Asked]:
    """Yield what is read or removed of operations under a lease, by a given time and by the database's clock."""

    def asked(name: str, ask: Callable[[OperationStorage, KeyReference], object], most: int) -> Asked:
        def of(storage: OrderStorage, tenant: str) -> object:
            assert isinstance(storage, KeepsOperations)
            return ask(storage.operations, key._replace(tenant=tenant, scope="pay"))

        return Asked(name, of, most)

    grace, scopes = timedelta(minutes=5), ("pay", "refund")
    for time, by in ((now, "a given time"), (None, "the clock")):
        yield asked(f"an operation, by {by}", lambda kept, key, now=time: kept.read(key, now=now), 4)
        yield asked(f"forget an operation, by {by}", lambda kept, key, now=time: kept.forget(key, now=now), 6)
        yield asked(
            f"operations nobody is at work on, by {by}",
            lambda kept, _, now=time: kept.stuck(scopes, grace=grace, limit=PAGE, now=now),
            max(ONE_PAGE, 4 * unfinished),
        )
        yield asked(
            f"forget expired operations, by {by}",
            lambda kept, _, now=time: kept.forget_expired(KEY_BATCH, now=now),
            6 * KEY_BATCH,
        )


def _taken(column: str, order: str) -> Callable[[OrderStorage, str], object]:
    """Return what asks whether somebody else has an order's id or number, as a refused insert does."""
    from orderkit.testing.conformance.base import order_row

    def ask(storage: OrderStorage, tenant: str) -> object:
        assert isinstance(storage, SqlStorage)
        return storage._is_taken(order_row(tenant, order)._replace(number="N-1000000000"), column)

    return ask
