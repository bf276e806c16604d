"""What PostgreSQL tells of itself."""

# ruff: noqa: S608 - statements are made of the names of tables and columns, never of values

from __future__ import annotations

from orderkit.storage.sql.diagnosis.facts import Server
from orderkit.storage.sql.diagnosis.probe import Probe, numbers, whole
from orderkit.storage.sql.tables import PREFIX

NOW = "SELECT clock_timestamp()"

_SETTINGS = """
    SELECT name, setting FROM pg_settings WHERE name IN (
        'default_transaction_isolation', 'fsync', 'full_page_writes', 'lock_timeout', 'max_connections',
        'server_version', 'statement_timeout', 'synchronous_commit', 'transaction_isolation', 'transaction_read_only'
    )
"""
_STATE = "SELECT pg_is_in_recovery(), (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')"
_TRANSACTIONS = """
    SELECT EXTRACT(EPOCH FROM clock_timestamp() - xact_start) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - interval '1 min'
    ORDER BY xact_start LIMIT 20
"""
_OURS = "n.nspname = coalesce(nullif(:text, ''), current_schema()) AND left(c.relname, :integer) = :text"
_INVALID = f"""
    SELECT i.relname FROM pg_index AS x JOIN pg_class AS i ON i.oid = x.indexrelid
    JOIN pg_class AS c ON c.oid = x.indrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE {_OURS} AND NOT x.indisvalid ORDER BY 1
"""
_DEAD = f"""
    SELECT c.relname, s.n_dead_tup, s.n_live_tup FROM pg_stat_user_tables AS s JOIN pg_class AS c ON c.oid = s.relid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE {_OURS} AND s.n_dead_tup > 10000 AND s.n_dead_tup > s.n_live_tup ORDER BY 1
"""


def look(probe: Probe) -> Server:
    """Return what there is to know of the server."""
    settings = probe.settings(_SETTINGS)
    in_recovery, connections = probe.row(_STATE)
    ours = (probe.schema or "", len(PREFIX), PREFIX)
    return Server(
        "PostgreSQL",
        settings["server_version"].partition(" ")[0],
        numbers(settings["server_version"]),
        settings,
        read_only=bool(in_recovery) or settings["transaction_read_only"] == "on",
        connections=whole(connections),
        connection_limit=whole(settings["max_connections"]),
        transactions=tuple(float(str(age)) for (age,) in probe.rows(_TRANSACTIONS)),
        invalid_indexes=tuple(str(name) for (name,) in probe.rows(_INVALID, *ours)),
        dead_rows={str(name): (whole(dead), whole(live)) for name, dead, live in probe.rows(_DEAD, *ours)},
    )
