"""`orderkit doctor`: how the database is, and what to do about it."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Annotated

import typer

from orderkit.cli.findings import Finding, Installed, Level, diagnose, worst
from orderkit.cli.options import Invocation, command, existing
from orderkit.cli.output import ExitCode, masked, secrets_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from orderkit.storage.sql.diagnosis import Facts

commands = typer.Typer()

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}


@command(
    commands,
    "doctor",
    examples="""
    orderkit doctor
    orderkit doctor --strict && echo all is well
    orderkit doctor --json | jq '.findings[] | select(.level != "ok")'
    """,
)
def doctor(
    call: Invocation,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail too, not only problems.")] = False,
) -> int:
    """Look at the database and tell what is well, what is not, and what to do.

    Versions, clocks, tables and indexes, settings that decide about durability, connections, long transactions, and
    what waits: messages, expired keys, overdue orders. Nothing is changed. The exit code is 1 if there is a problem.
    """
    existing(call.url)
    facts = _examined(call)
    findings = diagnose(facts, _installed(), call.settings())
    level = worst(findings)
    document = {"worst": level, "database": call.shown_url, "findings": findings, "facts": facts}
    call.output.result(document, lambda console: _show(console, call.shown_url, findings))
    failed = level is Level.PROBLEM or (strict and level is Level.WARNING)
    return ExitCode.FAILED if failed else ExitCode.DONE


def _examined(call: Invocation) -> Facts:
    """Return what can be found out about the database, with nothing secret in what drivers say."""
    import attrs

    from orderkit.storage.sql.diagnosis import gather
    from orderkit.storage.sql.migrations import Migrations

    secrets = secrets_of(call.url)
    with call.backend() as backend:
        migrations = Migrations(backend.engine, schema=call.schema)
        facts = gather(backend.engine, schema=call.schema, migrations=migrations)
    return attrs.evolve(
        facts,
        unreachable=facts.unreachable and masked(facts.unreachable, secrets),
        unknown={part: masked(reason, secrets) for part, reason in facts.unknown.items()},
    )


def _installed() -> Installed:
    from importlib.metadata import version

    return Installed(version("orderkit"), platform.python_version(), version("sqlalchemy"))


def _show(console: Console, database: str, findings: Sequence[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, show_header=False, pad_edge=False)
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")
    for finding in findings:
        shown.add_row(Text(finding.level, style=_STYLES[finding.level]), Text(f"{finding.message} [{finding.code}]"))
        if finding.advice:
            shown.add_row("", Text(f"→ {finding.advice}", style="dim"))
    console.print(Text(database, style="bold"))
    console.print(shown)
    count = [sum(finding.level is level for finding in findings) for level in (Level.PROBLEM, Level.WARNING)]
    console.print(f"{count[0]} problems, {count[1]} warnings.", highlight=False)
