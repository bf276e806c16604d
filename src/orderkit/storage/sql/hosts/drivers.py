"""Which plain connections of which drivers can be joined."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from orderkit.storage.sql.dialect import Dialect
from orderkit.storage.sql.execution import Executor
from orderkit.storage.sql.hosts.host import Host


class DriverHost(Host, Protocol):
    """A driver's own connection."""

    def check(self, executor: Executor, dialect: Dialect) -> None:
        """Insist on a transaction to work in, begun if the driver would have begun it now; see `Host.enter`."""
        ...


def is_a(value: object, module: str, *names: str) -> bool:
    """Tell whether a value is of a class of a module, without importing it: whoever has one has done that."""
    loaded = sys.modules.get(module)
    classes = tuple(getattr(loaded, name) for name in names if hasattr(loaded, name))
    return isinstance(value, classes)


def _sqlite(connection: Any) -> DriverHost:
    from orderkit.storage.sql.hosts.sqlite import SqliteHost

    return SqliteHost(connection)


def _psycopg(connection: Any) -> DriverHost:
    from orderkit.storage.sql.hosts.psycopg import PsycopgHost

    return PsycopgHost(connection)


def _mysql(connection: Any) -> DriverHost:
    from orderkit.storage.sql.hosts.mysql import MysqlHost

    return MysqlHost(connection)


_DRIVERS: Mapping[tuple[str, ...], Callable[[Any], DriverHost]] = {
    ("sqlite3", "Connection"): _sqlite,
    ("psycopg", "Connection", "AsyncConnection"): _psycopg,
    ("pymysql.connections", "Connection"): _mysql,
    ("MySQLdb.connections", "Connection"): _mysql,
    ("aiomysql", "Connection"): _mysql,
}


def driver_host(connection: object) -> DriverHost | None:
    """Return the host that a driver's connection is, or None if it is of another driver."""
    for (module, *names), host in _DRIVERS.items():
        if is_a(connection, module, *names):
            return host(connection)
    return None
