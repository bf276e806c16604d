"""Find the fenced blocks of a Markdown text and run them.

The convention, whole:

- `python` blocks of a page run in order, in one namespace and one empty directory; `await` may stand at top level.
- `pycon` blocks run as doctests in the same namespace.
- A `text title="output"` block is exactly what the `python` block before it printed; `...` stands for anything.
- `console` blocks run the commands behind `$ orderkit`, in the same directory, and compare what they print if anything
  is shown; `$ export NAME=value` counts for those behind it.
- Other `console` and `bash` blocks are not run: what they name (make targets, extras, files, commands) must exist.
- Blocks of other languages are only read; a block without a language is a mistake.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
import re
import shlex
import textwrap
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.testing import CliRunner

from orderkit.cli.application import app

ROOT = Path(__file__).parents[2]
ONLY_READ = {"ini", "json", "jsonl", "sql", "text", "toml", "yaml"}
FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^`\n]*)\n(?P<body>.*?)^(?P=indent)(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)
MATCHING = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """A fenced block: its language, whether it shows output, its text and the line on which the text starts."""

    language: str
    is_output: bool
    source: str
    line: int


def blocks_of(text: str) -> Iterator[Block]:
    """Yield the blocks of a Markdown text in order."""
    for match in FENCE.finditer(text):
        language, *options = match["info"].split() or [""]
        line = text.count("\n", 0, match.start("body")) + 1
        yield Block(language, options == ['title="output"'], textwrap.dedent(match["body"]), line)


class Page:
    """A page that is being run: its namespace and what its last block printed."""

    def __init__(self, name: str, module: types.ModuleType) -> None:
        self.name = name
        self._namespace = module.__dict__
        self._runner = asyncio.Runner()
        self._printed = ""
        self._environment: dict[str, str] = {}

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()

    def run(self, block: Block) -> None:
        """Run or check one block, whatever its language."""
        match block.language:
            case "python":
                self._run_python(block)
            case "pycon":
                self._run_doctest(block)
            case "console" if "$ orderkit " in block.source:
                self._run_commands(block)
            case "console" | "bash":
                check_commands(block.source)
            case "text" if block.is_output:
                assert doctest.OutputChecker().check_output(block.source, self._printed, MATCHING), self._printed
            case language:
                assert language in ONLY_READ, f"{self.name}:{block.line}: say what language {language!r} is"

    def _run_python(self, block: Block) -> None:
        # Blank lines in front make the line numbers of a traceback those of the page.
        source = "\n" * (block.line - 1) + block.source
        code = compile(source, self.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            result = eval(code, self._namespace)
            if code.co_flags & inspect.CO_COROUTINE:
                self._runner.run(result)
        self._printed = printed.getvalue()

    def _run_commands(self, block: Block) -> None:
        check_commands(block.source)
        for line, expected in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n?)*)", block.source, re.MULTILINE):
            match shlex.split(line, comments=True):
                case ["export", setting]:
                    name, _, value = setting.partition("=")
                    self._environment[name] = value
                case ["orderkit", *words]:
                    printed = CliRunner().invoke(app, words, env=self._environment, prog_name="orderkit").output
                    matches = doctest.OutputChecker().check_output(expected, printed, MATCHING)
                    assert matches or not expected.strip(), f"{self.name}:{block.line}: {printed}"

    def _run_doctest(self, block: Block) -> None:
        test = doctest.DocTestParser().get_doctest(block.source, self._namespace, self.name, self.name, block.line - 1)
        run_doctest(test)
        self._namespace.update(test.globs)


def run_doctest(test: doctest.DocTest) -> None:
    """Run a doctest and raise what it finds."""
    report = io.StringIO()
    failed, _ = doctest.DocTestRunner(optionflags=MATCHING).run(test, out=report.write, clear_globs=False)
    assert not failed, report.getvalue()


def check_commands(source: str) -> None:
    """Check that what the commands of a shell block name is there."""
    lines = source.replace("\\\n", " ").splitlines()
    prompted = [line[2:] for line in lines if line.startswith("$ ")]
    for line in prompted or lines:
        words = shlex.split(line, comments=True)
        if words:
            check_command(words)


def check_command(words: list[str]) -> None:
    """Check one command, or each of a pipe."""
    for joint in ("|", "&&", ">"):
        if joint in words:
            check_command(words[: words.index(joint)])
            if joint != ">":
                check_command(words[words.index(joint) + 1 :])
            return
    match words:
        case ["orderkit", *rest] | ["python", "-m", "orderkit", *rest]:
            check_orderkit(rest)
        case ["export", _] | ["echo" | "gzip" | "jq" | "zcat", *_]:
            pass
        case ["make", *targets]:
            unknown = {word for word in targets if "=" not in word} - make_targets()
            assert not unknown, f"the Makefile has no {unknown}"
        case ["pip", "install", *requirements] | ["uv", "add" | "pip", *requirements]:
            named = {extra for word in requirements for extra in extras_in(word)}
            assert named <= extras(), f"there is no extra {named - extras()}"
        case ["python", script, *_] if not script.startswith("-"):
            assert (ROOT / script).exists(), f"there is no {script}"
        case ["python", "-m", "venv", _] | ["git", "clone", *_] | ["cd", _]:
            pass
        case _:
            raise AssertionError(f"no test knows the command {shlex.join(words)!r}: teach tests/docs/blocks.py")


def check_orderkit(words: list[str]) -> None:
    """Check that the command line has a command and its options."""
    command: Any = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    named = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert named <= known | {"--help"}, f"there is no {named - known}"
    assert not hasattr(command, "commands") or named, f"there is no command {words[:1]}"


def make_targets() -> set[str]:
    """Return what the Makefile can make."""
    return set(re.findall(r"^([a-z][\w.-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def extras() -> set[str]:
    """Return the extras that can be installed."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return set(tomllib.load(file)["project"]["optional-dependencies"])


def extras_in(requirement: str) -> list[str]:
    """Return the extras that a requirement such as `orderkit[async]` names."""
    match = re.fullmatch(r"orderkit\[([^\]]+)\].*", requirement)
    return [extra.strip() for extra in match[1].split(",")] if match else []
