"""Paging through a million orders."""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
from sqlalchemy import URL

from benchmarks import raw
from benchmarks.databases import Wrong, create_tables, expect, postgresql_database, server, text_of
from benchmarks.measure import Plan, Race, Ratio, Stage, Timed, one_by_one
from benchmarks.samples import TENANT, Supply
from orderkit import OrderFilter, OrderKit
from orderkit.domain.codec import ORDER_SCHEMA_VERSION
from orderkit.kit.assembly import assemble
from orderkit.orders.cursors import Position
from orderkit.orders.searching import Query
from orderkit.orders.tables import ORDERS
from orderkit.storage.sql import metadata, open_backend

MILLION = 1_000_000
KEPT = "orderkit_bench_million"
DEPTHS = 20

DEEP = "orderkit, a page deep in the list"
FIRST = "its own first page, at 1 million orders"

_ID = "'order_' || lpad(to_hex(n), 32, '0')"
_MADE = {
    "id": _ID,
    "number": "'N-' || n",
    "customer": "'cust-' || mod(n, 10000)",
    "placed_at": "placed_at - n * interval '1 second'",
    "created_at": "created_at - n * interval '1 second'",
    "updated_at": "updated_at - n * interval '1 second'",
    "document": f"replace(document, id, {_ID})",
}
_COPY = (
    f"INSERT INTO orderkit_orders ({', '.join(ORDERS.columns)}) "
    f"SELECT {', '.join(_MADE.get(column, column) for column in ORDERS.columns)} "
    "FROM orderkit_orders, generate_series(1, %s) AS n"
)


def fill(url: URL, orders: int) -> None:
    """Put orders a second apart into an empty database, without lines and events: lists read neither."""
    with psycopg.connect(text_of(url)) as connection:
        raw.on_psycopg(connection).fill(Supply().rows(1))
    with psycopg.connect(text_of(url), autocommit=True) as connection:
        cursor = connection.cursor()
        cursor.execute("SET maintenance_work_mem = '256MB'")
        cursor.execute("ALTER TABLE orderkit_orders SET UNLOGGED")
        cursor.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'orderkit_orders' AND indexname !~ 'pkey$'"
        )
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f"DROP INDEX {name}".encode())
        cursor.execute(_COPY.encode(), (orders - 1,))
        for _, definition in indexes:
            cursor.execute(definition.encode())
        cursor.execute("VACUUM (ANALYZE) orderkit_orders")


@contextmanager
def filled(orders: int) -> Generator[URL, None, None]:
    """Return a database with so many orders; that with a million is kept for the next time."""
    if orders == MILLION:
        yield _million()
        return
    with postgresql_database() as url:
        fill(url, orders)
        yield url


def _million() -> URL:
    """Return the database with a million orders, made unless it is there as this release would make it."""
    indexes = sorted(str(index.name) for index in metadata.tables["orderkit_orders"].indexes)
    mark = f"schema {ORDER_SCHEMA_VERSION}, {', '.join([*ORDERS.columns, *indexes])}"
    with server() as (url, connection):
        found = connection.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", (KEPT,)
        ).fetchone()
        database = url.set(database=KEPT)
        if found is None or found[0] != mark:
            connection.execute(f"DROP DATABASE IF EXISTS {KEPT} WITH (FORCE)".encode())
            connection.execute(f"CREATE DATABASE {KEPT}".encode())
            create_tables(database)
            fill(database, MILLION)
            connection.execute(f"COMMENT ON DATABASE {KEPT} IS '{mark}'".encode())
    return database


@contextmanager
def stage(plan: Plan) -> Generator[Stage, None, None]:
    """Set up reading the first page, and pages in the far half of the list."""
    orders = plan.scaled(MILLION, least=1_000)
    with filled(orders) as url:
        address = text_of(url, "postgresql+psycopg")
        assembly = assemble(address, {})
        with OrderKit(open_backend(address), assembly) as kit:
            newest = kit.orders.search(limit=1).items[0].created_at
            identity = Query(OrderFilter()).identity

            def cursor_behind(place: int) -> str:
                position = Position.at(newest - timedelta(seconds=place), _id(place), backwards=False)
                return assembly.cursors.write(position, TENANT, identity)

            deep = {cursor_behind(place): place for place in random.sample(range(orders // 2, orders - 100), DEPTHS)}

            def read_deep(cursor: str) -> None:
                page = kit.orders.search(cursor=cursor)
                if len(page.items) != 50 or page.items[0].id != _id(deep[cursor] + 1):
                    raise Wrong("a deep page does not follow its cursor")

            yield Stage(
                {
                    DEEP: lambda: Timed(lambda number: random.choices(list(deep), k=number), one_by_one(read_deep)),
                    FIRST: lambda: Timed(range, one_by_one(lambda _: kit.orders.search())),
                },
                lambda: expect(url, {"orders": orders}),
            )


def _id(place: int) -> str:
    return f"order_{place:032x}"


BENCHMARKS = (Race(stage, (Ratio("list.deep.postgresql", DEEP, FIRST, 1.2),), operations=50),)
