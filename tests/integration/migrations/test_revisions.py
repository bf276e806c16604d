"""Every revision leads up and down with orders in the tables, and what it makes is what the models say."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from sqlalchemy import Connection

from orderkit.errors import ConfigurationError
from orderkit.storage.sql.migrations import DataLoss, Step
from orderkit.storage.sql.migrations.versions import NEEDS, REVISIONS
from tests.integration.migrations.databases import Database

HEAD = REVISIONS[-1].revision


def quiet(_connection: Connection, _step: Step) -> None:
    """Given as a callback it has every revision run by itself, also on an empty database."""


def test_revisions_are_numbered_and_say_what_they_do() -> None:
    assert [one.revision for one in REVISIONS] == [f"{number:04}" for number in range(1, len(REVISIONS) + 1)]
    assert [one.down_revision for one in REVISIONS] == ["0000", *(one.revision for one in REVISIONS[:-1])]
    assert all(re.match(r"[A-Z].+\.$", (one.__doc__ or "").splitlines()[0]) for one in REVISIONS)
    assert NEEDS in {one.revision for one in REVISIONS}


def test_compatibility_only_ever_rises() -> None:
    assert all(old.compatible_from <= new.compatible_from for old, new in pairwise(REVISIONS))
    assert all(one.compatible_from <= one.revision for one in REVISIONS)


@pytest.mark.slow
def test_all_tables_at_once_are_those_of_one_revision_after_the_other(database: Database) -> None:
    database.migrations().upgrade()
    at_once = database.definition()
    database.migrations().downgrade("base", lose_data=True)
    assert database.tables() == set()
    database.migrations(before=quiet).upgrade()
    assert database.definition() == at_once
    assert database.migrations().check() == []


@pytest.mark.slow
def test_every_revision_goes_up_down_and_up_with_orders_in_it(database: Database) -> None:
    migrations = database.migrations(before=quiet)
    migrations.upgrade(NEEDS)
    orders = database.place()
    contents = database.contents()
    for revision in REVISIONS[1:]:
        for target in (revision.revision, revision.down_revision, revision.revision):
            migrations.downgrade(target, lose_data=True)
            migrations.upgrade(target)
            assert database.state() == (target, *compatible_from(target), None)
            assert database.contents() == contents
            assert database.get(orders) == orders
    assert migrations.check() == []
    assert len(database.place(5)) == 5


def compatible_from(revision: str) -> tuple[str, ...]:
    return tuple(one.compatible_from for one in REVISIONS if one.revision == revision)


def test_an_upgrade_of_what_is_newest_does_nothing(database: Database) -> None:
    migrations = database.migrations()
    migrations.upgrade()
    before = database.definition(), database.state()
    migrations.upgrade()
    migrations.downgrade("head")
    assert (database.definition(), database.state()) == before
    assert migrations.current().outstanding == ()


def test_what_is_outstanding_is_told(database: Database) -> None:
    migrations = database.migrations()
    found = migrations.current()
    assert (found.revision, found.head, found.migrating_to, found.compatible_from) == (None, HEAD, None, None)
    assert [step.revision for step in found.outstanding] == [one.revision for one in REVISIONS]
    assert database.tables() == set()
    migrations.upgrade("0001")
    found = migrations.current()
    assert (found.revision, found.compatible_from) == ("0001", "0001")
    assert [step.revision for step in found.outstanding] == [one.revision for one in REVISIONS[1:]]


def test_a_downgrade_that_loses_data_says_so_and_is_not_begun(database: Database) -> None:
    migrations = database.migrations()
    migrations.upgrade()
    orders = database.place()
    with pytest.raises(DataLoss, match="Every order goes") as caught:
        migrations.downgrade("base")
    assert caught.value.losses == tuple(one.loses for one in reversed(REVISIONS) if one.loses is not None)
    assert database.state() == (HEAD, REVISIONS[-1].compatible_from, None)
    assert database.get(orders) == orders
    migrations.downgrade("base", lose_data=True)
    assert database.tables() == set()


@pytest.mark.parametrize("revision", ["", "9999", "tail"])
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_revision_that_does_not_exist_is_refused(database: Database, revision: str) -> None:
    migrations = database.migrations()
    for refused in (migrations.upgrade, migrations.downgrade, migrations.sql):
        with pytest.raises(ConfigurationError, match="There is no revision"):
            refused(revision)
