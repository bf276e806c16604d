"""SQLite and PostgreSQL over SQLAlchemy's engines: one statement, or one short transaction, for each commit."""

from __future__ import annotations

from orderkit.storage.sql.asynchronous import AsyncSqlBackend
from orderkit.storage.sql.backend import SqlBackend
from orderkit.storage.sql.engines import open_async_backend, open_backend
from orderkit.storage.sql.groups import grouped
from orderkit.storage.sql.joining import async_join, join, on_async_commit, on_commit
from orderkit.storage.sql.tables import metadata

__all__ = [
    "AsyncSqlBackend",
    "SqlBackend",
    "async_join",
    "grouped",
    "join",
    "metadata",
    "on_async_commit",
    "on_commit",
    "open_async_backend",
    "open_backend",
]
