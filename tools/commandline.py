"""The reference of the command line, written from the commands themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer

from orderkit.cli.application import app
from orderkit.cli.options import COMMON
from orderkit.cli.output import ExitCode

NOTHING = "\N{EM DASH}"


def commands() -> str:
    """Return a section for each command: what it does, how it is called, its own options, examples."""
    return "\n".join(_section(path, command) for path, command in leaves(typer.main.get_command(app)))


def leaves(command: Any, path: str = "orderkit") -> Iterator[tuple[str, Any]]:
    """Yield every command that does something, with what is typed for it."""
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name, child in below.items():
        yield from leaves(child, f"{path} {name}")


def common() -> str:
    """Return the table of the options that every command has."""
    command = next(iter(leaves(typer.main.get_command(app))))[1]
    return _table([_row(option) for option in command.params if option.name in COMMON])


def exit_codes() -> str:
    """Return the table of exit codes, with what stands below each in the source."""
    told = dict(re.findall(r'(\w+) = \d+\n +"""(.+?)"""', inspect.getsource(ExitCode)))
    rows = [f"| `{code.value}` | {told[code.name]} |" for code in ExitCode]
    return "\n".join(["| code | meaning |", "| --- | --- |", *rows]) + "\n"


def _section(path: str, command: Any) -> str:
    text, _, shown = command.help.partition("\n\n\b\n")
    examples = re.findall(r"^\[dim\]\$\[/dim\] (.*)$", shown, re.MULTILINE)
    own = [option for option in command.params if option.name not in {*COMMON, "help"}]
    parts = [f"### {path}", _plain(text), "```bash", *map(_plain, examples), "```"]
    section = "\n".join(parts[:1]) + "\n\n" + parts[1] + "\n\n" + "\n".join(parts[2:]) + "\n"
    return section + (f"\n{_table([_row(option) for option in own])}" if own else "")


def _plain(text: str) -> str:
    """Return a text without what is markup in a terminal."""
    return text.replace("\\[", "[")


def _row(option: Any) -> tuple[str, str, str]:
    if option.param_type_name == "argument":
        name = f"`{option.metavar or option.name.upper()}`"
    else:
        choices = "|".join(map(str, option.type_descriptor.choices or ()))
        value = f" {option.metavar or choices}".rstrip()
        name = ", ".join(f"`{spelling}{value}`" for spelling in (*option.opts, *option.secondary_opts))
    shown = option.default is not None and option.default is not False and option.default != []
    default = "required" if option.required else f"`{option.default}`" if shown else NOTHING
    variable = f" Also `{option.envvar}`." if option.envvar else ""
    return name, f"{option.help}{variable}", default


def _table(rows: list[tuple[str, str, str]]) -> str:
    lines = [("option", "meaning", "default"), ("---", "---", "---"), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
