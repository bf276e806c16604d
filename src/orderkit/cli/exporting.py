"""`orderkit orders export`: take orders out, one a line, however many there are."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from orderkit.cli.filters import order_filter
from orderkit.cli.options import Invocation, command
from orderkit.cli.output import private_file, to_line
from orderkit.cli.progress import progress

if TYPE_CHECKING:
    from orderkit.orders.searching import OrderFilter


commands = typer.Typer()


@command(
    commands,
    "export",
    takes=order_filter,
    examples="""
    orderkit orders export --output orders.jsonl
    orderkit orders export --placed-from 2026-01-01 | gzip > 2026.jsonl.gz
    orderkit orders export --status open | jq -r .number
    """,
)
def export(
    call: Invocation,
    wanted: OrderFilter,
    output: Annotated[
        str | None, typer.Option("--output", metavar="FILE", help="A file, for its owner's eyes only, and not stdout.")
    ] = None,
) -> None:
    """Take orders out: JSON Lines, an order a line, the oldest first.

    Only some are in memory at a time. Orders that change meanwhile come as they are when it is their turn. Contact,
    addresses and notes are not in it: see `orderkit customers export`.
    """
    call.output.streaming = output is None
    count = 0
    with ExitStack() as stack:
        file = sys.stdout.buffer if output is None else stack.enter_context(private_file(output))
        kit = stack.enter_context(call.kit())
        tell = stack.enter_context(progress(call.output.err, total=None, unit="orders"))
        for order in kit.orders.stream(wanted):
            file.write(to_line(order))
            count += 1
            tell(count, count)
        file.flush()
    told = {"orders": count, "file": output or "-"}
    call.output.result(told, lambda console: console.print(f"{count:,} orders written.", highlight=False))
