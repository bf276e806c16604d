"""Shops of many orders, made by a few statements: one tenant has nearly all of them, one a handful.

Nothing about them is even. A customer has every twentieth order, others have one; almost all orders are completed,
and those still open are the latest; one SKU is in every third order, another in three of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

import attrs
from sqlalchemy import Connection
from sqlalchemy.schema import CreateTable

from orderkit.storage.sql import metadata
from orderkit.storage.sql.statistics import assume
from orderkit.storage.sql.tables import PREFIX

HUGE, TINY = "huge", "tiny"
TINY_ORDERS = 200
RARE = 3
"""How many orders have the rare SKU, and how many the rare tag."""

_EPOCH = 1_672_531_200
"""When the first order was created: the first second of 2023, in seconds since 1970."""

_STEP = 90
"""Seconds between two orders."""

_DOCUMENT = "x" * 1_000


@attrs.frozen
class Spelling:
    """How a database spells what the statements need.

    Attributes:
        numbers: Returns a relation with one column, `n`, from 1 to a number.
        time: Returns the time that is so many seconds after 1970.
        analyse: What has it look at a table, as it does by itself sooner or later.
        settings: What the session is told first.
    """

    numbers: Callable[[int], str]
    time: Callable[[str], str]
    analyse: str
    settings: tuple[str, ...] = ()


_MARIADB = Spelling(
    lambda number: f"(SELECT seq AS n FROM seq_1_to_{number}) AS s",
    lambda seconds: f"(TIMESTAMP '1970-01-01 00:00:00' + INTERVAL ({seconds}) SECOND)",
    "ANALYZE TABLE",
    ("SET SESSION sql_mode = CONCAT(@@sql_mode, ',PIPES_AS_CONCAT')", "SET SESSION time_zone = '+00:00'"),
)
SPELLINGS: Mapping[str, Spelling] = {
    "postgresql": Spelling(
        lambda number: f"generate_series(1::bigint, {number}) AS s (n)",
        lambda seconds: f"to_timestamp({seconds})",
        "VACUUM (ANALYZE)",
        ("SET maintenance_work_mem = '256MB'", "SET synchronous_commit = off"),
    ),
    "sqlite": Spelling(
        "(WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {}) SELECT n FROM s) AS s".format,
        lambda seconds: f"strftime('%Y-%m-%dT%H:%M:%S.000000+00:00', {seconds}, 'unixepoch')",
        "ANALYZE",
        ("PRAGMA synchronous = OFF", "PRAGMA cache_size = -200000"),
    ),
    "mysql": _MARIADB,
    "mariadb": _MARIADB,
}


def order_id(number: int) -> str:
    """Return the id of an order by its place in time, from 1."""
    return f"order_{1_000_000_000 + number}"


def created_at(number: float) -> datetime:
    """Return when an order was created."""
    return datetime.fromtimestamp(_EPOCH + number * _STEP, UTC)


def number_of(number: int) -> str:
    """Return the order number of an order."""
    return f"N-{1_000_000_000 + number * 7919 % 1_000_003}"


def fill(connection: Connection, orders: int) -> None:
    """Make the tables of an empty database, put orders into them, and then index them."""
    spelling = SPELLINGS[connection.dialect.name]
    for statement in spelling.settings:
        connection.exec_driver_sql(statement)
    for table in metadata.tables.values():
        connection.execute(CreateTable(table))
    quote = connection.dialect.identifier_preparer.quote
    for tenant, number in ((HUGE, orders), (TINY, TINY_ORDERS)):
        for name, columns, source in _Shop(spelling, tenant, number).rows():
            names = ", ".join(map(quote, columns))
            statement = f"INSERT INTO {PREFIX}{name} ({names}) SELECT {', '.join(columns.values())} FROM {source}"
            connection.execution_options(no_parameters=True).exec_driver_sql(statement)
    for table in metadata.tables.values():
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            index.create(connection)
    if connection.dialect.name == "sqlite":
        # As the tables of a file have them from the beginning.
        assume(connection)
    connection.commit()


def analyse(connection: Connection) -> None:
    """Let the database look at what it has; the connection commits each statement."""
    for table in metadata.tables:
        connection.exec_driver_sql(f"{SPELLINGS[connection.dialect.name].analyse} {table}").close()


def _mixed(salt: int, most: int) -> str:
    """Return a number below `most` that an order's number settles, but does not show."""
    return f"(((n * {salt}) % 1000003) % {most})"


Rows = tuple[str, Mapping[str, str], str]
"""The name of a table, the expression for each of its columns, and the relation they are selected from."""


@attrs.frozen
class _Shop:
    """A tenant's rows, every value by the order's number."""

    spelling: Spelling
    tenant: str
    orders: int

    def rows(self) -> Iterator[Rows]:
        """Yield the rows of each table."""
        one = self.spelling.numbers(self.orders)
        two = f"{one} CROSS JOIN (SELECT 0 AS i UNION ALL SELECT 1) AS t"
        of_order = {"tenant": f"'{self.tenant}'", "order_id": "'order_' || (1000000000 + n)"}
        yield "orders", self._order(), one
        yield "order_lines", of_order | self._line(), two
        yield "events", of_order | self._event(), two
        yield "personal", of_order | self._contact(), one
        tag = f"CASE WHEN {self._rare} THEN 'rare' WHEN {_mixed(101, 100)} < 2 THEN 'vip' ELSE 'web' END"
        yield "order_labels", of_order | _label("tag", "", tag), f"{one} WHERE n % 2 = 1 OR {self._rare}"
        yield "order_labels", of_order | _label("external", "shop", "'S-' || n"), f"{one} WHERE n % 3 = 1"
        yield "order_labels", of_order | _label("metadata", "channel", "'\"app\"'"), f"{one} WHERE n % 5 = 1"
        yield "idempotency_keys", of_order | self._key(), f"{one} WHERE n > {self.orders // 2}"
        yield "idempotent_operations", self._operation(), f"{one} WHERE n > {self.orders // 2}"

    @property
    def _rare(self) -> str:
        """The condition that picks the few orders that have what is rare."""
        every = self.orders // RARE
        return f"n % {every} = {every - 1}"

    @property
    def _created(self) -> str:
        return f"{_EPOCH} + n * {_STEP}"

    def _order(self) -> dict[str, str]:
        """Return an order: the latest fiftieth is under way, as is one in a thousand; one in a hundred is a draft."""
        draft, time = "n % 101 = 50", self.spelling.time
        status = (
            f"CASE WHEN {draft} THEN 'draft' "
            f"WHEN n > {self.orders - self.orders // 50} "
            f"THEN CASE {_mixed(31, 5)} WHEN 0 THEN 'pending' ELSE 'open' END "
            f"WHEN n % 1000 = 1 THEN 'open' WHEN {_mixed(37, 10)} = 3 THEN 'cancelled' "
            f"WHEN {_mixed(41, 50)} = 8 THEN 'expired' ELSE 'completed' END"
        )
        total = f"CASE WHEN {_mixed(53, 5)} = 0 THEN 900 ELSE (n * 7919) % 100003 END"
        return {
            "tenant": f"'{self.tenant}'",
            "id": "'order_' || (1000000000 + n)",
            "number": f"CASE WHEN {draft} THEN NULL ELSE 'N-' || (1000000000 + (n * 7919) % 1000003) END",
            "status": status,
            "substate": "CASE WHEN n % 1000 = 1 THEN 'awaiting_print' ELSE NULL END",
            "held": "n % 500 = 1",
            "customer": "CASE WHEN n % 20 = 0 THEN 'cust-big' WHEN n % 10 = 9 THEN NULL "
            "WHEN n % 4 = 1 THEN 'once-' || n ELSE 'cust-' || ((n * 7919) % 20011) END",
            "currency": "CASE WHEN n % 20 = 7 THEN 'USD' ELSE 'EUR' END",
            "total": total,
            "current_total": total,
            "placed_at": f"CASE WHEN {draft} THEN NULL ELSE {time(self._created)} END",
            "created_at": time(self._created),
            "updated_at": time(f"{self._created} + {_mixed(61, 1000)} * 600"),
            "expires_at": f"CASE WHEN {status} IN ('pending', 'expired') THEN {time(f'{self._created} + 86400')} END",
            "version": "2",
            "schema_version": "1",
            "document": f"'{_DOCUMENT}'",
            "metadata": "'{}'",
        }

    def _line(self) -> dict[str, str]:
        sku = (
            f"CASE WHEN i = 1 AND {self._rare} THEN 'RARE' WHEN i = 0 AND n % 3 = 0 THEN 'TEA-001' "
            "ELSE 'SKU-' || ((n * 7919 + i * 104729) % 5000) END"
        )
        amounts = dict.fromkeys(("precision", "cancelled"), "0") | {"units": "1", "unit_price": "'9'", "total": "900"}
        return {"line_id": "'line_' || i", "position": "i", "sku": sku} | amounts

    def _event(self) -> dict[str, str]:
        return {
            "version": "i + 1",
            "id": f"'event_{self.tenant}' || (2 * n + i)",
            "type": "'order.placed'",
            "schema_version": "1",
            "occurred_at": self.spelling.time(self._created),
            "data": "'{}'",
        }

    def _contact(self) -> dict[str, str]:
        created = self.spelling.time(self._created)
        return {"id": "'contact_' || n", "kind": "'contact'", "data": "'{}'", "created_at": created}

    def _key(self) -> dict[str, str]:
        created, expires = (self.spelling.time(f"{self._created} + {more}") for more in (0, 259_200))
        named = {"scope": "'place_order'", "key": "'key-' || n", "fingerprint": "'v1:0'", "order_version": "1"}
        return named | {"created_at": created, "expires_at": expires}

    def _operation(self) -> dict[str, str]:
        """Return an operation of an order: one in five hundred was never finished."""
        created, ended, expires = (self.spelling.time(f"{self._created} + {more}") for more in (0, 60, 259_200))
        named = {"tenant": f"'{self.tenant}'", "scope": "'pay'", "key": "'key-' || n", "fingerprint": "'v1:0'"}
        texts = {"request": "'{}'", "owner": "'claim'", "recovery_point": "'charged'", "steps": "'{}'"}
        state = "CASE WHEN n % 500 = 1 THEN 'in_progress' ELSE 'succeeded' END"
        times = {"created_at": created, "updated_at": ended, "locked_until": ended, "expires_at": expires}
        return named | texts | times | {"state": state, "fence": "1", "attempts": "1"}


def _label(kind: str, name: str, value: str) -> dict[str, str]:
    return {"kind": f"'{kind}'", "name": f"'{name}'", "value": value}
