"""The tables, as SQLAlchemy metadata: for creating them, and for the application's own migrations.

Every table carries the prefix `orderkit_`. The columns are the fields of the row types, in order; on
PostgreSQL the outbox and the events also get `xid` and `seq`, by which a relay or a projection reads
them without missing a row: the order of sequence values is not the order of commits.

Texts are compared by code point on every database (collation `C` on PostgreSQL, a binary one that does not
pad on MariaDB), so that lists and cursors are the same everywhere. Times are kept with microseconds and in
UTC; SQLite keeps them as text of fixed width, which sorts by time, MariaDB as `DATETIME(6)`, which knows no zone.
"""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateColumn
from sqlalchemy.sql.compiler import DDLCompiler, GenericTypeCompiler
from sqlalchemy.types import TypeEngine, UserDefinedType

PREFIX = "orderkit_"

metadata = MetaData(naming_convention={"pk": "%(table_name)s_pkey"})


class PostgresqlOnly(UserDefinedType[object]):
    """The type of a column that exists on PostgreSQL alone."""

    cache_ok = True


class TransactionId(PostgresqlOnly):
    """PostgreSQL's 64-bit transaction id."""

    def get_col_spec(self, **_options: Any) -> str:
        """Return the name of the type."""
        return "xid8"


# What is found in a database is known by its name, so that nobody who compares is warned of an unknown type.
cast("dict[str, type[TypeEngine[Any]]]", ischema_names)["xid8"] = TransactionId


class SequenceNumber(PostgresqlOnly):
    """A number drawn from a sequence beside the primary key."""

    def get_col_spec(self, **_options: Any) -> str:
        """Return the name of the type."""
        return "bigint"


@compiles(CreateColumn)
def _create_column(element: CreateColumn, compiler: DDLCompiler, **options: Any) -> str | None:
    """Leave out, on the other databases, the columns that are PostgreSQL's alone."""
    if isinstance(element.element.type, PostgresqlOnly) and compiler.dialect.name != "postgresql":
        return None
    return cast("str", compiler.visit_create_column(element, **options))  # type: ignore[no-untyped-call]  # SQLAlchemy


class CodePointText(UserDefinedType[str]):
    """A text of MariaDB or MySQL, of at most so many characters, compared by code point and without padding.

    Args:
        length: How many characters; None for as many as there may be, which no index can hold.
    """

    cache_ok = True

    def __init__(self, length: int | None = None) -> None:
        self.length = length


@compiles(CodePointText)
def _code_point_text(kind: CodePointText, compiler: GenericTypeCompiler, **_options: Any) -> str:
    """Return the type with the collation that the server has: what MariaDB and MySQL have is not the same."""
    collation = "utf8mb4_nopad_bin" if getattr(compiler.dialect, "is_mariadb", False) else "utf8mb4_0900_bin"
    name = "LONGTEXT" if kind.length is None else f"VARCHAR({kind.length})"
    return f"{name} CHARACTER SET utf8mb4 COLLATE {collation}"


_MARIADB = ("mysql", "mariadb")
"""The names by which SQLAlchemy knows MariaDB and MySQL."""

OPTIONS: dict[str, Any] = {
    f"{name}_{option}": value
    for name in _MARIADB
    for option, value in (("engine", "InnoDB"), ("row_format", "DYNAMIC"))
}
"""What a table is made with on MariaDB and MySQL, whatever the server's defaults are."""


def text_type(length: int | None = None) -> TypeEngine[str]:
    """Return the type of a text; its length counts on MariaDB and MySQL, whose keys need one."""
    return Text().with_variant(Text(collation="C"), "postgresql").with_variant(CodePointText(length), *_MARIADB)


TIME = DateTime(timezone=True).with_variant(Text(), "sqlite").with_variant(DATETIME(fsp=6), *_MARIADB)
# Not JSONB: that keeps numbers as decimals, so that 1e300 would come back as an integer of 301 digits.
_JSON = Text().with_variant(JSON(), "postgresql").with_variant(CodePointText(), *_MARIADB)
_COUNTER = BigInteger().with_variant(Integer(), "sqlite")
_XID_NOW = text("pg_current_xact_id()")


NAME = 255
"""How many characters a name has at most: the longest that what comes in may have."""

_TENANT, _ID, _KIND = 100, 64, 64


def _key(name: str, length: int = NAME) -> Column[str]:
    return Column(name, text_type(length), primary_key=True)


def _tenant() -> Column[str]:
    return _key("tenant", _TENANT)


def _text(name: str, length: int = NAME, *, nullable: bool = False) -> Column[str]:
    return Column(name, text_type(length), nullable=nullable)


def _document(name: str, *, nullable: bool = False) -> Column[str]:
    """A text of any length."""
    return Column(name, text_type(), nullable=nullable)


def _time(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, TIME, nullable=nullable)


def _number(name: str) -> Column[int]:
    """A count, a version or a position: 32 bits."""
    return Column(name, Integer, nullable=False)


def _amount(name: str) -> Column[int]:
    """Minor units or units of a quantity: 64 bits."""
    return Column(name, BigInteger, nullable=False)


orders = Table(
    PREFIX + "orders",
    metadata,
    _tenant(),
    _key("id", _ID),
    _text("number", nullable=True),
    _text("status"),
    _text("substate", nullable=True),
    Column("held", Boolean, nullable=False),
    _text("customer", nullable=True),
    _text("currency"),
    _amount("total"),
    _amount("current_total"),
    _time("placed_at", nullable=True),
    _time("created_at"),
    _time("updated_at"),
    _time("expires_at", nullable=True),
    _number("version"),
    _number("schema_version"),
    _document("document"),
    Column("metadata", _JSON, nullable=False),
    **OPTIONS,
)

order_lines = Table(
    PREFIX + "order_lines",
    metadata,
    _tenant(),
    _key("order_id", _ID),
    _key("line_id"),
    _number("position"),
    _text("sku"),
    _amount("units"),
    _number("precision"),
    _amount("cancelled"),
    _text("unit_price"),
    _amount("total"),
    **OPTIONS,
)

events = Table(
    PREFIX + "events",
    metadata,
    Column("xid", TransactionId, nullable=False, server_default=_XID_NOW),
    Column("seq", SequenceNumber, Identity(), nullable=False),
    _tenant(),
    _key("order_id", _ID),
    Column("version", Integer, primary_key=True, autoincrement=False),
    _text("id"),
    _text("type"),
    _number("schema_version"),
    _time("occurred_at"),
    _text("actor", nullable=True),
    _text("correlation_id", nullable=True),
    _text("causation_id", nullable=True),
    _document("data"),
    **OPTIONS,
)

personal = Table(
    PREFIX + "personal",
    metadata,
    _tenant(),
    _key("id"),
    _text("order_id", _ID),
    _text("kind"),
    _document("data"),
    _time("created_at"),
    _time("erased_at", nullable=True),
    **OPTIONS,
)

order_labels = Table(
    PREFIX + "order_labels",
    metadata,
    _tenant(),
    _key("kind", _KIND),
    _key("name"),
    _key("value"),
    _key("order_id", _ID),
    **OPTIONS,
)

outbox = Table(
    PREFIX + "outbox",
    metadata,
    # First, so that the transaction has its id before it draws a sequence value: a relay that reads by
    # `seq` could otherwise pass a row whose transaction it did not yet see.
    Column("xid", TransactionId, nullable=False, server_default=_XID_NOW),
    Column("seq", _COUNTER, Identity(), primary_key=True),
    _text("tenant", _TENANT),
    _text("id"),
    Column("bucket", SmallInteger, nullable=False),
    _text("topic"),
    _text("key"),
    _text("aggregatetype"),
    _text("aggregateid"),
    _number("aggregate_version"),
    _text("type"),
    _number("schema_version"),
    _text("source"),
    _text("content_type"),
    _document("payload"),
    _document("headers"),
    _text("traceparent", nullable=True),
    _time("occurred_at"),
    _time("available_at"),
    UniqueConstraint("tenant", "id", name=PREFIX + "outbox_id"),
    sqlite_autoincrement=True,
    **OPTIONS,
)

idempotency_keys = Table(
    PREFIX + "idempotency_keys",
    metadata,
    _tenant(),
    _key("scope"),
    _key("key"),
    _text("fingerprint"),
    _text("order_id", _ID),
    _number("order_version"),
    _time("created_at"),
    _time("expires_at"),
    **OPTIONS,
)

idempotent_operations = Table(
    PREFIX + "idempotent_operations",
    metadata,
    _tenant(),
    _key("scope"),
    _key("key"),
    _text("fingerprint"),
    _document("request"),
    _text("state"),
    _text("owner"),
    _number("fence"),
    _number("attempts"),
    _time("locked_until"),
    _text("recovery_point"),
    _document("steps"),
    _document("result", nullable=True),
    _document("error", nullable=True),
    _time("created_at"),
    _time("updated_at"),
    _time("expires_at"),
    **OPTIONS,
)

order_numbers = Table(PREFIX + "order_numbers", metadata, _tenant(), _amount("last"), **OPTIONS)


def _index(name: str, *columns: Column[object], unique: bool = False, where: str | None = None) -> None:
    """Declare an index, partial where most rows need not be in it."""
    condition = None if where is None else text(where)
    Index(PREFIX + name, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


_o = orders.c
_index("orders_number", _o.tenant, _o.number, unique=True, where="number IS NOT NULL")
_index("orders_created", _o.tenant, _o.created_at, _o.id)
_index("orders_updated", _o.tenant, _o.updated_at, _o.id)
_index("orders_placed", _o.tenant, _o.placed_at, _o.id, where="placed_at IS NOT NULL")
_index("orders_status", _o.tenant, _o.status, _o.created_at, _o.id)
_index("orders_customer", _o.tenant, _o.customer, _o.created_at, _o.id, where="customer IS NOT NULL")
_index("orders_total", _o.tenant, _o.current_total, _o.id)
_index("orders_held", _o.tenant, _o.held, _o.created_at, _o.id, where="held = true")
_index("orders_substate", _o.tenant, _o.substate, _o.created_at, _o.id, where="substate IS NOT NULL")
_index("orders_due", _o.tenant, _o.status, _o.expires_at, where="expires_at IS NOT NULL")
_index("order_lines_sku", order_lines.c.tenant, order_lines.c.sku, order_lines.c.order_id)
_index("personal_order", personal.c.tenant, personal.c.order_id)
_index("order_labels_order", order_labels.c.tenant, order_labels.c.order_id)
_index("outbox_bucket", outbox.c.bucket, outbox.c.seq)
_index("idempotency_keys_expiry", idempotency_keys.c.expires_at)
_i = idempotent_operations.c
_index("idempotent_operations_expiry", _i.expires_at)
_index("idempotent_operations_stuck", _i.state, _i.scope, _i.locked_until, where="state = 'in_progress'")

_KINDS = {
    "small_integer": "integer",
    "integer": "integer",
    "big_integer": "bigint",
    "boolean": "boolean",
    "datetime": "time",
}


def kind_of(table: str, column: str) -> str:
    """Return how a column's values travel: text, json, integer, bigint, boolean or time.

    Args:
        table: The table's name without the prefix.
        column: The column's name.
    """
    declared = metadata.tables[PREFIX + table].c[column].type
    return "json" if declared is _JSON else _KINDS.get(declared.__visit_name__, "text")
