"""What MariaDB and MySQL tell of themselves: the settings of the server, since ours are set for each connection."""

from __future__ import annotations

from orderkit.storage.sql.diagnosis.facts import Server
from orderkit.storage.sql.diagnosis.probe import Probe, numbers, whole

NOW = "SELECT UTC_TIMESTAMP(6)"

_SETTINGS = """
    SHOW GLOBAL VARIABLES WHERE Variable_name IN (
        'innodb_flush_log_at_trx_commit', 'innodb_lock_wait_timeout', 'log_bin', 'max_connections', 'read_only',
        'sql_mode', 'sync_binlog', 'version'
    )
"""
_SESSION = """
    SHOW SESSION VARIABLES WHERE Variable_name IN ('transaction_isolation', 'tx_isolation', 'innodb_lock_wait_timeout')
"""
_CONNECTIONS = "SHOW GLOBAL STATUS LIKE 'Threads_connected'"
# Without the privilege PROCESS only one's own are seen, which is refused and not answered.
_TRANSACTIONS = """
    SELECT TIMESTAMPDIFF(SECOND, trx_started, NOW()) FROM information_schema.innodb_trx
    WHERE trx_started < NOW() - INTERVAL 1 MINUTE ORDER BY trx_started LIMIT 20
"""


def look(probe: Probe) -> Server:
    """Return what there is to know of the server."""
    settings = probe.settings(_SETTINGS)
    session = probe.settings(_SESSION)
    isolation = session.get("transaction_isolation") or session.get("tx_isolation", "")
    version = settings["version"]
    return Server(
        "MariaDB" if "mariadb" in version.lower() else "MySQL",
        version.partition("-")[0],
        numbers(version),
        {**settings, "transaction_isolation": isolation.replace("-", " ").lower()},
        read_only=settings.get("read_only") == "ON",
        connections=whole(probe.row(_CONNECTIONS)[1]),
        connection_limit=whole(settings["max_connections"]),
        transactions=_transactions(probe),
    )


def _transactions(probe: Probe) -> tuple[float, ...]:
    try:
        return tuple(float(str(age)) for (age,) in probe.rows(_TRANSACTIONS))
    except Exception:  # noqa: BLE001 - whoever may not see them is told of everything else
        return ()
