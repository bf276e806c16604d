"""Indexes for held orders, for substates and for orders that are due to expire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderkit.storage.sql.migrations.steps import add_index, remove_index

if TYPE_CHECKING:
    from alembic.operations import Operations

revision = "0002"
down_revision = "0001"
compatible_from = "0001"
loses = None
concurrent = True

_ORDERS = "orderkit_orders"
_HELD, _SUBSTATE, _DUE, _EXPIRY = (f"orderkit_orders_{name}" for name in ("held", "substate", "due", "expiry"))


def upgrade(op: Operations) -> None:
    """Add the new indexes; the one that `due` replaces goes when that is there."""
    add_index(op, _ORDERS, _HELD, ["tenant", "held", "created_at", "id"], where="held = true")
    add_index(op, _ORDERS, _SUBSTATE, ["tenant", "substate", "created_at", "id"], where="substate IS NOT NULL")
    add_index(op, _ORDERS, _DUE, ["tenant", "status", "expires_at"], where="expires_at IS NOT NULL")
    remove_index(op, _ORDERS, _EXPIRY)


def downgrade(op: Operations) -> None:
    """Have the indexes as they were."""
    add_index(op, _ORDERS, _EXPIRY, ["expires_at"], where="expires_at IS NOT NULL")
    for name in (_HELD, _SUBSTATE, _DUE):
        remove_index(op, _ORDERS, name)
