"""Bad input gets a clear error of its own, and nothing is lost: afterwards everything is exactly as before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, cast

import pytest

from orderkit import GaplessNumbers, Line, Money, Order, OrderFilter, OrderKit, Profile, Settings, Transaction
from orderkit.domain.commands import (
    AddLine,
    CancelLines,
    CancelOrder,
    ChangeMetadata,
    ChangeTags,
    CompleteOrder,
    ConfirmOrder,
    CreateDraft,
    OrderCommand,
    PlaceDraft,
    PlaceOrder,
    RemoveLine,
    SetCustomer,
)
from orderkit.domain.lifecycle import CancellationRefused, HoldRefused, NotExpiredYet
from orderkit.domain.money import CurrencyMismatch, MoneyOutOfRange
from orderkit.domain.rules import IllegalTransition
from orderkit.errors import (
    AlreadyExists,
    IdempotencyMismatch,
    InvalidCommand,
    InvalidCursor,
    InvalidKey,
    InvalidQuery,
    OrderKitError,
    OrderNotFound,
    VersionConflict,
)
from orderkit.kit.orders import Orders
from orderkit.orders.reading import VersionNotFound
from orderkit.testing.clock import ManualClock
from tests.inputs import INPUTS, complete, spoiled, texts, told
from tests.integration.kit.places import TABLES, OpenKit, Place

EVERYWHERE = pytest.mark.parametrize("place", ["memory", "sqlite", "psycopg", "asyncpg"], indirect=True)

NUL, SURROGATE, MEGABYTE = "a\x00b", "a\ud800b", "x" * 1_000_000
NOW = ManualClock().now()
MAX_LINES = 20


def line(**fields: Any) -> dict[str, Any]:
    return {"sku": "tea", "quantity": 1, "unit_price": {"amount": "4.50", "currency": "EUR"}, **fields}


def price(amount: object, currency: str = "EUR", **fields: Any) -> dict[str, Any]:
    return line(unit_price={"amount": amount, "currency": currency}, **fields)


class Shop(NamedTuple):
    """A tenant with an order and a draft, and everything that is kept of it."""

    kit: OrderKit
    place: Place
    tenant: str
    order: Order
    draft: Order

    def kept(self) -> dict[str, list[str]]:
        """Return every row of the tenant, and every order as the kit gives it."""
        rows = {table: sorted(map(repr, self.place.rows(table, self.tenant))) for table in TABLES}
        known = {order.id: repr(order) for order in self.kit.orders.stream()}
        histories = [repr(self.kit.orders.history(order_id)) for order_id in known]
        return {**rows, "known": sorted(known.values()), "histories": sorted(histories)}


@pytest.fixture
def shop(open_kit: OpenKit, place: Place, tenant: str) -> Shop:
    everybody = open_kit(clock=ManualClock(), settings=Settings(profile=Profile.TEST, max_lines=MAX_LINES))
    kit = everybody.for_tenant(tenant)
    order = kit.orders.place(
        lines=[Line.parse(line(id="a", quantity=3)), Line.parse(line(sku="rice", id="b"))],
        id="order-1",
        number="2026-1",
        idempotency_key="used",
        expires_at=NOW + timedelta(days=1),
    )
    draft = kit.orders.draft(currency="EUR", lines=[Line.parse(line(id=str(number))) for number in range(MAX_LINES)])
    return Shop(kit, place, tenant, order, draft)


Act = Callable[[Shop], object]


class Case(NamedTuple):
    """Something that cannot be, what it is answered with, and how it is brought about."""

    kind: str
    error: type[OrderKitError]
    code: str
    act: Act


def placing(kind: str, code: str, error: type[OrderKitError] = InvalidCommand, **fields: Any) -> Case:
    """Return the case of an order that cannot be placed."""
    return Case(kind, error, code, lambda shop: shop.kit.orders.place(**{"lines": [line()], **fields}))


def executing(
    kind: str, code: str, error: type[OrderKitError], make: Callable[[], OrderCommand], **options: Any
) -> Case:
    """Return the case of a command that cannot be executed on the order."""
    return Case(kind, error, code, lambda shop: shop.kit.orders.execute(shop.order.id, make(), **options))


def cancelling(line_id: str, quantity: object) -> CancelLines:
    return CancelLines.parse({"lines": [{"line_id": line_id, "quantity": quantity}]})


def altered(cursor: str) -> str:
    return ("B" if cursor[0] == "A" else "A") + cursor[1:]


def cursor_of(shop: Shop, wanted: OrderFilter | None = None) -> str:
    """Return the cursor of a second page."""
    cursor = shop.kit.orders.search(wanted, limit=1).next
    assert cursor is not None
    return cursor


def nested(depth: int) -> object:
    return {"a": nested(depth - 1)} if depth else 1


def search(shop: Shop, cursor: str | None, sort: str = "-created_at") -> object:
    return shop.kit.orders.search(cursor=cursor, sort=cast("Any", sort))


def as_of(shop: Shop, **moment: Any) -> object:
    return shop.kit.orders.as_of(shop.order.id, **moment)


CASES = [
    placing("unknown currency", "unknown_currency", lines=[price("1", "ZZZ")]),
    placing("unknown currency", "unknown_currency", currency="euro"),
    placing("float money", "float_money", lines=[price(4.5)]),
    placing("wrong exponent", "wrong_exponent", charges=[{"amount": {"amount": "1.005", "currency": "EUR"}}]),
    placing("no amount", "invalid_money", lines=[price("four")]),
    placing("negative price", "unit_price_negative", lines=[price("-4.50")]),
    placing("mixed currencies", "currency_mismatch", CurrencyMismatch, lines=[line(), price("1", "USD")]),
    placing("zero quantity", "quantity_not_positive", lines=[line(quantity=0)]),
    placing("negative quantity", "quantity_not_positive", lines=[line(quantity=-1)]),
    placing("quantity beyond 2^31", "quantity_too_large", lines=[line(quantity=2**31)]),
    placing("quantity finer than declared", "quantity_too_precise", lines=[line(quantity="0.5")]),
    placing("float quantity", "quantity_not_exact", lines=[line(quantity=1.0)]),
    placing(
        "total out of range", "money_out_of_range", MoneyOutOfRange, lines=[price("99999999999.00", quantity=10)] * 12
    ),
    placing("more lines than allowed", "too_many_lines", lines=[line()] * (MAX_LINES + 1)),
    Case(
        "more lines than allowed",
        InvalidCommand,
        "too_many_lines",
        lambda shop: shop.kit.orders.execute(shop.draft.id, AddLine(line=Line.parse(line()))),
    ),
    placing("empty order", "order_empty", lines=[]),
    placing("duplicate line ids", "duplicate_line_id", lines=[line(id="a"), line(id="a")]),
    placing("duplicate discount ids", "duplicate_discount_id", discounts=[{"id": "d", "label": "d", "percent": 1}] * 2),
    placing("discount on nothing", "unknown_item", discounts=[{"label": "d", "percent": 1, "applies_to": ["z"]}]),
    placing("control character", "text_has_control_characters", customer=NUL),
    placing("lone surrogate", "text_is_not_unicode", customer=SURROGATE),
    placing("megabyte", "text_too_long", customer=MEGABYTE),
    placing("order id that cannot be", "invalid_order_id", id="a b"),
    placing("metadata that is not JSON", "metadata_not_json", metadata={"a": {1}}),
    placing("metadata too deep", "metadata_too_deep", metadata=nested(9)),
    placing("metadata too large", "metadata_too_large", metadata={"a": MEGABYTE}),
    executing(
        "metadata too large", "metadata_too_large", InvalidCommand, lambda: ChangeMetadata(metadata={"a": MEGABYTE})
    ),
    placing("too many tags", "too_many_items", tags=["x"] * 101),
    placing("date without zone", "date_without_zone", expires_at=datetime(2027, 1, 1)),  # noqa: DTZ001  # the point
    placing("date that cannot be", "not_a_time", expires_at="soon"),
    placing("expired already", "expires_in_the_past", expires_at=NOW - timedelta(days=1)),
    placing("placed in the future", "placed_at_out_of_range", placed_at=NOW + timedelta(days=2)),
    placing("placed long ago", "placed_at_out_of_range", placed_at=datetime(1, 1, 1, tzinfo=UTC)),
    placing("unknown field", "unknown_field", colour="red"),
    placing("order id taken", "already_exists", AlreadyExists, id="order-1"),
    placing("order number taken", "already_exists", AlreadyExists, number="2026-1"),
    placing("key too long", "invalid_key", InvalidKey, idempotency_key="x" * 256),
    placing("key with control characters", "invalid_key", InvalidKey, idempotency_key="a\nb"),
    placing("key that is no text", "invalid_key", InvalidKey, idempotency_key=7),
    placing("another payload under a used key", "idempotency_mismatch", IdempotencyMismatch, idempotency_key="used"),
    executing("key too long", "invalid_key", InvalidKey, ConfirmOrder, idempotency_key=MEGABYTE),
    executing("illegal transition", "illegal_transition", IllegalTransition, CompleteOrder),
    executing("illegal transition", "illegal_transition", IllegalTransition, PlaceDraft),
    executing("illegal transition", "illegal_transition", IllegalTransition, lambda: RemoveLine(line_id="a")),
    executing(
        "illegal transition", "illegal_transition", IllegalTransition, lambda: PlaceOrder(lines=(Line.parse(line()),))
    ),
    executing("stale version", "version_conflict", VersionConflict, ConfirmOrder, expected_version=2),
    executing("stale version", "version_conflict", VersionConflict, ConfirmOrder, expected_version=2**70),
    executing("stale version", "version_conflict", VersionConflict, ConfirmOrder, expected_version="1"),
    executing("more than is left", "cancellation_refused", CancellationRefused, lambda: cancelling("a", 4)),
    executing("nothing of a line", "cancellation_refused", CancellationRefused, lambda: cancelling("a", 0)),
    executing("line that is not there", "cancellation_refused", CancellationRefused, lambda: cancelling("z", 1)),
    executing("tags beyond the limit", "too_many_items", InvalidCommand, lambda: ChangeTags(add=("x",) * 101)),
    Case("hold that is not set", HoldRefused, "hold_refused", lambda shop: shop.kit.orders.release(shop.order.id, "x")),
    Case("too early", NotExpiredYet, "not_expired_yet", lambda shop: shop.kit.orders.expire(shop.order.id)),
    Case("altered cursor", InvalidCursor, "invalid_cursor", lambda shop: search(shop, altered(cursor_of(shop)))),
    Case(
        "cursor of another query", InvalidCursor, "invalid_cursor", lambda shop: search(shop, cursor_of(shop), "total")
    ),
    Case(
        "cursor of another tenant",
        InvalidCursor,
        "invalid_cursor",
        lambda shop: shop.kit.for_tenant("other").orders.search(cursor=cursor_of(shop)),
    ),
    *(
        Case("strange cursor", InvalidCursor, "invalid_cursor", partial(search, cursor=text))
        for text in (NUL, SURROGATE, MEGABYTE, "", "\u00e9")
    ),
    Case("sort that cannot be", InvalidQuery, "invalid_query", lambda shop: search(shop, None, "colour")),
    Case("page that cannot be", InvalidQuery, "invalid_query", lambda shop: shop.kit.orders.search(limit=0)),
    Case(
        "mixed currencies of a range",
        InvalidQuery,
        "invalid_query",
        lambda shop: shop.kit.orders.search(OrderFilter(total_from=Money(1, "EUR"), total_until=Money(1, "USD"))),
    ),
    *(
        Case("moment that cannot be", InvalidQuery, "invalid_query", partial(as_of, **moment))
        for moment in ({}, {"version": 0}, {"version": 2**70}, {"version": "1"}, {"time": datetime(2026, 1, 1)})  # noqa: DTZ001
    ),
    Case("version that is not there", VersionNotFound, "version_not_found", lambda shop: as_of(shop, version=2)),
    Case(
        "time before the order",
        VersionNotFound,
        "version_not_found",
        lambda shop: as_of(shop, time=datetime.min.replace(tzinfo=UTC)),
    ),
    Case(
        "preview of nothing", InvalidQuery, "invalid_query", lambda shop: shop.kit.orders.preview(None, ConfirmOrder())
    ),
]


@pytest.fixture
def unharmed(shop: Shop) -> Iterator[Shop]:
    """A shop that afterwards is exactly as before, and goes on taking orders."""
    before = shop.kept()
    yield shop
    assert shop.kept() == before
    assert shop.kit.orders.confirm(shop.order.id).version == 2
    assert shop.kit.orders.place(lines=[Line.parse(line())]).version == 1


def outcome(act: Act, shop: Shop) -> OrderKitError:
    """Return the error that an act is answered with, which says what is unchanged, briefly."""
    with pytest.raises(OrderKitError) as caught:
        act(shop)
    error = caught.value
    said = error.message.lower()
    assert "nothing was" in said or "unchanged" in said or isinstance(error, OrderNotFound | VersionNotFound)
    assert len(said) < 1000
    return error


@pytest.mark.slow
@EVERYWHERE
def test_each_gets_an_error_of_its_own_and_changes_nothing(unharmed: Shop) -> None:
    before = unharmed.kept()
    for case in CASES:
        error = outcome(case.act, unharmed)
        assert (case.kind, type(error), error.code) == (case.kind, case.error, case.code)
        assert unharmed.kept() == before, case.kind


@EVERYWHERE
def test_inside_a_transaction_that_goes_on_each_changes_nothing(unharmed: Shop) -> None:
    for case in INSIDE:
        with unharmed.kit.transaction() as transaction:
            error = outcome(case.act, inside(unharmed, transaction))
            assert (case.kind, type(error)) == (case.kind, case.error)
            kept = transaction.orders.get(unharmed.order.id)
        assert kept == unharmed.order


@EVERYWHERE
def test_inside_a_function_that_goes_on_each_changes_nothing(unharmed: Shop) -> None:
    def work(transaction: Transaction) -> None:
        for case in INSIDE:
            error = outcome(case.act, inside(unharmed, transaction))
            assert (case.kind, type(error)) == (case.kind, case.error)

    unharmed.kit.run(work)


def inside(shop: Shop, transaction: object) -> Shop:
    """Return the shop seen from inside a transaction, which has orders as a kit has."""
    return shop._replace(kit=cast("OrderKit", transaction))


# A transaction is of one tenant.
INSIDE = [case for case in CASES if case.kind != "cursor of another tenant"]


@EVERYWHERE
def test_no_text_that_cannot_be_stored_gets_past_the_door(unharmed: Shop) -> None:
    orders = unharmed.kit.orders
    verbs: dict[type, Callable[[Any], object]] = {
        PlaceOrder: lambda fields: orders.place(**fields),
        CreateDraft: lambda fields: orders.draft(**fields),
        OrderFilter: lambda fields: orders.search(OrderFilter.parse(fields)),
    }
    for model in INPUTS:
        parse = cast("type[OrderCommand]", model).parse
        verb = verbs.get(model) or partial(_executed, orders, unharmed.order.id, parse)
        fields = {name: value for name, value in complete(model).items() if name != "kind"}
        for path in texts(fields):
            for text in (NUL, SURROGATE, MEGABYTE):
                error = outcome(partial(_given, verb, spoiled(fields, path, text)), unharmed)
                assert type(error) is InvalidCommand, (model, told(path))


def _executed(orders: Orders, order_id: str, parse: Callable[[Any], OrderCommand], fields: Any) -> Order:
    return orders.execute(order_id, parse(fields))


def _given(act: Callable[[Any], object], bad: Any, _shop: Shop) -> object:
    """Do something with what cannot be."""
    return act(bad)


READERS: dict[str, Callable[[OrderKit, str], object]] = {
    "get": lambda kit, order_id: kit.orders.get(order_id),
    "as_of": lambda kit, order_id: kit.orders.as_of(order_id, version=1),
    "history": lambda kit, order_id: kit.orders.history(order_id),
    "personal": lambda kit, order_id: kit.orders.personal(order_id),
    "preview": lambda kit, order_id: kit.orders.preview(order_id, ConfirmOrder()),
    "allowed": lambda kit, order_id: kit.orders.allowed(order_id),
    "explain": lambda kit, order_id: kit.orders.explain(order_id),
    "execute": lambda kit, order_id: kit.orders.execute(order_id, CancelOrder()),
    "execute with a key": lambda kit, order_id: kit.orders.cancel(order_id, idempotency_key="key"),
}


@EVERYWHERE
def test_an_order_that_is_not_there_or_is_anothers_is_not_found(unharmed: Shop) -> None:
    stranger = unharmed.kit.for_tenant(f"{unharmed.tenant}-stranger")
    for reader in READERS.values():
        for kit, order_id in ((unharmed.kit, "order-2"), (stranger, unharmed.order.id)):
            error = outcome(partial(_given, partial(reader, kit), order_id), unharmed)
            assert (type(error), error.code) == (OrderNotFound, "order_not_found")


@EVERYWHERE
def test_what_cannot_be_an_id_is_told_so(unharmed: Shop) -> None:
    for reader in READERS.values():
        for order_id in ("", NUL, SURROGATE, MEGABYTE, "a b", "a\n", "\u00e9", 7):
            error = outcome(partial(_given, partial(reader, unharmed.kit), order_id), unharmed)
            assert (type(error), error.code) == (InvalidKey, "invalid_key")


@EVERYWHERE
def test_nothing_is_done_on_behalf_of_what_cannot_be_stored(unharmed: Shop) -> None:
    kit = unharmed.kit
    binders: tuple[Callable[[Any], object], ...] = (
        kit.for_tenant,
        lambda actor: kit.bound(actor=actor),
        lambda correlation_id: kit.bound(correlation_id=correlation_id),
        lambda causation_id: kit.bound(causation_id=causation_id),
    )
    for bind in binders:
        for text in ("", NUL, SURROGATE, MEGABYTE, "x" * 256, "a\nb", 7):
            error = outcome(partial(_given, bind, text), unharmed)
            assert (type(error), error.code) == (InvalidKey, "invalid_key")


@EVERYWHERE
def test_names_as_long_and_as_strange_as_allowed_are_kept(shop: Shop) -> None:
    longest = "\U0010ffff" * 255
    order = shop.kit.orders.place(
        lines=[Line.parse(line(sku=longest, id=longest, description=longest))],
        customer=longest,
        number=longest,
        tags=[longest, "\u202e\ufeff\u2028", "'; DROP TABLE orderkit_orders; --"],
        external_references={longest: longest},
        metadata={longest: "%s {0} \\u0000 :text"},
    )
    assert shop.kit.orders.get(order.id) == order
    for wanted in (
        OrderFilter(sku=longest),
        OrderFilter(customer=longest),
        OrderFilter(number=longest),
        OrderFilter(tags=(longest, "\u202e\ufeff\u2028", "'; DROP TABLE orderkit_orders; --")),
        OrderFilter(external_references={longest: longest}),
        OrderFilter(metadata={longest: "%s {0} \\u0000 :text"}),
    ):
        assert [found.id for found in shop.kit.orders.search(wanted).items] == [order.id]


@EVERYWHERE
def test_numbers_in_metadata_are_kept_as_they_are(shop: Shop) -> None:
    numbers = {"a": 1e16, "b": 1e300, "c": 5e-324, "d": -0.0, "e": 1.0, "f": 2**63 - 1, "g": 0.1, "h": -(2**63)}
    order = shop.kit.orders.place(lines=[Line.parse(line())], metadata=numbers)
    shop.kit.orders.execute(order.id, SetCustomer(customer="ada"))
    assert repr(dict(sorted(shop.kit.orders.get(order.id).metadata.items()))) == repr(numbers)


@EVERYWHERE
def test_a_refused_placement_leaves_no_gap(open_kit: OpenKit, tenant: str) -> None:
    kit = open_kit(numbers=GaplessNumbers()).for_tenant(tenant)
    first = kit.orders.place(lines=[Line.parse(line())])
    with kit.transaction() as transaction:
        for command in (PlaceDraft(), ConfirmOrder(), ConfirmOrder()):
            try:
                transaction.orders.execute(first.id, command)
            except IllegalTransition:
                continue
        with pytest.raises(InvalidCommand):
            transaction.orders.place(lines=[Line.parse(line(id="a"))] * 2)
        second = transaction.orders.place(lines=[Line.parse(line())])
    with pytest.raises(InvalidCommand):
        kit.orders.place(lines=[Line.parse(line(id="a"))] * 2)
    third = kit.orders.place(lines=[Line.parse(line())])
    assert [order.number for order in (first, second, third)] == ["1", "2", "3"]


DISTINCT = (
    "unknown currency",
    "float money",
    "wrong exponent",
    "mixed currencies",
    "zero quantity",
    "quantity beyond 2^31",
    "more lines than allowed",
    "empty order",
    "duplicate line ids",
    "control character",
    "lone surrogate",
    "megabyte",
    "metadata that is not JSON",
    "metadata too deep",
    "date without zone",
    "altered cursor",
    "key too long",
    "another payload under a used key",
    "illegal transition",
    "stale version",
)


def test_each_kind_is_told_from_the_others_by_its_code() -> None:
    codes = {kind: {case.code for case in CASES if case.kind == kind} for kind in DISTINCT}
    assert {len(found) for found in codes.values()} == {1}
    assert len(set[str]().union(*codes.values())) == len(DISTINCT)
