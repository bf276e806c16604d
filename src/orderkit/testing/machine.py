"""A state machine that puts a kit through random histories, and checks after each step what must always hold.

Example:
    On your own storage:

    ```python
    from hypothesis import settings
    from sqlalchemy import create_engine

    from orderkit import OrderKit
    from orderkit.testing.machine import OrderMachine

    engine = create_engine("sqlite:///orders-under-test.db")

    class MyMachine(OrderMachine):
        def make_kit(self) -> OrderKit:
            return OrderKit.from_engine(engine, clock=self.clock)

    class TestMachine(MyMachine.TestCase):
        settings = settings(max_examples=50, stateful_step_count=30)
    ```
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import ClassVar, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, invariant, multiple, precondition, rule

from orderkit.domain.commands import (
    CompleteOrder,
    ConfirmOrder,
    CreateDraft,
    ErasePersonalData,
    HoldOrder,
    OrderCommand,
    PlaceOrder,
    ReleaseOrder,
    kind_of,
)
from orderkit.domain.decisions import Preview
from orderkit.domain.evolution import replay
from orderkit.domain.order import Order
from orderkit.domain.status import OrderStatus
from orderkit.errors import (
    AlreadyExists,
    IdempotencyMismatch,
    InvalidCommand,
    InvalidInput,
    OrderKitError,
    OrderNotFound,
    Refused,
    VersionConflict,
)
from orderkit.kit.front import OrderKit, Transaction
from orderkit.kit.orders import Orders
from orderkit.messaging.outbox import OUTBOX, OutboxRow
from orderkit.orders.searching import OrderFilter
from orderkit.storage.memory import MemoryBackend
from orderkit.testing.clock import ManualClock, SequentialIds
from orderkit.testing.model import Expectation, Handle, Use, canonical, check_figures, check_personal, told
from orderkit.testing.strategies import commands, create_drafts, place_orders

T = TypeVar("T")

TENANTS: Final = ("default", "acme")
STRANGER: Final = "stranger"
MAX_ORDERS: Final = 5
"""After so many, histories grow longer rather than more."""

_TENANTS: Final = st.sampled_from(TENANTS)
_KEYS: Final = st.sampled_from((None, None, None, "key-1", "key-2"))
_VERSIONS: Final = st.sampled_from((None, None, None, 0, -1, 1))
"""What is added to the version of an order to make the one that is expected of it."""


class Abandoned(Exception):
    """Leave a block, so that nothing of it is kept."""


class OrderMachine(RuleBasedStateMachine):
    """Place and change orders of two tenants at random, and compare a kit with a second opinion.

    Override `make_kit` to check a storage of your own, and `outbox` to have the outbox checked too. Every history
    has tenants of its own, so that a database may serve all of them.

    Attributes:
        key_retention: How long the kit keeps the results of keys.
        clock: The time, which stands still but for the steps that let it pass.
        kit: What is checked.
    """

    key_retention: ClassVar[timedelta] = timedelta(hours=72)
    handles: Bundle[Handle] = Bundle("handles")

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.kit = self.make_kit()
        self._run_id = secrets.token_hex(4)
        self._known: dict[Handle, Order] = {}
        self._uses: dict[tuple[str, str, str], Use] = {}
        self._touched: set[Handle] = set()

    def make_kit(self) -> OrderKit:
        """Return a kit that tells the time by `self.clock`; it is closed in the end."""
        self._memory = MemoryBackend()
        return OrderKit.from_backend(self._memory, clock=self.clock, ids=SequentialIds())

    def teardown(self) -> None:
        """Close the kit."""
        self.kit.close()

    def outbox(self, tenant: str) -> Sequence[OutboxRow] | None:
        """Return a tenant's rows of the outbox, in any order, or None where a test cannot reach them."""
        memory = getattr(self, "_memory", None)
        return None if memory is None else [OutboxRow._make(row) for row in memory.rows(OUTBOX, tenant)]

    # Steps

    @precondition(lambda self: len(self._known) < MAX_ORDERS)
    @rule(target=handles, tenant=_TENANTS, key=_KEYS, data=st.data())
    def create(self, tenant: str, key: str | None, data: st.DataObject) -> Handle | MultipleResults[Handle]:
        """Place an order or start a draft."""
        now = self.clock.now()
        command = data.draw(place_orders(now) | create_drafts(now))
        return self._create(tenant, command, key)

    @rule(handle=handles, data=st.data())
    def proceed(self, handle: Handle, data: st.DataObject) -> None:
        """Give a command that is allowed."""
        self._execute(handle, data.draw(commands(self._known[handle], self.clock.now())))

    @rule(handle=handles, data=st.data())
    def hold_or_release(self, handle: Handle, data: st.DataObject) -> None:
        """Set a hold, or lift one that stands: what is on hold gets no further."""
        holds = [ReleaseOrder(name=hold.name) for hold in self._known[handle].holds]
        self._execute(handle, data.draw(st.sampled_from([HoldOrder(name="payment"), *holds])))
        self._execute(handle, data.draw(st.sampled_from((ConfirmOrder(), CompleteOrder()))))

    @rule(handle=handles, key=_KEYS, ahead=_VERSIONS, data=st.data())
    def execute(self, handle: Handle, key: str | None, ahead: int | None, data: st.DataObject) -> None:
        """Give any command, allowed or not, at times under a key or with a stale version."""
        before = self._known[handle]
        self._execute(handle, data.draw(commands(before)), key, None if ahead is None else before.version + ahead)

    @precondition(lambda self: bool(self._uses))
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """Repeat a request under its key: unchanged, or with another payload."""
        tenant, _, key = place = data.draw(st.sampled_from(sorted(self._uses)))
        use = self._uses[place]
        if use.handle is not None:
            other = data.draw(st.sampled_from([known for known in self._known if known.tenant == tenant]))
            self._execute(data.draw(st.sampled_from((use.handle, other))), use.command, key)
        elif isinstance(use.command, CreateDraft | PlaceOrder):
            other_command = use.command.model_copy(update={"customer": "another"})
            self._create(tenant, data.draw(st.sampled_from((use.command, other_command))), key)

    @rule(handle=handles, data=st.data())
    def place_again(self, handle: Handle, data: st.DataObject) -> None:
        """Place another order under an id that is taken."""
        command = data.draw(place_orders(self.clock.now())).model_copy(update={"id": handle.order_id})
        assert type(attempt(lambda: self._orders(handle).create(command))) is AlreadyExists
        self._touched.add(handle)

    @rule(handle=handles, data=st.data())
    def intrude(self, handle: Handle, data: st.DataObject) -> None:
        """Ask for another tenant's order."""
        stranger = self._bound(STRANGER).orders
        command = data.draw(commands(self._known[handle]))
        for intrusion in (
            lambda: stranger.get(handle.order_id),
            lambda: stranger.execute(handle.order_id, command),
            lambda: stranger.as_of(handle.order_id, version=1),
        ):
            assert type(attempt(intrusion)) is OrderNotFound
        self._touched.add(handle)

    @rule(tenant=_TENANTS, again=st.booleans(), fails=st.booleans(), data=st.data())
    def block(self, tenant: str, again: bool, fails: bool, data: st.DataObject) -> None:
        """Do several things as one, and at times fail at the end: then none of them has happened."""
        mine = [handle for handle in self._known if handle.tenant == tenant]
        new = data.draw(place_orders(self.clock.now()))
        steps: list[tuple[OrderCommand, Callable[[Orders], Order]]] = [(new, partial(Orders.create, command=new))]
        for handle in data.draw(st.lists(st.sampled_from(mine), max_size=3)) if mine else ():
            command = data.draw(commands(self._known[handle], self.clock.now()))
            steps.append((command, partial(Orders.execute, order_id=handle.order_id, command=command)))
        ordered = data.draw(st.permutations(steps))

        def work(transaction: Transaction) -> list[tuple[OrderCommand, Order]]:
            done = [(command, perform(step, transaction.orders)) for command, step in ordered]
            if fails:
                raise Abandoned
            return [(command, order) for command, order in done if order is not None]

        try:
            results = self._run(tenant, work, again)
        except Abandoned:
            self._touched.update(mine)
            return
        for command, result in results:
            self._learn(Handle(tenant, result.id), command, result)

    @precondition(lambda self: any(order.customer for order in self._known.values()))
    @rule(data=st.data())
    def erase_customer(self, data: st.DataObject) -> None:
        """Erase what is personal in all orders of a customer: for the order, the same as erasing its own."""
        known = {(handle.tenant, order.customer) for handle, order in self._known.items() if order.customer}
        tenant, customer = data.draw(st.sampled_from(sorted(known)))
        self._bound(tenant).customers.erase(customer)
        for handle, order in list(self._known.items()):
            if (handle.tenant, order.customer) == (tenant, customer):
                self._learn(handle, ErasePersonalData(), self._orders(handle).get(handle.order_id))

    @rule(tenant=_TENANTS, seconds=st.sampled_from((0.001, 60, 86_400, 86_400 * 31)))
    def wait(self, tenant: str, seconds: float) -> None:
        """Let time pass, then run the background work of a tenant once."""
        self.clock.advance(seconds)
        self._bound(tenant).sweep()
        now = self.clock.now()
        for handle, order in list(self._known.items()):
            due = order.status is OrderStatus.PENDING and order.expires_at is not None and order.expires_at < now
            if handle.tenant == tenant and due:
                expired = self._orders(handle).get(handle.order_id)
                assert (expired.status, expired.version) == (OrderStatus.EXPIRED, order.version + 1)
                self._learn(handle, None, expired)

    # Requests

    def _create(
        self, tenant: str, command: CreateDraft | PlaceOrder, key: str | None
    ) -> Handle | MultipleResults[Handle]:
        orders = self._bound(tenant).orders
        use = self._used(tenant, command, key)
        foreseen = attempt(lambda: orders.preview(None, command))
        outcome = attempt(lambda: orders.create(command, idempotency_key=key))
        if use is not None:
            self._check_repeated(use, None, command, outcome)
            return multiple()
        if isinstance(foreseen, OrderKitError):
            assert (type(outcome), foreseen.code) == (InvalidCommand, "expires_in_the_past")
            return multiple()
        assert isinstance(outcome, Order), outcome
        handle = Handle(tenant, outcome.id)
        self._check_foreseen(handle, foreseen, outcome)
        self._remember(handle, None, command, key, outcome)
        self._learn(handle, command, outcome)
        return handle

    def _execute(
        self, handle: Handle, command: OrderCommand, key: str | None = None, version: int | None = None
    ) -> None:
        orders, before, order_id = self._orders(handle), self._known[handle], handle.order_id
        use = self._used(handle.tenant, command, key)
        permission = orders.allowed(order_id)[kind_of(type(command))]
        foreseen = attempt(lambda: orders.preview(order_id, command))
        outcome = attempt(lambda: orders.execute(order_id, command, expected_version=version, idempotency_key=key))
        self._touched.add(handle)
        assert bool(permission) is Expectation.of(before).allows(command, self.clock.now())
        if use is not None:
            self._check_repeated(use, handle, command, outcome)
        elif version is not None and version != before.version:
            assert isinstance(outcome, VersionConflict), outcome
            assert (outcome.actual, outcome.stated) == (before.version, True)
        elif not permission:
            refusals = {type(refusal) for refusal in permission.refusals}
            assert type(outcome) in refusals, outcome
            assert type(foreseen) in refusals, foreseen
        elif isinstance(foreseen, Preview):
            assert isinstance(outcome, Order), outcome
            self._check_foreseen(handle, foreseen, outcome)
            self._remember(handle, handle, command, key, outcome)
            self._learn(handle, command, outcome)
        else:
            assert isinstance(outcome, Refused | InvalidInput), outcome
            assert (type(outcome), outcome.code) == (type(foreseen), foreseen.code)

    def _run(self, tenant: str, work: Callable[[Transaction], T], again: bool) -> T:
        kit = self._bound(tenant)
        if again:
            return kit.run(work)
        with kit.transaction() as transaction:
            return work(transaction)

    def _bound(self, tenant: str) -> OrderKit:
        return self.kit.for_tenant(f"{tenant}-{self._run_id}")

    def _orders(self, handle: Handle) -> Orders:
        return self._bound(handle.tenant).orders

    # What is known

    def _used(self, tenant: str, command: OrderCommand, key: str | None) -> Use | None:
        """Return the first use of a key for this kind of command, unless it is none or forgotten by now."""
        use = None if key is None else self._uses.get((tenant, kind_of(type(command)), key))
        return use if use is not None and use.expires_at > self.clock.now() else None

    def _remember(
        self, at: Handle, asked: Handle | None, command: OrderCommand, key: str | None, result: Order
    ) -> None:
        if key is not None:
            use = Use(asked, command, result, self.clock.now() + self.key_retention)
            self._uses[at.tenant, kind_of(type(command)), key] = use

    def _learn(self, handle: Handle, command: OrderCommand | None, order: Order) -> None:
        """Take what a command is said to have made of an order, if it is what was to be expected."""
        before = self._known.get(handle)
        if before is None:
            assert (order.id, order.version) == (handle.order_id, 1)
        elif command is not None:
            expected = Expectation.of(before).after(command, order)
            assert canonical(Expectation.of(order)) == canonical(expected)
        check_figures(order)
        self._known[handle] = order
        self._touched.add(handle)

    # Checks

    @invariant()
    def stored_is_known(self) -> None:
        """Every order is kept exactly as the last command left it, and there is no other."""
        for tenant in TENANTS:
            kept = {order.id: canonical(order) for order in self._bound(tenant).orders.stream()}
            known = {handle.order_id: order for handle, order in self._known.items() if handle.tenant == tenant}
            assert kept == {order_id: canonical(order) for order_id, order in known.items()}

    @invariant()
    def touched_adds_up(self) -> None:
        """What was touched by the last step is the sum of its history, and is found where it belongs."""
        for handle in sorted(self._touched):
            self._check_history(handle)
            self._check_found(handle)
        self._touched.clear()

    def _check_history(self, handle: Handle) -> None:
        orders, known = self._orders(handle), self._known[handle]
        history = orders.history(handle.order_id)
        assert [record.version for record in history] == list(range(1, known.version + 1))
        events = [record.event for record in history]
        assert canonical(replay(events)) == canonical(known) == canonical(orders.get(handle.order_id))
        middle = (known.version + 1) // 2
        assert canonical(orders.as_of(handle.order_id, version=middle)) == canonical(replay(events[:middle]))
        assert canonical(orders.as_of(handle.order_id, time=known.updated_at)) == canonical(known)
        check_personal(known, orders.personal(handle.order_id))
        messages = self.outbox(f"{handle.tenant}-{self._run_id}")
        if messages is not None:
            mine = sorted((row.aggregate_version, row.id) for row in messages if row.aggregateid == handle.order_id)
            assert mine == [(record.version, record.id) for record in history]

    def _check_found(self, handle: Handle) -> None:
        orders, known = self._orders(handle), self._known[handle]
        others = tuple(status for status in OrderStatus if status is not known.status)
        for statuses, count in (((known.status,), 1), (others, 0)):
            found = [order.id for order in orders.stream(OrderFilter(status=statuses))]
            assert found.count(handle.order_id) == count

    def _check_repeated(
        self, use: Use, handle: Handle | None, command: OrderCommand, outcome: Order | OrderKitError
    ) -> None:
        """A key answers the same request with the same result, and any other with an error."""
        if not use.answers(handle, command):
            assert isinstance(outcome, IdempotencyMismatch), outcome
        else:
            assert isinstance(outcome, Order), outcome
            assert canonical(outcome) == canonical(use.result)

    def _check_foreseen(self, handle: Handle, foreseen: Preview, outcome: Order) -> None:
        """What was previewed is what happened, but for the ids and the number that were minted anew."""
        done = self._orders(handle).history(handle.order_id)[outcome.version - len(foreseen.events) :]
        before = b"" if foreseen.before is None else canonical(foreseen.before)
        assert foreseen.before is None or before == canonical(self._known[handle])
        happened = told(outcome, [record.event for record in done], before)
        assert told(foreseen.after, foreseen.events, before) == happened


def perform(step: Callable[[Orders], Order], orders: Orders) -> Order | None:
    """Do one step of a block; one that is refused is passed over."""
    try:
        return step(orders)
    except (Refused, InvalidInput):
        return None


def attempt(work: Callable[[], T]) -> T | OrderKitError:
    """Return what the work returns, or the error that it raises on purpose."""
    try:
        return work()
    except OrderKitError as error:
        return error
