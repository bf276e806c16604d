"""Who waits for a lock in a database of a server, as the server tells it."""

from __future__ import annotations

import re
import time

from sqlalchemy import URL

from tests.conftest import connected_mariadb
from tests.integration.kit.places import kept, raw_postgresql


def until_somebody_waits(url: URL) -> None:
    """Return as soon as somebody waits."""
    somebody_waits = _in_mariadb if url.get_backend_name() == "mariadb" else _in_postgresql
    deadline = time.monotonic() + 10
    while not somebody_waits(url):
        assert time.monotonic() < deadline, "nobody waits"
        time.sleep(0.01)


def _in_postgresql(url: URL) -> bool:
    asking = b"SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = %s"
    with kept(url, raw_postgresql) as looking:
        return bool(looking.execute(asking, (url.database,)).fetchall())


def _in_mariadb(url: URL) -> bool:
    """Look into the status of InnoDB: its tables are as old as the last look of anybody within a tenth of a second."""
    with kept(url, connected_mariadb) as looking, looking.cursor() as cursor:
        cursor.execute("SHOW ENGINE INNODB STATUS")
        ((_, _, status),) = cursor.fetchall()
        transactions = status.partition("LIST OF TRANSACTIONS")[2]
        waiting = set(map(int, re.findall(r"^LOCK WAIT .*\n.*thread id (\d+)", transactions, re.MULTILINE)))
        cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", (url.database,))
        return not waiting.isdisjoint(identifier for (identifier,) in cursor.fetchall())
