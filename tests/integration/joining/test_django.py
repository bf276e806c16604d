"""A Django project of its own, in a process of its own, on each database and under Django's own test runner."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.conftest import text_of

PROJECT = Path(__file__).parent / "django_project"


@pytest.mark.parametrize(
    ("database", "driver"),
    [
        ("in memory", "sqlite"),
        pytest.param("sqlite", "sqlite", marks=pytest.mark.slow),
        pytest.param("postgresql", "postgresql", marks=pytest.mark.slow),
        pytest.param("mariadb", "mariadb", marks=pytest.mark.slow),
    ],
)
def test_the_tests_of_a_django_project(
    database: str, driver: str, databases: Callable[[str], URL], tmp_path: Path
) -> None:
    url = databases(driver).set(drivername=driver)
    only = ["--exclude-tag=committed"] if database == "in memory" else []
    named = {
        "in memory": {},
        "sqlite": {"SHOP_TEST_DATABASE": str(tmp_path / "shop.db")},
    }.get(database, {"SHOP_TEST_DATABASE": f"orderkit_django_{secrets.token_hex(6)}"})
    surroundings = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("ORDERKIT_", "DJANGO_"))},
        "SHOP_DATABASE_URL": text_of(url),
        "SHOP_FOLDER": str(tmp_path),
        **named,
    }
    command = [sys.executable, "-W", "error", "-m", "django", "test", "--settings=settings", "--noinput", *only]
    done = subprocess.run(command, cwd=PROJECT, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"Ran {9 if only else 16} tests" in done.stderr
