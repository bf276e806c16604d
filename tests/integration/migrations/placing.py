"""An application of this release, which places orders until it is stopped or refused.

Run as `python -m tests.integration.migrations.placing URL SCHEMA`. It writes the id of each order it has placed, and at
its end the code of the error that ended it, if one did. It stops when its input ends.
"""

from __future__ import annotations

import sys
import threading

from orderkit import OrderKit, Settings
from orderkit.errors import OrderKitError
from tests.integration.migrations.databases import TEA


def main(url: str, schema: str | None) -> None:
    stopped = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        stopped.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    with OrderKit.from_url(url, settings=Settings(table_schema=schema, create_tables=False, lock_timeout=30)) as kit:
        try:
            while not stopped.is_set():
                order = kit.orders.place(lines=TEA)
                kit.orders.cancel(order.id)
                sys.stdout.write(f"{order.id}\n")
                sys.stdout.flush()
        except OrderKitError as error:
            sys.stdout.write(f"{error.code}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] or None)
