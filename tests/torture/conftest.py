"""The storages of the front-door tests, without memory: what is killed must have been kept."""

from __future__ import annotations

from tests.integration.kit.conftest import mariadb, place, postgresql, tenant

__all__ = ["mariadb", "place", "postgresql", "tenant"]
