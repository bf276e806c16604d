"""No query reads much more than it finds, however many orders there are and however unevenly they are spread."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import attrs
import psycopg
import pymysql
import pytest
from sqlalchemy import URL, create_engine

from orderkit.storage.sql import SqlBackend, open_backend
from tests.conftest import connected, text_of
from tests.integration.plans import shop
from tests.integration.plans.measures import Listener, MariadbReader, PostgresqlReader, Reader, Said, SqliteReader
from tests.integration.plans.queries import Asked, lookups, searches

MODERATE = 30_000
MILLION = 1_000_000

DRIVERS = {"postgresql": "postgresql+psycopg", "sqlite": "sqlite", "mariadb": "mariadb+pymysql"}


@attrs.frozen
class Kept:
    """A shop of many orders in a database.

    Attributes:
        url: For the driver.
        orders: How many the huge tenant has.
    """

    url: URL
    orders: int

    @property
    def plans_by_value(self) -> bool:
        """Whether the database plans a search for the values it is run with."""
        return self.url.get_backend_name() == "postgresql"

    def fill(self) -> None:
        """Make the orders."""
        engine = create_engine(self.url)
        with engine.connect() as connection:
            shop.fill(connection, self.orders)
        engine.dispose()

    def analyse(self) -> None:
        """Have the database look at them."""
        engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            shop.analyse(connection)
        engine.dispose()

    def figures(self) -> Iterator[tuple[Asked, str, int]]:
        """Ask everything on behalf of both tenants; yield how many rows each statement read."""
        backend = open_backend(text_of(self.url))
        assert isinstance(backend, SqlBackend)
        with closing(backend), self._reader() as reader:
            for asked in (*searches(self.orders), *lookups(self.orders)):
                said = {tenant: said_for(backend, asked, tenant) for tenant in (shop.HUGE, shop.TINY)}
                for tenant, other in ((shop.HUGE, shop.TINY), (shop.TINY, shop.HUGE)):
                    yield asked, tenant, sum(reader.rows_read(one, said[other]) for one in said[tenant])

    @contextmanager
    def _reader(self) -> Iterator[Reader]:
        match self.url.get_backend_name():
            case "postgresql":
                with psycopg.connect(text_of(self.url.set(drivername="postgresql")), autocommit=True) as postgresql:
                    yield PostgresqlReader(postgresql)
            case "sqlite":
                with closing(sqlite3.connect(str(self.url.database), isolation_level=None)) as sqlite:
                    yield SqliteReader(sqlite)
            case _:
                address = self.url.translate_connect_args(username="user")
                with closing(pymysql.connect(**address)) as mariadb:
                    yield MariadbReader(mariadb)


def said_for(backend: SqlBackend, asked: Asked, tenant: str) -> list[Said]:
    """Return what is sent to the database for a query."""
    with backend.connect() as storage:
        listener = storage._executor = Listener(storage._executor)
        asked.ask(storage, tenant)
    return [said for said in listener.said if said.sql.lstrip().startswith(("SELECT", "DELETE"))]


def most_rows(kept: Kept, asked: Asked, tenant: str) -> int:
    """Return how many rows a query may read: of a tenant with a handful of orders, at most a few for each."""
    most = asked.most if kept.plans_by_value or asked.elsewhere is None else asked.elsewhere
    return most if tenant == shop.HUGE else max(asked.most, 4 * shop.TINY_ORDERS)


@contextmanager
def database(kind: str, request: pytest.FixtureRequest, directory: Path) -> Iterator[URL]:
    """Return the URL of a new database for the length of a block."""
    if kind == "sqlite":
        yield URL.create("sqlite", database=str(directory / "plans.db"))
        return
    server: URL = request.getfixturevalue(f"{kind}_database")
    name = f"{server.database}_plans"
    if kind == "postgresql":
        with connected(server) as session:
            session.execute(f'CREATE DATABASE "{name}"'.encode())
            try:
                yield server.set(drivername=DRIVERS[kind], database=name)
            finally:
                session.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
        return
    engine = create_engine(server.set(drivername=DRIVERS[kind]))
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE `{name}`")
        try:
            yield server.set(drivername=DRIVERS[kind], database=name)
        finally:
            connection.exec_driver_sql(f"DROP DATABASE `{name}`")
    engine.dispose()


def check(kept: Kept) -> dict[str, int]:
    """Insist that no query reads too much; return how many rows each of the huge tenant's reads."""
    figures: dict[str, int] = {}
    too_many: dict[str, str] = {}
    for asked, tenant, rows in kept.figures():
        if tenant == shop.HUGE:
            figures[asked.name] = rows
        if rows > (most := most_rows(kept, asked, tenant)):
            too_many[f"{asked.name} ({tenant})"] = f"{rows} rows instead of {most}"
    assert not too_many, "\n".join(f"{name}: {found}" for name, found in too_many.items())
    return figures


@pytest.mark.slow
@pytest.mark.parametrize("kind", DRIVERS)
def test_no_query_reads_much_more_than_it_finds(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with database(kind, request, tmp_path) as url:
        kept = Kept(url, MODERATE)
        kept.fill()
        if kind == "sqlite":
            # As a file mostly is: nobody has ever analysed it.
            check(kept)
        kept.analyse()
        check(kept)


@pytest.mark.torture
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("kind", DRIVERS)
def test_no_query_reads_much_more_than_it_finds_among_a_million(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with database(kind, request, tmp_path) as url:
        kept = Kept(url, MILLION)
        kept.fill()
        kept.analyse()
        figures = check(kept)
    with capsys.disabled():
        sys.stdout.write(f"\nRows read at a million orders, {kind}:\n")
        sys.stdout.writelines(f"{rows:>10,}  {name}\n" for name, rows in figures.items())
