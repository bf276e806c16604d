"""What every command has in common: its options, how it opens a kit, and how its errors are told."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final, Literal, cast, get_type_hints

import attrs
import typer

from orderkit.cli.output import ExitCode, Output, UnreadableFile, masked, secrets_of
from orderkit.errors import ConfigurationError, OrderKitError

if TYPE_CHECKING:
    from orderkit.kit.front import OrderKit
    from orderkit.kit.settings import Settings
    from orderkit.storage.sql import SqlBackend

_PANEL: Final = "Common options"

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="ORDERKIT_DATABASE_URL",
        metavar="URL",
        rich_help_panel=_PANEL,
        help="Where orders are kept, such as sqlite:///shop.db or postgresql+psycopg://user@host/shop.",
    ),
]
Schema = Annotated[
    str | None,
    typer.Option(
        "--schema",
        envvar="ORDERKIT_TABLE_SCHEMA",
        metavar="NAME",
        rich_help_panel=_PANEL,
        help="The schema of the tables, where the database has any.",
    ),
]
Tenant = Annotated[
    str,
    typer.Option(
        "--tenant", envvar="ORDERKIT_TENANT", metavar="NAME", rich_help_panel=_PANEL, help="Whose orders are meant."
    ),
]
Profile = Annotated[
    Literal["dev", "test", "prod"] | None,
    typer.Option(
        "--profile",
        envvar="ORDERKIT_PROFILE",
        rich_help_panel=_PANEL,
        help="What the kit is used for; prod has no default for the URL.",
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", rich_help_panel=_PANEL, help="Print JSON on stdout, and nothing else there."),
]
Debug = Annotated[
    bool,
    typer.Option("--debug", rich_help_panel=_PANEL, help="Show where an error came from, without passwords."),
]


@attrs.frozen
class Invocation:
    """One run of a command: what was said on the command line that every command understands.

    Attributes:
        given: The settings given by options; the environment and defaults have the rest.
        tenant: Whose orders are meant.
        output: Where the command says what it found and did.
    """

    given: dict[str, str] = attrs.field(repr=False)
    tenant: str
    output: Output

    def settings(self) -> Settings:
        """Return the settings of this run.

        Raises:
            ConfigurationError: A setting cannot be.
        """
        from orderkit.kit.settings import Settings

        return Settings.model_validate(self.given)

    @property
    def schema(self) -> str | None:
        """The schema of the tables; None for the database's own choice."""
        return self.settings().table_schema

    @property
    def url(self) -> str:
        """The database's URL for a synchronous driver; it may hold a password.

        Raises:
            ConfigurationError: There is none.
        """
        return synchronous(self.settings().url)

    @property
    def shown_url(self) -> str:
        """The database's URL for people, without its password."""
        return masked(self.url, secrets_of(self.url))

    @contextmanager
    def kit(self) -> Generator[OrderKit]:
        """Open the kit of the tenant for the length of a block. It creates no tables and no database file.

        Raises:
            ConfigurationError: The URL cannot be used, or its database file is not there.
        """
        from orderkit.kit.front import OrderKit

        url = self.url
        existing(url)
        settings = self.settings().model_copy(update={"create_tables": False})
        with OrderKit.from_url(url, settings=settings) as kit:
            yield kit.for_tenant(self.tenant)

    @contextmanager
    def backend(self) -> Generator[SqlBackend]:
        """Open the database itself, for what looks after its tables; a SQLite file is made if it is not there.

        Raises:
            ConfigurationError: The URL cannot be used.
        """
        from orderkit.kit.engines import open_from
        from orderkit.storage.sql import open_backend

        if self.url.startswith("memory:"):
            raise ConfigurationError(_IN_MEMORY)
        settings = self.settings().model_copy(update={"group_commit": False})
        backend = cast("SqlBackend", open_from(open_backend, self.url, {"settings": settings}))
        try:
            yield backend
        finally:
            backend.close()


_IN_MEMORY: Final = "What is kept in memory ends with the command; nothing was read. Give --url."

_SYNCHRONOUS: Final = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "postgresql+asyncpg": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mysql+aiomysql": "mysql+pymysql",
    "mysql+asyncmy": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
    "mariadb+aiomysql": "mariadb+pymysql",
    "mariadb+asyncmy": "mariadb+pymysql",
}


def synchronous(url: str) -> str:
    """Return a URL with the driver the command line uses, so that it takes the one an asynchronous application has."""
    driver, separator, rest = url.partition("://")
    return _SYNCHRONOUS.get(driver, driver) + separator + rest


def existing(url: str) -> None:
    """Refuse a database that cannot have any orders, before a typing error makes a new one.

    Raises:
        ConfigurationError: It is in memory, or there is no such file.
    """
    from pathlib import Path

    scheme, _, rest = url.partition("://")
    if scheme == "memory":
        raise ConfigurationError(_IN_MEMORY)
    if not scheme.startswith("sqlite"):
        return
    path = rest.partition("?")[0].removeprefix("/")
    if path in {"", ":memory:"}:
        raise ConfigurationError(_IN_MEMORY)
    if not path.startswith("file:") and not Path(path).is_file():
        raise ConfigurationError(
            f"There is no database file {path!r}; nothing was made. Check --url, or make it by `orderkit db upgrade`."
        )


def _common(
    *,
    url: Url = None,
    schema: Schema = None,
    tenant: Tenant = "default",
    profile: Profile = None,
    json: Json = False,
    debug: Debug = False,
) -> Invocation:
    """Return the run that the common options describe."""
    output = Output(as_json=json, debug=debug, secrets=secrets_of(url))
    values = {"database_url": url, "table_schema": schema, "profile": profile}
    return Invocation({name: value for name, value in values.items() if value is not None}, tenant, output)


Command = Callable[..., "int | None"]


def command(
    app: typer.Typer, name: str, *, examples: str, takes: Callable[..., object] | None = None
) -> Callable[[Command], Command]:
    """Make a function a command of an application.

    The function takes the run first, then what `takes` returns if it is given, and then what is the command's own,
    declared as Typer wants it; its docstring is the help. What it returns is the exit code, None for 0. Errors are
    told and never shown as a traceback.

    Args:
        app: Where the command belongs.
        name: What it is called.
        examples: Command lines that people may copy, one a line.
        takes: A function whose parameters are options that several commands have, and what it makes of them.
    """
    shared = {} if takes is None else _options_of(takes)

    def register(function: Command) -> Command:
        own = _options_of(function, 1 if takes is None else 2)

        def run(**given: object) -> None:
            call = _common(**{key: given.pop(key) for key in COMMON})  # type: ignore[arg-type]  # Typer checked them

            def work() -> int | None:
                bundled = [] if takes is None else [takes(**{key: given.pop(key) for key in shared})]
                return function(call, *bundled, **given)

            raise typer.Exit(_guarded(call.output, work))

        declared = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (own | shared | COMMON).values()]
        run.__signature__ = inspect.Signature(declared)  # type: ignore[attr-defined]  # `inspect` reads it
        run.__annotations__ = {one.name: one.annotation for one in declared}
        app.command(name, help=_help(function.__doc__ or "", examples))(run)
        return function

    return register


def _options_of(function: Callable[..., object], skipped: int = 0) -> dict[str, inspect.Parameter]:
    """Return the parameters of a function that Typer is to read, and only their types: others may not be loaded yet."""
    options = dict(list(inspect.signature(function).parameters.items())[skipped:])

    def declaring() -> None:
        """Hold the annotations that are wanted."""

    declaring.__annotations__ = {name: option.annotation for name, option in options.items()}
    types = get_type_hints(declaring, vars(sys.modules[function.__module__]), include_extras=True)
    return {name: option.replace(annotation=types[name]) for name, option in options.items()}


COMMON: Final = _options_of(_common)
"""The options of every command, by name."""


def _help(text: str, examples: str) -> str:
    """Return the help of a command: what its docstring says, then examples, line by line."""
    lines = inspect.cleandoc(examples).splitlines()
    shown = "\n".join(["[bold]Examples[/bold]", *(f"[dim]$[/dim] {_literal(line)}" for line in lines)])
    # What stands behind \\b is not wrapped.
    return f"{_literal(inspect.cleandoc(text))}\n\n\b\n{shown}"


def _literal(text: str) -> str:
    """Return a text with its brackets as they are, which would be markup."""
    return text.replace("[", r"\[")


def _guarded(output: Output, work: Callable[[], int | None]) -> int:
    """Run a command and return its exit code, whatever it runs into."""
    try:
        code = work() or ExitCode.DONE
        sys.stdout.flush()
    except OrderKitError as error:
        output.error(error)
        return ExitCode.FAILED
    except KeyboardInterrupt as error:
        output.failure("interrupted", "Interrupted; what was not finished was not done.")
        output.trace(error)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # What is still buffered would be written, and fail again, when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.PIPE_CLOSED
    except OSError as error:
        reason = error.strerror or type(error).__name__
        output.error(UnreadableFile(f"Reading or writing failed: {reason}. What was done before it is kept."))
        return ExitCode.FAILED
    except typer.Exit:
        raise
    except Exception as error:
        # A traceback is nothing for the person on call.
        if isinstance(error, USAGE_ERROR):
            raise
        output.unexpected(error)
        return ExitCode.FAILED
    return code


# Typer has it from Click, or from a copy of its own, and exports only this subclass.
USAGE_ERROR: Final[type[Exception]] = typer.BadParameter.__bases__[0]
