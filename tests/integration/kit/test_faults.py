"""What goes wrong around a database: each fault has its own error, which says what is unchanged."""

from __future__ import annotations

import sqlite3
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import attrs
import pytest
from pydantic import SecretStr
from sqlalchemy import URL, event
from sqlalchemy.pool import Pool

from orderkit import Order, OrderKit, OrderStatus, Settings
from orderkit.errors import (
    AlreadyExists,
    CommitUnknown,
    NewerSchema,
    OrderKitError,
    SchemaMissing,
    StorageBusy,
    StorageError,
    StorageFailed,
    StorageFull,
    StorageUnavailable,
)
from tests.integration.kit.places import (
    DURABLE,
    POSTGRESQL,
    SERVERS,
    TEA,
    OpenAt,
    OpenKit,
    Place,
    assert_whole,
    each,
    outcome,
)
from tests.integration.kit.proxy import Cut, Proxy

PASSWORD = "a-word-nobody-may-read"

on_postgresql = pytest.mark.parametrize("place", POSTGRESQL, indirect=True)
on_servers = pytest.mark.parametrize("place", SERVERS, indirect=True)
on_sqlite = pytest.mark.parametrize("place", ["sqlite", "sqlite-async"], indirect=True)
on_disk = pytest.mark.parametrize("place", DURABLE, indirect=True)


def raised(error_type: type[OrderKitError], attempt: Callable[[], object]) -> OrderKitError:
    """Insist that an attempt raises an error of exactly this class that tells what it should and no secrets."""
    with pytest.raises(error_type) as found:
        attempt()
    error = found.value
    assert type(error) is error_type
    assert error.code == error_type.code
    assert "nothing" in error.message or isinstance(error, CommitUnknown)
    told = "".join(traceback.format_exception(error)) + repr(error)
    assert PASSWORD not in told
    return error


def the_commit(place: Place) -> bytes:
    """Return what is heard when a command of the actor `marked-actor` is committed."""
    # A query of MariaDB's protocol; PostgreSQL writes and commits by one statement.
    return b"\x03COMMIT" if place.is_mariadb else b"marked-actor"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a busy database up after a tenth of a second rather than five."""
    monkeypatch.setattr("orderkit.unit_of_work.attempts.PATIENCE", 0.1)


@pytest.fixture
def secretive(proxied: Place, place: Place) -> Iterator[Place]:
    """The place through the proxy, with a password in its URL, which PostgreSQL trusts us not to need."""
    user = f"orderkit_{uuid4().hex[:16]}" if place.is_mariadb else place.url.username
    if place.is_mariadb:
        place.query(f"CREATE USER {user}@'%' IDENTIFIED BY '{PASSWORD}'")
        place.query(f"GRANT ALL ON {place.url.database}.* TO {user}@'%'")
    yield attrs.evolve(proxied, url=proxied.url.set(username=user, password=PASSWORD))
    if place.is_mariadb:
        place.query(f"DROP USER {user}@'%'")


# --------------------------------------------------------------------------------------------
# The database is gone before, during and after
# --------------------------------------------------------------------------------------------


@on_servers
def test_gone_before_anything(open_at: OpenAt, secretive: Place, proxy: Proxy, place: Place, tenant: str) -> None:
    kit = open_at(secretive, settings=Settings(connect_timeout=2)).for_tenant(tenant)
    proxy.stop()
    for attempt in each(
        lambda: kit.orders.get("order_1"),
        lambda: kit.orders.place(lines=TEA, idempotency_key="k"),
        kit.orders.search,
        lambda: kit.run(lambda tx: tx.orders.place(lines=TEA)),
        kit.create_schema,
    ):
        error = raised(StorageUnavailable, attempt)
        assert "not reached" in error.message
    with pytest.raises(StorageUnavailable), kit.transaction():
        raise AssertionError("a transaction that was not begun")
    assert PASSWORD not in repr(kit) + repr(kit.orders)
    assert place.count("orders", tenant) == 0


@on_servers
def test_no_such_database_is_unavailable(open_at: OpenAt, place: Place) -> None:
    elsewhere = attrs.evolve(place, url=place.url.set(database="orderkit_absent", password=PASSWORD))
    raised(StorageUnavailable, lambda: open_at(elsewhere).orders.get("order_1"))


@on_sqlite
def test_a_file_that_cannot_be_opened_is_unavailable(open_at: OpenAt, place: Place, tmp_path: Path) -> None:
    nowhere = attrs.evolve(place, url=URL.create("sqlite", database=str(tmp_path / "absent" / "orders.db")))
    kit = open_at(nowhere)
    raised(StorageUnavailable, lambda: kit.orders.place(lines=TEA))
    raised(StorageUnavailable, kit.orders.search)


@on_sqlite
def test_a_file_that_is_no_database_is_left_alone(kit: OrderKit, place: Place) -> None:
    path = Path(str(place.url.database))
    content = b"These are the notes of somebody else. " * 200
    path.write_bytes(content)
    raised(StorageFailed, lambda: kit.orders.place(lines=TEA))
    raised(StorageFailed, lambda: kit.orders.get("order_1"))
    assert path.read_bytes() == content


@pytest.mark.parametrize("cut", Cut)
@on_servers
def test_gone_during_the_commit_is_settled_by_the_key(
    open_at: OpenAt, secretive: Place, proxy: Proxy, place: Place, tenant: str, cut: Cut
) -> None:
    kit = open_at(secretive).for_tenant(tenant)
    for warm in range(3):
        kit.orders.place(lines=TEA, idempotency_key=f"warm-{warm}")
    marked = kit.bound(actor="marked-actor")
    proxy.cut_at(the_commit(place), cut)
    error = raised(CommitUnknown, lambda: marked.orders.place(lines=TEA, idempotency_key="k"))
    assert "same idempotency key" in error.message
    assert place.count("orders", tenant) == (4 if cut is Cut.BEFORE_ANSWER else 3)
    order = marked.orders.place(lines=TEA, idempotency_key="k")
    assert marked.orders.place(lines=TEA, idempotency_key="k") == order
    proxy.cut_at(the_commit(place), cut)
    raised(CommitUnknown, lambda: marked.orders.confirm(order.id, idempotency_key="k"))
    assert kit.orders.get(order.id).version == (2 if cut is Cut.BEFORE_ANSWER else 1)
    confirmed = marked.orders.confirm(order.id, idempotency_key="k")
    assert (confirmed.version, confirmed.status) == (2, OrderStatus.OPEN)
    assert proxy.cuts == 2
    kept = assert_whole(place, tenant)
    assert (kept["orders"], kept["events"], kept["idempotency_keys"]) == (4, 5, 5)


@on_servers
def test_gone_during_the_commit_is_settled_by_the_order_id(
    open_at: OpenAt, secretive: Place, proxy: Proxy, place: Place, tenant: str
) -> None:
    kit = open_at(secretive).bound(actor="marked-actor").for_tenant(tenant)
    proxy.cut_at(the_commit(place), Cut.BEFORE_ANSWER)
    error = raised(CommitUnknown, lambda: kit.orders.place(lines=TEA, id="order-1"))
    assert "same order id" in error.message
    with pytest.raises(AlreadyExists):
        kit.orders.place(lines=TEA, id="order-1")
    assert kit.orders.get("order-1").version == 1


@pytest.mark.parametrize("cut", Cut)
@on_servers
def test_gone_at_the_end_of_a_transaction(
    open_at: OpenAt, secretive: Place, proxy: Proxy, place: Place, tenant: str, cut: Cut
) -> None:
    kit = open_at(secretive).for_tenant(tenant)

    def block() -> None:
        with kit.transaction() as tx:
            tx.orders.place(lines=TEA, idempotency_key="one")
            tx.orders.confirm(tx.orders.place(lines=TEA, idempotency_key="two").id)
            proxy.cut_at(b"COMMIT", cut)

    raised(CommitUnknown, block)
    assert place.count("orders", tenant) in {0, 2}
    orders = [kit.orders.place(lines=TEA, idempotency_key=key) for key in ("one", "two")]
    assert len({order.id for order in orders}) == 2
    assert assert_whole(place, tenant)["orders"] == 2


@on_servers
def test_gone_inside_a_transaction_takes_it_back(
    open_at: OpenAt, secretive: Place, proxy: Proxy, place: Place, tenant: str
) -> None:
    kit = open_at(secretive).for_tenant(tenant)

    def block() -> None:
        with kit.transaction() as tx:
            tx.orders.place(lines=TEA)
            proxy.cut_at(b"cust-marked", Cut.BEFORE_ANSWER)
            tx.orders.place(lines=TEA, customer="cust-marked")

    raised(StorageUnavailable, block)
    assert set(place.counts(tenant).values()) == {0}
    assert kit.orders.place(lines=TEA).version == 1


@on_servers
def test_gone_while_reading(open_at: OpenAt, secretive: Place, proxy: Proxy, tenant: str) -> None:
    kit = open_at(secretive).for_tenant(tenant)
    order = kit.orders.place(lines=TEA)
    for attempt in each(
        lambda: kit.orders.get(order.id),
        lambda: kit.orders.history(order.id),
        kit.orders.search,
        lambda: kit.orders.confirm(order.id),
    ):
        proxy.cut_at(tenant.encode(), Cut.BEFORE_ANSWER)
        raised(StorageUnavailable, attempt)
        assert kit.orders.get(order.id) == order


@on_servers
def test_gone_after_the_commit_is_not_noticed(
    open_at: OpenAt, secretive: Place, proxy: Proxy, place: Place, tenant: str
) -> None:
    """Connections that died while they were idle are replaced; if one is used all the same, the key settles it."""
    kit = open_at(secretive).for_tenant(tenant)
    kit.orders.place(lines=TEA)
    ends: dict[str, Callable[[], None]] = {"dropped": proxy.drop_all, "terminated": partial(terminate, place, proxy)}
    for key, end in ends.items():
        end()
        result = outcome(partial(kit.orders.place, lines=TEA, idempotency_key=key))
        if place.shell in {"psycopg", "pymysql"}:
            assert isinstance(result, Order)
        assert isinstance(result, Order | StorageUnavailable | CommitUnknown)
        order = kit.orders.place(lines=TEA, idempotency_key=key)
        assert kit.orders.get(order.id) == order
    assert assert_whole(place, tenant)["orders"] == 3


def terminate(place: Place, proxy: Proxy) -> None:
    """Have the server end every connection of this database but the one that asks, and wait until it has."""
    if place.is_mariadb:
        others = "SELECT id FROM information_schema.processlist WHERE db = %s AND id <> CONNECTION_ID()"
        for row in place.query(others, place.url.database):
            place.query(f"KILL {row['id']}")
    else:
        place.query(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = %s AND pid <> pg_backend_pid()",
            place.url.database,
        )
    proxy.wait_until_idle()


# --------------------------------------------------------------------------------------------
# Tables, rights and room
# --------------------------------------------------------------------------------------------


@pytest.fixture
def schema(place: Place) -> Iterator[str]:
    """The name of a schema that is not there yet."""
    name = f"s_{uuid4().hex}"
    yield name
    place.query(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')


@on_postgresql
def test_missing_tables_are_told_and_can_be_made(open_kit: OpenKit, schema: str) -> None:
    kit = open_kit(settings=Settings(table_schema=schema))
    for attempt in each(
        lambda: kit.orders.place(lines=TEA),
        lambda: kit.orders.get("order_1"),
        kit.orders.search,
        kit.sweep,
        lambda: kit.run(lambda tx: tx.orders.place(lines=TEA)),
    ):
        error = raised(SchemaMissing, attempt)
        assert "create_schema" in error.message
    with pytest.raises(SchemaMissing), kit.transaction() as tx:
        tx.orders.place(lines=TEA)
    kit.create_schema()
    kit.create_schema()
    order = kit.orders.place(lines=TEA)
    assert kit.orders.get(order.id) == order


@on_postgresql
def test_a_missing_table_can_be_made_on_first_use(open_kit: OpenKit, schema: str) -> None:
    kit = open_kit(settings=Settings(table_schema=schema, create_tables=True))
    with kit.transaction() as tx:
        order = tx.orders.place(lines=TEA)
    assert kit.orders.get(order.id) == order


@pytest.mark.slow
@pytest.mark.parametrize(
    ("state", "error_type"),
    [
        ("53100", StorageFull),
        ("40001", StorageBusy),
        ("40P01", StorageBusy),
        ("55P03", StorageBusy),
        ("57014", StorageBusy),
        ("42501", StorageFailed),
        ("25006", StorageFailed),
        ("XX001", StorageFailed),
        ("23514", StorageFailed),
    ],
)
@on_postgresql
@pytest.mark.usefixtures("impatient")
def test_a_server_that_refuses_leaves_nothing_behind(
    open_kit: OpenKit, place: Place, schema: str, state: str, error_type: type[OrderKitError]
) -> None:
    """The last row of the commit is refused: whatever came before it in the same commit is gone as well."""
    kit = open_kit(settings=Settings(table_schema=schema))
    kit.create_schema()
    before = kit.orders.place(lines=TEA)
    place.query(
        f"CREATE FUNCTION {schema}.refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION 'refused near cust-private' USING ERRCODE = '{state}'; END $$"
    )
    for table in ("events", "outbox"):
        place.query(
            f"CREATE TRIGGER refusing AFTER INSERT ON {schema}.orderkit_{table} "
            f"FOR EACH ROW EXECUTE FUNCTION {schema}.refuse()"
        )
    for attempt in each(
        lambda: kit.orders.place(lines=TEA, customer="cust-private"),
        lambda: kit.orders.confirm(before.id, idempotency_key="k"),
        lambda: kit.run(lambda tx: tx.orders.confirm(tx.orders.place(lines=TEA).id)),
    ):
        error = raised(error_type, attempt)
        assert "cust-private" not in error.message
        assert f"[{state}]" in error.message
    for table, rows in (("orders", 1), ("order_lines", 1), ("events", 1), ("outbox", 1), ("idempotency_keys", 0)):
        assert place.query(f"SELECT count(*) AS n FROM {schema}.orderkit_{table}") == [{"n": rows}]
    assert kit.orders.get(before.id) == before


@pytest.fixture
def pragma() -> Iterator[list[str]]:
    """What every connection to SQLite is told when it is taken from its pool."""
    told: list[str] = []

    def tell(connection: object, _record: object, _proxy: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            for statement in told:
                connection.execute(f"PRAGMA {statement}")

    event.listen(Pool, "checkout", tell)
    yield told
    event.remove(Pool, "checkout", tell)


@on_sqlite
def test_a_full_disk(pragma: list[str], kit: OrderKit, place: Place, tenant: str) -> None:
    first = kit.orders.place(lines=TEA)
    pages = place.query("PRAGMA page_count")[0]["page_count"]
    pragma.append(f"max_page_count = {pages + 12}")
    placed = [first]
    padding = "x" * 20_000
    while isinstance(result := outcome(lambda: kit.orders.place(lines=TEA, metadata={"p": padding})), Order):
        placed.append(result)
    assert type(result) is StorageFull
    assert "Make room" in str(result)
    for attempt in each(
        lambda: kit.orders.place(lines=TEA, metadata={"p": padding}, idempotency_key="k"),
        lambda: kit.run(lambda tx: [tx.orders.place(lines=TEA, metadata={"p": padding}) for _ in range(3)]),
    ):
        raised(StorageFull, attempt)
    with pytest.raises(StorageFull), kit.transaction() as tx:
        tx.orders.place(lines=TEA, metadata={"p": padding})
    assert [kit.orders.get(order.id) for order in placed] == placed
    kept = assert_whole(place, tenant)
    assert (kept["orders"], kept["idempotency_keys"]) == (len(placed), 0)
    pragma[:] = ["max_page_count = 1000000"]
    assert kit.orders.place(lines=TEA, metadata={"p": padding}, idempotency_key="k").version == 1


@on_sqlite
def test_a_file_that_is_read_only(pragma: list[str], kit: OrderKit, place: Place, tenant: str) -> None:
    order = kit.orders.place(lines=TEA)
    pragma.append("query_only = ON")
    raised(StorageFailed, lambda: kit.orders.place(lines=TEA, idempotency_key="k"))
    raised(StorageFailed, lambda: kit.orders.confirm(order.id))
    assert kit.orders.get(order.id) == order
    pragma[:] = ["query_only = OFF"]
    assert kit.orders.place(lines=TEA, idempotency_key="k").version == 1
    assert assert_whole(place, tenant)["orders"] == 2


# --------------------------------------------------------------------------------------------
# Others in the way
# --------------------------------------------------------------------------------------------


@on_sqlite
@pytest.mark.usefixtures("impatient")
def test_a_foreign_writer_of_the_file(open_kit: OpenKit, place: Place, tenant: str) -> None:
    kit = open_kit(settings=Settings(lock_timeout=0.2)).for_tenant(tenant)
    order = kit.orders.place(lines=TEA)
    holder = sqlite3.connect(str(place.url.database), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        started = time.monotonic()
        raised(StorageBusy, lambda: kit.orders.place(lines=TEA))
        assert time.monotonic() - started < 2  # waits do not add up to eight times the time-out
        raised(StorageBusy, lambda: kit.orders.confirm(order.id))
        assert kit.orders.get(order.id) == order
    finally:
        holder.close()
    assert kit.orders.confirm(order.id).version == 2
    assert assert_whole(place, tenant)["orders"] == 1


@on_servers
@pytest.mark.usefixtures("impatient")
def test_an_order_that_somebody_else_holds(open_kit: OpenKit, place: Place, tenant: str) -> None:
    kit = open_kit(settings=Settings(lock_timeout=0.2)).for_tenant(tenant)
    order = kit.orders.place(lines=TEA)
    holding, released = threading.Event(), threading.Event()

    def hold() -> None:
        with place.kit() as owner, owner.for_tenant(tenant).transaction() as tx:
            tx.orders.hold(order.id, "fraud")
            holding.set()
            released.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    holding.wait()
    try:
        raised(StorageBusy, lambda: kit.orders.confirm(order.id))
        assert kit.orders.get(order.id) == order
    finally:
        released.set()
        holder.join()
    assert kit.orders.release(order.id, "fraud").version == 3


@on_servers
@pytest.mark.usefixtures("impatient")
def test_a_pool_that_has_nothing_left(open_kit: OpenKit) -> None:
    kit = open_kit(settings=Settings(pool_size=1, max_overflow=0, pool_timeout=0.1))
    with kit.transaction():
        raised(StorageBusy, lambda: kit.orders.get("order_1"))
    with pytest.raises(OrderKitError, match="No order"):
        kit.orders.get("order_1")


# --------------------------------------------------------------------------------------------
# What is kept cannot be read, or must not be written again
# --------------------------------------------------------------------------------------------


def tamper(place: Place, order: Order, **columns: object) -> None:
    """Change an order's row past orderkit."""
    placeholder = place.placeholder
    assigned = ", ".join(f"{column} = {placeholder}" for column in columns)
    place.query(f"UPDATE orderkit_orders SET {assigned} WHERE id = {placeholder}", *columns.values(), order.id)


@on_disk
def test_an_order_of_a_newer_release_is_read_and_never_saved_again(kit: OrderKit, place: Place, tenant: str) -> None:
    order = kit.orders.place(lines=TEA, tags=("x",))
    kit.orders.place(lines=TEA)
    row = next(row for row in place.rows("orders", tenant) if row["id"] == order.id)
    newer = row["document"][:-1] + ',"invented_later":{"deep":[1,2]}}'
    tamper(place, order, schema_version=99, document=newer)
    assert kit.orders.get(order.id) == order
    assert order in kit.orders.search().items
    for attempt in each(
        lambda: kit.orders.confirm(order.id, idempotency_key="k"),
        lambda: kit.orders.cancel(order.id),
        lambda: kit.run(lambda tx: tx.orders.confirm(order.id)),
        lambda: kit.run(lambda tx: (tx.orders.search(), tx.orders.confirm(order.id))),
    ):
        error = outcome(attempt)
        assert isinstance(error, NewerSchema)
        assert (error.code, "unchanged" in error.message, "Upgrade" in error.message) == ("newer_schema", True, True)
    with pytest.raises(NewerSchema), kit.transaction() as tx:
        tx.orders.confirm(order.id)
    kept = next(row for row in place.rows("orders", tenant) if row["id"] == order.id)
    assert (kept["document"], kept["schema_version"], kept["version"]) == (newer, 99, 1)
    assert place.count("events", tenant) == 2
    assert place.count("idempotency_keys", tenant) == 0


@on_disk
def test_an_order_of_a_shape_not_known_yet_says_so(kit: OrderKit, place: Place, tenant: str) -> None:
    order, other = kit.orders.place(lines=TEA), kit.orders.place(lines=TEA)
    tamper(place, order, schema_version=99, document='{"everything":"different"}')
    for attempt in each(lambda: kit.orders.get(order.id), lambda: kit.orders.confirm(order.id)):
        with pytest.raises(NewerSchema):
            attempt()
    assert kit.orders.get(other.id) == other
    kept = next(row for row in place.rows("orders", tenant) if row["id"] == order.id)
    assert kept["document"] == '{"everything":"different"}'


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"id":7}', "\x01\x02", '{"a":' * 20_000])
@pytest.mark.parametrize("place", ["sqlite", "psycopg", "pymysql"], indirect=True)
def test_a_damaged_document_is_told_and_left_alone(kit: OrderKit, place: Place, tenant: str, damage: str) -> None:
    order, other = kit.orders.place(lines=TEA), kit.orders.place(lines=TEA)
    tamper(place, order, document=damage)
    raised(StorageFailed, lambda: kit.orders.get(order.id))
    raised(StorageFailed, lambda: kit.orders.confirm(order.id, idempotency_key="k"))
    raised(StorageFailed, kit.orders.search)
    assert kit.orders.get(other.id) == other
    assert [event.version for event in kit.orders.history(order.id)] == [1]
    assert kit.orders.as_of(order.id, version=1) == order
    kept = next(row for row in place.rows("orders", tenant) if row["id"] == order.id)
    assert (kept["document"], kept["version"]) == (damage, 1)
    assert place.count("idempotency_keys", tenant) == 0


@on_disk
def test_an_event_of_a_newer_release_says_so(kit: OrderKit, place: Place) -> None:
    order = kit.orders.place(lines=TEA)
    place.query(f"UPDATE orderkit_events SET type = 'invented_later' WHERE order_id = {place.placeholder}", order.id)
    for attempt in each(lambda: kit.orders.history(order.id), lambda: kit.orders.as_of(order.id, version=1)):
        with pytest.raises(NewerSchema):
            attempt()
    assert kit.orders.confirm(order.id).version == 2


def test_every_storage_error_is_of_one_family() -> None:
    families = {SchemaMissing, StorageBusy, StorageFailed, StorageFull, StorageUnavailable, CommitUnknown, NewerSchema}
    assert all(issubclass(family, StorageError) for family in families)
    assert len({family.code for family in families}) == len(families)


def test_a_kit_keeps_its_password_to_itself() -> None:
    kit = OrderKit.from_url(f"postgresql+psycopg://ada:{PASSWORD}@127.0.0.1:1/orders")
    settings = Settings(database_url=SecretStr(f"postgresql+psycopg://ada:{PASSWORD}@127.0.0.1:1/orders"))
    told = [repr(kit), str(kit), repr(vars(kit)), repr(kit.orders), repr(settings), str(settings)]
    assert not any(PASSWORD in text for text in told)
    raised(StorageUnavailable, lambda: kit.orders.get("order_1"))
    kit.close()
