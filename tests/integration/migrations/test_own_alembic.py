"""An application whose own Alembic environment makes our tables, or leaves them to us."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from tests.integration.migrations.databases import Database

ENV = """
from alembic import context
from sqlalchemy import Column, Integer, MetaData, Table, create_engine

import orderkit
from orderkit.storage.sql.migrations.autogenerate import include_object, render_item

own = MetaData()
Table("customers", own, Column("id", Integer, primary_key=True))

with create_engine(context.config.get_main_option("sqlalchemy.url")).connect() as connection:
    context.configure(
        connection=connection,
        target_metadata={target},
        include_object=include_object,
        render_item=render_item,
    )
    with context.begin_transaction():
        context.run_migrations()
connection.engine.dispose()
"""
TEMPLATE = """
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}

from alembic import op
import sqlalchemy as sa
${imports if imports else ""}

def upgrade():
    ${upgrades if upgrades else "pass"}


def downgrade():
    ${downgrades if downgrades else "pass"}
"""


@pytest.fixture
def project(database: Database, tmp_path: Path) -> Config:
    """An application's Alembic environment."""
    home = tmp_path / "migrations"
    (home / "versions").mkdir(parents=True)
    (home / "script.py.mako").write_text(TEMPLATE)
    config = Config()
    config.set_main_option("script_location", str(home))
    config.set_main_option("sqlalchemy.url", database.url)
    return config


def write_environment(config: Config, target: str) -> None:
    home = Path(config.get_main_option("script_location") or "")
    (home / "env.py").write_text(ENV.replace("{target}", target))


def generated(config: Config, name: str) -> str:
    """Have Alembic write a revision; return what its upgrade does."""
    script = command.revision(config, name, autogenerate=True)
    assert script is not None
    assert not isinstance(script, list)
    text = Path(script.path).read_text()
    return re.sub(r"\s*#.*", "", text.partition("def upgrade():")[2].partition("def downgrade():")[0]).strip()


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "mariadb"], indirect=True)
def test_an_application_makes_our_tables_by_its_own_migrations(database: Database, project: Config) -> None:
    write_environment(project, "[own, orderkit.metadata]")
    assert "op.create_table('orderkit_orders'" in generated(project, "first")
    command.upgrade(project, "head")
    assert database.tables() >= {"customers", "orderkit_orders", "alembic_version"}
    assert "orderkit_schema" not in database.tables()
    assert generated(project, "second") == "pass"
    assert database.migrations().check() == []
    orders = database.place()
    assert database.get(orders) == orders
    command.upgrade(project, "head")
    command.downgrade(project, "base")
    assert database.tables() == {"alembic_version"}


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "mariadb"], indirect=True)
def test_an_application_that_leaves_our_tables_to_us_does_not_touch_them(database: Database, project: Config) -> None:
    database.migrations().upgrade()
    write_environment(project, "own")
    assert "orderkit" not in generated(project, "first")
    command.upgrade(project, "head")
    assert database.migrations().check() == []
    assert generated(project, "second") == "pass"
