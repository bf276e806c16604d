"""For an application whose own Alembic environment makes our tables: hooks for `context.configure` in its `env.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Column
from sqlalchemy.schema import SchemaItem

from orderkit.storage.sql.tables import PREFIX, CodePointText, PostgresqlOnly

if TYPE_CHECKING:
    from typing import Literal

    from alembic.autogenerate.api import AutogenContext


def include_object(
    item: SchemaItem, name: str | None, kind: str, reflected: bool, compare_to: SchemaItem | None
) -> bool:
    """Tell Alembic whether to compare something: not our tables where the application does not name them.

    Give it as `include_object`, whether `target_metadata` has `orderkit.metadata` in it or not.

    Args:
        item: A table, a column, an index or a constraint.
        name: Its name.
        kind: What it is, such as `table`.
        reflected: Whether it was found in the database.
        compare_to: What it would be compared to; None if there is no such thing on the other side.
    """
    if kind == "table" and reflected and compare_to is None:
        return not (name or "").startswith(PREFIX)
    return not (isinstance(item, Column) and compare_to is None and isinstance(item.type, PostgresqlOnly))


def render_item(kind: str, item: object, context: AutogenContext) -> Literal[False]:
    """Have the revisions that Alembic writes import our own types of columns. Give it as `render_item`."""
    if kind == "type" and isinstance(item, PostgresqlOnly | CodePointText):
        # The second one is for a type of SQLAlchemy, which Alembic writes with an argument it does not import.
        context.imports.update({f"import {type(item).__module__}", "from sqlalchemy import Text"})
    return False
