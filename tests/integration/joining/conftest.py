"""The application's transaction on each kind of connection, and our orders inside it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from uuid import uuid4

import attrs
import pytest
from sqlalchemy import URL, create_engine, text

from orderkit import AsyncOrderKit, OrderKit
from orderkit.kit.orders import Orders
from tests.conftest import text_of
from tests.integration.joining.theirs import EVERY_KIND, KINDS, Theirs, is_async
from tests.integration.kit.facade import Loop, blocking

DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}

THEIR_TABLE = "CREATE TABLE IF NOT EXISTS their_notes (owner varchar(60), body varchar(60), PRIMARY KEY (owner, body))"


@attrs.define
class Application:
    """The application inside its transaction.

    Attributes:
        theirs: Its connection.
        orders: Our orders inside its transaction.
        owner: Whose notes and orders these are.
    """

    theirs: Theirs
    orders: Orders
    owner: str

    def write(self, body: str) -> None:
        self.theirs.execute("INSERT INTO their_notes (owner, body) VALUES (?, ?)", self.owner, body)

    def written(self) -> list[str]:
        rows = self.theirs.execute("SELECT body FROM their_notes WHERE owner = ? ORDER BY body", self.owner)
        return [row[0] for row in rows]

    def placed(self) -> list[str]:
        """Return the ids of the orders as their own statements see them."""
        rows = self.theirs.execute("SELECT id FROM orderkit_orders WHERE tenant = ? ORDER BY id", self.owner)
        return [row[0] for row in rows]


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.stop()


def prepared(url: URL) -> URL:
    """Make our tables and theirs, once."""
    with OrderKit.from_url(text_of(url)) as kit:
        kit.create_schema()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(THEIR_TABLE))
    engine.dispose()
    return url


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], URL]:
    """Return the URL of a database that has our tables and theirs; servers are asked for only when needed."""
    known: dict[str, URL] = {}

    def url(name: str) -> URL:
        if name not in known:
            file = URL.create("sqlite", database=str(tmp_path_factory.mktemp("joining") / "shop.db"))
            bare = file if name == "sqlite" else request.getfixturevalue(f"{name}_database")
            known[name] = prepared(bare.set(drivername=DRIVERS[name]))
        return known[name]

    return url


@pytest.fixture(params=EVERY_KIND)
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The database and the kind of connection."""
    found: tuple[str, str] = request.param
    return found


@pytest.fixture
def database(place: tuple[str, str], databases: Callable[[str], URL]) -> URL:
    return databases(place[0])


@pytest.fixture
def owner() -> str:
    return f"owner-{uuid4().hex}"


@pytest.fixture
def kit(database: URL, owner: str) -> Iterator[OrderKit]:
    """A kit outside of any transaction of theirs."""
    with OrderKit.from_url(text_of(database)) as kit:
        yield kit.for_tenant(owner)


Enter = Callable[..., AbstractContextManager[Application]]


@pytest.fixture
def enter(place: tuple[str, str], database: URL, owner: str, loop: Loop) -> Enter:
    """Open the application's transaction with our orders in it."""

    @contextmanager
    def entered(**options: Any) -> Generator[Application]:
        with KINDS[place[0]][place[1]](database, loop) as theirs, guest(place[1], database, loop, options) as kit:
            yield Application(theirs, kit.for_tenant(owner).within(theirs.joined).orders, owner)

    return entered


@contextmanager
def guest(kind: str, database: URL, loop: Loop, options: Any) -> Generator[OrderKit]:
    """Open a kit for a kind of connection."""
    if is_async(kind):
        driver = {"postgresql": "postgresql+psycopg", "mysql": "mysql+aiomysql", "mariadb": "mariadb+aiomysql"}
        url = text_of(database.set(drivername=driver[database.get_backend_name()]))
        kit = blocking(AsyncOrderKit.from_url(url, **options), loop)
    else:
        kit = OrderKit.from_url(text_of(database), **options)
    yield kit
    kit.close()


@pytest.fixture
def outside(database: URL, owner: str) -> Callable[[], tuple[list[str], int]]:
    """Return, as others see it, what they have written and how many orders there are."""

    def look() -> tuple[list[str], int]:
        engine = create_engine(database)
        with engine.connect() as connection:
            notes = connection.scalars(
                text("SELECT body FROM their_notes WHERE owner = :owner ORDER BY body"), {"owner": owner}
            ).all()
            counting = text("SELECT count(*) FROM orderkit_orders WHERE tenant = :owner")
            orders = connection.execute(counting, {"owner": owner}).scalar_one()
        engine.dispose()
        return list(notes), int(orders)

    return look
