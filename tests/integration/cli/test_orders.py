"""Orders are found, shown and taken out, on every database."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orderkit import LineQuantity, Money, OrderFilter
from orderkit.cli.output import ExitCode
from tests.integration.cli.conftest import on_sqlite
from tests.integration.cli.shops import Shop


class TestList:
    def test_it_shows_what_is_asked_for(self, shop: Shop) -> None:
        wanted = shop.place("A-1", customer="cust-1", tags=["gift"], metadata={"channel": "web", "items": 2})
        shop.place("A-2", customer="cust-2")
        shown = shop.run("orders", "list", "--customer", "cust-1")
        assert (shown.code, shown.err) == (0, "")
        assert "A-1" in shown.out
        assert "21.00 EUR" in shown.out
        assert "A-2" not in shown.out
        for words in (
            ["--number", "A-1"],
            ["--tag", "gift", "--status", "open", "--status", "pending"],
            ["--metadata", "channel=web", "--metadata", "items=2"],
            ["--sku", "TEA-001", "--customer", "cust-1", "--not-held", "--not-guest"],
            [
                "--placed-from",
                "2020-01-01",
                "--total-from",
                "21 EUR",
                "--total-until",
                "21.01 EUR",
                "--customer",
                "cust-1",
            ],
        ):
            found = shop.run("orders", "list", *words, "--json").json
            assert [order["id"] for order in found["items"]] == [wanted.id], words

    def test_nothing_found_is_said(self, shop: Shop) -> None:
        assert shop.run("orders", "list").out == "No order is like that.\n"
        assert shop.run("orders", "list", "--json").json == {"items": [], "next": None, "previous": None}

    def test_pages_follow_by_their_cursor(self, shop: Shop) -> None:
        for number in range(5):
            shop.place(f"A-{number}")
        words = ["orders", "list", "--sort", "number", "--limit", "2"]
        first = shop.run(*words, "--json").json
        second = shop.run(*words, "--json", "--cursor", first["next"]).json
        assert [order["number"] for page in (first, second) for order in page["items"]] == ["A-0", "A-1", "A-2", "A-3"]
        assert f"--cursor {first['next']}" in shop.run(*words).err

    @on_sqlite
    def test_ranges_and_zones(self, shop: Shop) -> None:
        noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
        shop.place("A-1", placed_at=noon)
        for since, found in (("2026-05-01", 1), ("2026-05-01T14:00+02:00", 1), ("2026-05-01T12:00:01", 0)):
            assert len(shop.run("orders", "list", "--placed-from", since, "--json").json["items"]) == found

    @on_sqlite
    def test_brackets_are_no_markup(self, shop: Shop) -> None:
        shop.place("A-1", customer="[red]cust[/red]")
        assert "[red]cust[/red]" in shop.run("orders", "list").out

    @on_sqlite
    @pytest.mark.parametrize("pair", ["web", "=web", "channel="])
    def test_a_pair_that_is_none_is_told(self, shop: Shop, pair: str) -> None:
        assert shop.run("orders", "list", "--metadata", pair).code == ExitCode.USAGE


class TestShow:
    def test_by_id_and_by_number(self, shop: Shop) -> None:
        order = shop.place("A-1", customer="cust-1", tags=["gift"])
        shop.kit.orders.cancel_lines(order.id, [LineQuantity(line_id=order.lines[0].id, quantity=1)])
        shop.kit.orders.hold(order.id, name="fraud")
        by_id, by_number = (shop.run("orders", "show", wanted) for wanted in (order.id, "A-1"))
        assert by_id == by_number
        assert (by_id.code, by_id.err) == (0, "")
        for told in ("A-1", "open", "fraud", "TEA-001", "Green tea", "21.00 EUR", "16.50 EUR", "release_order"):
            assert told in by_id.out
        assert "2 × 4.50" in by_id.out  # noqa: RUF001 - as `explain` writes it

    def test_as_json(self, shop: Shop) -> None:
        order = shop.place("A-1")
        shown = shop.run("orders", "show", "A-1", "--json").json
        assert (shown["order"]["id"], shown["order"]["totals"]["total"]) == (order.id, 2100)
        assert shown["explanation"]["amount"] == shown["total"] == {"minor": 2100, "currency": "EUR"}
        assert shown["allowed"]["cancel_order"] == {"allowed": True, "reasons": []}
        assert shown["allowed"]["reopen_order"]["reasons"][0]["code"] == "illegal_transition"
        assert set(shown["allowed"]) == set(shop.kit.orders.allowed(order.id))

    def test_an_id_goes_before_a_number(self, shop: Shop) -> None:
        shop.place("same", id="other")
        shop.place("another", id="same")
        assert shop.run("orders", "show", "same", "--json").json["order"]["number"] == "another"

    def test_another_tenant_has_other_orders(self, shop: Shop) -> None:
        shop.place("A-1")
        assert shop.run("orders", "show", "A-1", "--tenant", f"{shop.tenant}-2").code == ExitCode.FAILED

    @on_sqlite
    def test_an_order_with_everything(self, shop: Shop) -> None:
        shop.place(
            "A-1",
            confirmed=False,
            charges=[{"kind": "shipping", "amount": Money("3.00", "EUR"), "label": "Post"}],
            discounts=[{"label": "Sale", "percent": "10"}],
            expires_at=datetime.now(UTC) + timedelta(days=1),
            external_references={"erp": "77"},
        )
        shown = shop.run("orders", "show", "A-1").out
        for told in ("a guest", "expires", "erp=77", "shipping", "Post", "Sale"):
            assert told in shown


class TestHistory:
    def test_who_did_what(self, shop: Shop) -> None:
        order = shop.place("A-1")
        shop.kit.bound(actor="user:ada", correlation_id="req-1").orders.cancel(order.id, reason="changed mind")
        shown = shop.run("orders", "history", "A-1")
        assert "order.placed" in shown.out
        assert "user:ada" in shown.out
        events = shop.run("orders", "history", order.id, "--json").json
        assert [event["version"] for event in events] == list(range(1, len(events) + 1))
        assert (events[-1]["type"], events[-1]["actor"]) == ("order.cancelled", "user:ada")
        assert events[-1]["data"]["reason"] == "changed mind"


class TestExport:
    def test_every_order_on_a_line(self, shop: Shop) -> None:
        placed = [shop.place(f"A-{number}", customer=f"cust-{number % 2}").id for number in range(5)]
        out = shop.run("orders", "export")
        assert (out.code, out.err) == (0, "5 orders written.\n")
        assert [json.loads(line)["id"] for line in out.out.splitlines()] == placed
        some = shop.run("orders", "export", "--customer", "cust-1", "--json")
        assert [json.loads(line)["number"] for line in some.out.splitlines()] == ["A-1", "A-3"]
        assert json.loads(some.err) == {"orders": 2, "file": "-"}

    @on_sqlite
    def test_into_a_file_that_only_its_owner_reads(self, shop: Shop) -> None:
        shop.place("A-1")
        path = shop.directory / "out.jsonl"
        assert shop.run("orders", "export", "--output", str(path), "--json").json == {"orders": 1, "file": str(path)}
        assert json.loads(path.read_text())["number"] == "A-1"
        assert path.stat().st_mode & 0o077 == 0

    @on_sqlite
    def test_a_file_that_cannot_be_written_is_told(self, shop: Shop, tmp_path: Path) -> None:
        told = shop.run("orders", "export", "--output", str(tmp_path))
        assert (told.code, told.err.endswith("[unreadable_file]\n")) == (1, True)

    @on_sqlite
    def test_it_gives_what_stream_gives(self, shop: Shop) -> None:
        for number in range(3):
            shop.place(f"A-{number}")
        streamed = [order.number for order in shop.kit.orders.stream(OrderFilter())]
        assert [json.loads(line)["number"] for line in shop.run("orders", "export").out.splitlines()] == streamed
