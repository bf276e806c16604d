"""The kit of the shop."""

# Django has no types.
# mypy: ignore-errors

from __future__ import annotations

from django.db import connections
from sqlalchemy import URL

from orderkit import OrderKit

DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mariadb+pymysql"}


def database_url(alias: str = "default") -> str:
    """Return the URL of one of Django's databases, as orderkit takes it."""
    connection = connections[alias]
    made = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{made['NAME']}" + ("&uri=true" if str(made["NAME"]).startswith("file:") else "")
    url = URL.create(
        DRIVERS[connection.vendor],
        made["USER"] or None,
        made["PASSWORD"] or None,
        made["HOST"] or None,
        int(made["PORT"]) if made["PORT"] else None,
        made["NAME"],
    )
    return url.render_as_string(hide_password=False)


kit = OrderKit.from_url(database_url())
