"""`python -m orderkit` is the command line."""

from __future__ import annotations

from orderkit.cli import main

if __name__ == "__main__":
    main()
