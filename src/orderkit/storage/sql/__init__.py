"""SQLite and PostgreSQL over SQLAlchemy's engines: one statement, or one short transaction, for each commit."""

from __future__ import annotations

from orderkit.storage.sql.backend import SqlBackend
from orderkit.storage.sql.engines import open_backend
from orderkit.storage.sql.tables import metadata

__all__ = ["SqlBackend", "metadata", "open_backend"]
