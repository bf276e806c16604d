"""`orderkit db`, from a shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from orderkit.cli.output import ExitCode, Output
from orderkit.storage.sql.migrations.versions import REVISIONS
from tests.integration.cli.shops import Answer, answer
from tests.integration.migrations.databases import Database

HEAD = REVISIONS[-1].revision

on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""For what has nothing to do with the database."""


def run(database: Database, *words: str) -> Answer:
    schema = {} if database.schema is None else {"ORDERKIT_TABLE_SCHEMA": database.schema}
    return answer("db", *words, ORDERKIT_DATABASE_URL=database.url, **schema)


def test_up_down_and_what_is_there(database: Database) -> None:
    if database.kind == "sqlite":
        assert run(database, "current").code == ExitCode.FAILED
        assert not Path(database.url.removeprefix("sqlite:///")).exists()
    upgraded = run(database, "upgrade", "--json")
    assert upgraded.code == ExitCode.DONE
    assert [line.split(":")[0] for line in upgraded.err.splitlines()] == [
        f"upgrade {one.revision}" for one in REVISIONS
    ]
    assert upgraded.json["revision"] == HEAD
    assert run(database, "check").code == ExitCode.DONE
    downgraded = run(database, "downgrade", "0001", "--yes", "--json")
    assert (downgraded.json["revision"], len(downgraded.json["outstanding"])) == ("0001", len(REVISIONS) - 1)
    assert "0002: Indexes" in run(database, "current").out
    checked = run(database, "check", "--json")
    assert checked.code == ExitCode.FAILED
    assert {"name": "orderkit_orders.orderkit_orders_due", "what": "missing index"} in checked.json["differences"]
    assert "orderkit_orders.orderkit_orders_due" in run(database, "check").out
    assert run(database, "upgrade").code == ExitCode.DONE


@on_sqlite
def test_a_downgrade_that_loses_data_asks(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    run(database, "upgrade")
    refused = run(database, "downgrade", "base", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (ExitCode.FAILED, "not_confirmed")
    questions: list[str] = []
    monkeypatch.setattr(Output, "confirm", lambda _output, question, *, yes: questions.append(question))
    assert database.tables() > {"orderkit_orders"}
    assert run(database, "downgrade", "base").code == ExitCode.DONE
    assert len(questions) == 1
    assert questions[0].startswith("This loses data. Every operation under a lease goes: ")
    assert "Every order goes, " in questions[0]
    assert "orderkit_orders" not in database.tables()
    monkeypatch.undo()
    run(database, "upgrade")
    assert run(database, "downgrade", "base", "--yes").code == ExitCode.DONE


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "mariadb"])
def test_statements_are_written_without_a_database(database: str) -> None:
    url = "sqlite:///none.db" if database == "sqlite" else f"{database}://nowhere.invalid/none"
    for words in (["--database", database], ["--url", url]):
        written = answer("db", "sql", *words)
        assert written.code == ExitCode.DONE
        assert "CREATE TABLE orderkit_orders (" in written.out
        assert f"revision='{HEAD}'" in written.out
    part = answer("db", "sql", "0001:0002", "--database", database).out
    assert "CREATE TABLE" not in part
    assert {"postgresql": "CREATE INDEX CONCURRENTLY", "mariadb": "ALGORITHM=INPLACE, LOCK=NONE"}.get(
        database, ""
    ) in part
    assert "DROP TABLE" in answer("db", "sql", "head:base", "--database", database).out


@pytest.mark.parametrize("words", [("--database", "postgresql", "--schema", "shop")])
def test_statements_for_a_schema(words: tuple[str, ...]) -> None:
    written = answer("db", "sql", *words).out
    assert 'SET search_path TO "shop"' in written
    assert answer("db", "sql", "--database", "sqlite", "--schema", "shop").code == ExitCode.FAILED
    assert answer("db", "sql", "--database", "postgresql", "--schema", 'a"; DROP TABLE b').code == ExitCode.FAILED
    assert answer("db", "sql", "--url", "oracle://nowhere.invalid/none").code == ExitCode.FAILED


def test_what_is_written_makes_the_tables(database: Database) -> None:
    kind = database.kind.partition("-")[0]
    schema = [] if database.schema is None else ["--schema", database.schema]
    script = answer("db", "sql", "--database", kind, *schema, "--json").json["sql"]
    engine = database.engine().execution_options(isolation_level="AUTOCOMMIT")
    lines = "".join(line for line in script.splitlines(keepends=True) if not line.startswith("--"))
    with engine.connect() as connection:
        for statement in filter(str.strip, lines.split(";")):
            connection.exec_driver_sql(statement)
    assert database.migrations().check() == []
    assert database.migrations().current().revision == HEAD


def test_documentation_names_every_table(tmp_path: Path) -> None:
    page = answer("db", "docs").out
    assert "erDiagram" in page
    assert "## orderkit_orders" in page
    path = tmp_path / "tables.md"
    assert answer("db", "docs", "--output", str(path)).code == ExitCode.DONE
    assert path.read_text() == page


@on_sqlite
@pytest.mark.parametrize("words", [("upgrade", "0099"), ("downgrade", "nothing"), ("sql", "0001:0099")])
def test_a_revision_that_does_not_exist(database: Database, words: tuple[str, ...]) -> None:
    run(database, "upgrade")
    refused = run(database, *words, "--json")
    assert (refused.code, refused.json["error"]["code"]) == (ExitCode.FAILED, "configuration_error")
