"""The sales of a real shop: whatever the files hold, every penny of them is accounted for."""

from __future__ import annotations

import csv
import io
import json
import os
import runpy
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from decimal import Context, Decimal
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import URL

from orderkit import Line, Money, OrderFilter, OrderKit
from tests.conftest import absent, text_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "examples" / "online_retail"
SAMPLE = PROGRAM / "sample"
REAL = Path(os.environ.get("ORDERKIT_ONLINE_RETAIL_DATA", ROOT.parent / "shared" / "data" / "online-retail"))
HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
ROW = "536365,85123A,HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom"

main: Callable[[Sequence[str]], int] = runpy.run_path(str(PROGRAM), run_name="online_retail")["main"]


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def told(self) -> dict[str, Any]:
        assert self.code == 0, self.err
        return json.loads(self.out)  # type: ignore[no-any-return]  # JSON is what it is


def run(folder: Path, *options: str) -> Result:
    """Run the program in this process."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = main(["--data", str(folder), *options])
    return Result(code, out.getvalue(), err.getvalue())


def exact_total(texts: Sequence[str]) -> Fraction:
    """Add up files independently of the program: every row, quantity times price."""
    rows = (row for text in texts for row in csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
    return sum((int(row["Quantity"]) * Fraction(row["UnitPrice"]) for row in rows), Fraction())


def write(folder: Path, *rows: str, name: str = "day.csv", encoding: str = "utf-8") -> Path:
    (folder / name).write_bytes("\n".join([HEADER, *rows, ""]).encode(encoding))
    return folder


@pytest.fixture
def database(sqlite_database: URL) -> str:
    return text_of(sqlite_database)


class TestTheSample:
    def test_the_command_of_the_documentation(self, tmp_path: Path) -> None:
        command = [sys.executable, str(PROGRAM), "--data", str(SAMPLE)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1].startswith("It reconciles")
        assert "order.placed" in done.stdout
        assert list(tmp_path.iterdir()) == []

    def test_every_kind_is_told_with_its_exact_total(self) -> None:
        told = run(SAMPLE, "--json").told
        assert {kind: (entry["count"], entry["total"]) for kind, entry in told["by_kind"].items()} == {
            "goods": (13, "168689.95"),
            "manual_entries": (1, "2.55"),
            "vouchers": (1, "34.04"),
            "samples": (1, "2.85"),
            "shipping": (4, "105.95"),
            "fees": (2, "221.30"),
            "discounts": (1, "-5.04"),
            "cancellations": (3, "-168888.45"),
            "adjustments": (2, "0.00"),
            "stock_write_offs": (1, "0.00"),
            "zero_price": (2, "0.00"),
            "zero_quantity": (1, "0.00"),
            "no_stock_code": (1, "1.25"),
            "discounts_not_taken": (1, "-9.99"),
            "rounding": (2, "-0.002"),
        }

    def test_the_totals_are_those_of_the_files(self) -> None:
        texts = [(SAMPLE / name).read_text(encoding) for name, encoding in SAMPLE_FILES]
        told = run(SAMPLE, "--json").told
        assert told["file_total"] == told["accounted_total"] == "154.408"
        assert Fraction(told["file_total"]) == exact_total(texts)
        assert sum(Fraction(entry["total"]) for entry in told["by_kind"].values()) == exact_total(texts)
        rows = sum(entry["count"] for kind, entry in told["by_kind"].items() if kind != "rounding")
        assert rows == told["lines"] == 34

    def test_an_order_stands_under_its_own_number_and_date(self, database: str) -> None:
        assert run(SAMPLE, "--json", "--database", database).told["orders"] == 12
        with OrderKit.from_url(database) as kit:
            (split,) = kit.orders.search(OrderFilter(number="700106")).items
            (in_summer,) = kit.orders.search(OrderFilter(number="700115")).items
            (twice,) = kit.orders.search(OrderFilter(number="700101")).items
        assert (split.customer, str(split.total)) == ("20003", "62.40 GBP")
        assert [line.sku for line in split.lines] == ["TRAY-OAK", "TEAPOT-2L"]
        assert [(charge.kind, charge.gross) for charge in split.charges] == [("shipping", 495)]
        assert in_summer.placed_at == datetime(2025, 3, 30, 23, 20, tzinfo=UTC)
        assert in_summer.guest
        assert [line.sku for line in twice.lines] == ["TEA-ASSAM", "MUG-BLUE", "MUG-BLUE"]
        assert twice.lines[1].description == 'MUG "GOOD MORNING" BLUE'

    def test_text_in_windows_1252_is_read(self, database: str) -> None:
        run(SAMPLE, "--database", database)
        with OrderKit.from_url(database) as kit:
            (order,) = kit.orders.search(OrderFilter(number="700108")).items
        assert order.lines[0].description == "COFFEE GLASS, CAFÉ “PARIS”"

    def test_a_second_run_places_nothing(self, database: str) -> None:
        first = run(SAMPLE, "--json", "--database", database).told
        second = run(SAMPLE, "--json", "--database", database).told
        assert (first["placed_now"], first["placed_before"]) == (12, 0)
        assert (second["placed_now"], second["placed_before"]) == (0, 12)
        assert second["by_kind"] == first["by_kind"]
        with OrderKit.from_url(database) as kit:
            assert len(list(kit.orders.stream())) == 12

    def test_a_run_after_the_keys_are_forgotten_places_nothing_either(
        self, database: str, sqlite_database: URL
    ) -> None:
        first = run(SAMPLE, "--json", "--database", database).told
        with closing(sqlite3.connect(sqlite_database.database or "")) as connection, connection:
            assert connection.execute("DELETE FROM orderkit_idempotency_keys").rowcount == 12
        late = run(SAMPLE, "--json", "--database", database).told
        assert (late["placed_now"], late["by_kind"], late["problems"]) == (0, first["by_kind"], {})

    def test_orders_of_others_in_the_database_are_not_counted(self, database: str) -> None:
        with OrderKit.from_url(database) as kit:
            kit.orders.place(lines=[Line(sku="TEA", quantity=1, unit_price=Money(5, "GBP"))])
        assert run(SAMPLE, "--json", "--database", database).told["accounted_total"] == "154.408"

    def test_what_is_stored_otherwise_does_not_reconcile(self, database: str, tmp_path: Path) -> None:
        assert run(write(tmp_path, ROW), "--database", database).code == 0
        changed = run(write(tmp_path, ROW, ROW), "--database", database)
        assert changed.code == 1
        assert "536365 (idempotency_mismatch)" in changed.out
        assert changed.out.splitlines()[-1].startswith("IT DOES NOT RECONCILE: 15.30 GBP")

    def test_a_number_that_is_taken_does_not_reconcile(self, database: str, tmp_path: Path) -> None:
        with OrderKit.from_url(database) as kit:
            kit.orders.place(number="536365", lines=[Line(sku="TEA", quantity=6, unit_price=Money("2.55", "GBP"))])
        taken = run(write(tmp_path, ROW), "--json", "--database", database)
        assert (taken.code, json.loads(taken.out)["problems"]) == (1, {"536365": "already_exists"})

    def test_a_limit_takes_whole_invoices(self) -> None:
        told = run(SAMPLE, "--json", "--limit", "3").told
        assert (told["invoices"], told["lines"], told["accounted_total"]) == (3, 7, "69.748")


SAMPLE_FILES = (("2025-03-28.csv", "utf-8"), ("2025-03-29.csv", "cp1252"), ("2025-03-31.csv", "utf-8-sig"))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([ROW.replace(",6,", ",six,")], "line 2: Quantity is not a whole number"),
        ([ROW.replace(",6,", ",0.5,")], "line 2: Quantity is not a whole number"),
        ([ROW, ROW.replace("2.55", "2,55")], "line 3: there are 9 cells under 8 columns"),
        ([ROW.replace("2.55", "NaN")], "line 2: UnitPrice is not a decimal number"),
        ([ROW.replace("2.55", "")], "line 2: UnitPrice is not a decimal number"),
        ([ROW.replace("536365", "")], "line 2: InvoiceNo is not a number"),
        ([ROW.replace("2010-12-01", "2010-13-01")], "line 2: InvoiceDate is not a time"),
        ([ROW.replace("HOLDER", '"HOLDER'), ROW], "unexpected end of data"),
        ([ROW.rpartition(",")[0]], "line 2: there are 7 cells"),
    ],
)
def test_a_row_that_cannot_be_read_ends_it_before_anything_is_placed(
    rows: list[str], said: str, tmp_path: Path, database: str
) -> None:
    write(tmp_path, ROW, name="a.csv")
    write(tmp_path, *rows, name="b.csv")
    result = run(tmp_path, "--database", database)
    assert (result.code, result.out) == (2, "")
    assert f"b.csv, {said}" in result.err or said in result.err
    assert result.err.count("\n") == 1
    assert not list(tmp_path.glob("orders.db*"))


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"a,b,c\n1,2,3\n", b"PK\x03\x04\x14\x00\x06\x00\x81\x8d", HEADER.replace(",", ";").encode()],
    ids=["empty", "blank line", "other columns", "no text", "semicolons"],
)
def test_a_file_of_something_else_is_told_in_one_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "day.csv").write_bytes(content)
    result = run(tmp_path)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("online_retail: day.csv")
    assert result.err.count("\n") == 1


def test_a_folder_without_files_is_told(tmp_path: Path) -> None:
    assert "ends in .csv" in run(tmp_path).err
    assert "is not a folder" in run(tmp_path / "none").err
    assert run(tmp_path).code == run(tmp_path / "none").code == 2


def test_a_database_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    result = run(SAMPLE, "--database", "postgresql+psycopg://nobody:secret@127.0.0.1:1/none")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("online_retail: ")
    assert "secret" not in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("name", ["Online Retail II.CSV", "data.csv", "2011-06.csv"])
def test_columns_in_another_order_and_of_the_sequel_are_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(
        "Country,Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID\n"
        "EIRE,489434,85048,LIGHTS,12,12/1/2009 7:45,6.95,13085.0\n\n"
        "EIRE,489434,79323P,LIGHTS,12,12/1/2009 7:45,6.75,13085.0\n"
    )
    assert run(tmp_path, "--json").told["accounted_total"] == "164.40"


def test_an_invoice_of_more_lines_than_usual_is_one_order(tmp_path: Path) -> None:
    told = run(write(tmp_path, *[ROW] * 1_114), "--json").told
    assert (told["orders"], told["by_kind"]["goods"]) == (1, {"count": 1114, "invoices": 1, "total": "17044.20"})


def test_what_orderkit_refuses_is_told_and_accounted_for(tmp_path: Path) -> None:
    told = run(write(tmp_path, ROW.replace(",6,", ",4294967296,"), ROW.replace("536365", "7")), "--json").told
    assert told["problems"] == {"536365": "quantity_too_large"}
    assert told["by_kind"]["refused"] == {"count": 1, "invoices": 1, "total": "10952166604.80"}


# Numbers collide often, so that invoices are split, interleaved and mixed.
NUMBERS = st.sampled_from(["1", "2", "3", "4", "C1", "C5", "A6"])
CODES = st.sampled_from(["85123A", "POST", "DOT", "C2", "D", "M", "m", "S", "B", "AMAZONFEE", "gift_0001_40", ""])
QUANTITIES = st.one_of(st.integers(-5, 30), st.integers(-(10**12), 10**12), st.sampled_from([80995, 2**31 - 1, 2**31]))
PRICES = st.one_of(
    st.decimals(-10, 50, places=2),
    st.decimals("-0.01", "0.01", places=4),
    st.decimals(-(10**15), 10**15, places=12, allow_nan=False),
).map(lambda price: f"{price:f}")
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12) | st.just("x" * 300)
ROWS = st.tuples(
    NUMBERS,
    CODES | TEXTS,
    TEXTS,
    QUANTITIES.map(str),
    st.sampled_from(["2010-12-01 08:26:00", "12/1/2010 8:26", "2011-07-31 23:59:59"]),
    PRICES,
    st.sampled_from(["", "17850.0", "17850", "12347"]) | TEXTS,
    st.sampled_from(["United Kingdom", "EIRE"]) | TEXTS,
)
FOLDERS = st.lists(st.lists(ROWS, max_size=12), min_size=1, max_size=3)


def as_csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([HEADER.split(","), *rows])
    return text.getvalue()


@settings(max_examples=100, deadline=None)
@given(FOLDERS)
def test_no_folder_loses_a_penny(days: list[list[Sequence[str]]]) -> None:
    expected = sum((int(row[3]) * Fraction(row[5]) for day in days for row in day), Fraction())
    with TemporaryDirectory() as folder:
        for number, rows in enumerate(days):
            Path(folder, f"{number}.csv").write_text(as_csv(rows), "utf-8", newline="")
        told = run(Path(folder), "--json", "--database", "memory://").told
    assert Fraction(told["file_total"]) == Fraction(told["accounted_total"]) == expected
    assert sum(Fraction(entry["total"]) for entry in told["by_kind"].values()) == expected
    rows_told = sum(entry["count"] for kind, entry in told["by_kind"].items() if kind != "rounding")
    assert rows_told == told["lines"] == sum(map(len, days))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=60) | st.sampled_from([ROW.encode(), b'"', b"\n", HEADER.encode()]), max_size=6))
def test_rubbish_is_refused_or_accounted_for(parts: list[bytes]) -> None:
    with TemporaryDirectory() as folder:
        Path(folder, "day.csv").write_bytes(HEADER.encode() + b"\n" + b"\n".join(parts))
        result = run(Path(folder), "--json", "--database", "memory://")
    if result.code == 0:
        told = json.loads(result.out)
        assert told["file_total"] == told["accounted_total"]
        assert Decimal(told["file_total"]) == Context().multiply(parts.count(ROW.encode()), Decimal("15.30"))
    else:
        assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not REAL.is_dir():
        absent("the real sales are not here; ORDERKIT_ONLINE_RETAIL_DATA names their folder")
    return REAL


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database(request: pytest.FixtureRequest) -> str:
    url: URL = request.getfixturevalue(f"{request.param}_database")
    return text_of(url.set(drivername="postgresql+psycopg") if request.param == "postgresql" else url)


@pytest.mark.slow
def test_the_real_month_is_accounted_for_exactly_and_once(real_data: Path, any_database: str) -> None:
    first = run(real_data, "--json", "--database", any_database).told
    assert first["file_total"] == first["accounted_total"] == "748957.02"
    assert first["orders_total"] == "823746.14"
    assert first["by_kind"]["cancellations"] == {"count": 728, "invoices": 326, "total": "-74789.12"}
    assert (first["lines"], first["invoices"], first["orders"], first["placed_now"]) == (42_481, 2_025, 1_559, 1_559)
    assert (first["by_kind"]["zero_price"]["count"], first["by_kind"]["stock_write_offs"]["count"]) == (203, 70)
    again = run(real_data, "--json", "--database", any_database).told
    assert (again["placed_now"], again["placed_before"]) == (0, 1_559)
    assert again["by_kind"] == first["by_kind"]
