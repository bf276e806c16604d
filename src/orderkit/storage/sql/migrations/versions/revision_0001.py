"""Orders, their lines, events, personal data and labels, the outbox, idempotency keys and order numbers.

The tables stand here as they were when this revision was made: what the models say may change, this may not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeEngine

from orderkit.storage.sql.migrations.steps import create_missing, drop_existing
from orderkit.storage.sql.tables import CodePointText, SequenceNumber, TransactionId

if TYPE_CHECKING:
    from alembic.operations import Operations

revision = "0001"
down_revision = "0000"
compatible_from = "0001"
loses = "Every order goes, with its history, its personal data, its messages and its idempotency keys."
concurrent = False


def upgrade(op: Operations) -> None:
    """Make the tables."""
    create_missing(op, tables())


def downgrade(op: Operations) -> None:
    """Remove the tables."""
    drop_existing(op, tables())


_MARIADB = ("mysql", "mariadb")
_TIME = DateTime(timezone=True).with_variant(Text(), "sqlite").with_variant(DATETIME(fsp=6), *_MARIADB)
_JSON = Text().with_variant(JSON(), "postgresql").with_variant(CodePointText(), *_MARIADB)
_NUMBER = BigInteger().with_variant(Integer(), "sqlite")
_XID_NOW = text("pg_current_xact_id()")
_NAME, _TENANT, _ID, _KIND = 255, 100, 64, 64
_OPTIONS: dict[str, Any] = {f"{name}_engine": "InnoDB" for name in _MARIADB} | {
    f"{name}_row_format": "DYNAMIC" for name in _MARIADB
}


def tables() -> MetaData:
    """Return the tables as they were at this revision."""
    metadata = MetaData(naming_convention={"pk": "%(table_name)s_pkey"})
    _orders(metadata)
    _order_lines(metadata)
    _events(metadata)
    _personal(metadata)
    _order_labels(metadata)
    _outbox(metadata)
    _idempotency_keys(metadata)
    _table(metadata, "order_numbers", _tenant(), _amount("last"))
    return metadata


def _text_type(length: int | None) -> TypeEngine[str]:
    return Text().with_variant(Text(collation="C"), "postgresql").with_variant(CodePointText(length), *_MARIADB)


def _table(metadata: MetaData, name: str, *items: SchemaItem, **options: Any) -> Table:
    return Table(f"orderkit_{name}", metadata, *items, **_OPTIONS, **options)


def _key(name: str, length: int = _NAME) -> Column[str]:
    return Column(name, _text_type(length), primary_key=True)


def _tenant() -> Column[str]:
    return _key("tenant", _TENANT)


def _text(name: str, length: int = _NAME, *, nullable: bool = False) -> Column[str]:
    return Column(name, _text_type(length), nullable=nullable)


def _document(name: str) -> Column[str]:
    return Column(name, _text_type(None), nullable=False)


def _time(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, _TIME, nullable=nullable)


def _number(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False)


def _amount(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _index(table: Table, name: str, *columns: str, unique: bool = False, where: str | None = None) -> None:
    condition = None if where is None else text(where)
    Index(
        f"orderkit_{name}",
        *(table.c[column] for column in columns),
        unique=unique,
        sqlite_where=condition,
        postgresql_where=condition,
    )


def _orders(metadata: MetaData) -> None:
    table = _table(
        metadata,
        "orders",
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
    )
    _index(table, "orders_number", "tenant", "number", unique=True, where="number IS NOT NULL")
    _index(table, "orders_created", "tenant", "created_at", "id")
    _index(table, "orders_updated", "tenant", "updated_at", "id")
    _index(table, "orders_placed", "tenant", "placed_at", "id", where="placed_at IS NOT NULL")
    _index(table, "orders_status", "tenant", "status", "created_at", "id")
    _index(table, "orders_customer", "tenant", "customer", "created_at", "id", where="customer IS NOT NULL")
    _index(table, "orders_total", "tenant", "current_total", "id")
    _index(table, "orders_expiry", "expires_at", where="expires_at IS NOT NULL")


def _order_lines(metadata: MetaData) -> None:
    table = _table(
        metadata,
        "order_lines",
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
    )
    _index(table, "order_lines_sku", "tenant", "sku", "order_id")


def _events(metadata: MetaData) -> None:
    _table(
        metadata,
        "events",
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
    )


def _personal(metadata: MetaData) -> None:
    table = _table(
        metadata,
        "personal",
        _tenant(),
        _key("id"),
        _text("order_id", _ID),
        _text("kind"),
        _document("data"),
        _time("created_at"),
        _time("erased_at", nullable=True),
    )
    _index(table, "personal_order", "tenant", "order_id")


def _order_labels(metadata: MetaData) -> None:
    table = _table(
        metadata,
        "order_labels",
        _tenant(),
        _key("kind", _KIND),
        _key("name"),
        _key("value"),
        _key("order_id", _ID),
    )
    _index(table, "order_labels_order", "tenant", "order_id")


def _outbox(metadata: MetaData) -> None:
    table = _table(
        metadata,
        "outbox",
        Column("xid", TransactionId, nullable=False, server_default=_XID_NOW),
        Column("seq", _NUMBER, Identity(), primary_key=True),
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
        UniqueConstraint("tenant", "id", name="orderkit_outbox_id"),
        sqlite_autoincrement=True,
    )
    _index(table, "outbox_bucket", "bucket", "seq")


def _idempotency_keys(metadata: MetaData) -> None:
    table = _table(
        metadata,
        "idempotency_keys",
        _tenant(),
        _key("scope"),
        _key("key"),
        _text("fingerprint"),
        _text("order_id", _ID),
        _number("order_version"),
        _time("created_at"),
        _time("expires_at"),
    )
    _index(table, "idempotency_keys_expiry", "expires_at")
