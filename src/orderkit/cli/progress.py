"""How far long work is, for people who watch it: nothing is shown where nobody does."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

Tell = Callable[[int, int], None]
"""Tell how many things are done, and how much of the whole that is."""


@contextmanager
def progress(console: Console, *, total: int | None, unit: str) -> Generator[Tell]:
    """Show a bar with how many things are done, how many a second, and how long it will take.

    Args:
        console: Where it is shown, if that is a terminal.
        total: How much the whole is, in whatever is told with each step; None if nobody knows.
        unit: What is counted, such as `orders`.
    """
    if not console.is_terminal:
        yield lambda _done, _position: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = [BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), TimeRemainingColumn()]
    began = monotonic()
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task("", total=total)

        def tell(done: int, position: int) -> None:
            rate = done / max(monotonic() - began, 0.001)
            shown.update(task, completed=position, description=f"{done:,} {unit}, {rate:,.0f}/s")

        yield tell
