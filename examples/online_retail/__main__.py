"""Place the sales of a real shop as orders, and account for every penny of them.

Reads the days of "Online Retail" (Daqing Chen, UCI Machine Learning Repository, 2015, DOI 10.24432/C5BW33) or
any other folder of such files. Ends with 0 if it reconciles, 1 if not, 2 if the data or the database cannot be used.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from placing import place, stored_orders
from reading import Sales, UnreadableData, survey
from reporting import Report, portrait

from orderkit import OrderKit, OrderKitError, Settings

USUAL_LINES, MOST_LINES = 1_000, 100_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        sales = survey(options.data, options.limit)
        with _open_kit(options.database, sales) as kit:
            report = run(kit, sales)
            print(report.as_json() if options.json else _text(kit, report))
    except (UnreadableData, OrderKitError, OSError) as error:
        print(f"online_retail: {error}", file=sys.stderr)
        return 2
    return 0 if report.reconciles else 1


def run(kit: OrderKit, sales: Sales) -> Report:
    """Place every invoice, read back what is stored, and report."""
    report = Report(len(sales.files))
    began_at = datetime.now(UTC)
    progress = Progress(len(sales.line_counts))
    for invoice in sales.invoices():
        report.read(invoice.rows)
        placed = place(kit, invoice, began_at)
        for kind, row in placed.rest:
            report.ledger.add(kind, invoice.number, row.amount)
        report.placed += placed.is_new
        if placed.problem is not None:
            report.problems[invoice.number] = placed.problem
        progress.tell(report.invoices)
    report.seconds = progress.seconds
    for order in stored_orders(kit, sales.line_counts):
        report.stored(order)
    return report


class Progress:
    """Tell on standard error how far a long run has come."""

    def __init__(self, expected: int, every: float = 2.0) -> None:
        self._expected = expected
        self._every = every
        self._began = self._told = time.perf_counter()

    @property
    def seconds(self) -> float:
        """How long it has been."""
        return time.perf_counter() - self._began

    def tell(self, done: int) -> None:
        """Tell, unless it was told a moment ago."""
        now = time.perf_counter()
        if now - self._told >= self._every:
            self._told = now
            rate = done / (now - self._began)
            print(f"{done:,} of {self._expected:,} invoices, {rate:,.0f} per second", file=sys.stderr, flush=True)


def _text(kit: OrderKit, report: Report) -> str:
    shown = f"{portrait(kit, report.shown)}\n\n" if report.shown is not None else ""
    return shown + report.as_text()


@contextmanager
def _open_kit(url: str | None, sales: Sales) -> Generator[OrderKit, None, None]:
    """Open the kit on a database, or on a temporary file, for invoices as long as they come."""
    longest = max(sales.line_counts.values(), default=0)
    settings = Settings(max_lines=min(max(longest, USUAL_LINES), MOST_LINES))
    with TemporaryDirectory() as folder:
        database = url or f"sqlite:///{Path(folder, 'orders.db')}"
        with OrderKit.from_url(database, settings=settings) as kit:
            kit.create_schema()
            yield kit.bound(actor="online-retail")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("online_retail", description="Place the sales of a real shop as orders.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder with the CSV files")
    parser.add_argument("--database", metavar="URL", help="where to keep the orders; a temporary file where absent")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--limit", type=_count, metavar="N", help="only the first N invoices of the files")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("a whole number from 1 on is expected")
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())
