"""Which databases there are: the one place that names every dialect."""

from __future__ import annotations

import functools
import re

from orderkit.errors import ConfigurationError
from orderkit.storage.sql.dialect import Dialect
from orderkit.storage.sql.mariadb import Mariadb
from orderkit.storage.sql.postgresql import Postgresql
from orderkit.storage.sql.sqlite import Sqlite

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


@functools.cache
def dialect_for(database: str, driver: str, schema: str | None) -> Dialect:
    """Return the dialect for a database and a driver, as SQLAlchemy names them.

    Raises:
        ConfigurationError: There is none, or the schema's name cannot be used.
    """
    if schema is not None and not _IDENTIFIER.fullmatch(schema):
        raise ConfigurationError("The schema's name must be letters, digits and underscores, at most 63.")
    if database == "postgresql" and driver not in {"psycopg", "asyncpg"}:
        raise ConfigurationError(f"PostgreSQL is used through psycopg or asyncpg, not through {driver!r}.")
    if database == "postgresql":
        return Postgresql(driver, schema=None if schema is None else f'"{schema}"')
    if database == "sqlite" and schema is None:
        return Sqlite()
    if database == "sqlite":
        raise ConfigurationError("SQLite has no schemas; leave the schema out.")
    if database not in {"mysql", "mariadb"}:
        raise ConfigurationError(f"There is no storage for {database!r}. Use SQLite, PostgreSQL or MariaDB.")
    if schema is not None:
        raise ConfigurationError("MariaDB has no schemas inside a database; leave the schema out.")
    if driver not in {"pymysql", "aiomysql"}:
        raise ConfigurationError(f"MariaDB and MySQL are used through pymysql or aiomysql, not through {driver!r}.")
    return Mariadb(driver)
