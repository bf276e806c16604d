"""What type checkers see of the public surface. Checked by mypy and pyright, never run."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping
from decimal import Decimal
from typing import assert_type

import psycopg
import pymysql
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session, scoped_session

from orderkit import (
    AsyncOrderKit,
    AsyncTransaction,
    CustomerExport,
    Erasure,
    Line,
    Money,
    Order,
    OrderExport,
    OrderFilter,
    OrderKit,
    OrderStatus,
    Page,
    Settings,
    TaxRate,
    Transaction,
    UnitPrice,
)
from orderkit.domain.commands import ConfirmOrder
from orderkit.domain.decisions import Permission, Preview


def synchronous(kit: OrderKit) -> None:
    line = Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR"))
    Line(sku="RICE", quantity=Decimal("1.5"), precision=1, unit_price=UnitPrice("0.0125", "EUR"))
    Line(sku="TEA", quantity=1, unit_price=Money("1", "EUR"), tax_rates=(TaxRate("VAT", Decimal("0.2")),))
    order = kit.orders.place(customer="cust-42", lines=[line], idempotency_key="checkout-7f3a")
    assert_type(order, Order)
    assert_type(order.total, Money)
    assert_type(order.status, OrderStatus)
    assert_type(kit.orders.confirm(order.id, expected_version=1), Order)
    assert_type(kit.orders.execute(order.id, ConfirmOrder(), idempotency_key="k"), Order)
    assert_type(kit.orders.search(OrderFilter(status=(OrderStatus.OPEN,)), sort="-total"), Page)
    assert_type(kit.orders.stream(), Iterator[Order])
    assert_type(kit.orders.preview(order.id, ConfirmOrder()), Preview)
    assert_type(kit.orders.allowed(order.id), Mapping[str, Permission])
    assert_type(kit.customers.export("cust-42"), CustomerExport)
    assert_type(kit.customers.export_orders("cust-42"), Iterator[OrderExport])
    assert_type(kit.customers.erase("cust-42", reason="gdpr-art-17"), Erasure)
    assert_type(kit.run(lambda tx: tx.orders.get(order.id).version), int)
    with kit.transaction() as tx:
        assert_type(tx, Transaction)
        assert_type(tx.orders.get(order.id), Order)
    assert_type(kit.for_tenant("acme").bound(actor="alice"), OrderKit)


async def asynchronous(kit: AsyncOrderKit) -> None:
    line = Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR"))
    order = await kit.orders.place(lines=[line])
    assert_type(order, Order)
    assert_type(await kit.orders.search(), Page)
    assert_type(kit.orders.stream(), AsyncIterator[Order])
    assert_type(await kit.customers.export("cust-42"), CustomerExport)
    assert_type(kit.customers.export_orders("cust-42"), AsyncIterator[OrderExport])
    assert_type(await kit.customers.erase("cust-42"), Erasure)
    assert_type(await kit.run(lambda tx: tx.orders.get(order.id).version), int)
    async with kit.transaction() as tx:
        assert_type(await tx.orders.get(order.id), Order)


def joining(
    kit: OrderKit,
    session: Session,
    scoped: scoped_session[Session],
    connection: Connection,
    plain: sqlite3.Connection | psycopg.Connection | pymysql.Connection,
) -> None:
    for theirs in (session, scoped, connection, plain):
        assert_type(kit.within(theirs), Transaction)


def joining_asynchronously(
    kit: AsyncOrderKit, session: AsyncSession, connection: AsyncConnection, plain: psycopg.AsyncConnection
) -> None:
    for theirs in (session, connection, plain):
        assert_type(kit.within(theirs), AsyncTransaction)
    kit.within(sqlite3.connect(":memory:"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # of the other kit


def mistakes_are_seen(kit: OrderKit) -> None:
    """Each ignored error below is one: the checkers report an ignore that nothing needs."""
    kit.orders.place(customer="c")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # lines are required
    kit.orders.place(lines=[], colour="red")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # no such field
    kit.orders.search(sort="colour")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # no such column
    kit.within("sqlite:///shop.db")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # no connection
    Money(4.5, "EUR")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # floats are refused


def settings() -> None:
    assert_type(OrderKit.from_settings(Settings()), OrderKit)
