"""A Django project whose database is named by the surroundings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

url = make_url(os.environ["SHOP_DATABASE_URL"])
engines = {"sqlite": "sqlite3", "postgresql": "postgresql", "mariadb": "mysql"}

if url.get_backend_name() == "mariadb":
    import pymysql

    # Django asks for mysqlclient by its name; PyMySQL takes its place.
    pymysql.install_as_MySQLdb()

default: dict[str, Any] = {
    "ENGINE": f"django.db.backends.{engines[url.get_backend_name()]}",
    "NAME": url.database,
    "USER": url.username or "",
    "PASSWORD": url.password or "",
    "HOST": url.host or "",
    "PORT": str(url.port or ""),
    "ATOMIC_REQUESTS": True,
    "TEST": {"NAME": os.environ.get("SHOP_TEST_DATABASE")},
}
other = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": "other.db",
    "TEST": {"NAME": str(Path(os.environ["SHOP_FOLDER"]) / "other.db")},
}
DATABASES = {"default": default, "other": other}
INSTALLED_APPS = ["shop"]
ROOT_URLCONF = "shop.views"
SECRET_KEY = "of no use elsewhere"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "Europe/Berlin"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
