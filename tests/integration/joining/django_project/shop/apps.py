"""The shop: whenever its own tables are migrated, so are those of orderkit."""

# Django has no types.
# mypy: ignore-errors

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class ShopConfig(AppConfig):
    name = "shop"

    def ready(self) -> None:
        post_migrate.connect(make_tables, sender=self)


def make_tables(using: str, **_: Any) -> None:
    from orderkit import OrderKit
    from shop.orders import database_url

    with OrderKit.from_url(database_url(using)) as kit:
        kit.create_schema()
