"""What the pool of an engine is doing, and what is said when it has nothing left to give."""

from __future__ import annotations

from typing import cast

from sqlalchemy import Pool, QueuePool

from orderkit.errors import StorageBusy
from orderkit.unit_of_work.storage import PoolFigures


def figures_of(pool: Pool) -> PoolFigures | None:
    """Return the figures of a pool; None for one that keeps no count, such as that of a database in memory."""
    if not isinstance(pool, QueuePool):
        return None
    size, idle, in_use = pool.size(), pool.checkedin(), pool.checkedout()
    # There is no public way to ask for it; a negative one stands for none.
    most_overflow = cast("int", vars(pool)["_max_overflow"])
    limit = None if most_overflow < 0 else size + most_overflow
    return PoolFigures(size, limit, idle, in_use, max(0, idle + in_use - size))


def exhausted(pool: Pool) -> StorageBusy:
    """Return what is raised when no connection of the pool came free in time."""
    figures = figures_of(pool)
    many = "" if figures is None or figures.limit is None else f" {figures.limit}"
    waited = f"{pool.timeout():g} seconds" if isinstance(pool, QueuePool) else "too long"
    return StorageBusy(
        f"All{many} connections of the pool were in use for {waited}; nothing was read or written. Repeat it. "
        "If it happens often, keep transactions short or raise pool_size and max_overflow."
    )
