"""Operations under a lease, which call something foreign and are resumed after a crash.

The table stands here as it was when this revision was made: what the models say may change, this may not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, DateTime, Index, Integer, MetaData, Table, Text, text
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.types import TypeEngine

from orderkit.storage.sql.migrations.steps import create_missing, drop_existing
from orderkit.storage.sql.tables import CodePointText

if TYPE_CHECKING:
    from alembic.operations import Operations

revision = "0003"
down_revision = "0002"
compatible_from = "0001"
loses = "Every operation under a lease goes: one that was begun cannot be resumed, one that has ended is run again."
concurrent = False


def upgrade(op: Operations) -> None:
    """Make the table."""
    create_missing(op, tables())


def downgrade(op: Operations) -> None:
    """Remove the table."""
    drop_existing(op, tables())


_MARIADB = ("mysql", "mariadb")
_TIME = DateTime(timezone=True).with_variant(Text(), "sqlite").with_variant(DATETIME(fsp=6), *_MARIADB)
_NAME, _TENANT = 255, 100
_OPTIONS: dict[str, Any] = {f"{name}_engine": "InnoDB" for name in _MARIADB} | {
    f"{name}_row_format": "DYNAMIC" for name in _MARIADB
}


def tables() -> MetaData:
    """Return the table as it was at this revision."""
    metadata = MetaData(naming_convention={"pk": "%(table_name)s_pkey"})
    table = Table(
        "orderkit_idempotent_operations",
        metadata,
        _key("tenant", _TENANT),
        _key("scope"),
        _key("key"),
        _text("fingerprint"),
        _document("request"),
        _text("state"),
        _text("owner"),
        Column("fence", Integer, nullable=False),
        Column("attempts", Integer, nullable=False),
        _time("locked_until"),
        _text("recovery_point"),
        _document("steps"),
        _document("result", nullable=True),
        _document("error", nullable=True),
        _time("created_at"),
        _time("updated_at"),
        _time("expires_at"),
        **_OPTIONS,
    )
    _index(table)
    return metadata


def _index(table: Table) -> None:
    in_progress = text("state = 'in_progress'")
    Index("orderkit_idempotent_operations_expiry", table.c.expires_at)
    Index(
        "orderkit_idempotent_operations_stuck",
        *(table.c[column] for column in ("state", "scope", "locked_until")),
        sqlite_where=in_progress,
        postgresql_where=in_progress,
    )


def _text_type(length: int | None) -> TypeEngine[str]:
    return Text().with_variant(Text(collation="C"), "postgresql").with_variant(CodePointText(length), *_MARIADB)


def _key(name: str, length: int = _NAME) -> Column[str]:
    return Column(name, _text_type(length), primary_key=True)


def _text(name: str) -> Column[str]:
    return Column(name, _text_type(_NAME), nullable=False)


def _document(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, _text_type(None), nullable=nullable)


def _time(name: str) -> Column[object]:
    return Column(name, _TIME, nullable=False)
