"""The days of a real shop, imported: in one go or one by one, the documents are the same to the byte."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import URL, create_engine, text

from orderkit import OrderKit, Settings
from orderkit.testing.clock import ManualClock
from tests.conftest import text_of
from tests.examples.test_online_retail import PROGRAM, REAL, SAMPLE

if TYPE_CHECKING:
    from placing import Plan
    from reading import Invoice

pytestmark = pytest.mark.slow

MOST = 250
"""Invoices of the whole month; the sample is imported as a whole."""

DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}


@pytest.fixture(params=DRIVERS)
def database(request: pytest.FixtureRequest) -> URL:
    url: URL = request.getfixturevalue(f"{request.param}_database")
    return url.set(drivername=DRIVERS[request.param])


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The modules of the example, importable."""
    monkeypatch.syspath_prepend(str(PROGRAM))
    yield
    for module in ("placing", "reading", "kinds", "amounts"):
        sys.modules.pop(module, None)


def rows(folder: Path, most: int | None) -> Iterator[dict[str, object]]:
    """Yield what is imported: an order for each invoice that makes one, under an id of its own."""
    from placing import fields_of, plan
    from reading import survey

    invoices: Iterator[Invoice] = islice(iter(survey(folder, None).invoices()), most)
    for invoice in invoices:
        planned: Plan = plan(invoice)
        if planned.in_order:
            fields: dict[str, object] = {**fields_of(invoice, planned)}
            del fields["confirmed"]
            lines = [line.model_copy(update={"id": f"line_{n}"}) for n, line in enumerate(fields["lines"])]  # type: ignore[arg-type, var-annotated]  # they are lines
            charges = [one.model_copy(update={"id": f"charge_{n}"}) for n, one in enumerate(fields["charges"])]  # type: ignore[arg-type, var-annotated]  # they are charges
            discounts = [one.model_copy(update={"id": f"d_{n}"}) for n, one in enumerate(fields["discounts"])]  # type: ignore[arg-type, var-annotated]  # they are discounts
            yield {
                **fields,
                "id": f"retail_{invoice.number}",
                "lines": lines,
                "charges": charges,
                "discounts": discounts,
                "status": "completed",
            }


@pytest.mark.parametrize(("folder", "most"), [(SAMPLE, None), (REAL, MOST)], ids=["sample", "month"])
@pytest.mark.usefixtures("program")
def test_in_one_go_or_one_by_one_the_documents_are_the_same(folder: Path, most: int | None, database: URL) -> None:
    if not folder.is_dir():
        pytest.skip(f"{folder.name} is not here")
    documents = []
    with OrderKit.from_url(text_of(database), settings=Settings(max_lines=2000), clock=ManualClock()) as owner:
        owner.create_schema()
        for size in (1, 500):
            tenant = f"{folder.name} by {size}"
            kit = owner.for_tenant(tenant)
            failed = [result.error for result in kit.orders.import_orders(rows(folder, most), batch_size=size)]
            assert [error for error in failed if error] == []
            assert all(result.replayed for result in kit.orders.import_orders(rows(folder, most), batch_size=size))
            documents.append(documents_of(database, tenant))
    assert len(documents[0]) == len(failed) > 0
    assert documents[0] == documents[1]


def documents_of(database: URL, tenant: str) -> list[tuple[str, str]]:
    engine = create_engine(database)
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT id, document FROM orderkit_orders WHERE tenant = :tenant ORDER BY id"), {"tenant": tenant}
        )
        documents = [(str(row[0]), str(row[1])) for row in found]
    engine.dispose()
    return documents
