"""Every example runs by one command, again on the same database, and prints what it did."""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orderkit import AsyncOrderKit

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))

PRINTED = {
    "asgi_application.py": [r'"total": "9.00 EUR"', "order.placed by ada in request r-1"],
    "async_application.py": ["20 clicks under one key made 1 order", "out of time", "orders in the shop: 2"],
    "django_application.py": ["committed: 9.00 EUR", "100 of TEA-001: HTTP 500", "baskets: 1, orders: 1"],
    "lambda_handler.py": ["m-2 is dropped: quantity_not_positive", "'batchItemFailures': []", "of the customer: 1"],
    "payment.py": [
        "smooth: {'charge': 'ch_1 of 900', 'status': 'open'}, 1 calls, 1 charge",
        "repeated: {'charge': 'ch_2 of 900', 'status': 'open'}, 2 calls, 1 charge",
        "unknown=('charge',)",
        "given-up: {'charge': 'ch_3 of 900', 'status': 'open'}, 3 calls, 1 charge",
        "given-up: confirmed 1 time, a replay gives the same answer: True",
    ],
    "plain_script.py": ["is open and costs 15.02 EUR", "rounded half even", "refused: illegal_transition", "tea: 1"],
    "sqlalchemy_session.py": ["committed together: basket 1", "rolled back together", "basket 1: 1", "basket 2: 0"],
}


def run(script: str, folder: Path) -> str:
    """Run an example in a folder, without settings of the surroundings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORDERKIT_")}
    command = [sys.executable, "-W", "error", str(EXAMPLES / script)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


UNDER_KEYS = {"plain_script.py", "lambda_handler.py", "asgi_application.py"}
"""Those that make nothing new when they run again."""


@pytest.mark.parametrize(
    "script", [script if script in UNDER_KEYS else pytest.param(script, marks=pytest.mark.slow) for script in SCRIPTS]
)
def test_an_example_runs_tells_what_it_did_and_runs_again(script: str, tmp_path: Path) -> None:
    printed = run(script, tmp_path)
    assert [text for text in PRINTED[script] if text not in printed] == []
    assert (tmp_path / "orderkit.db").exists()
    again = run(script, tmp_path)
    assert script not in UNDER_KEYS or again == printed


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_is_short_and_listed(script: str) -> None:
    assert len((EXAMPLES / script).read_text().splitlines()) <= 80
    assert f"| `{script}` |" in (EXAMPLES / "README.md").read_text()


LINE = {"sku": "TEA-001", "quantity": 2, "unit_price": {"amount": "4.50", "currency": "EUR"}}
HEADERS = {"x-tenant": "acme", "x-actor": "ada", "x-request-id": "r-7", "idempotency-key": "k-7"}


class TestTheAsgiApplication:
    def play(self, *requests: tuple[dict[str, str], bytes]) -> list[tuple[int, dict[str, Any]]]:
        """Play requests to one application over one kit, each body in two messages."""
        create_app = runpy.run_path(str(EXAMPLES / "asgi_application.py"), run_name="asgi_application")["create_app"]
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        async def play() -> None:
            async with AsyncOrderKit.from_url("memory://") as kit:
                app = create_app(kit)
                for headers, body in requests:
                    parts = iter([{"body": body[:10], "more_body": True}, {"body": body[10:]}])

                    async def receive(parts: Any = parts) -> Any:
                        return {"type": "http.request", **next(parts)}

                    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
                    await app({"type": "http", "method": "POST", "headers": encoded}, receive, send)

        asyncio.run(play())
        pairs = zip(sent[::2], sent[1::2], strict=True)
        return [(start["status"], json.loads(body["body"])) for start, body in pairs]

    def test_a_repeated_request_is_answered_alike_and_another_tenant_has_its_own(self) -> None:
        body = json.dumps({"lines": [LINE]}).encode()
        first, second, other = self.play((HEADERS, body), (HEADERS, body), ({**HEADERS, "x-tenant": "b"}, body))
        assert first == second
        assert (first[0], first[1]["total"], other[0]) == (201, "9.00 EUR", 201)
        assert first[1]["id"] != other[1]["id"]

    @pytest.mark.parametrize(
        ("headers", "body", "status", "code"),
        [
            (HEADERS, {"lines": [{**LINE, "quantity": 0}]}, 422, "quantity_not_positive"),
            (HEADERS, {"lines": []}, 422, "order_empty"),
            (HEADERS, {}, 400, "malformed_request"),
            (HEADERS, [], 400, "malformed_request"),
            ({}, {"lines": [LINE]}, 400, "malformed_request"),
            ({**HEADERS, "x-tenant": "a\nb"}, {"lines": [LINE]}, 422, "invalid_key"),
        ],
    )
    def test_what_cannot_be_taken_is_answered_by_its_code(
        self, headers: dict[str, str], body: object, status: int, code: str
    ) -> None:
        ((answered, told),) = self.play((headers, json.dumps(body).encode()))
        assert (answered, told["code"]) == (status, code)

    def test_a_key_with_another_payload_is_a_conflict(self) -> None:
        one, two = (json.dumps({"lines": [{**LINE, "quantity": quantity}]}).encode() for quantity in (1, 2))
        answers = self.play((HEADERS, one), (HEADERS, two))
        assert [status for status, _ in answers] == [201, 409]
        assert answers[1][1]["code"] == "idempotency_mismatch"
