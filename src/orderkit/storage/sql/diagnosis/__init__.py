"""What can be known of a database that keeps orders, gathered for whoever looks after it."""

from __future__ import annotations

from orderkit.storage.sql.diagnosis.facts import Backlog, Facts, Files, Heap, Link, Server, TableFacts
from orderkit.storage.sql.diagnosis.gathering import gather

__all__ = ["Backlog", "Facts", "Files", "Heap", "Link", "Server", "TableFacts", "gather"]
