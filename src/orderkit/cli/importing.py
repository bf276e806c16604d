"""`orderkit orders import`: bring in orders from elsewhere, whatever is wrong with some of them."""

from __future__ import annotations

import hashlib
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final

import attrs
import typer

from orderkit.cli.jsonlines import JsonLines, Line
from orderkit.cli.options import Invocation, command
from orderkit.cli.output import ExitCode, Output, UnreadableFile, private_file, to_line, with_code
from orderkit.cli.progress import progress
from orderkit.errors import IdempotencyMismatch, InvalidCommand, OrderKitError

if TYPE_CHECKING:
    from orderkit.kit.settings import Settings
    from orderkit.orders.bulk import BulkResult

Items = Iterator[Mapping[str, object]]
Run = Callable[[Items], "Iterator[BulkResult]"]

_SHOWN: Final = 20
_REPORTED: Final = 100
"""How many bad lines people are shown, and how many a JSON document lists; `--errors` keeps all."""


commands = typer.Typer()


@command(
    commands,
    "import",
    examples="""
    orderkit orders import orders.jsonl --dry-run
    orderkit orders import orders.jsonl.gz --errors bad.jsonl
    zcat old/*.gz | orderkit orders import - --batch-size 2000 --json
    """,
)
def import_orders(
    call: Invocation,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A file of JSON Lines, plain or gzip; - is stdin.")],
    batch_size: Annotated[int, typer.Option(min=1, max=10_000, help="How many orders are written together.")] = 500,
    errors: Annotated[
        str | None, typer.Option(metavar="FILE", help="Where bad lines are put, each with what is wrong with it.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check the file; the database is not used.")] = False,
) -> int:
    """Bring in orders, one JSON object a line, with their own numbers, times and states.

    A bad line is listed and the rest is brought in; the exit code is 3 then. After an interruption run the same
    command again: an order that is in is known by its key, its id or its number, or else by the contents of its line,
    and is not made anew.
    """
    with ExitStack() as stack:
        lines = stack.enter_context(JsonLines(file))
        kept = None if errors is None else stack.enter_context(private_file(errors))
        importing = Importing(lines, call.output, kept)
        if dry_run:
            run: Run = partial(_checked, call.settings(), batch_size)
        else:
            run = partial(stack.enter_context(call.kit()).orders.import_orders, batch_size=batch_size)
        with _stopping(lines):
            importing.run(run)
        return importing.tell(dry_run=dry_run)


@attrs.define
class Tally:
    """What has become of the lines so far.

    Attributes:
        lines: The number of the last line that was dealt with.
        imported: Orders that are in because of this run.
        already_there: Orders that an earlier run had brought in.
        bad: Lines that are no order, or that were refused.
    """

    lines: int = 0
    imported: int = 0
    already_there: int = 0
    bad: int = 0


class Importing:
    """An import under way: hands lines on, takes results back, and remembers which line was what."""

    def __init__(self, lines: JsonLines, output: Output, kept: BinaryIO | None) -> None:
        self.tally = Tally()
        self._lines = lines
        self._output = output
        self._kept = kept
        self._handed: deque[Line] = deque()
        self._reports: list[Mapping[str, object]] = []
        self._failure: OrderKitError | None = None
        self._began = monotonic()

    def run(self, run: Run) -> None:
        """Bring in every line. Where the database or somebody ends it, what is in is kept."""
        with progress(self._output.err, total=self._lines.size, unit="orders") as tell:
            try:
                for result in run(self._items()):
                    self._take(self._handed.popleft(), result)
                    tell(self.tally.imported + self.tally.already_there, self._lines.position)
            except OrderKitError as error:
                self._failure = error
                self._output.trace(error)
            except KeyboardInterrupt:
                self._lines.stopped = True
        if not self.tally.lines and not self._lines.stopped:
            self._failure = self._failure or UnreadableFile(
                "There is not one line in the file; nothing was brought in."
            )
        self._failure = self._failure or self._lines.broken

    def _items(self) -> Items:
        """Yield what is to be brought in; results come in the same order."""
        for line in self._lines:
            if line.item is None:
                self._refuse(line, line.code, line.message)
            else:
                self._handed.append(line)
                yield _with_key(line.item)

    def _take(self, line: Line, result: BulkResult) -> None:
        self.tally.lines = max(self.tally.lines, line.number)
        if isinstance(result.error, IdempotencyMismatch):
            message = "An order with this key, id or number is in already and has other contents; it was left as it is."
            self._refuse(line, result.error.code, message)
        elif result.error is not None:
            self._refuse(line, result.error.code, result.error.message, result.error)
        elif result.replayed:
            self.tally.already_there += 1
        else:
            self.tally.imported += 1

    def _refuse(self, line: Line, code: str, message: str, error: OrderKitError | None = None) -> None:
        """Keep a bad line, with what is wrong with it."""
        self.tally.lines = max(self.tally.lines, line.number)
        self.tally.bad += 1
        report: dict[str, object] = {"line": line.number, "code": code, "message": message}
        if isinstance(error, InvalidCommand):
            report["fields"] = error.errors
        if self._kept is not None:
            text = line.text.decode(errors="replace").rstrip("\r\n")
            self._kept.write(to_line(report | ({"text": text} if line.item is None else {"item": line.item})))
        if self.tally.bad <= _REPORTED:
            self._reports.append(report)
        if self.tally.bad <= _SHOWN and not self._output.as_json:
            self._output.say(f"line {line.number}: {with_code(message, code)}")

    def tell(self, *, dry_run: bool) -> int:
        """Tell how it went, and return the exit code."""
        document: dict[str, object] = {
            **attrs.asdict(self.tally),
            "dry_run": dry_run,
            "interrupted": self._lines.stopped,
            "seconds": round(monotonic() - self._began, 3),
            "errors": self._reports,
        }
        if self._failure is not None:
            document["error"] = {"code": self._failure.code, "message": self._failure.message}
        self._output.result(document, lambda _console: self._output.say(self._told(dry_run)))
        if self._failure is not None:
            return ExitCode.FAILED
        if self._lines.stopped:
            return ExitCode.INTERRUPTED
        return ExitCode.PARTLY if self.tally.bad else ExitCode.DONE

    def _told(self, dry_run: bool) -> str:
        """Return how it went, for people."""
        told = []
        if self.tally.bad > _SHOWN:
            told.append(f"{self.tally.bad - _SHOWN:,} more lines are bad; --errors FILE keeps them all.\n")
        if self._failure is not None:
            told.append(f"{with_code(self._failure.message, self._failure.code)}\n")
        if self._lines.stopped:
            told.append("Interrupted.")
        if self.tally.lines:
            told.append(f"Up to line {self.tally.lines:,}: {self._counts(dry_run)}.")
        if (self._failure or self._lines.stopped) and self.tally.lines and not dry_run:
            told.append("Run the same command again to go on from there.")
        return " ".join(told).replace("\n ", "\n").rstrip()

    def _counts(self, dry_run: bool) -> str:
        seconds = max(monotonic() - self._began, 0.001)
        if dry_run:
            return f"{self.tally.imported:,} good, {self.tally.bad:,} bad; nothing was brought in"
        return (
            f"{self.tally.imported:,} orders brought in, {self.tally.already_there:,} were there already, "
            f"{self.tally.bad:,} bad, in {seconds:.1f} s ({self.tally.imported / seconds:,.0f}/s)"
        )


def _with_key(item: Mapping[str, object]) -> Mapping[str, object]:
    """Return an item with something to know it by when it comes again: its contents, where it has nothing else."""
    if any(item.get(name) is not None for name in ("idempotency_key", "id", "number")):
        return item
    return {**item, "idempotency_key": f"import:{hashlib.sha256(to_line(item)).hexdigest()}"}


def _checked(settings: Settings, batch_size: int, items: Items) -> Iterator[BulkResult]:
    """Yield what an import would give, over an empty memory for each batch: nothing is kept anywhere."""
    from orderkit.kit.front import OrderKit

    while batch := list(islice(items, batch_size)):
        with OrderKit.from_url("memory://", settings=settings) as kit:
            yield from kit.orders.import_orders(batch, batch_size=batch_size)


@contextmanager
def _stopping(lines: JsonLines) -> Generator[None]:
    """Have Ctrl-C, or a service that is stopped, end the import behind the batch that is being written.

    Whoever presses it again does not wait for that.
    """

    def stop(_signal: int, _frame: object) -> None:
        if lines.stopped:
            raise KeyboardInterrupt
        lines.stop()

    before = {which: signal.signal(which, stop) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
