"""What was measured, as JSON and as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import attrs
from rich.console import Console
from rich.table import Table

TIMES, MICROSECONDS = "\N{MULTIPLICATION SIGN}", "\N{MICRO SIGN}s"


@attrs.frozen
class Result:
    """A figure and what it is to be at most; the times are of one operation.

    Attributes:
        value: The figure, in `unit`.
        goal: What it is to be at most.
        base: What it is relative to.
        rounds: How often it was measured.
        quartile: The ratio of the lower quartiles, which a busy machine disturbs less.
        disagreement: The factor between the two halves of the rounds.
    """

    name: str
    value: float
    unit: str
    goal: float
    base: str
    rounds: int
    quartile: float | None = None
    seconds: float | None = None
    base_seconds: float | None = None
    cpu_seconds: float | None = None
    base_cpu_seconds: float | None = None
    disagreement: float = 1.0

    @property
    def met(self) -> bool:
        """Whether the goal is met."""
        return self.value <= self.goal

    def as_json(self) -> dict[str, str | float]:
        """Return what is written of it."""
        return {
            "name": self.name,
            "value": round(self.value, 3),
            "unit": self.unit,
            "better": "lower",
            "goal": self.goal,
            "base": self.base,
            "rounds": self.rounds,
        }


@attrs.frozen
class Floor:
    """What nothing can be faster than: one operation, in seconds and relative to a base."""

    name: str
    base: str
    ratio: float
    seconds: float


def write(results: Sequence[Result], path: Path) -> None:
    """Write the figures as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_json(results) + "\n")


def as_json(results: Sequence[Result]) -> str:
    """Return the figures as JSON."""
    return json.dumps([result.as_json() for result in results], indent=2, ensure_ascii=False)


def show(results: Sequence[Result], floors: Sequence[Floor], failures: Sequence[str]) -> None:
    """Print the figures as a table, the floors beside them, and what could not be measured."""
    console = Console()
    if not console.is_terminal:
        console.width = 180
    console.print(_figures(results))
    if floors:
        console.print(_floors(floors))
    met = sum(result.met for result in results)
    console.print(f"{met} of {len(results)} goals met.")
    for failure in failures:
        console.print(f"[red]not measured[/]  {failure}", highlight=False)


def _figures(results: Sequence[Result]) -> Table:
    table = Table(caption=f"Medians of one operation in {MICROSECONDS}; CPU is this process's; ± between two halves.")
    table.add_column("figure", no_wrap=True)
    for heading in ("value", "goal", "", "lower quartile", "time", "base", "CPU", "CPU of base", "±"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("what the base is", overflow="fold")
    for result in results:
        verdict = "[green]met[/]" if result.met else "[red]missed[/]"
        table.add_row(
            result.name,
            f"{result.value:.2f} {result.unit}",
            f"{result.goal:g}",
            verdict,
            "" if result.quartile is None else f"{result.quartile:.2f}",
            *map(_micro, (result.seconds, result.base_seconds, result.cpu_seconds, result.base_cpu_seconds)),
            f"{result.disagreement - 1:.0%}",
            result.base,
        )
    return table


def _floors(floors: Sequence[Floor]) -> Table:
    table = Table(caption="What nothing can be faster than.")
    table.add_column("floor")
    table.add_column(MICROSECONDS, justify="right")
    table.add_column(TIMES, justify="right")
    table.add_column("relative to")
    for floor in floors:
        table.add_row(floor.name, _micro(floor.seconds), f"{floor.ratio:.2f}", floor.base)
    return table


def _micro(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e6:,.0f}"
