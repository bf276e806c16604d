"""`orderkit db`: the tables under version control."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orderkit.cli.options import Invocation, command, existing
from orderkit.cli.output import ExitCode, facts, table

if TYPE_CHECKING:
    from orderkit.storage.sql.migrations import Migrations, Step

db = typer.Typer(no_args_is_help=True, help="Bring the tables from one revision to another, and look after them.")

Database = Literal["sqlite", "postgresql", "mariadb", "mysql"]


@contextmanager
def _migrations(call: Invocation, *, new: bool = False) -> Generator[Migrations]:
    """Open the migrations of the run's database; a SQLite file is made only by what may make a `new` one."""
    from orderkit.storage.sql.migrations import Migrations

    if not new:
        existing(call.url)

    def tell(_connection: object, step: Step) -> None:
        call.output.say(f"{step.direction} {step.revision}: {step.description}")

    with call.backend() as backend:
        yield Migrations(backend.engine, schema=call.schema, before=tell, lock_timeout=call.settings().lock_timeout)


@command(db, "upgrade", examples="orderkit db upgrade\norderkit db upgrade 0002 --url sqlite:///shop.db")
def upgrade(
    call: Invocation,
    revision: Annotated[str, typer.Argument(help="The revision to go to: its id, or head for the newest.")] = "head",
) -> None:
    """Bring the tables up to a revision, while orders are placed.

    One migration runs at a time. What was interrupted is gone on with.
    """
    with _migrations(call, new=True) as migrations:
        migrations.upgrade(revision)
        _show_current(call, migrations)


@command(db, "downgrade", examples="orderkit db downgrade 0001\norderkit db downgrade base --yes")
def downgrade(
    call: Invocation,
    revision: Annotated[str, typer.Argument(help="The revision to go back to: its id, or base for no tables.")],
    yes: Annotated[bool, typer.Option("--yes", help="Go on without asking although data is lost.")] = False,
) -> None:
    """Take the tables back to an older revision; if that loses data, it says what and asks."""
    from orderkit.storage.sql.migrations import DataLoss

    with _migrations(call) as migrations:
        try:
            migrations.downgrade(revision)
        except DataLoss as error:
            call.output.confirm(f"This loses data. {' '.join(error.losses)} Go on?", yes=yes)
            migrations.downgrade(revision, lose_data=True)
        _show_current(call, migrations)


@command(db, "current", examples="orderkit db current\norderkit db current --json")
def current(call: Invocation) -> None:
    """Show at which revision the tables are, and what an upgrade would do."""
    with _migrations(call) as migrations:
        _show_current(call, migrations)


def _show_current(call: Invocation, migrations: Migrations) -> None:
    found = migrations.current()
    steps = "; ".join(f"{step.revision}: {step.description}" for step in found.outstanding)
    shown = {
        "revision": found.revision or "none",
        "newest": found.head,
        "unfinished": found.migrating_to and f"a migration to {found.migrating_to} is under way or was interrupted",
        "usable from": found.compatible_from and f"releases that know {found.compatible_from}",
        "outstanding": steps or "nothing",
    }
    call.output.result(found, lambda console: console.print(facts(shown)))


@command(db, "check", examples="orderkit db check\norderkit db check --json")
def check(call: Invocation) -> int:
    """Compare the tables with what this release would make; the application's own tables are left aside.

    The exit code is 1 if there is any difference.
    """
    with _migrations(call) as migrations:
        found = migrations.check()
    rows = [(difference.what, difference.name) for difference in found]
    call.output.result(
        {"differences": found},
        lambda console: console.print(table(("what", "where"), rows) if rows else "The tables are as they should be."),
    )
    return ExitCode.FAILED if found else ExitCode.DONE


@command(db, "sql", examples="orderkit db sql --database postgresql\norderkit db sql 0001:head --database mariadb")
def sql(
    call: Invocation,
    revisions: Annotated[
        str, typer.Argument(metavar="FROM:TO", help="The revisions; the older one last for a downgrade.")
    ] = "base:head",
    database: Annotated[
        Database | None, typer.Option("--database", help="For which database; that of the URL where left out.")
    ] = None,
) -> None:
    """Write the statements of a migration, for somebody else to run. No database is asked."""
    from orderkit.storage.sql.migrations.offline import offline_sql

    source, separator, target = revisions.partition(":")
    written = offline_sql(
        database or call.url.partition(":")[0].partition("+")[0],
        source if separator else "base",
        (target if separator else source) or "head",
        schema=call.schema,
    )
    call.output.result(
        {"sql": written}, lambda console: console.print(written, markup=False, highlight=False, soft_wrap=True, end="")
    )


@command(db, "docs", examples="orderkit db docs\norderkit db docs --output docs/tables.md")
def docs(
    call: Invocation,
    output: Annotated[Path | None, typer.Option("--output", dir_okay=False, help="The file to write to.")] = None,
) -> None:
    """Write the reference of all tables as Markdown, with a Mermaid diagram of their relations."""
    from orderkit.storage.sql.migrations.documentation import table_reference

    page = table_reference()
    if output is None:
        call.output.result(
            {"markdown": page},
            lambda console: console.print(page, markup=False, highlight=False, soft_wrap=True, end=""),
        )
        return
    output.write_text(page)
    call.output.result({"written": str(output)}, lambda console: console.print(f"Written to {output}."))
