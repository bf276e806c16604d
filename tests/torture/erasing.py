"""A process that erases a customer, and says so before each piece of its work.

Run as `python -m tests.torture.erasing URL TENANT CUSTOMER [LIMIT]`. It prints a line for each unit of work that it
begins, and in the end how many orders and pieces it has erased. At the limit it goes on only when it is told to.
"""

from __future__ import annotations

import sys
from datetime import datetime

from orderkit import OrderKit
from orderkit.clock import SystemClock


class TellingClock:
    """The time, which every unit of work asks for when it begins."""

    def __init__(self, limit: int | None) -> None:
        self._clock = SystemClock()
        self._limit = limit
        self._begun = 0

    def now(self) -> datetime:
        print("begun", flush=True)  # noqa: T201 - whoever started this process waits for it
        self._begun += 1
        if self._begun == self._limit:
            sys.stdin.readline()
        return self._clock.now()


def main(url: str, tenant: str, customer: str, limit: str | None = None) -> None:
    with OrderKit.from_url(url, clock=TellingClock(None if limit is None else int(limit))) as kit:
        erased = kit.for_tenant(tenant).customers.erase(customer)
        print("erased", erased.orders, erased.pieces)  # noqa: T201 - the result of this process


if __name__ == "__main__":
    main(*sys.argv[1:])
