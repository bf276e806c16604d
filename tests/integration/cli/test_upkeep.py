"""Background work and personal data, from a shell, on every database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orderkit import OrderKit
from orderkit.cli.output import ExitCode, Output
from orderkit.worker import Progress
from tests.integration.cli.conftest import on_sqlite
from tests.integration.cli.shops import Shop, answer

ADA = {"name": "Ada Lovelace", "email": "ada@example.org"}


class TestSweep:
    def test_each_step_once(self, shop: Shop) -> None:
        order = shop.place_overdue("A-1")
        swept = shop.run("sweep", "--json")
        assert (swept.code, swept.err) == (0, "")
        assert swept.json["steps"]["expire_orders"] == {"done": 1, "more": False}
        assert set(swept.json["steps"]) == set(shop.kit.sweep())
        assert shop.kit.orders.get(order.id).status == "expired"
        assert "expire_orders" in shop.run("sweep").out

    @on_sqlite
    @pytest.mark.parametrize(("options", "done"), [([], 10), (["--until-done"], 25)])
    def test_until_done(self, shop: Shop, monkeypatch: pytest.MonkeyPatch, options: list[str], done: int) -> None:
        rounds = iter([Progress(10, True), Progress(10, True), Progress(5, False)])
        monkeypatch.setattr(OrderKit, "sweep", lambda _: {"step": next(rounds)})
        assert shop.run("sweep", *options, "--json").json["steps"]["step"]["done"] == done

    @on_sqlite
    def test_what_cannot_be_done_is_not_tried_for_ever(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(OrderKit, "sweep", lambda _: {"step": Progress(0, True)})
        assert shop.run("sweep", "--until-done", "--json").json["steps"]["step"] == {"done": 0, "more": True}

    @on_sqlite
    def test_ctrl_c_says_what_is_done(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        rounds = iter([Progress(10, True)])

        def sweep(_: OrderKit) -> dict[str, Progress]:
            for progress in rounds:
                return {"step": progress}
            raise KeyboardInterrupt

        monkeypatch.setattr(OrderKit, "sweep", sweep)
        swept = shop.run("sweep", "--until-done", "--json")
        assert (swept.code, swept.json["interrupted"]) == (ExitCode.INTERRUPTED, True)
        assert swept.json["steps"]["step"]["done"] == 10


class TestCustomers:
    def test_everything_of_one_customer_is_given_out(self, shop: Shop, tmp_path: Path) -> None:
        shop.place("A-1", customer="cust-1", contact=ADA)
        shop.place("A-2", customer="cust-2")
        given = shop.run("customers", "export", "cust-1")
        assert (given.code, given.err) == (0, "")
        assert [order["order"]["number"] for order in given.json["orders"]] == ["A-1"]
        assert "ada@example.org" in given.out
        path = tmp_path / "ada.json"
        told = shop.run("customers", "export", "cust-1", "--output", str(path), "--json")
        assert told.json == {"customer": "cust-1", "orders": 1, "file": str(path)}
        assert json.loads(path.read_text()) == given.json
        assert path.stat().st_mode & 0o077 == 0

    def test_erased_for_good_with_yes(self, shop: Shop) -> None:
        order = shop.place("A-1", customer="cust-1", contact=ADA)
        words = ["customers", "erase", "cust-1", "--yes", "--json"]
        assert shop.run(*words).json == {"customer": "cust-1", "orders": 1, "pieces": 1}
        assert shop.run(*words).json == {"customer": "cust-1", "orders": 0, "pieces": 0}
        assert "ada@example.org" not in shop.run("customers", "export", "cust-1").out
        assert shop.kit.orders.get(order.id).total == order.total

    @on_sqlite
    @pytest.mark.parametrize("options", [[], ["--json"]])
    def test_without_anybody_to_ask_nothing_is_erased(self, shop: Shop, options: list[str]) -> None:
        shop.place("A-1", customer="cust-1", contact=ADA)
        told = shop.run("customers", "erase", "cust-1", *options)
        assert (told.code, "not_confirmed" in told.out + told.err) == (1, True)
        assert "ada@example.org" in shop.run("customers", "export", "cust-1").out

    @on_sqlite
    @pytest.mark.parametrize(("said", "erased"), [("y\n", True), ("YES\n", True), ("\n", False), ("no\n", False)])
    def test_somebody_is_asked(self, shop: Shop, monkeypatch: pytest.MonkeyPatch, said: str, erased: bool) -> None:
        shop.place("A-1", customer="cust-1", contact=ADA)
        monkeypatch.setattr(Output, "can_ask", property(lambda _: True))
        told = shop.run("customers", "erase", "cust-1", given=said)
        assert "Erase contact, addresses and notes of every order of 'cust-1' for good? [y/N]" in told.err
        assert told.code == (0 if erased else 1)
        assert ("ada@example.org" in shop.run("customers", "export", "cust-1").out) is not erased

    @on_sqlite
    def test_a_customer_that_cannot_be_is_told(self, shop: Shop) -> None:
        for words in (["export", "a\nb"], ["erase", "", "--yes"]):
            assert shop.run("customers", *words, "--json").json["error"]["code"] == "invalid_key"


def test_no_database_is_told_by_all_of_them() -> None:
    url = "postgresql://shop@127.0.0.1:1/shop"
    for words in (["sweep"], ["customers", "export", "c"], ["customers", "erase", "c", "--yes"]):
        told: Any = answer(*words, "--url", url, "--json")
        assert (told.code, told.json["error"]["code"]) == (1, "storage_unavailable")
