"""A process that migrates and dies in the middle of it, as often as it is told to.

Run as `python -m tests.integration.migrations.migrating URL SCHEMA`. Each line of input is `REVISION COUNT`: a child
migrates there, up or down, and is killed before its statement number COUNT that changes something. The answer is how
the child ended: `killed` or `done`.
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import count

from sqlalchemy import create_engine, event

from orderkit.storage.sql.migrations import Migrations

CHANGING = ("ALTER", "CREATE", "DROP", "INSERT", "UPDATE")


def migrate(url: str, schema: str | None, revision: str, dies_before: int) -> None:
    """Migrate until the given statement is about to be sent."""
    engine = create_engine(url)
    numbers = count(1)

    @event.listens_for(engine, "before_cursor_execute")
    def _die(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.lstrip().startswith(CHANGING) and next(numbers) == dies_before:
            os.kill(os.getpid(), signal.SIGKILL)

    # Callbacks have all tables made one revision after the other.
    migrations = Migrations(engine, schema=schema, before=lambda _connection, _step: None)
    migrations.downgrade(revision, lose_data=True)
    migrations.upgrade(revision)


def main(url: str, schema: str | None) -> None:
    for line in sys.stdin:
        revision, dies_before = line.split()
        child = os.fork()
        if child == 0:
            migrate(url, schema, revision, int(dies_before))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write("killed\n" if os.WIFSIGNALED(status) else "done\n" if status == 0 else "failed\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] or None)
