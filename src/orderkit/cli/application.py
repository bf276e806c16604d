"""The application: every command, and how mistakes on the command line are told."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from orderkit.cli import customers, db, doctor, exporting, importing, orders, sweep
from orderkit.cli.options import USAGE_ERROR
from orderkit.cli.output import ExitCode, Output, secrets_of

if TYPE_CHECKING:
    from collections.abc import Sequence


class Application(TyperGroup):
    """The group of all commands. What somebody mistyped may hold a password, and is told without it."""

    # The signature is Typer's.
    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and leave with its exit code."""
        words = sys.argv[1:] if args is None else list(args)
        try:
            code = super().main(words, prog_name, complete_var, False, windows_expand_args, **extra)
        except USAGE_ERROR as error:
            code = _mistaken(error, words)
        except typer.Abort:
            code = ExitCode.INTERRUPTED
        if standalone_mode:
            sys.exit(code if isinstance(code, int) else ExitCode.DONE)
        return code


def _mistaken(error: Exception, words: Sequence[str]) -> ExitCode:
    """Tell what is wrong with a command line, and where its help is."""
    message = str(getattr(error, "format_message", error.__str__)())
    # Without a message the help was shown, because no command was named.
    if message:
        path = getattr(getattr(error, "ctx", None), "command_path", "orderkit")
        secrets = [secret for word in words for secret in secrets_of(word.partition("=")[2] or word)]
        output = Output(as_json="--json" in words, secrets=secrets)
        told = message if message.endswith((".", "?")) else f"{message}."
        output.failure("usage_error", f"{told} `{path} --help` tells what there is.")
    return ExitCode.USAGE


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"orderkit {version('orderkit')}")
        raise typer.Exit


app = typer.Typer(
    cls=Application,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Exit codes: 0 done, 1 failed or problems found, 2 wrong command line, 3 partly done, 130 interrupted.",
)


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and leave.")
    ] = False,
) -> None:
    """Look after orders from a shell: find them, bring them in, keep the database well."""


orders.orders.add_typer(importing.commands)
orders.orders.add_typer(exporting.commands)
app.add_typer(orders.orders, name="orders")
app.add_typer(db.db, name="db")
app.add_typer(customers.customers, name="customers")
app.add_typer(sweep.commands)
app.add_typer(doctor.commands)
