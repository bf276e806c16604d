"""On every kind of connection, theirs and ours are kept together or not at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from orderkit import GaplessNumbers, Line, Money, OrderFilter, OrderKit
from orderkit.errors import (
    AlreadyExists,
    IdempotencyMismatch,
    InvalidCommand,
    OrderKitError,
    OrderNotFound,
    Refused,
    VersionConflict,
)
from tests.integration.joining.conftest import Application, Enter

TEA = (Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR")),)
MATE = (Line(sku="MATE", quantity=1, unit_price=Money("3", "EUR")),)

Look = Callable[[], tuple[list[str], int]]


@pytest.mark.parametrize("theirs_first", [True, False])
def test_what_they_commit_is_committed_with_ours(enter: Enter, outside: Look, theirs_first: bool) -> None:
    with enter() as app:
        if theirs_first:
            app.write("a")
        order = app.orders.place(lines=TEA, customer="Zoë 🫖", metadata={"gift": True})
        app.write("b")
        confirmed = app.orders.confirm(order.id)
        assert app.orders.get(order.id) == confirmed
        assert [recorded.version for recorded in app.orders.history(order.id)] == [1, 2]
        assert app.placed() == [order.id]
        assert outside() == ([], 0)
        app.theirs.commit()
    assert outside() == (["a", "b"] if theirs_first else ["b"], 1)


@pytest.mark.parametrize("theirs_first", [True, False])
def test_what_they_roll_back_is_rolled_back_with_ours(enter: Enter, outside: Look, theirs_first: bool) -> None:
    with enter() as app:
        if theirs_first:
            app.write("a")
        app.orders.place(lines=TEA, idempotency_key="k")
        app.write("b")
        app.theirs.rollback()
    assert outside() == ([], 0)


def test_what_was_rolled_back_left_no_key_behind(enter: Enter, outside: Look) -> None:
    for end in ("rollback", "commit"):
        with enter() as app:
            order = app.orders.place(lines=TEA, idempotency_key="k")
            assert app.orders.place(lines=TEA, idempotency_key="k") == order
            getattr(app.theirs, end)()
    assert outside() == ([], 1)


def test_their_failure_after_our_place_leaves_nothing(enter: Enter, outside: Look) -> None:
    with enter() as app, suppress(RuntimeError):
        app.write("a")
        app.orders.place(lines=TEA)
        try:
            raise RuntimeError("the payment service is not there")
        finally:
            app.theirs.rollback()
    assert outside() == ([], 0)


def test_an_error_of_ours_leaves_their_transaction_usable(enter: Enter, outside: Look, kit: OrderKit) -> None:
    """Whatever kind of error it is, what they had written before is still there, and they can go on."""
    old = kit.orders.place(lines=TEA)
    with enter() as app:
        app.write("a")
        order = app.orders.place(lines=TEA, id="mine", number="N-1", idempotency_key="k")
        attempts: list[tuple[Callable[[], object], type[OrderKitError]]] = [
            (lambda: app.orders.place(lines=TEA, id="mine"), AlreadyExists),
            (lambda: app.orders.place(lines=TEA, number="N-1"), AlreadyExists),
            (lambda: app.orders.place(lines=MATE, idempotency_key="k"), IdempotencyMismatch),
            (lambda: app.orders.confirm(order.id, expected_version=7), VersionConflict),
            (lambda: app.orders.complete(order.id), Refused),
            (lambda: app.orders.confirm("nobody"), OrderNotFound),
            (lambda: app.orders.place(lines=()), InvalidCommand),
        ]
        for number, (attempt, error) in enumerate(attempts):
            with pytest.raises(error):
                attempt()
            app.write(f"b{number}")
            assert app.placed() == sorted([old.id, "mine"])
        assert app.orders.place(lines=TEA, id="mine", number="N-1", idempotency_key="k") == order
        app.orders.confirm(order.id)
        app.theirs.commit()
    assert outside() == (["a", *(f"b{number}" for number in range(len(attempts)))], 2)
    assert kit.orders.get("mine").status == "open"


def test_their_own_error_and_their_savepoint(enter: Enter, outside: Look) -> None:
    """Their savepoint takes back what was done since, theirs and ours; the order before it stays."""
    with enter() as app:
        app.write("a")
        kept = app.orders.place(lines=TEA)
        app.theirs.execute("SAVEPOINT theirs")
        gone = app.orders.place(lines=TEA)
        app.orders.confirm(kept.id)
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
            app.write("a")
        app.theirs.execute("ROLLBACK TO SAVEPOINT theirs")
        assert app.orders.get(kept.id) == kept
        with pytest.raises(OrderNotFound):
            app.orders.get(gone.id)
        app.write("b")
        app.theirs.commit()
    assert outside() == (["a", "b"], 1)


@pytest.mark.parametrize("name", ["command", "_pg3_1", "sa_savepoint_1"])
def test_their_savepoints_have_any_name(enter: Enter, outside: Look, name: str) -> None:
    with enter() as app:
        app.write("a")
        app.theirs.execute(f"SAVEPOINT {name}")
        app.write("b")
        order = app.orders.place(lines=TEA)
        with pytest.raises(AlreadyExists):
            app.orders.place(lines=TEA, id=order.id)
        app.theirs.execute(f"ROLLBACK TO SAVEPOINT {name}")
        assert (app.written(), app.placed()) == (["a"], [])
        app.orders.place(lines=TEA)
        app.theirs.execute(f"RELEASE SAVEPOINT {name}")
        app.theirs.commit()
    assert outside() == (["a"], 1)


def test_numbers_without_gaps_go_back_with_their_transaction(enter: Enter) -> None:
    seen = []
    for end in ("rollback", "commit", "commit"):
        with enter(numbers=GaplessNumbers()) as app:
            seen.append(app.orders.place(lines=TEA).number)
            with pytest.raises(AlreadyExists):
                app.orders.place(lines=TEA, id=app.placed()[0])
            seen.append(app.orders.place(lines=TEA).number)
            getattr(app.theirs, end)()
    assert seen[2:] == seen[0:2] + [_following(number, 2) for number in seen[0:2]]


def _following(number: str | None, by: int) -> str:
    text = str(number)
    digits = text[len(text.rstrip("0123456789")) :]
    return text[: len(text) - len(digits)] + str(int(digits) + by).zfill(len(digits))


def test_searching_and_streaming_inside(enter: Enter, kit: OrderKit) -> None:
    outside = kit.orders.place(lines=MATE)
    with enter() as app:
        inside = app.orders.place(lines=TEA, tags=("gift",))
        assert [order.id for order in app.orders.search(OrderFilter(sku="TEA-001")).items] == [inside.id]
        assert [order.id for order in app.orders.search(OrderFilter(tags=("gift",))).items] == [inside.id]
        assert {order.id for order in app.orders.stream()} == {inside.id, outside.id}
        app.theirs.rollback()
    assert [order.id for order in kit.orders.stream()] == [outside.id]


def test_a_stream_is_read_while_they_write(enter: Enter, outside: Look) -> None:
    with enter() as app:
        app.write("a")
        for number in range(3):
            app.orders.place(lines=TEA, id=f"order-{number}")
        for order in app.orders.stream():
            app.write(f"seen {order.id}")
            app.orders.confirm(order.id)
        app.theirs.commit()
    assert outside() == (["a", "seen order-0", "seen order-1", "seen order-2"], 3)


def test_times_come_back_as_they_were(enter: Enter, kit: OrderKit) -> None:
    """Django without time zones, for one, reads them otherwise on connections of its own."""
    before = kit.orders.place(lines=TEA, id="before", idempotency_key="k")
    with enter() as app:
        assert app.orders.get("before") == before
        assert app.orders.place(lines=TEA, id="before", idempotency_key="k") == before
        assert app.orders.history("before") == kit.orders.history("before")
        app.theirs.rollback()


def test_a_replay_of_what_was_committed_outside(enter: Enter, kit: OrderKit, outside: Look) -> None:
    first = kit.orders.place(lines=TEA, idempotency_key="k")
    with enter() as app:
        app.write("a")
        assert app.orders.place(lines=TEA, idempotency_key="k") == first
        with pytest.raises(IdempotencyMismatch):
            app.orders.place(lines=MATE, idempotency_key="k")
        app.theirs.commit()
    assert outside() == (["a"], 1)


def test_the_connection_stays_theirs(enter: Enter, outside: Look) -> None:
    """After their commit the same connection goes on with its next transaction, if its kind begins one unasked."""

    def begun(app: Application) -> bool:
        kind = type(app.theirs).__name__
        return kind not in {"OnStatements", "OnDjango"}

    with enter() as app:
        for number in range(3):
            app.write(f"a{number}")
            app.orders.place(lines=TEA)
            if not begun(app):
                break
            app.theirs.commit()
        else:
            app.write("lost")
            app.orders.place(lines=TEA)
            app.theirs.rollback()
            assert outside() == (["a0", "a1", "a2"], 3)
            return
        app.theirs.commit()
    assert outside() == (["a0"], 1)


def test_many_orders_inside(enter: Enter, outside: Look) -> None:
    """Each item has a result of its own, and none outlives their transaction."""
    items = [{"lines": TEA, "id": f"order-{number}"} for number in (1, 2, 2, 3)] + [{"lines": ()}]
    for end, kept in (("rollback", ([], 0)), ("commit", (["a", "b"], 3))):
        with enter() as app:
            app.write("a")
            results = list(app.orders.place_many(items, batch_size=2))
            assert [type(result.error).__name__ for result in results] == [
                "NoneType",
                "NoneType",
                "AlreadyExists",
                "NoneType",
                "InvalidCommand",
            ]
            app.write("b")
            assert app.placed() == ["order-1", "order-2", "order-3"]
            getattr(app.theirs, end)()
        assert outside() == kept
