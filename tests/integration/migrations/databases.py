"""Databases to migrate: each empty, a test's own, and looked at without orderkit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from sqlalchemy import Engine, create_engine, event, inspect
from sqlalchemy.pool import NullPool

from orderkit import Line, Money, Order, OrderKit, Settings
from orderkit.storage.sql.migrations import Migrations
from orderkit.storage.sql.migrations.tasks import Revision
from orderkit.storage.sql.migrations.versions import REVISIONS

TEA = (Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR")),)

Row = tuple[object, ...]


@attrs.frozen
class Database:
    """A database that has nothing in it at first.

    Attributes:
        kind: `sqlite`, `postgresql`, `postgresql-schema` or `mariadb`.
        url: With a synchronous driver.
        schema: The schema of the tables.
    """

    kind: str
    url: str
    schema: str | None = None
    engines: list[Engine] = attrs.field(factory=list, repr=False)

    def engine(self) -> Engine:
        """Return an engine on which names mean tables of the schema, and which keeps no connection open."""
        engine = create_engine(self.url, poolclass=NullPool)
        if self.schema is not None:
            event.listen(engine, "connect", self._enter_schema)
        self.engines.append(engine)
        return engine

    def _enter_schema(self, connection: Any, _record: object) -> None:
        connection.execute(f'SET search_path TO "{self.schema}"')
        connection.commit()

    def migrations(self, revisions: Sequence[Revision] = REVISIONS, **options: Any) -> Migrations:
        return Migrations(self.engine(), schema=self.schema, revisions=revisions, **options)

    def kit(self, **options: Any) -> OrderKit:
        settings = Settings(table_schema=self.schema, **options)
        return OrderKit.from_url(self.url, settings=settings)

    def place(self, count: int = 3) -> list[Order]:
        """Take orders in all kinds of states; return them."""
        with self.kit(create_tables=False) as kit:
            orders = [
                kit.orders.place(customer=f"customer-{i}", lines=TEA, tags=("a",), idempotency_key=f"key-{i}-{count}")
                for i in range(count)
            ]
            return [orders[0], *(kit.orders.cancel(order.id) for order in orders[1:])]

    def get(self, orders: Sequence[Order]) -> list[Order]:
        with self.kit(create_tables=False) as kit:
            return [kit.orders.get(order.id) for order in orders]

    def execute(self, *statements: str) -> None:
        """Run statements past orderkit."""
        with self.engine().execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def rows(self, statement: str) -> list[Row]:
        """Return what a statement finds, past orderkit."""
        with self.engine().connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement)]

    def tables(self) -> set[str]:
        return set(inspect(self.engine()).get_table_names())

    def contents(self) -> dict[str, list[Row]]:
        """Return every row of every table but our version table; tables without rows come and go."""
        names = sorted(self.tables() - {"orderkit_schema"})
        contents = {name: sorted(self.rows(f"SELECT * FROM {name}"), key=repr) for name in names}
        return {name: rows for name, rows in contents.items() if rows}

    def definition(self) -> dict[str, object]:
        """Return how the tables are made, as the database tells it."""
        engine = self.engine()
        inspector = inspect(engine)
        return {
            name: (
                [{**column, "type": str(column["type"])} for column in inspector.get_columns(name)],
                inspector.get_pk_constraint(name),
                sorted(map(_told, inspector.get_indexes(name))),
                sorted(map(_told, inspector.get_unique_constraints(name))),
            )
            for name in inspector.get_table_names()
        }

    def state(self) -> Row | None:
        """Return revision, compatible_from and migrating_to of our version table, if there is one."""
        if "orderkit_schema" not in self.tables():
            return None
        return next(iter(self.rows("SELECT revision, compatible_from, migrating_to FROM orderkit_schema")), None)


def _told(reflected: Any) -> str:
    """Return an index or a constraint as text; a condition is an object that prints as SQL."""
    options = {name: str(value) for name, value in reflected.get("dialect_options", {}).items()}
    return repr({**reflected, "dialect_options": options})
