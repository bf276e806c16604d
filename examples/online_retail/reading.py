"""Read the days of the shop: CSV files to rows, and rows to invoices, one invoice in memory at a time."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple

from amounts import multiply

COLUMNS: Final = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)

# "Online Retail II", the sequel of the dataset, calls three columns by other names.
_OTHER_NAMES: Final = {"invoice": "invoiceno", "price": "unitprice"}
_ENCODINGS: Final = ("utf-8-sig", "cp1252")
_TIME_FORMATS: Final = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S")
_CONTROL: Final = re.compile(r"[\x00-\x1F\x7F]")
_INVOICE_NUMBER: Final = re.compile(r"[AC]?[0-9]{1,20}")
_QUANTITY: Final = re.compile(r"-?[0-9]{1,20}")
_UNIT_PRICE: Final = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")


class UnreadableData(Exception):
    """The folder or a file in it is not what it should be; the message says what and where."""


class Row(NamedTuple):
    """A row of a file, read but not judged. The price is in pounds, the time is that of the shop's clock."""

    invoice_number: str
    stock_code: str
    description: str
    quantity: int
    invoiced_at: datetime
    unit_price: Decimal
    customer: str
    country: str

    @property
    def amount(self) -> Decimal:
        """Quantity times unit price, exactly, in pounds."""
        return multiply(self.quantity, self.unit_price)


class Invoice(NamedTuple):
    """All rows under one number, from whichever files."""

    number: str
    rows: tuple[Row, ...]

    @property
    def invoiced_at(self) -> datetime:
        """The time of its first row, by the shop's clock."""
        return min(row.invoiced_at for row in self.rows)

    @property
    def customer(self) -> str | None:
        """Whose it is; None for a guest."""
        return next((row.customer for row in self.rows if row.customer), None)


@dataclass(frozen=True)
class DayFile:
    """A file of rows that is known to be readable in an encoding."""

    path: Path
    encoding: str

    def rows(self) -> Iterator[Row]:
        """Yield the rows.

        Raises:
            UnreadableData: Something in the file is not what it should be.
        """
        with self.path.open(encoding=self.encoding, newline="") as file:
            # Without `strict`, an open quotation mark would swallow the rows behind it.
            cells = csv.reader(file, strict=True)
            try:
                yield from self._parse(cells, _picker(next(cells, [])))
            except (csv.Error, ValueError) as error:
                raise UnreadableData(f"{self.path.name}, line {cells.line_num}: {error}.") from error

    @staticmethod
    def _parse(cells: Iterable[list[str]], pick: tuple[int, Callable[[list[str]], tuple[str, ...]]]) -> Iterator[Row]:
        width, in_order = pick
        for row in cells:
            if not row:
                continue
            if len(row) != width:
                raise ValueError(f"there are {len(row)} cells under {width} columns")
            yield _row(in_order(row))


@dataclass(frozen=True)
class Sales:
    """Files that were read through once, and how many lines each invoice in them has.

    Attributes:
        files: The files by name.
        line_counts: How many lines each invoice has, by number, in the order of the files.
    """

    files: tuple[DayFile, ...]
    line_counts: Mapping[str, int]

    def invoices(self) -> Iterator[Invoice]:
        """Yield every invoice as soon as its last line is read, wherever its other lines stand."""
        begun: dict[str, list[Row]] = {}
        for file in self.files:
            for row in file.rows():
                if row.invoice_number not in self.line_counts:
                    continue
                rows = begun.setdefault(row.invoice_number, [])
                rows.append(row)
                if len(rows) == self.line_counts[row.invoice_number]:
                    yield Invoice(row.invoice_number, tuple(begun.pop(row.invoice_number)))
        if begun:
            raise UnreadableData("The files changed while they were read; run again.")


def survey(folder: Path, limit: int | None = None) -> Sales:
    """Read all files of a folder through once, so that nothing is placed from data that cannot be read.

    Args:
        folder: Where the files are; all that end in `.csv` are read.
        limit: How many invoices are wanted, from the first; all of them where absent.

    Raises:
        UnreadableData: There are no such files, or something in one is not what it should be.
    """
    if not folder.is_dir():
        raise UnreadableData(f"{folder} is not a folder.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".csv" and path.is_file())
    if not paths:
        raise UnreadableData(f"There is no file in {folder} that ends in .csv.")
    files = tuple(DayFile(path, _encoding_of(path)) for path in paths)
    counts = Counter(row.invoice_number for file in files for row in file.rows())
    return Sales(files, dict(islice(counts.items(), limit)))


def _encoding_of(path: Path) -> str:
    for encoding in _ENCODINGS:
        decoder = codecs.getincrementaldecoder(encoding)()
        with suppress(UnicodeDecodeError), path.open("rb") as file:
            while part := file.read(1 << 20):
                decoder.decode(part)
            decoder.decode(b"", final=True)
            return encoding
    raise UnreadableData(f"{path.name}: this is text neither in UTF-8 nor in Windows-1252.")


def _picker(header: list[str]) -> tuple[int, Callable[[list[str]], tuple[str, ...]]]:
    """Return how many cells a row has, and what puts those of the known columns in order."""
    names = [name.replace(" ", "").lower() for name in header]
    names = [_OTHER_NAMES.get(name, name) for name in names]
    missing = [column for column in COLUMNS if names.count(column.lower()) != 1]
    if missing:
        raise ValueError(f"the header does not name {', '.join(missing)}, so this is no file of sales")
    return len(names), itemgetter(*(names.index(column.lower()) for column in COLUMNS))


def _row(cells: tuple[str, ...]) -> Row:
    number, code, description, quantity, at, price, customer, country = cells
    number, quantity, price = number.strip().upper(), quantity.strip(), price.strip()
    if not _INVOICE_NUMBER.fullmatch(number):
        raise ValueError("InvoiceNo is not a number, or one after C or A")
    if not _QUANTITY.fullmatch(quantity):
        raise ValueError("Quantity is not a whole number")
    if not _UNIT_PRICE.fullmatch(price):
        raise ValueError("UnitPrice is not a decimal number such as 2.55")
    return Row(
        number,
        code.strip(),
        _printable(description),
        int(quantity),
        _time(at.strip()),
        Decimal(price),
        customer.strip().removesuffix(".0"),
        _printable(country),
    )


def _printable(text: str) -> str:
    """Return text on one line, without control characters and needless spaces."""
    return " ".join(_CONTROL.sub(" ", text).split())


@lru_cache(maxsize=64)
def _time(text: str) -> datetime:
    for form in _TIME_FORMATS:
        with suppress(ValueError):
            return datetime.strptime(text, form)  # noqa: DTZ007  # the zone of the shop is put on when it is placed
    raise ValueError("InvoiceDate is not a time such as 2010-12-01 08:26:00 or 12/1/2010 8:26")
