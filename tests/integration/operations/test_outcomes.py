"""What an operation ends in, and what a repetition of it sees: an answer, an error that is one, or another attempt."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from orderkit import Found, OperationRun, OrderKit, OrderStatus
from orderkit.domain.rules import IllegalTransition
from orderkit.errors import (
    ConfigurationError,
    FieldError,
    IdempotencyInFlight,
    IdempotencyMismatch,
    InvalidCommand,
    InvalidKey,
    Refused,
)
from orderkit.idempotency.operations import OperationFailed, OperationReplayed, OperationTakenOver, OutcomeLost
from orderkit.idempotency.outcomes import NotJson
from orderkit.kit.operations import Operations
from orderkit.testing.clock import ManualClock
from tests.integration.kit.places import TEA, Place, assert_whole, outcome
from tests.integration.operations.world import LEASE, Provider, place_tea, rows, shopping, states, working


class Declined(Exception):
    """An error of an application, whose constructor takes something else than what it says."""

    def __init__(self, reason: str, *, limit: int = 0) -> None:
        super().__init__(f"The card was declined: {reason}.")
        self.reason = reason
        self.limit = limit


class DeclinedForNow(Declined):
    """One that is derived from what was declared."""


class TooSoon(Refused):
    """A refusal of an application."""

    code = "too_soon"

    def __init__(self, days: int) -> None:
        super().__init__(f"Come again in {days} days.")
        self.days = days


class Unkept(Exception):
    """An error that holds what is no JSON."""

    def __init__(self, cause: object) -> None:
        super().__init__("unkept")
        self.cause = cause


FINAL = (Declined, Unkept, KeyError)

AGAIN: dict[str, Exception] = {
    "refused": Refused("The order is what it was."),
    "invalid input": InvalidKey("That is no key."),
    "field errors": InvalidCommand("Line", (FieldError("lines.0", "bad", "It is bad."),)),
    "own refusal": TooSoon(3),
    "declared": Declined("no money", limit=5),
    "derived": DeclinedForNow("later"),
    "built in": KeyError("sku"),
    "not ASCII": Declined("kein Geld: 5\u00a0€ \x00 \U0001f600"),
}


@pytest.mark.parametrize("error", AGAIN.values(), ids=AGAIN.keys())
def test_a_final_error_is_raised_again(
    place: Place, tenant: str, operations: Operations, provider: Provider, error: Exception
) -> None:
    def work(run: OperationRun) -> Any:
        run.call("reserve", provider.do)
        raise error

    pay = working(work, final=FINAL)
    for _ in range(3):
        with pytest.raises(type(error)) as found:
            operations.run(pay, key="k")
        raised = found.value
        assert type(raised) is type(error)
        assert (raised.args, str(raised), vars(raised)) == (error.args, str(error), vars(error))
        assert getattr(raised, "code", None) == getattr(error, "code", None)
    assert len(provider.arrivals) == 1
    assert states(place, tenant) == ["failed"]


@pytest.mark.parametrize("error", [Unkept(object()), Unkept((1, 2)), Declined("\ud800")])
def test_a_final_error_that_cannot_be_made_again_is_told_of(operations: Operations, error: Exception) -> None:
    def work(run: OperationRun) -> Any:
        raise error

    pay = working(work, final=FINAL)
    with pytest.raises(type(error)):
        operations.run(pay, key="k")
    with pytest.raises(OperationFailed) as found:
        operations.run(pay, key="k")
    assert found.value.error_type == type(error).__name__
    assert found.value.error_message == str(error).encode(errors="backslashreplace").decode()


def test_an_error_that_is_declared_no_more_is_told_of(operations: Operations) -> None:
    def work(run: OperationRun) -> Any:
        raise Declined("no money")

    with pytest.raises(Declined):
        operations.run(working(work, final=FINAL), key="k")
    with pytest.raises(OperationFailed, match="no money"):
        operations.run(working(work), key="k")


def test_a_refusal_of_an_order_is_the_answer(
    place: Place, tenant: str, kit: OrderKit, operations: Operations, provider: Provider
) -> None:
    order = kit.orders.confirm(kit.orders.place(lines=TEA).id)
    kit.orders.complete(order.id)

    def work(run: OperationRun) -> Any:
        run.call("reserve", provider.do)
        return run.commit("cancel", lambda tx: [place_tea(tx), tx.orders.cancel(order.id, reason="late")])

    first, again = (outcome(lambda: operations.run(working(work), key="k")) for _ in range(2))
    assert type(first) is type(again) is IllegalTransition
    assert vars(again) == vars(first)
    assert again.status is OrderStatus.COMPLETED
    assert assert_whole(place, tenant)["orders"] == 1


def test_a_final_error_of_a_step_can_be_answered_otherwise(operations: Operations, provider: Provider) -> None:
    def declining(key: str) -> Any:
        provider.do(key)
        raise Declined("no money")

    def work(run: OperationRun) -> Any:
        try:
            run.call("charge", declining)
        except Declined as error:
            run.call("charge-elsewhere", provider.do)
            return error.reason
        return None

    failing = threading.Event()

    def interrupted(run: OperationRun) -> Any:
        result = work(run)
        if not failing.is_set():
            failing.set()
            raise ConnectionError
        return result

    pay = working(interrupted, final=(Declined,))
    with pytest.raises(ConnectionError):
        operations.run(pay, key="k")
    assert operations.run(pay, key="k") == "no money"
    assert sorted(provider.arrivals.values()) == [1, 1]


def test_an_error_before_any_effect_frees_the_key(place: Place, tenant: str, operations: Operations) -> None:
    def work(run: OperationRun) -> Any:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        operations.run(working(work), key="k", request=1)
    assert rows(place, tenant) == []
    assert operations.run(working(lambda run: run.request), key="k", request=2) == 2


@pytest.mark.parametrize("moment", ["call", "commit", "lost call"])
def test_an_error_after_an_effect_leaves_the_key_to_go_on(
    place: Place, tenant: str, operations: Operations, provider: Provider, moment: str
) -> None:
    failures = [TimeoutError()]

    def fail(_key: str = "") -> None:
        if failures:
            raise failures.pop()

    def work(run: OperationRun) -> Any:
        result = run.commit("order", place_tea) if moment == "commit" else run.call("charge", provider.do)
        fail()
        return result

    if moment == "lost call":
        provider.breaks = fail
    with pytest.raises(TimeoutError):
        operations.run(working(work), key="k", request=1)
    assert states(place, tenant) == ["in_progress"]
    with pytest.raises(IdempotencyMismatch):
        operations.run(working(work), key="k", request=2)
    answer = operations.run(working(work), key="k", request=1)
    assert operations.run(working(work), key="k", request=1) == answer
    assert len(provider.effects) == (moment != "commit")
    assert place.count("orders", tenant) == (moment == "commit")


def test_a_step_that_is_done_is_not_done_again_wherever_it_stands(operations: Operations, provider: Provider) -> None:
    orders = [["a", "b", "c"], ["c", "a", "b"], ["b", "c", "a", "d", "a"]]

    def work(run: OperationRun) -> Any:
        given = {step: run.call(step, provider.do) for step in orders[0]}
        if len(orders) > 1:
            orders.pop(0)
            raise ConnectionError
        return given

    for _ in range(2):
        with pytest.raises(ConnectionError):
            operations.run(working(work), key="k")
    answer: Any = operations.run(working(work), key="k")
    assert {step: given["number"] for step, given in answer.items()} == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert set(provider.arrivals.values()) == {1}


def test_what_comes_after_the_end_does_not_change_the_answer(
    place: Place, tenant: str, operations: Operations, provider: Provider
) -> None:
    def work(run: OperationRun) -> Any:
        run.complete(lambda tx: "the answer")
        run.call("late", provider.do)

    assert isinstance(outcome(lambda: operations.run(working(work), key="k")), Exception)
    assert operations.run(working(work), key="k") == "the answer"
    assert provider.arrivals == {}
    assert states(place, tenant) == ["succeeded"]


def test_listeners_are_told_whose_operation_it_is(tenant: str, operations: Operations, provider: Provider) -> None:
    told: list[Any] = []
    lost = [TimeoutError()]
    provider.breaks = lambda key: (_ for _ in ()).throw(lost.pop()) if lost else None
    shop = shopping(provider, listeners=(told.append,))
    with pytest.raises(TimeoutError):
        operations.run(shop, key="k")
    operations.run(shop, key="k")
    operations.run(shop, key="k")
    whose: Any = {"policy": "shop", "tenant": tenant, "key": "k"}
    assert told == [
        OutcomeLost(**whose, step="reserve", error="TimeoutError"),
        OperationTakenOver(**whose, recovery_point="started", attempts=2),
        OutcomeLost(**whose, step="reserve", error=None),
        OperationReplayed(**whose),
    ]


def test_an_answer_is_kept_for_as_long_as_was_said(
    place: Place, tenant: str, operations: Operations, clock: ManualClock
) -> None:
    answers = iter("ab")
    work = working(lambda run: next(answers), retention=timedelta(hours=24))
    assert operations.run(work, key="k", request=1) == "a"
    clock.advance(timedelta(hours=24) - timedelta(seconds=1))
    assert operations.run(work, key="k", request=1) == "a"
    clock.advance(2)
    assert operations.run(work, key="k", request=2) == "b"


@pytest.mark.parametrize("begun", [False, True], ids=["nothing begun", "a step begun"])
@pytest.mark.parametrize("place", ["memory", "sqlite", "psycopg", "pymysql"], indirect=True)
def test_an_interrupt_frees_the_key_only_if_nothing_was_begun(
    place: Place, tenant: str, operations: Operations, provider: Provider, clock: ManualClock, begun: bool
) -> None:
    interrupts = [KeyboardInterrupt()]

    def interrupt(_key: str = "") -> None:
        if interrupts:
            raise interrupts.pop()

    def work(run: OperationRun) -> Any:
        if not begun:
            interrupt()
        return run.call("charge", provider.do)

    provider.breaks = interrupt
    with pytest.raises(KeyboardInterrupt):
        operations.run(working(work), key="k")
    if begun:
        with pytest.raises(IdempotencyInFlight):
            operations.run(working(work), key="k")
        clock.advance(LEASE + 1)
    assert len(rows(place, tenant)) == begun
    operations.run(working(work), key="k")
    assert len(provider.effects) == 1


BAD_KEYS = ["", "x" * 256, "ключ", "a\nb", "a\x00b", 7, None]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_malformed_key_is_refused(operations: Operations, key: Any) -> None:
    for attempt in (operations.run, operations.report):
        with pytest.raises(InvalidKey):
            attempt(working(lambda run: None), key=key)
    with pytest.raises(InvalidKey):
        operations.settle(working(lambda run: None), key=key, step="a", outcome=Found(1))


@pytest.mark.parametrize("step", ["", "a b", "x" * 101, "schritt-ä", 3, None])
def test_a_malformed_step_is_refused_before_it_begins(operations: Operations, step: Any) -> None:
    for act in (
        lambda run: run.call(step, lambda key: pytest.fail("called")),
        lambda run: run.commit(step, lambda tx: pytest.fail("done")),
    ):
        with pytest.raises(ConfigurationError, match="name"):
            operations.run(working(act), key="k")


# --------------------------------------------------------------------------------------------
# Values
# --------------------------------------------------------------------------------------------


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


GOOD: dict[str, Any] = {
    "nothing": None,
    "large": {"text": "ä" * 500_000, "list": list(range(10_000))},
    "numbers": [0, -1, 2**53 + 1, 2**64, -(2**70), 1.0, 1e300, 5e-324, 0.1],
    "unicode": {"a\x00b": "\x00", "\U0001f600": "\u2028 \uffff '\"\\ \r\n", "": ""},
    "deep": nested(200),
    "booleans": [True, False, [], {}],
}

BAD: dict[str, Any] = {
    "NaN": float("nan"),
    "infinity": [float("inf")],
    "tuple": (1, 2),
    "tuple inside": {"a": [(1,)]},
    "bytes": b"x",
    "set": {1},
    "datetime": [timedelta(1)],
    "number as a name": {1: 2},
    "lone surrogate": "\ud800",
    "name with a lone surrogate": {"\udfff": 1},
    "too deep": nested(100_000),
    "object": object(),
    "itself": [],
}
BAD["itself"].append(BAD["itself"])


@pytest.mark.parametrize("value", GOOD.values(), ids=GOOD.keys())
def test_plain_data_comes_back_as_what_it_was(operations: Operations, value: Any) -> None:
    failing = [ConnectionError()]

    def work(run: OperationRun) -> Any:
        called = run.call("call", lambda key: value)
        committed = run.commit("commit", lambda tx: value)
        if failing:
            raise failing.pop()
        return [run.request, called, committed]

    with pytest.raises(ConnectionError):
        operations.run(working(work), key="k", request=value)
    expected = json.dumps([value] * 3, sort_keys=True)
    for _ in range(2):
        answer = operations.run(working(work), key="k", request=value)
        same = json.dumps(answer, sort_keys=True) == expected and answer == [value] * 3
        assert same  # without a comparison of a megabyte where they differ


@pytest.mark.parametrize("value", BAD.values(), ids=BAD.keys())
def test_what_would_not_come_back_is_refused_before_anything_is_written(
    place: Place, tenant: str, operations: Operations, value: Any
) -> None:
    def never(run: OperationRun) -> Any:
        pytest.fail("the work was begun")

    with pytest.raises(NotJson, match="request"):
        operations.run(working(never), key="k", request=value)
    for act in (
        lambda run: run.commit("order", lambda tx: [place_tea(tx), value]),
        lambda run: run.complete(lambda tx: [place_tea(tx), value]),
        lambda run: value,
    ):
        with pytest.raises(NotJson):
            operations.run(working(act), key="k")
        assert rows(place, tenant) == []
    assert place.count("orders", tenant) == 0


@pytest.mark.parametrize("value", [float("nan"), (1, 2), "\ud800"])
def test_a_call_that_gave_what_would_not_come_back_stays_begun_and_can_be_settled(
    operations: Operations, provider: Provider, value: Any
) -> None:
    def work(run: OperationRun) -> Any:
        return run.call("charge", lambda key: [provider.do(key), value])

    with pytest.raises(NotJson, match="charge"):
        operations.run(working(work), key="k")
    report = operations.report(working(work), key="k")
    assert report is not None
    assert report.unknown == ("charge",)
    operations.settle(working(work), key="k", step="charge", outcome=Found("settled"))
    assert operations.run(working(work), key="k") == "settled"
    assert len(provider.effects) == 1


# --------------------------------------------------------------------------------------------
# Work for the other front door
# --------------------------------------------------------------------------------------------


async def awaited(run: Any) -> Any:
    return await run.call("charge", lambda key: key)


def plain(run: Any) -> Any:
    return run.call("charge", lambda key: key)["id"]


def lazy(run: Any) -> Any:
    yield run


async def lazily_awaited(run: Any) -> Any:
    yield run


def test_work_for_the_other_front_door_is_refused_before_it_begins() -> None:
    from orderkit import AsyncOrderKit

    async def scenario() -> None:
        async with AsyncOrderKit.from_url("memory://") as kit:
            for work in (plain, lazy, lazily_awaited):
                with pytest.raises(ConfigurationError, match="nothing was begun"):
                    await kit.operations.run(working(work), key="k")
                with pytest.raises(ConfigurationError, match="nothing was begun"):
                    await kit.operations.resume(working(work))
            assert await kit.operations.run(working(awaited), key="k") == "orderkit:default/work:k:charge"

    asyncio.run(scenario())
    with OrderKit.from_url("memory://") as kit:
        for work in (awaited, lazy, lazily_awaited):
            with pytest.raises(ConfigurationError, match="nothing was begun"):
                kit.operations.run(working(work), key="k")
            with pytest.raises(ConfigurationError, match="nothing was begun"):
                kit.operations.resume(working(work))
        with pytest.raises(ConfigurationError, match="IdempotentOperation"):
            kit.operations.run(plain, key="k")  # type: ignore[arg-type]


@pytest.mark.parametrize("begin", [awaited, lazy])
def test_a_call_that_only_begins_is_refused(begin: Callable[[Any], Any]) -> None:
    with OrderKit.from_url("memory://") as kit:
        for act in (lambda run: run.call("charge", begin), lambda run: run.commit("order", begin)):
            with pytest.raises(ConfigurationError):
                kit.operations.run(working(act), key="k")
