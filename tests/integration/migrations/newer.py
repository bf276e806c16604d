"""What a newer release might bring: a revision that expands, which this release bears, and one that it does not."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from alembic.operations import Operations
from sqlalchemy import Column, String

from orderkit.storage.sql.migrations.steps import add_index, remove_index
from orderkit.storage.sql.migrations.tasks import Revision
from orderkit.storage.sql.migrations.versions import REVISIONS

HEAD = REVISIONS[-1].revision
EXPANDED, CONTRACTED = (f"{int(HEAD) + step:04}" for step in (1, 2))


@attrs.frozen
class Made:
    """A revision as a value."""

    revision: str
    down_revision: str
    compatible_from: str
    upgrade: Callable[[Operations], None]
    downgrade: Callable[[Operations], None]
    loses: str | None = None
    concurrent: bool = False


def has_note(op: Operations) -> bool:
    from sqlalchemy import inspect

    return "note" in {column["name"] for column in inspect(op.get_bind()).get_columns("orderkit_orders")}


def expand(op: Operations) -> None:
    if not has_note(op):
        op.add_column("orderkit_orders", Column("note", String(100), nullable=True))
    add_index(op, "orderkit_orders", "orderkit_orders_note", ["tenant", "note"])


def take_back(op: Operations) -> None:
    remove_index(op, "orderkit_orders", "orderkit_orders_note")
    if has_note(op):
        op.drop_column("orderkit_orders", "note")


def contract(op: Operations) -> None:
    op.drop_column("orderkit_orders", "currency")


def restore(op: Operations) -> None:
    op.add_column("orderkit_orders", Column("currency", String(255), nullable=True))


EXPANDING = Made(EXPANDED, HEAD, REVISIONS[-1].compatible_from, expand, take_back, concurrent=True)
CONTRACTING = Made(CONTRACTED, EXPANDED, CONTRACTED, contract, restore, loses="Currencies that were written since go.")
NEWER: tuple[Revision, ...] = (*REVISIONS, EXPANDING, CONTRACTING)
"""The revisions of that release."""
