"""The same work with others' libraries: Django's ORM, and event sourcing with `eventsourcing`."""

from __future__ import annotations

import json
import secrets
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import URL

from benchmarks.databases import Unavailable
from benchmarks.samples import Placed
from orderkit.messaging.outbox import OUTBOX
from orderkit.orders.tables import EVENTS, LINES, ORDERS
from orderkit.storage.sql.tables import kind_of
from orderkit.unit_of_work.changes import KEYS, Row, Table

_FIELDS = {
    "text": "TextField",
    "json": "JSONField",
    "integer": "IntegerField",
    "bigint": "BigIntegerField",
    "boolean": "BooleanField",
    "time": "DateTimeField",
}


def django_settings(database: URL | Path) -> dict[str, object]:
    """Return how Django connects: to SQLite as safely as the kit does, to PostgreSQL as it does by itself."""
    if isinstance(database, Path):
        pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=30000"
        options = {"transaction_mode": "IMMEDIATE", "init_command": pragmas}
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(database), "OPTIONS": options}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": database.database,
        "HOST": database.host,
        "PORT": database.port or "",
        "USER": database.username,
        "PASSWORD": database.password or "",
    }


class DjangoPlace:
    """Place orders with Django's ORM: the same rows in the very same tables and indexes."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._models = {table: _model(alias, table) for table in (KEYS, ORDERS, LINES, EVENTS, OUTBOX)}
        self._atomic = _django_db().transaction.atomic

    def one(self, rows: Placed) -> None:
        """Place an order."""
        with self._atomic(using=self._alias):
            self._create(KEYS, rows.key)
            self._create(ORDERS, rows.order)
            self._create_many(LINES, rows.lines)
            self._create(EVENTS, rows.event)
            self._create(OUTBOX, rows.message)

    def many(self, orders: Sequence[Placed]) -> None:
        """Place many orders at once."""
        with self._atomic(using=self._alias):
            self._create_many(KEYS, [rows.key for rows in orders])
            self._create_many(ORDERS, [rows.order for rows in orders])
            self._create_many(LINES, [line for rows in orders for line in rows.lines])
            self._create_many(EVENTS, [rows.event for rows in orders])
            self._create_many(OUTBOX, [rows.message for rows in orders])

    def _create(self, table: Table, row: Row) -> None:
        self._models[table].objects.using(self._alias).create(**_fields(table, row))

    def _create_many(self, table: Table, rows: Sequence[Row]) -> None:
        model = self._models[table]
        model.objects.using(self._alias).bulk_create([model(**_fields(table, row)) for row in rows])


@contextmanager
def django_place(database: URL | Path) -> Generator[DjangoPlace, None, None]:
    """Return how orders are placed with Django's ORM, whatever else this process does with Django."""
    connections, alias = _django_db().connections, f"bench_{secrets.token_hex(6)}"
    connections.databases.update(connections.configure_settings({"default": {}, alias: django_settings(database)}))
    try:
        with import_module("django.test.utils").override_settings(USE_TZ=True):
            yield DjangoPlace(alias)
    finally:
        connections[alias].close()
        del connections[alias], connections.databases[alias]


def _django_db() -> Any:
    """Return the module `django.db`, which has no types, once Django is set up for this process."""
    try:
        import django
        from django.conf import settings
    except ImportError as error:
        raise Unavailable("Django is not installed") from error
    if not settings.configured:
        settings.configure(USE_TZ=True, DATABASES={})
        django.setup()
    return import_module("django.db")


def _model(alias: str, table: Table) -> Any:
    """Return a model over one of the kit's tables."""
    from django.db import models

    key: Sequence[str] = ("id",) if table is OUTBOX else table.key
    fields = {
        column: getattr(models, _FIELDS[kind_of(table.name, column)])(null=True, primary_key=[column] == list(key))
        for column in table.columns
    }
    if len(key) > 1:
        fields["pk"] = models.CompositePrimaryKey(*key)
    meta = type("Meta", (), {"app_label": alias, "db_table": f"orderkit_{table.name}", "managed": False})
    return type(f"Model_{table.name}", (models.Model,), {"__module__": __name__, "Meta": meta, **fields})


def _fields(table: Table, row: Row) -> Mapping[str, object]:
    fields = dict(zip(table.columns, row, strict=True))
    if "metadata" in fields:
        return {**fields, "metadata": json.loads(str(fields["metadata"]))}
    return fields


class EventSourced:
    """Orders as event-sourced aggregates of three events, kept in PostgreSQL."""

    def __init__(self, application: Any, aggregate: Any) -> None:
        self._application = application
        self._aggregate = aggregate

    def orders(self, number: int) -> list[UUID]:
        """Return the ids of new orders with three events each."""
        made = []
        for _ in range(number):
            order = self._aggregate(customer="cust-42")
            order.happen("priced")
            order.happen("placed")
            self._application.save(order)
            made.append(order.id)
        return made

    def confirm(self, order_id: UUID) -> None:
        """Load an order, and save one more event."""
        order = self._application.repository.get(order_id)
        order.happen("confirmed")
        self._application.save(order)


@contextmanager
def event_sourced(database: URL) -> Generator[EventSourced, None, None]:
    """Return orders kept with the library `eventsourcing` in a database of PostgreSQL."""
    try:
        import_module("eventsourcing.postgres")
        from eventsourcing.application import Application
        from eventsourcing.domain import Aggregate, event
    except ImportError as error:
        raise Unavailable("eventsourcing or psycopg_pool is not installed") from error

    class Ordered(Aggregate):  # type: ignore[misc]  # it has no types
        def __init__(self, customer: str) -> None:
            self.customer = customer
            self.steps: list[str] = []

        @event("Happened")  # type: ignore[untyped-decorator]  # it has no types
        def happen(self, step: str) -> None:
            self.steps.append(step)

    environment = {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(database.database),
        "POSTGRES_HOST": str(database.host),
        "POSTGRES_PORT": str(database.port or 5432),
        "POSTGRES_USER": str(database.username),
        "POSTGRES_PASSWORD": database.password or "none",
    }
    application = Application(environment)
    try:
        yield EventSourced(application, Ordered)
    finally:
        application.close()
