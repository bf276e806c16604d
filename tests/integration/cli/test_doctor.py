"""The doctor finds what is wrong with a database, and nothing where nothing is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url

from orderkit.cli.output import ExitCode
from orderkit.storage.sql.diagnosis import mariadb, postgresql
from tests.integration.cli.conftest import on_sqlite
from tests.integration.cli.shops import Answer, Shop, answer


def levels(told: Answer) -> dict[str, str]:
    """Return how bad each finding is, by its code."""
    return {finding["code"]: finding["level"] for finding in told.json["findings"]}


def statement(shop: Shop, sql: str, database: str | None = None) -> None:
    """Run a statement past orderkit, as somebody with a shell does."""
    url = make_url(shop.url)
    engine = create_engine(url if database is None else url.set(database=database), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(sql)
    engine.dispose()


class TestAHealthyDatabase:
    def test_nothing_is_wrong(self, shop: Shop) -> None:
        if "postgresql" in shop.url:  # as it is unless somebody has changed it, which these tests have
            statement(shop, f"ALTER DATABASE {shop.url.rpartition('/')[2]} RESET ALL")
        shop.place("A-1")
        told = shop.run("doctor", "--json")
        assert told.err == ""
        found = levels(told)
        assert {code: level for code, level in found.items() if level == "problem"} == {}
        assert told.code == 0
        assert {"versions", "reachable", "schema_current", "durable", "pool", "outbox"} <= set(found)
        assert told.json["facts"]["unknown"] == {}

    def test_people_read_a_line_for_each(self, shop: Shop) -> None:
        told = shop.run("doctor")
        assert "0 problems" in told.out
        for finding in shop.run("doctor", "--json").json["findings"]:
            assert f"[{finding['code']}]" in told.out

    def test_what_is_there_is_told(self, shop: Shop) -> None:
        facts = shop.run("doctor", "--json").json["facts"]
        assert facts["server"]["product"].lower() in shop.url
        assert facts["link"]["round_trip"] < 1
        if facts["server"]["product"] != "SQLite":
            assert abs(facts["link"]["clock_ahead"]) < 1
            assert 1 <= facts["server"]["connections"] <= facts["server"]["connection_limit"]


class TestTables:
    def test_a_missing_index_is_found(self, shop: Shop) -> None:
        on = " ON orderkit_order_lines" if "mariadb" in shop.url else ""
        statement(shop, f"DROP INDEX orderkit_order_lines_sku{on}")
        try:
            told = shop.run("doctor", "--json")
            assert (told.code, levels(told)["index_missing"]) == (ExitCode.FAILED, "problem")
            assert "orderkit_order_lines_sku" in str(told.json["findings"]).lower()
        finally:
            columns = "tenant, sku, order_id"
            statement(shop, f"CREATE INDEX orderkit_order_lines_sku ON orderkit_order_lines ({columns})")
        assert shop.run("doctor", "--json").code == 0

    @on_sqlite
    def test_a_database_without_tables(self, shop: Shop) -> None:
        empty = shop.directory / "empty.db"
        empty.touch()
        told = shop.run("doctor", "--url", f"sqlite:///{empty}", "--json")
        assert (told.code, levels(told)["schema_missing"]) == (1, "problem")
        assert shop.run("db", "upgrade", "--url", f"sqlite:///{empty}").code == 0
        assert shop.run("doctor", "--url", f"sqlite:///{empty}", "--json").code == 0

    @on_sqlite
    def test_tables_of_a_newer_release(self, shop: Shop) -> None:
        statement(shop, "UPDATE orderkit_schema SET revision = '9999', compatible_from = '9999'")
        assert levels(shop.run("doctor", "--json"))["schema_too_new"] == "problem"

    @on_sqlite
    def test_a_migration_that_was_interrupted(self, shop: Shop) -> None:
        statement(shop, "UPDATE orderkit_schema SET migrating_to = '9999'")
        assert levels(shop.run("doctor", "--json"))["schema_unfinished"] == "warning"


class TestWhatWaits:
    @on_sqlite
    def test_old_messages_orders_and_keys(self, shop: Shop) -> None:
        shop.place_overdue("A-1")
        shop.place("A-2", idempotency_key="k")
        old = (datetime.now(UTC) - timedelta(days=2)).isoformat(timespec="microseconds")
        statement(shop, f"UPDATE orderkit_idempotency_keys SET expires_at = '{old}'")
        told = shop.run("doctor", "--json")
        found = levels(told)
        assert [found[code] for code in ("outbox", "orders_overdue", "keys_expired")] == ["warning"] * 3
        assert told.code == 0
        assert shop.tenant in next(one["advice"] for one in told.json["findings"] if one["code"] == "orders_overdue")
        assert shop.run("doctor", "--strict", "--json").code == ExitCode.FAILED
        assert shop.run("sweep", "--until-done").code == 0
        found = levels(shop.run("doctor", "--json"))
        assert (found["orders_overdue"], found["keys_expired"]) == ("ok", "ok")


@pytest.mark.parametrize("shop", ["postgresql", "mariadb"], indirect=True)
def test_a_transaction_that_somebody_holds_open(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    product = mariadb if "mariadb" in shop.url else postgresql
    at_once = product._TRANSACTIONS.replace("interval '1 min'", "interval '0 s'")
    monkeypatch.setattr(product, "_TRANSACTIONS", at_once.replace("INTERVAL 1 MINUTE", "INTERVAL -1 SECOND"))
    engine = create_engine(shop.url)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT * FROM orderkit_orders FOR UPDATE")
        held = shop.run("doctor", "--json").json["facts"]["server"]["transactions"]
    engine.dispose()
    # MariaDB tells of the whole server, where others may be at work; the youngest comes last.
    assert held == sorted(held, reverse=True)
    assert -1 <= held[-1] < 60


@pytest.mark.parametrize("shop", ["postgresql"], indirect=True)
class TestPostgresql:
    def test_an_invalid_index(self, shop: Shop) -> None:
        statement(shop, "CREATE INDEX half_made ON orderkit_orders (customer)")
        mark = "UPDATE pg_index SET indisvalid = {} WHERE indexrelid = 'half_made'::regclass"
        statement(shop, mark.format("false"))
        try:
            assert levels(shop.run("doctor", "--json"))["index_invalid"] == "problem"
        finally:
            statement(shop, "DROP INDEX half_made")

    def test_rows_that_are_dead(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        statement(shop, "ALTER TABLE orderkit_order_numbers SET (autovacuum_enabled = off)")
        for _ in range(3):
            statement(shop, "INSERT INTO orderkit_order_numbers VALUES ('dead', 1)")
            statement(shop, "DELETE FROM orderkit_order_numbers")
        statement(shop, "SELECT pg_stat_force_next_flush()")
        monkeypatch.setattr(postgresql, "_DEAD", postgresql._DEAD.replace("10000", "0"))
        told = shop.run("doctor", "--json")
        assert levels(told)["dead_rows"] == "warning"
        assert "orderkit_order_numbers" in told.json["facts"]["server"]["dead_rows"]

    def test_settings_of_the_database(self, shop: Shop) -> None:
        name = shop.url.rpartition("/")[2]
        statement(shop, f"ALTER DATABASE {name} SET synchronous_commit = off")
        statement(shop, f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
        try:
            found = levels(shop.run("doctor", "--json"))
            assert (found["not_durable"], found["isolation_other"]) == ("warning", "warning")
        finally:
            statement(shop, f"ALTER DATABASE {name} RESET ALL")

    def test_a_database_that_cannot_be_written(self, shop: Shop) -> None:
        name = shop.url.rpartition("/")[2]
        statement(shop, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        try:
            told = shop.run("doctor", "--json")
            assert (told.code, levels(told)["read_only"]) == (1, "problem")
        finally:
            statement(shop, f"ALTER DATABASE {name} RESET ALL", "postgres")

    def test_a_schema_of_its_own(self, shop: Shop) -> None:
        options = ("--schema", "sales", "--json")
        assert levels(shop.run("doctor", *options))["schema_missing"] == "problem"
        assert shop.run("db", "upgrade", *options).code == 0
        assert levels(shop.run("doctor", *options))["schema_current"] == "ok"
        assert shop.run("orders", "list", *options).json["items"] == []


@on_sqlite
class TestSqlite:
    def test_durability_is_told(self, shop: Shop) -> None:
        told = answer("doctor", "--json", **shop.environment, ORDERKIT_DURABLE="false")
        assert levels(told)["not_durable"] == "warning"

    def test_what_cannot_be_looked_at_takes_nothing_else_with_it(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def failing(*_: Any) -> None:
            raise PermissionError("permission denied")

        monkeypatch.setattr("orderkit.storage.sql.diagnosis.sqlite.look", failing)
        told = shop.run("doctor", "--json")
        assert levels(told)["not_looked_at"] == "warning"
        assert told.json["facts"]["unknown"] == {"server": "permission denied"}
        assert "schema_current" in levels(told)
