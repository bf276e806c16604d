"""A database with the tables, and the command line over it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
from typer.testing import CliRunner

from orderkit import Line, Money, Order, OrderKit
from orderkit.cli.application import app
from orderkit.testing.clock import ManualClock

TEA = Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR"), description="Green tea")
CUP = Line(sku="CUP-001", quantity=1, unit_price=Money("12.00", "EUR"))


@attrs.frozen
class Answer:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


def answer(*words: str, given: str | bytes | None = None, **environment: str) -> Answer:
    """Run a command in this process, with nothing set but what is given."""
    cleared = {name: None for name in os.environ if name.startswith("ORDERKIT_")}
    env: dict[str, str | None] = {**cleared, **environment}
    result = CliRunner().invoke(app, words, input=given, env=env, prog_name="orderkit", catch_exceptions=False)
    return Answer(result.exit_code, result.stdout, result.stderr)


def process(*words: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start the command line as people do, with pipes to all of it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORDERKIT_")}
    return subprocess.Popen(
        [sys.executable, "-m", "orderkit", *words],
        stdin=options.pop("stdin", subprocess.PIPE),
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=options.pop("stderr", subprocess.PIPE),
        env=environment | options.pop("environment", {}),
        **options,
    )


@attrs.frozen
class Shop:
    """A tenant of a database that has the tables.

    Attributes:
        url: With the driver and, where there is one, the password.
        tenant: A name that no other test uses.
        kit: The same orders, from Python.
        directory: An empty one.
    """

    url: str
    tenant: str
    kit: OrderKit
    directory: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"ORDERKIT_DATABASE_URL": self.url, "ORDERKIT_TENANT": self.tenant}

    def run(self, *words: str, given: str | bytes | None = None) -> Answer:
        """Run a command over the shop's orders."""
        return answer(*words, given=given, **self.environment)

    def place(self, number: str, **fields: Any) -> Order:
        """Take an order of tea and a cup."""
        return self.kit.orders.place(**{"lines": [TEA, CUP], "number": number, "confirmed": True, **fields})

    def place_overdue(self, number: str) -> Order:
        """Take an order nine days ago, which should have expired an hour later."""
        clock = ManualClock(datetime.now(UTC) - timedelta(days=9))
        with OrderKit.from_url(self.url, clock=clock) as past:
            over = clock.now() + timedelta(hours=1)
            return past.for_tenant(self.tenant).orders.place(lines=[TEA], number=number, expires_at=over)

    def file(self, *lines: object, name: str = "orders.jsonl") -> str:
        """Write a file of JSON Lines; what is no text becomes JSON."""
        path = self.directory / name
        path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
        return str(path)


def item(name: int | str, **fields: Any) -> dict[str, Any]:
    """Return an order of long ago, as files have it."""
    lines = [{"sku": "TEA-001", "quantity": 2, "unit_price": {"amount": "4.50", "currency": "EUR"}}]
    return {"number": f"H-{name}", "placed_at": "2020-05-01T10:00:00Z", "lines": lines, **fields}
