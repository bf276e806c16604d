"""Every command: its help, its options, how it tells what is wrong, and that it is quick to ask for help."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from orderkit.cli.application import app
from orderkit.cli.filters import order_filter
from orderkit.cli.options import Profile
from orderkit.cli.output import ExitCode
from orderkit.kit.settings import Profile as KitProfile
from orderkit.orders.searching import OrderFilter
from tests.conftest import text_of
from tests.integration.cli.conftest import on_sqlite
from tests.integration.cli.shops import Shop, answer, item, process

SECRET = "s3cret-Pa55"
UNREACHABLE = f"postgresql+psycopg://shop:{SECRET}@127.0.0.1:1/shop"


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command that does something, with the words that lead to it."""
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name, child in below.items():
        yield from leaves(child, (*path, name))


COMMANDS = dict(leaves(typer.main.get_command(app)))
PATHS = [" ".join(path) for path in COMMANDS]
COMMON = {"--url", "--schema", "--tenant", "--profile", "--json", "--debug"}


def read_screen(descriptor: int) -> bytes:
    """Return what a terminal shows next; nothing once nobody writes to it any more."""
    try:
        return os.read(descriptor, 65_536)
    except OSError:
        return b""


class TestEveryCommand:
    def test_there_are_those_that_are_promised(self) -> None:
        promised = {
            *(f"db {name}" for name in ("upgrade", "downgrade", "current", "check", "sql", "docs")),
            *(f"orders {name}" for name in ("list", "show", "history", "import", "export")),
            *("customers export", "customers erase", "sweep", "doctor"),
        }
        assert promised <= set(PATHS)

    @pytest.mark.parametrize("path", PATHS)
    def test_it_has_the_common_options(self, path: str) -> None:
        command = COMMANDS[tuple(path.split())]
        assert {name for option in command.params for name in option.opts} >= COMMON

    @pytest.mark.parametrize("path", PATHS)
    def test_its_help_says_what_it_does_and_shows_how(self, path: str) -> None:
        asked = answer(*path.split(), "--help", COLUMNS="200")
        assert (asked.code, asked.err) == (0, "")
        text = asked.out
        assert "Examples" in text
        assert f"orderkit {path}" in text
        for option in COMMANDS[tuple(path.split())].params:
            assert option.help, option.name

    @pytest.mark.parametrize("path", PATHS)
    def test_its_examples_are_command_lines_that_exist(self, path: str) -> None:
        shown = re.findall(r"\$ (orderkit .*)", answer(*path.split(), "--help", COLUMNS="300").out.replace("│", ""))
        assert shown
        options = {name for command in COMMANDS.values() for one in command.params for name in one.opts}
        for line in shown:
            assert any(line.startswith(f"orderkit {known}") for known in PATHS), line
            named = re.findall(r"(?<=\s)--[a-z-]+", line.partition("|")[0])
            assert set(named) <= options, line

    def test_without_a_command_the_help_is_shown(self) -> None:
        shown = answer("orders")
        assert (shown.code, shown.err) == (ExitCode.USAGE, "")
        assert "history" in shown.out

    def test_the_version(self) -> None:
        assert re.fullmatch(r"orderkit \d+\.\d+\.\d+\n", answer("--version").out)


class TestOptionsOfModels:
    def test_every_field_of_a_filter_has_an_option_with_the_same_help(self) -> None:
        options = inspect.signature(order_filter, eval_str=False).parameters
        singular = {"tag": "tags", "external_reference": "external_references"}
        assert [singular.get(name, name) for name in options] == list(OrderFilter.model_fields)
        listing = {option.name: option for option in COMMANDS["orders", "list"].params}
        for name in options:
            assert listing[name].help == OrderFilter.model_fields[singular.get(name, name)].description

    def test_the_profiles_are_those_of_the_settings(self) -> None:
        assert set(get_args(get_args(get_args(Profile)[0])[0])) == {profile.value for profile in KitProfile}


class TestMistakes:
    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["ordres"], "Did you mean 'orders'"),
            (["orders", "show"], "Missing argument"),
            (["orders", "list", "--limit", "many"], "--limit"),
            (["orders", "list", "--limit", "501"], "--limit"),
            (["orders", "list", "--status", "lost"], "--status"),
            (["orders", "list", "--placed-from", "yesterday"], "2026-11-22T09:30+01:00"),
            (["orders", "list", "--colour"], "--colour"),
            (["orders", "list", UNREACHABLE], "unexpected extra argument"),
            (["orders", "list", f"--url={UNREACHABLE}", "--limit", "0"], "--limit"),
        ],
    )
    def test_a_wrong_command_line_is_one_sentence_and_2(self, words: list[str], told: str) -> None:
        for options in ([], ["--json"]):
            wrong = answer(*words, *options)
            assert wrong.code == ExitCode.USAGE
            assert SECRET not in wrong.out + wrong.err
            message = wrong.json["error"]["message"] if options else wrong.err
            assert told in message
            assert "--help` tells what there is." in message
            assert "Traceback" not in message

    @on_sqlite
    @pytest.mark.parametrize(
        ("words", "code"),
        [
            (["orders", "show", "A-404"], "order_not_found"),
            (["orders", "history", "no such order"], "order_not_found"),
            (["orders", "list", "--sort", "colour"], "invalid_query"),
            (["orders", "list", "--cursor", "x"], "invalid_cursor"),
            (["orders", "list", "--tenant", "a\nb"], "invalid_key"),
            (["orders", "list", "--total-from", "1.999 EUR"], "wrong_exponent"),
            (["orders", "list", "--schema", "shop"], "configuration_error"),
            (["orders", "list", "--url", "nonsense"], "configuration_error"),
            (["orders", "list", "--url", "oracle://shop@db/shop"], "configuration_error"),
            (["orders", "list", "--url", "memory://"], "configuration_error"),
            (["doctor", "--url", "sqlite://"], "configuration_error"),
            (["orders", "list", "--url", "sqlite:///typing-error.db"], "configuration_error"),
            (["orders", "list", "--url", UNREACHABLE], "storage_unavailable"),
        ],
    )
    def test_an_error_is_one_sentence_with_its_code_and_1(self, shop: Shop, words: list[str], code: str) -> None:
        told = shop.run(*words)
        assert (told.code, told.out) == (ExitCode.FAILED, "")
        assert told.err.rstrip().endswith(f"[{code}]")
        assert told.err.count("\n") == 1
        document = shop.run(*words, "--json")
        assert (document.code, document.err) == (ExitCode.FAILED, "")
        assert document.json["error"]["code"] == code
        assert SECRET not in told.err + document.out

    def test_a_typing_error_makes_no_database(self, tmp_path: Any) -> None:
        path = tmp_path / "typing-error.db"
        for words in (["orders", "list"], ["doctor"], ["sweep"], ["orders", "import", os.devnull], ["db", "current"]):
            assert answer(*words, "--url", f"sqlite:///{path}").code == ExitCode.FAILED
        assert list(tmp_path.iterdir()) == []

    @on_sqlite
    def test_tables_that_are_missing_are_not_made_by_looking(self, shop: Shop) -> None:
        empty = shop.directory / "empty.db"
        empty.touch()
        assert (
            shop.run("orders", "list", "--url", f"sqlite:///{empty}", "--json")
            .json["error"]["code"]
            .startswith("schema")
        )

    def test_settings_that_cannot_be_are_told_by_name(self) -> None:
        told = answer("orders", "list", "--url", "sqlite:///x.db", ORDERKIT_POOL_SIZE="many")
        assert (told.code, "pool_size" in told.err, "many" in told.err) == (1, True, False)

    def test_prod_needs_a_url(self) -> None:
        assert "ORDERKIT_DATABASE_URL" in answer("doctor", "--profile", "prod").err


class TestSecrets:
    def test_they_are_masked_in_a_traceback_too(self) -> None:
        told = answer("orders", "list", "--url", UNREACHABLE, "--debug")
        assert "Traceback" in told.err
        assert SECRET not in told.err

    def test_they_are_masked_in_what_a_driver_says(self) -> None:
        told = answer("doctor", "--url", UNREACHABLE, "--json")
        assert told.json["database"] == UNREACHABLE.replace(SECRET, "***")
        assert SECRET not in told.out + told.err

    def test_what_nobody_thought_of_tells_no_values(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def failing(*_: object, **__: object) -> None:
            raise RuntimeError(f"cannot go on with {SECRET} and card 4111")

        monkeypatch.setattr("orderkit.cli.options.existing", failing)
        told = answer("orders", "list", "--url", UNREACHABLE, "--json")
        assert (told.code, told.json["error"]["code"]) == (1, "unexpected_error")
        assert "RuntimeError" in told.json["error"]["message"]
        assert "4111" not in told.out + told.err
        debugged = answer("orders", "list", "--url", UNREACHABLE, "--debug")
        assert ("Traceback" in debugged.err, SECRET in debugged.err) == (True, False)


@on_sqlite
class TestAsynchronousUrls:
    def test_the_url_of_an_asynchronous_application_is_good(self, postgresql_database: Any, shop: Shop) -> None:
        url = text_of(postgresql_database.set(drivername="postgresql+asyncpg"))
        assert answer("doctor", "--url", url, "--json").json["database"].startswith("postgresql+psycopg://")


@pytest.mark.slow
class TestProcess:
    def test_help_loads_neither_databases_nor_models(self) -> None:
        script = (
            "import sys; from orderkit.cli import main\n"
            "try:\n    main()\nexcept SystemExit: pass\n"
            "heavy = {'sqlalchemy', 'alembic', 'pydantic_settings', 'psycopg', 'asyncio'} & set(sys.modules)\n"
            "sys.stderr.write(','.join(sorted(heavy)))"
        )
        run = subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=True)
        assert "doctor" in run.stdout
        assert run.stderr == ""

    def test_without_the_extra_it_says_what_to_install(self) -> None:
        script = "import sys\nsys.modules['typer'] = None\nfrom orderkit.cli import main\nmain()"
        run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert (run.returncode, run.stdout) == (1, "")
        assert run.stderr == "The command line needs libraries that are not installed: pip install 'orderkit[cli]'.\n"

    @on_sqlite
    def test_no_colours_but_for_a_terminal(self, shop: Shop) -> None:
        shop.place("A-1")
        with process("orders", "show", "A-1", environment=shop.environment) as run:
            out, err = run.communicate(timeout=60)
        assert (run.returncode, err) == (0, b"")
        assert b"A-1" in out
        assert b"\x1b" not in out

    @on_sqlite
    def test_a_terminal_that_knows_few_characters(self, shop: Shop) -> None:
        shop.place("A-1", customer="Zoë")
        environment = {**shop.environment, "PYTHONIOENCODING": "ascii"}
        for words in (["show", "A-1"], ["show", "A-1", "--json"], ["export"]):
            with process("orders", *words, environment=environment) as run:
                out, _ = run.communicate(timeout=60)
            assert run.returncode == 0
            assert ("Zoë".encode() in out) == (words != ["show", "A-1"])

    @on_sqlite
    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
    def test_a_full_disk_is_one_sentence(self, shop: Shop) -> None:
        shop.place("A-1")
        with (
            Path("/dev/full").open("wb") as full,
            process("orders", "export", environment=shop.environment, stdout=full) as run,
        ):
            _, err = run.communicate(timeout=60)
        assert (run.returncode, err.count(b"\n")) == (1, 1)
        assert b"No space left on device" in err

    @on_sqlite
    def test_whoever_watches_sees_how_far_it_is(self, shop: Shop) -> None:
        file = shop.file(*(item(number) for number in range(300)))
        watcher, screen = os.openpty()
        words = ["orders", "import", file, "--batch-size", "20"]
        with process(*words, environment={**shop.environment, "TERM": "xterm"}, stderr=screen) as run:
            os.close(screen)
            seen = b"".join(iter(lambda: read_screen(watcher), b"")).decode()
        os.close(watcher)
        assert run.returncode == 0
        assert re.search(r"\d+%.*orders, [\d,]+/s", seen)
        assert "300 orders brought in" in seen

    @on_sqlite
    def test_a_reader_that_goes_away_is_no_error(self, shop: Shop) -> None:
        for number in range(40):
            shop.place(f"A-{number}", metadata={"text": "x" * 10_000})
        with process("orders", "export", environment=shop.environment) as run:
            assert run.stdout is not None
            assert run.stderr is not None
            assert json.loads(run.stdout.readline())["number"] == "A-0"
            run.stdout.close()
            assert run.stderr.read() == b""
        assert run.returncode == ExitCode.PIPE_CLOSED
