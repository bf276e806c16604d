"""What the commands say, where, and how they end.

Results go to stdout, everything else to stderr: with `--json` there is exactly one JSON document on stdout, or
one line per item where a command streams. Nothing that is printed holds a password.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO, Final, TextIO
from urllib.parse import unquote, urlsplit

from orderkit.errors import ConfigurationError, InvalidCommand, InvalidInput, OrderKitError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


class ExitCode(IntEnum):
    """How a command ended. These never change meaning."""

    DONE = 0
    """Everything was done; a doctor found no problem."""
    FAILED = 1
    """It failed, for the reason told; or a doctor found a problem."""
    USAGE = 2
    """The command line itself is wrong."""
    PARTLY = 3
    """Some items were bad and are listed; the rest was done and is kept."""
    INTERRUPTED = 130
    """Ctrl-C; what is done is kept."""
    PIPE_CLOSED = 141
    """Whoever read the output has gone."""


_IN_URL: Final = re.compile(r"(?P<before>\w://[^\s:/@]*:)(?P<secret>\S+)(?P<after>@)")
_IN_PARAMETER: Final = re.compile(
    r"(?P<before>\b\w*(?:password|passwd|pwd|secret|token)\w*\s*[=:]\s*)(?P<secret>'[^']*'|\"[^\"]*\"|[^\s&,;)'\"]+)",
    re.IGNORECASE,
)
_HIDDEN: Final = "***"
_SHORTEST_SECRET: Final = 4


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text without passwords.

    Args:
        text: Anything that may hold a database URL or `password=…`.
        secrets: Texts to hide wherever they stand.

    Example:
        >>> masked("postgresql://shop:s3cret@db/shop")
        'postgresql://shop:***@db/shop'
    """
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, _HIDDEN)
    text = _IN_URL.sub(rf"\g<before>{_HIDDEN}\g<after>", text)
    return _IN_PARAMETER.sub(rf"\g<before>{_HIDDEN}", text)


def secrets_of(url: str | None) -> tuple[str, ...]:
    """Return the password of a URL, as it is written there and as it is meant."""
    if not url:
        return ()
    with suppress(ValueError):
        password = urlsplit(url).password
        return () if password is None else (password, unquote(password))
    return ()


class Output:
    """Where a command says what it found and what it did.

    Args:
        as_json: Results are JSON, for programs.
        debug: Errors show where they came from.
        secrets: What must never be printed.

    Attributes:
        as_json: Results are JSON.
        streaming: Items go to stdout as they come, one line each, so that everything else goes to stderr.
    """

    def __init__(self, *, as_json: bool = False, debug: bool = False, secrets: Iterable[str] = ()) -> None:
        self.as_json = as_json
        self.streaming = False
        self._debug = debug
        self._secrets = tuple(secrets)

    @cached_property
    def out(self) -> Console:
        """Where results for people go."""
        return _console(sys.stdout)

    @cached_property
    def err(self) -> Console:
        """Where messages and progress go."""
        return _console(sys.stderr)

    def result(self, value: object, show: Callable[[Console], None]) -> None:
        """Give the result of the command: as one JSON document, or as people like to read it.

        Args:
            value: Mappings, sequences, attrs classes and plain values.
            show: Shows it to people; called unless JSON is wanted.
        """
        if self.as_json:
            self.document(value)
        else:
            show(self.err if self.streaming else self.out)

    def document(self, value: object) -> None:
        """Write a JSON document as it is, whoever reads it; it goes to stderr where stdout has a stream."""
        stream = sys.stderr if self.streaming else sys.stdout
        stream.flush()
        # JSON is UTF-8, whatever the terminal is.
        stream.buffer.write(to_json(value) + b"\n")
        stream.flush()

    def say(self, message: str) -> None:
        """Tell people something; programs do not get to see it."""
        self.err.print(masked(message, self._secrets), markup=False, highlight=False, soft_wrap=True)

    @property
    def can_ask(self) -> bool:
        """Whether there is somebody to ask: at a terminal, and not behind a program that reads JSON."""
        return not self.as_json and sys.stdin.isatty()

    def confirm(self, question: str, *, yes: bool) -> None:
        """Go on only if somebody agrees.

        Args:
            question: What would be done, and whether.
            yes: It was agreed to on the command line.

        Raises:
            NotConfirmed: Nobody could be asked, or the answer was no; nothing was changed.
        """
        if yes:
            return
        if not self.can_ask:
            raise NotConfirmed("This needs a yes and nobody can be asked here; nothing was changed. Give --yes.")
        try:
            answer = self.err.input(f"{question} [y/N] ", markup=False)
        except EOFError:
            answer = ""
        if answer.strip().lower() not in {"y", "yes"}:
            raise NotConfirmed("The answer was not yes; nothing was changed.")

    def error(self, error: OrderKitError) -> None:
        """Tell what went wrong: one sentence and its code."""
        fields: object = error.errors if isinstance(error, InvalidCommand) else None
        self.failure(error.code, error.message, fields)
        self.trace(error)

    def failure(self, code: str, message: str, fields: object = None) -> None:
        """Tell what went wrong, by its code and message."""
        if self.as_json:
            told = {"code": code, "message": masked(message, self._secrets)}
            self.document({"error": told if fields is None else {**told, "fields": fields}})
        else:
            self.say(with_code(message, code))

    def unexpected(self, error: Exception) -> None:
        """Tell of an error that nobody thought of; what it says may hold anything, so only its kind is told."""
        advice = "" if self._debug else " Give --debug to see where, and please report it."
        self.failure("unexpected_error", f"The command failed in a way it should not: {type(error).__name__}.{advice}")
        self.trace(error)

    def trace(self, error: BaseException) -> None:
        """Show where an error came from, if that is wanted, without secrets."""
        if self._debug:
            sys.stderr.write(masked("".join(traceback.format_exception(error)), self._secrets))


class UnreadableFile(InvalidInput):
    """A file, or what comes through a pipe, cannot be read or written as a whole. What was done before it is kept."""

    code = "unreadable_file"


class NotConfirmed(ConfigurationError):
    """What cannot be undone was not agreed to. Nothing was changed."""

    code = "not_confirmed"


@contextmanager
def private_file(path: str) -> Generator[BinaryIO]:
    """Open a file that only its owner may read: there are names and addresses in it.

    Raises:
        UnreadableFile: It cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise UnreadableFile(f"{path!r} cannot be written: {error.strerror}. Nothing was done.") from None
    with os.fdopen(descriptor, "wb") as file:
        yield file


def with_code(message: str, code: str) -> str:
    """Return a message with its code, which that of a single field error ends with already."""
    return message if message.endswith(f"[{code}]") else f"{message} [{code}]"


def to_json(value: object) -> bytes:
    """Return a value as JSON text that people can read too."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value, enc_hook=_plain), indent=2)


def to_line(value: object) -> bytes:
    """Return a value as one line of JSON, its mappings sorted."""
    import msgspec

    return msgspec.json.encode(value, enc_hook=_plain, order="sorted") + b"\n"


def _plain(value: object) -> object:
    """Return what the encoder does not know in terms of what it does."""
    dump = getattr(value, "model_dump", None)
    return dump(mode="json", exclude_none=True) if dump is not None else str(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> Table:
    """Return a table for people.

    Args:
        columns: The headings.
        rows: The cells of each row; None is an empty one.
        right: The columns that are numbers.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text("" if cell is None else str(cell)) for cell in row))
    return made


def facts(values: Mapping[str, object]) -> Table:
    """Return names and values for people, one beneath the other; None is left out."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, show_header=False, pad_edge=False)
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    for name, value in values.items():
        if value is not None:
            made.add_row(Text(name), Text(str(value)))
    return made


_WIDE: Final = 200
"""How wide lines are where nobody's screen limits them."""


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    # Rich itself leaves colours out where there is no terminal, and where NO_COLOR says so.
    return Console(file=stream, width=None if stream.isatty() else int(os.environ.get("COLUMNS", _WIDE)))
