"""How connections are made and pooled: the one list of options, and of what they are where nothing is said."""

from __future__ import annotations

from typing import Literal, TypedDict

import attrs

Pooler = Literal["transaction"]
"""What stands between the application and the server, where something does: one that gives each transaction, and
each statement outside of one, whichever connection of the server is free."""


class SqlOptions(TypedDict, total=False):
    """The options that a backend is opened with; see `Connecting` for what they mean and what they are by default."""

    pool_size: int
    max_overflow: int
    pool_timeout: float
    connect_timeout: float
    lock_timeout: float
    statement_timeout: float | None
    busy_timeout: float
    sqlite_synchronous: Literal["full", "normal"]
    group_commit: bool
    pooler: Pooler | None
    schema: str | None


@attrs.frozen(kw_only=True)
class Connecting:
    """How connections are made and pooled; every time is in seconds.

    Attributes:
        pool_size: Connections kept open.
        max_overflow: Connections opened beyond that under load.
        pool_timeout: How long a block waits for a connection of the pool.
        connect_timeout: How long a server may take to answer.
        lock_timeout: How long a statement waits for a lock on a server. MariaDB counts whole seconds.
        statement_timeout: How long a statement may run on a server; None is for ever. MySQL ends only those that
            read.
        busy_timeout: How long a writer waits for other writers of a SQLite file.
        sqlite_synchronous: `full` survives a loss of power with all that was committed; `normal` may lose the latest
            commits, but never leaves half of one.
        group_commit: Whether commits that come at the same time share one.
        pooler: `transaction` where PgBouncer in transaction mode, or another pooler that works alike, stands in front
            of PostgreSQL.
        schema: The schema of the tables on PostgreSQL; None is the first of the search path.
    """

    pool_size: int = 5
    max_overflow: int = 10
    pool_timeout: float = 10.0
    connect_timeout: float = 5.0
    lock_timeout: float = 5.0
    statement_timeout: float | None = None
    busy_timeout: float = 5.0
    sqlite_synchronous: Literal["full", "normal"] = "full"
    group_commit: bool = False
    pooler: Pooler | None = None
    schema: str | None = None


DEFAULTS = Connecting()
"""What holds where nothing is said, whether a URL, settings or a backend is what a kit is made of."""
