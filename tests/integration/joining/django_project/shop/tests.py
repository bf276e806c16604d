"""Orders inside Django's transactions, run by Django's own test runner on each database."""

# Django has no types.
# mypy: ignore-errors

# ruff: noqa: PT012 - whole blocks are what is rolled back

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest
from asgiref.sync import sync_to_async
from django.db import IntegrityError, connection, connections, transaction
from django.db.transaction import TransactionManagementError
from django.test import TestCase, TransactionTestCase, skipUnlessDBFeature, tag

from orderkit import AsyncOrderKit, OrderKit
from orderkit.errors import AlreadyExists, ConfigurationError, OrderNotFound, Refused, TransactionAborted
from shop.models import Basket
from shop.orders import database_url, kit
from shop.views import LINES, told


class InsideATestCase(TestCase):
    """Django surrounds each test with a transaction that is rolled back, and with it our orders."""

    def setUp(self) -> None:
        self.orders = kit.within(connection).orders
        told.clear()

    def test_one_leaves_nothing(self) -> None:
        assert list(self.orders.stream()) == []
        self.orders.place(lines=LINES, id="order-1", idempotency_key="k")

    def test_another_finds_nothing(self) -> None:
        assert list(self.orders.stream()) == []
        self.orders.place(lines=LINES, id="order-1", idempotency_key="k")

    def test_nested_atomic_blocks(self) -> None:
        with transaction.atomic():
            kept = self.orders.place(lines=LINES)
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                self.orders.confirm(kept.id)
                gone = self.orders.place(lines=LINES)
                with transaction.atomic():
                    Basket.objects.create(name="gone")
                raise ZeroDivisionError
            with transaction.atomic():
                also = self.orders.place(lines=LINES)
        assert self.orders.get(kept.id) == kept
        assert {order.id for order in self.orders.stream()} == {kept.id, also.id}
        assert gone.id not in {kept.id, also.id}
        assert not Basket.objects.exists()

    def test_an_error_of_ours_leaves_the_block_usable(self) -> None:
        with transaction.atomic():
            Basket.objects.create(name="a")
            order = self.orders.place(lines=LINES)
            with pytest.raises(Refused):
                self.orders.complete(order.id)
            with pytest.raises(AlreadyExists):
                self.orders.place(lines=LINES, id=order.id)
            Basket.objects.create(name="b")
            assert not transaction.get_rollback()
        assert Basket.objects.count() == 2

    def test_an_error_of_theirs_in_a_block_of_its_own(self) -> None:
        Basket.objects.create(name="a")
        with pytest.raises(IntegrityError), transaction.atomic():
            Basket.objects.create(name="a")
        self.orders.place(lines=LINES)

    def test_an_error_of_theirs_that_was_swallowed(self) -> None:
        with pytest.raises(TransactionManagementError), transaction.atomic():
            with pytest.raises(IntegrityError), transaction.atomic(savepoint=False):
                Basket.objects.create(name="a")
                Basket.objects.create(name="a")
            with pytest.raises(TransactionAborted):
                self.orders.place(lines=LINES)
            Basket.objects.exists()
        assert list(self.orders.stream()) == []

    def test_what_runs_on_commit(self) -> None:
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            response = self.client.get("/baskets/a/check-out")
        assert (len(callbacks), told) == (1, [response.json()["order"]])

    def test_rows_they_have_locked_or_are_reading(self) -> None:
        Basket.objects.bulk_create(Basket(name=name) for name in "abc")
        for basket in Basket.objects.iterator(chunk_size=1):
            basket.order_id = self.orders.place(lines=LINES, tags=(basket.name,)).id
            basket.save()
        assert len({order.id for order in self.orders.stream()}) == 3

    @skipUnlessDBFeature("has_select_for_update")
    def test_select_for_update(self) -> None:
        Basket.objects.create(name="a")
        basket = Basket.objects.select_for_update().get(name="a")
        basket.order_id = self.orders.place(lines=LINES).id
        basket.save()
        assert Basket.objects.get(order_id=basket.order_id).name == "a"


@tag("committed")
class OutsideATestCase(TransactionTestCase):
    """Here blocks are committed for others to see. Django empties its own tables alone: each test has a tenant."""

    databases: ClassVar = {"default", "other"}

    def setUp(self) -> None:
        self.outside = OrderKit.from_url(database_url()).for_tenant(self.id()[-90:])
        self.kit = kit.for_tenant(self.id()[-90:])
        told.clear()

    def tearDown(self) -> None:
        self.outside.close()

    def test_without_a_block(self) -> None:
        with pytest.raises(ConfigurationError, match=r"with transaction\.atomic\(\)"):
            self.kit.within(connection).orders.place(lines=LINES)
        with pytest.raises(ConfigurationError):
            self.client.get("/without-transaction")
        assert list(self.outside.orders.stream()) == []

    def test_committed_together_and_only_then(self) -> None:
        seen: list[str] = []

        def look(when: str) -> None:
            seen.extend(f"{when}: {self.outside.orders.get(order.id).status}" for order in placed)

        placed = []
        with transaction.atomic(durable=True):
            Basket.objects.create(name="a")
            transaction.on_commit(lambda: look("first"))
            placed.append(self.kit.within(connection).orders.place(lines=LINES))
            transaction.on_commit(lambda: look("second"))
            with pytest.raises(OrderNotFound):
                self.outside.orders.get(placed[0].id)
        assert seen == ["first: pending", "second: pending"]

    def test_rolled_back_together(self) -> None:
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Basket.objects.create(name="a")
            self.kit.within(connection).orders.place(lines=LINES)
            transaction.on_commit(lambda: told.append("never"))
            raise ZeroDivisionError
        with transaction.atomic():
            Basket.objects.create(name="b")
            self.kit.within(connection).orders.place(lines=LINES)
            transaction.set_rollback(True)
        assert (told, Basket.objects.count(), list(self.outside.orders.stream())) == ([], 0, [])

    def test_the_transaction_of_a_request(self) -> None:
        name = self.id()[-20:]
        with pytest.raises(ConnectionError):
            self.client.get(f"/baskets/{name}/check-out?fail=1")
        assert (told, Basket.objects.count()) == ([], 0)
        order = self.client.get(f"/baskets/{name}/check-out").json()["order"]
        assert (told, Basket.objects.get().order_id) == ([order], order)
        assert self.outside.for_tenant("default").orders.get(order).status == "pending"

    def test_another_database(self) -> None:
        """Each alias is a transaction of its own."""
        with transaction.atomic(using="other"):
            order = self.kit.within(connections["other"]).orders.place(lines=LINES)
            with pytest.raises(ConfigurationError):
                self.kit.within(connection).orders.place(lines=LINES)
        with transaction.atomic(), pytest.raises(OrderNotFound):
            self.kit.within(connection).orders.get(order.id)
        with transaction.atomic(using="other"):
            assert self.kit.within(connections["other"]).orders.get(order.id) == order

    def test_from_an_event_loop(self) -> None:
        """Django's transactions are synchronous: the whole of one runs in a thread."""

        @transaction.atomic
        def check_out() -> str:
            Basket.objects.create(name="a")
            return self.kit.within(connection).orders.place(lines=LINES).id

        def in_a_thread() -> str:
            try:
                return check_out()
            finally:
                connections.close_all()

        async def view() -> str:
            with pytest.raises(ConfigurationError, match="is for OrderKit"):
                AsyncOrderKit.from_url("memory://").within(connection)  # type: ignore[arg-type]
            return await sync_to_async(in_a_thread)()

        placed = asyncio.run(view())
        assert self.outside.orders.get(placed).status == "pending"

    def test_a_connection_that_was_closed_meanwhile(self) -> None:
        joined = self.kit.within(connection)
        for number in range(2):
            with transaction.atomic():
                joined.orders.place(lines=LINES, id=f"order-{number}")
            connection.close()
        with pytest.raises(KeyError), transaction.atomic():
            connection.close()
            with pytest.raises(TransactionAborted):
                joined.orders.place(lines=LINES)
            raise KeyError
        assert len(list(self.outside.orders.stream())) == 2
