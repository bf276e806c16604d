"""Whatever an application and orderkit do in turns, their transaction holds what a model of it holds."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from uuid import uuid4

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import URL

from orderkit import Line, Money
from orderkit.errors import AlreadyExists, OrderNotFound, Refused
from tests.integration.joining.conftest import Application, guest
from tests.integration.joining.theirs import KINDS
from tests.integration.kit.facade import Loop

TEA = (Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR")),)

PLACES = [
    ("sqlite", "sqlite3"),
    ("sqlite", "sqlite3 begun"),
    ("sqlite", "session"),
    ("sqlite", "django"),
    ("postgresql", "psycopg"),
    ("postgresql", "psycopg async"),
    ("postgresql", "asyncpg session"),
    ("postgresql", "django"),
    ("mariadb", "pymysql"),
    ("mariadb", "async session"),
    ("mariadb", "django"),
]

STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["write", "place", "confirm", "write twice"]), st.sampled_from("abc")),
        st.tuples(st.sampled_from(["savepoint", "back", "release"]), st.sampled_from(["one", "two"])),
    ),
    max_size=20,
)


@attrs.define
class Model:
    """What their transaction holds, and what it held at each savepoint.

    Attributes:
        notes: What they have written.
        orders: The versions of our orders by id.
        savepoints: The names of those that are open, from the outside in, and what was held then.
    """

    notes: set[str] = attrs.Factory(set)
    orders: dict[str, int] = attrs.Factory(dict)
    savepoints: list[tuple[str, set[str], dict[str, int]]] = attrs.Factory(list)

    def is_open(self, name: str) -> bool:
        return any(name == savepoint[0] for savepoint in self.savepoints)

    def back_to(self, name: str) -> None:
        while self.savepoints[-1][0] != name:
            self.savepoints.pop()
        self.notes, self.orders = deepcopy(self.savepoints[-1][1:])

    def release(self, name: str) -> None:
        while self.savepoints.pop()[0] != name:
            pass


def do(app: Application, model: Model, step: str, name: str) -> None:
    """Do one step, and insist that it ends as the model says."""
    match step:
        case "write" if name not in model.notes:
            app.write(name)
            model.notes.add(name)
        case "write twice" if name in model.notes:
            # As everybody must on PostgreSQL, they set a savepoint before what may fail.
            app.theirs.execute("SAVEPOINT careful")
            with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
                app.write(name)
            app.theirs.execute("ROLLBACK TO SAVEPOINT careful")
        case "place":
            place(app, model, name)
        case "confirm":
            confirm(app, model, name)
        case "savepoint" if not model.is_open(name):
            app.theirs.execute(f"SAVEPOINT {name}")
            model.savepoints.append((name, set(model.notes), dict(model.orders)))
        case "back" if model.is_open(name):
            app.theirs.execute(f"ROLLBACK TO SAVEPOINT {name}")
            model.back_to(name)
        case "release" if model.is_open(name):
            app.theirs.execute(f"RELEASE SAVEPOINT {name}")
            model.release(name)


def place(app: Application, model: Model, name: str) -> None:
    if name in model.orders:
        with pytest.raises(AlreadyExists):
            app.orders.place(lines=TEA, id=name)
    else:
        app.orders.place(lines=TEA, id=name, idempotency_key=name)
        model.orders[name] = 1


def confirm(app: Application, model: Model, name: str) -> None:
    version = model.orders.get(name)
    if version == 1:
        app.orders.confirm(name)
        model.orders[name] = 2
    else:
        with pytest.raises(Refused if version else OrderNotFound):
            app.orders.confirm(name)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES, ids=" ".join)
def test_their_transaction_holds_what_the_model_holds(
    place: tuple[str, str], databases: Callable[[str], URL], loop: Loop
) -> None:
    url = databases(place[0])
    enter = KINDS[place[0]][place[1]]

    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
    @given(STEPS, st.booleans())
    def check(steps: list[tuple[str, str]], commits: bool) -> None:
        owner, model = uuid4().hex, Model()
        with enter(url, loop) as theirs:
            app = Application(theirs, kit.for_tenant(owner).within(theirs.joined).orders, owner)
            app.write("first")
            model.notes.add("first")
            for step, name in steps:
                do(app, model, step, name)
                assert set(app.written()) == model.notes
                assert {order.id: order.version for order in app.orders.stream()} == model.orders
            theirs.commit() if commits else theirs.rollback()
        kept = {order.id: order.version for order in outside.for_tenant(owner).orders.stream()}
        assert kept == (model.orders if commits else {})

    with guest(place[1], url, loop, {}) as kit, guest("outside", url, loop, {}) as outside:
        check()
