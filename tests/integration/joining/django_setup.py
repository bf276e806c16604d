"""Django without a project: settings made here, and databases that come and go."""

from __future__ import annotations

import secrets
from typing import Any

import django
import pymysql
from django.conf import settings
from sqlalchemy import URL

# Django asks for mysqlclient by its name; PyMySQL takes its place.
pymysql.install_as_MySQLdb()

if not settings.configured:
    settings.configure(USE_TZ=False, TIME_ZONE="Europe/Berlin", DATABASES={})
    django.setup()

from django.db import connections, transaction  # noqa: E402 - not before the settings

ENGINES = {"sqlite": "sqlite3", "postgresql": "postgresql", "mysql": "mysql", "mariadb": "mysql"}


def alias_of(url: URL, **options: Any) -> str:
    """Make a database known to Django and return its alias."""
    alias = f"db_{secrets.token_hex(4)}"
    database = {
        "ENGINE": f"django.db.backends.{ENGINES[url.get_backend_name()]}",
        "NAME": url.database,
        "USER": url.username or "",
        "PASSWORD": url.password or "",
        "HOST": url.host or "",
        "PORT": str(url.port or ""),
        **options,
    }
    connections.databases.update(connections.configure_settings({"default": database, alias: database}))
    return alias


def forget(alias: str) -> None:
    """Close and forget a database."""
    connections[alias].close()
    del connections[alias]
    del connections.databases[alias]


def connection(alias: str) -> Any:
    return connections[alias]


def atomic(alias: str, **options: Any) -> Any:
    return transaction.atomic(using=alias, **options)
