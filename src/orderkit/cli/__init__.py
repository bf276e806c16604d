"""The command line `orderkit`: it needs `orderkit[cli]`, and loads little until a command is run."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Final

_NEEDED: Final = frozenset({"rich", "typer"})


def main() -> None:
    """Run the command line, or say what to install."""
    try:
        from orderkit.cli.application import app
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        sys.stderr.write("The command line needs libraries that are not installed: pip install 'orderkit[cli]'.\n")
        sys.exit(1)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows fewer characters gets a question mark for the rest.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    app(prog_name="orderkit")
