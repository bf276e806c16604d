"""Orders come in from files, whatever is wrong with some lines, and however often it is begun."""

from __future__ import annotations

import gzip
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from orderkit.cli import jsonlines
from orderkit.cli.output import ExitCode
from orderkit.errors import StorageUnavailable
from orderkit.kit.orders import Orders
from tests.integration.cli.conftest import on_sqlite
from tests.integration.cli.shops import Shop, item, process

BAD: tuple[tuple[object, str], ...] = (
    ('{"number": oops}', "not_json"),
    ("[1, 2]", "not_an_object"),
    ('"text"', "not_an_object"),
    ('{"a": ' * 5000, "not_json"),
    (item(1, number=None, lines=[]), "too_few_items"),
    ({"number": "H-x"}, "field_missing"),
    (item(2, colour="red"), "unknown_field"),
    (item(3, placed_at="2020-05-01"), "date_without_zone"),
    (item(4, status="lost"), "not_a_choice"),
    (item(5, idempotency_key=7), "invalid_key"),
    (item(6, lines=[{"sku": "TEA", "quantity": 1, "unit_price": {"amount": 4.5, "currency": "EUR"}}]), "float_money"),
)


def numbers(shop: Shop) -> list[str]:
    return sorted(str(order.number) for order in shop.kit.orders.stream())


def wait_for(shop: Shop, count: int) -> None:
    """Wait until so many orders are in."""
    deadline = time.monotonic() + 60
    while len(shop.kit.orders.search(limit=min(count, 500)).items) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestGoodFiles:
    def test_orders_come_in_as_they_were(self, shop: Shop) -> None:
        file = shop.file(item(1, status="completed", closed_at="2020-05-03T10:00:00Z", customer="cust-1"), item(2))
        told = shop.run("orders", "import", file)
        assert (told.code, told.out) == (0, "")
        assert told.err.startswith("Up to line 2: 2 orders brought in, 0 were there already, 0 bad, in ")
        order = shop.kit.orders.search().items[-1]
        assert {order.number for order in shop.kit.orders.search().items} == {"H-1", "H-2"}
        assert order.placed_at is not None
        assert order.placed_at.year == 2020

    def test_it_may_be_run_again(self, shop: Shop) -> None:
        lines = [item(1), item(2, number=None, customer="without a number"), item(3, idempotency_key="of its own")]
        file = shop.file(*lines)
        first, second = (shop.run("orders", "import", file, "--json").json for _ in range(2))
        assert (first["imported"], first["already_there"], first["bad"]) == (3, 0, 0)
        assert (second["imported"], second["already_there"], second["bad"]) == (0, 3, 0)
        assert len(numbers(shop)) == 3

    @on_sqlite
    def test_an_order_that_changed_in_the_file_is_told_and_left(self, shop: Shop) -> None:
        shop.run("orders", "import", shop.file(item(1)))
        told = shop.run("orders", "import", shop.file(item(1, customer="another")), "--json")
        assert (told.code, told.json["errors"][0]["code"]) == (ExitCode.PARTLY, "idempotency_mismatch")
        assert shop.kit.orders.search().items[0].customer is None

    @on_sqlite
    @pytest.mark.parametrize("kind", ["plain", "gzip", "mark", "crlf", "last line open", "blank lines"])
    @pytest.mark.parametrize("through", ["file", "stdin"])
    def test_whatever_it_is_wrapped_in(self, shop: Shop, kind: str, through: str) -> None:
        text = "".join(json.dumps(item(number)) + "\n" for number in range(3)).encode()
        wrapped = {
            "gzip": gzip.compress(text),
            "mark": b"\xef\xbb\xbf" + text,
            "crlf": text.replace(b"\n", b"\r\n"),
            "last line open": text.rstrip(),
            "blank lines": b"\n \n" + text.replace(b"\n", b"\n\n"),
        }.get(kind, text)
        path = shop.directory / "orders"
        path.write_bytes(wrapped)
        if through == "file":
            told = shop.run("orders", "import", str(path), "--json")
        else:
            told = shop.run("orders", "import", "-", "--json", given=wrapped)
        assert (told.code, told.json["imported"]) == (0, 3)

    def test_many_more_than_a_batch(self, shop: Shop) -> None:
        file = shop.file(*(item(number) for number in range(250)))
        told = shop.run("orders", "import", file, "--batch-size", "100", "--json").json
        assert (told["lines"], told["imported"]) == (250, 250)
        assert len(numbers(shop)) == 250


class TestBadLines:
    def test_they_are_listed_and_the_rest_comes_in(self, shop: Shop) -> None:
        lines = [item("a"), *(bad for bad, _ in BAD), item("b")]
        kept = shop.directory / "bad.jsonl"
        told = shop.run("orders", "import", shop.file(*lines), "--errors", str(kept), "--json")
        assert (told.code, told.err) == (ExitCode.PARTLY, "")
        assert (told.json["imported"], told.json["bad"]) == (2, len(BAD))
        expected = [(number, code) for number, (_, code) in enumerate(BAD, start=2)]
        assert sorted((error["line"], error["code"]) for error in told.json["errors"]) == expected
        written = [json.loads(line) for line in kept.read_text().splitlines()]
        assert sorted((error["line"], error["code"]) for error in written) == expected
        for error in written:
            assert error.get("item", error.get("text")) == BAD[error["line"] - 2][0]
        assert kept.stat().st_mode & 0o077 == 0
        assert numbers(shop) == ["H-a", "H-b"]

    @on_sqlite
    def test_people_see_the_first_and_how_many_more_there_are(self, shop: Shop) -> None:
        told = shop.run("orders", "import", shop.file(item(1), *(["oops"] * 30), item(2)))
        assert told.code == ExitCode.PARTLY
        assert told.err.count("[not_json]") == 20
        assert "10 more lines are bad; --errors FILE keeps them all." in told.err
        assert "Up to line 32: 2 orders brought in, 0 were there already, 30 bad" in told.err

    @on_sqlite
    def test_a_line_in_another_encoding(self, shop: Shop) -> None:
        path = shop.directory / "latin.jsonl"
        good = json.dumps(item(1)).encode()
        path.write_bytes(json.dumps(item(2, customer="Zoë"), ensure_ascii=False).encode("latin-1") + b"\n" + good)
        told = shop.run("orders", "import", str(path), "--json")
        assert (told.code, told.json["imported"], told.json["errors"][0]["code"]) == (3, 1, "not_utf8")

    @on_sqlite
    def test_a_huge_line_is_left_out(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(jsonlines, "MAX_LINE", 10_000)
        huge = json.dumps(item(1, metadata={"text": "x" * 25_000}))
        told = shop.run("orders", "import", shop.file(item(2), huge, item(3)), "--json")
        assert (told.code, told.json["imported"]) == (3, 2)
        assert [(error["line"], error["code"]) for error in told.json["errors"]] == [(2, "line_too_long")]

    @on_sqlite
    def test_two_lines_with_one_number(self, shop: Shop) -> None:
        told = shop.run("orders", "import", shop.file(item(1), item(1, customer="another"), item(1)), "--json").json
        assert (told["imported"], told["already_there"], told["bad"]) == (1, 1, 1)


class TestDryRun:
    def test_it_finds_what_an_import_would_and_does_nothing(self, shop: Shop) -> None:
        file = shop.file(item("a"), *(bad for bad, _ in BAD), item("b"))
        checked = shop.run("orders", "import", file, "--dry-run", "--json")
        assert numbers(shop) == []
        done = shop.run("orders", "import", file, "--json")
        assert (checked.code, checked.json["errors"]) == (done.code, done.json["errors"])
        assert (checked.json["dry_run"], done.json["dry_run"]) == (True, False)

    @on_sqlite
    def test_it_needs_no_database(self, shop: Shop) -> None:
        told = shop.run(
            "orders", "import", shop.file(item(1)), "--dry-run", "--url", "postgresql://nobody@127.0.0.1:1/x"
        )
        assert (told.code, told.err) == (0, "Up to line 1: 1 good, 0 bad; nothing was brought in.\n")


@on_sqlite
class TestFilesThatAreNone:
    @pytest.mark.parametrize(
        ("contents", "told"),
        [
            (b"", "not one line in the file"),
            (b"\n\n  \n", "not one line in the file"),
            (json.dumps(item(1)).encode("utf-16"), "UTF-16"),
            (json.dumps([item(1), item(2)]).encode(), "JSON array"),
            (json.dumps([item(1)], indent=2).encode(), "JSON array"),
        ],
    )
    def test_they_are_one_sentence(self, shop: Shop, contents: bytes, told: str) -> None:
        path = shop.directory / "orders"
        path.write_bytes(contents)
        answer = shop.run("orders", "import", str(path))
        assert (answer.code, answer.err.count("\n")) == (ExitCode.FAILED, 1)
        assert told in answer.err
        assert shop.run("orders", "import", str(path), "--json").json["error"]["code"] == "unreadable_file"

    def test_missing_directory_and_forbidden(self, shop: Shop) -> None:
        for path, told in ((str(shop.directory / "none"), "There is no file"), (str(shop.directory), "a directory")):
            answer = shop.run("orders", "import", path)
            assert (answer.code, told in answer.err, answer.err.count("\n")) == (ExitCode.FAILED, True, 1)

    @pytest.mark.parametrize("cut", [0.5, 0.99])
    def test_a_gzip_that_is_cut_off_or_damaged_keeps_what_stands_before(self, shop: Shop, cut: float) -> None:
        whole = gzip.compress(b"".join(json.dumps(item(number)).encode() + b"\n" for number in range(2000)))
        path = shop.directory / "orders.gz"
        path.write_bytes(whole[: int(len(whole) * cut)])
        told = shop.run("orders", "import", str(path), "--json")
        assert (told.code, told.json["error"]["code"]) == (ExitCode.FAILED, "unreadable_file")
        assert "damaged or cut off" in told.json["error"]["message"]
        path.write_bytes(whole)
        again = shop.run("orders", "import", str(path), "--json")
        assert (again.code, again.json["imported"] + again.json["already_there"]) == (0, 2000)


@pytest.mark.slow
class TestInterruption:
    def test_the_database_goes_away_in_the_middle(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = Orders.import_orders

        def failing(self: Orders, items: Any, **options: Any) -> Any:
            for position, result in enumerate(whole(self, items, **options)):
                if position == 150:
                    raise StorageUnavailable("The database was not reached; nothing was written.")
                yield result

        file = shop.file(*(item(number) for number in range(300)))
        with monkeypatch.context() as patch:
            patch.setattr(Orders, "import_orders", failing)
            told = shop.run("orders", "import", file, "--batch-size", "50")
        assert told.code == ExitCode.FAILED
        assert "[storage_unavailable]" in told.err
        assert "Up to line 150: 150 orders brought in" in told.err
        assert "Run the same command again" in told.err
        again = shop.run("orders", "import", file, "--json").json
        assert (again["imported"] + again["already_there"], again["bad"]) == (300, 0)
        assert again["already_there"] >= 150
        assert len(numbers(shop)) == 300

    def test_ctrl_c_keeps_what_is_in_and_the_next_run_goes_on(self, shop: Shop) -> None:
        with process("orders", "import", "-", "--batch-size", "10", "--json", environment=shop.environment) as run:
            assert run.stdin is not None
            for number in range(100):
                run.stdin.write(json.dumps(item(number)).encode() + b"\n")
            run.stdin.flush()
            # The last batch is in when all that was written is; then it waits for more.
            wait_for(shop, 100)
            run.send_signal(signal.SIGINT)
            out, err = run.communicate(timeout=60)
        assert (run.returncode, err) == (ExitCode.INTERRUPTED, b"")
        told = json.loads(out)
        assert (told["interrupted"], told["imported"], told["bad"]) == (True, 100, 0)
        again = shop.run("orders", "import", shop.file(*(item(number) for number in range(120))), "--json").json
        assert (again["imported"], again["already_there"], again["bad"]) == (20, 100, 0)

    @on_sqlite
    def test_ctrl_c_in_the_middle_of_a_file_says_how_to_go_on(self, shop: Shop) -> None:
        file = shop.file(*(item(number) for number in range(20_000)))
        with process("orders", "import", file, "--batch-size", "20", environment=shop.environment) as run:
            wait_for(shop, 1)
            run.send_signal(signal.SIGINT)
            out, err = run.communicate(timeout=60)
        said = err.decode()
        assert (run.returncode, out) == (ExitCode.INTERRUPTED, b"")
        assert said.startswith("Interrupted. Up to line ")
        assert said.endswith("Run the same command again to go on from there.\n")
        assert said.count("\n") == 1
        assert f"{len(numbers(shop)):,} orders brought in" in said

    @on_sqlite
    def test_ctrl_c_twice_does_not_wait_for_the_batch(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = Orders.import_orders

        def impatient(self: Orders, items: Any, **options: Any) -> Any:
            results = whole(self, items, **options)
            yield next(results)
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("the second one was not heard")

        file = shop.file(*(item(number) for number in range(9)))
        with monkeypatch.context() as patch:
            patch.setattr(Orders, "import_orders", impatient)
            told = shop.run("orders", "import", file, "--batch-size", "3", "--json")
        assert (told.code, told.json["interrupted"], told.json["imported"]) == (ExitCode.INTERRUPTED, True, 1)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        again = shop.run("orders", "import", file, "--json").json
        assert (again["imported"], again["already_there"]) == (6, 3)

    @on_sqlite
    def test_a_service_that_is_stopped_ends_like_that_too(self, shop: Shop) -> None:
        with process("orders", "import", "-", "--batch-size", "1", environment=shop.environment) as run:
            assert run.stdin is not None
            run.stdin.write(json.dumps(item(1)).encode() + b"\n")
            run.stdin.flush()
            wait_for(shop, 1)
            run.send_signal(signal.SIGTERM)
            _, err = run.communicate(timeout=60)
        assert (run.returncode, b"1 orders brought in" in err) == (ExitCode.INTERRUPTED, True)


@pytest.mark.slow
@on_sqlite
def test_the_memory_does_not_grow_with_the_file(shop: Shop, tmp_path: Path) -> None:
    import tracemalloc

    def peak(count: int) -> int:
        path = tmp_path / "many.jsonl"
        path.write_text("".join(json.dumps(item(number)) + "\n" for number in range(count)))
        tracemalloc.start()
        shop.run("orders", "import", str(path), "--dry-run", "--batch-size", "100", "--json")
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(100)
    assert peak(2000) - peak(400) < 500_000
