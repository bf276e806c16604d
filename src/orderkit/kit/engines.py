"""From settings to the options of a SQL backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from orderkit.kit.assembly import KitOptions
from orderkit.kit.settings import Settings

BackendT = TypeVar("BackendT")


def open_from(opener: Callable[..., BackendT], url: str, options: KitOptions) -> BackendT:
    """Open a backend with the pool, time-outs and durability that settings ask for."""
    settings = options.get("settings") or Settings.model_construct()
    return opener(
        url,
        pool_size=settings.pool_size,
        max_overflow=settings.max_overflow,
        pool_timeout=settings.pool_timeout,
        connect_timeout=settings.connect_timeout,
        lock_timeout=settings.lock_timeout,
        statement_timeout=settings.statement_timeout,
        busy_timeout=settings.lock_timeout,
        sqlite_synchronous="full" if settings.durable else "normal",
        group_commit=settings.group_commit,
        pooler=settings.pooler,
        schema=settings.table_schema,
    )
