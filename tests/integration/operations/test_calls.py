"""Foreign calls: made under one key for ever, and never forgotten once something may have been sent."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypedDict

import pytest

from orderkit import Found, OnUnknown, OperationRun, OrderKit
from orderkit.errors import (
    ConfigurationError,
    Conflict,
    IdempotencyInFlight,
    IdempotencyMismatch,
)
from orderkit.idempotency.operations import OutcomeUnknown
from orderkit.idempotency.outcomes import NotJson
from orderkit.idempotency.runs import OperationNotFound, OperationReport
from orderkit.kit.operations import Operations
from orderkit.resilience import Backoff, CircuitBreaker, CircuitOpen, DeadlineExceeded, Operation, Policy, Retry
from orderkit.testing.clock import ManualClock
from tests.integration.kit.places import Place
from tests.integration.operations.world import Provider, place_tea, rows, shopping, states, working

# What is decided here is decided before a storage is asked; two of them stand for all.
on_some = pytest.mark.parametrize("place", ["memory", "memory-async", "psycopg", "asyncpg"], indirect=True)

KEY = "orderkit:{tenant}/work:k:charge"


class Script:
    """Calls that end as they were told to, one after the other: with a value, or an error that is raised."""

    def __init__(self, provider: Provider, *ends: Exception | None) -> None:
        self._provider = provider
        self._ends = list(ends)
        self.keys: list[str] = []

    def __call__(self, key: str) -> Any:
        self.keys.append(key)
        end = self._ends.pop(0) if self._ends else None
        if end is None or isinstance(end, TimeoutError):
            result = self._provider.do(key)
        if end is not None:
            raise end
        return result


def charging(script: Callable[[str], Any], **options: Any) -> Any:
    return working(lambda run: run.call("charge", script, **options))


def report_of(operations: Operations, operation: Any) -> OperationReport:
    report = operations.report(operation, key="k")
    assert report is not None
    return report


@on_some
def test_a_call_is_made_again_under_its_key(operations: Operations, provider: Provider, tenant: str) -> None:
    script = Script(provider, TimeoutError(), TimeoutError())
    for _ in range(2):
        with pytest.raises(TimeoutError):
            operations.run(charging(script), key="k")
        assert report_of(operations, charging(script)).unknown == ("charge",)
    answer: Any = operations.run(charging(script), key="k")
    assert answer["number"] == 1
    assert script.keys == [KEY.format(tenant=tenant)] * 3


@on_some
def test_a_call_that_is_held_is_not_made_again(operations: Operations, provider: Provider, tenant: str) -> None:
    script = Script(provider, TimeoutError())
    held = charging(script, on_unknown=OnUnknown.HOLD)
    with pytest.raises(TimeoutError):
        operations.run(held, key="k")
    for _ in range(2):
        with pytest.raises(OutcomeUnknown) as found:
            operations.run(held, key="k")
        error = found.value
        assert (error.operation, error.key, error.step) == ("work", "k", "charge")
        assert error.foreign_key == KEY.format(tenant=tenant)
    assert len(script.keys) == 1
    operations.settle(held, key="k", step="charge", outcome=Found({"number": 1}))
    assert operations.run(held, key="k") == {"number": 1}
    assert len(script.keys) == 1


@on_some
@pytest.mark.parametrize("on_unknown", OnUnknown)
def test_a_call_is_looked_up(operations: Operations, provider: Provider, tenant: str, on_unknown: OnUnknown) -> None:
    asked: list[str] = []
    answers: list[Any] = [ConnectionError(), Found({"number": 7})]

    def look_up(key: str) -> Any:
        asked.append(key)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    script = Script(provider, TimeoutError())
    operation = charging(script, on_unknown=on_unknown, look_up=look_up)
    with pytest.raises(TimeoutError):
        operations.run(operation, key="k")
    assert asked == []
    with pytest.raises(ConnectionError):
        operations.run(operation, key="k")
    assert operations.run(operation, key="k") == {"number": 7}
    assert asked == [KEY.format(tenant=tenant)] * 2
    assert len(script.keys) == 1


@on_some
@pytest.mark.parametrize("on_unknown", OnUnknown)
def test_a_call_that_is_not_found_is_made_again(
    operations: Operations, provider: Provider, on_unknown: OnUnknown
) -> None:
    script = Script(provider, TimeoutError())
    operation = charging(script, on_unknown=on_unknown, look_up=lambda key: None)
    with pytest.raises(TimeoutError):
        operations.run(operation, key="k")
    operations.run(operation, key="k")
    assert len(script.keys) == 2
    assert len(provider.effects) == 1


@on_some
@pytest.mark.parametrize("answer", [{"number": 1}, False, "found"])
def test_a_look_up_that_gives_something_else_makes_no_call(
    operations: Operations, provider: Provider, answer: Any
) -> None:
    script = Script(provider, TimeoutError())
    operation = charging(script, look_up=lambda key: answer)
    with pytest.raises(TimeoutError):
        operations.run(operation, key="k")
    with pytest.raises(ConfigurationError, match="Found"):
        operations.run(operation, key="k")
    assert len(script.keys) == 1


UNSENT = [ConnectionRefusedError(), CircuitOpen("psp", 1.0), DeadlineExceeded("psp", 1.0, sent=False)]


@pytest.mark.parametrize("error", UNSENT, ids=lambda error: type(error).__name__)
def test_a_call_of_which_nothing_was_sent_was_not_begun(
    place: Place, tenant: str, operations: Operations, provider: Provider, error: Exception
) -> None:
    held = charging(Script(provider, error), on_unknown=OnUnknown.HOLD)
    with pytest.raises(type(error)):
        operations.run(held, key="k", request=1)
    assert rows(place, tenant) == []
    assert operations.run(held, key="k", request=2) is not None


def test_what_an_earlier_run_has_sent_is_not_forgotten_by_one_that_sends_nothing(
    place: Place, tenant: str, operations: Operations, provider: Provider
) -> None:
    script = Script(provider, TimeoutError(), ConnectionRefusedError())
    operation = working(lambda run: run.call("charge", script), f"work-{tenant[-12:]}")
    with pytest.raises(TimeoutError):
        operations.run(operation, key="k", request=1)
    with pytest.raises(ConnectionRefusedError):
        operations.run(operation, key="k", request=1)
    assert report_of(operations, operation).unknown == ("charge",)
    with pytest.raises(IdempotencyMismatch):
        operations.run(operation, key="k", request=2)
    assert operations.resume(operation, grace=0).failed == {}
    assert states(place, tenant) == ["succeeded"]


def test_a_step_before_is_kept_when_nothing_was_sent(operations: Operations, provider: Provider) -> None:
    script = Script(provider, ConnectionRefusedError())

    def work(run: OperationRun) -> Any:
        given: list[Any] = [run.call("reserve", provider.do), run.call("charge", script)]
        return [one["number"] for one in given]

    with pytest.raises(ConnectionRefusedError):
        operations.run(working(work), key="k")
    report = report_of(operations, working(work))
    assert (report.recovery_point, report.unknown, report.lapsed) == ("reserve", (), True)
    assert operations.run(working(work), key="k") == [1, 2]


def retrying(*layers: Any) -> Policy:
    retry = Retry(on=(ConnectionError, TimeoutError), attempts=3, backoff=Backoff(base=0.001))
    return Policy(retry, *layers, operation=Operation.KEYED, name="psp")


@on_some
def test_a_policy_makes_all_attempts_under_one_key(operations: Operations, provider: Provider, tenant: str) -> None:
    script = Script(provider, TimeoutError(), ConnectionRefusedError())
    answer: Any = operations.run(charging(script, policy=retrying()), key="k")
    assert answer["number"] == 1
    assert script.keys == [KEY.format(tenant=tenant)] * 3


@on_some
@pytest.mark.parametrize("breaking", [False, True], ids=["retry", "retry and breaker"])
@pytest.mark.parametrize("sent", [True, False])
def test_a_policy_that_gives_up_was_not_begun_only_if_no_attempt_was_sent(
    operations: Operations, provider: Provider, breaking: bool, sent: bool
) -> None:
    first: Exception = TimeoutError() if sent else ConnectionRefusedError()
    script = Script(provider, first, ConnectionRefusedError(), ConnectionRefusedError())
    policy = retrying(CircuitBreaker("psp")) if breaking else retrying()
    operation = charging(script, policy=policy, on_unknown=OnUnknown.HOLD)
    with pytest.raises(ConnectionRefusedError):
        operations.run(operation, key="k")
    assert len(script.keys) == 3
    report = operations.report(operation, key="k")
    assert (report is not None and report.unknown == ("charge",)) is sent
    if sent:
        with pytest.raises(OutcomeUnknown):
            operations.run(operation, key="k")
    else:
        operations.run(operation, key="k")
    assert len(provider.effects) == 1


@on_some
def test_a_call_may_be_tried_again_by_the_work_itself(operations: Operations, provider: Provider) -> None:
    script = Script(provider, TimeoutError())

    def work(run: OperationRun) -> Any:
        try:
            return run.call("charge", script)
        except TimeoutError:
            return run.call("charge", script)

    answer: Any = operations.run(working(work), key="k")
    assert answer["number"] == 1
    assert len(script.keys) == 2


def test_steps_that_are_done_side_by_side_are_all_kept(
    place: Place, tenant: str, operations: Operations, provider: Provider
) -> None:
    steps = [f"step-{number}" for number in range(4)]
    together = threading.Barrier(len(steps))
    failing = [ConnectionError()]

    def begin(key: str) -> Any:
        together.wait()  # all are begun, none is done
        return provider.do(key)

    def work(run: OperationRun) -> Any:
        given: dict[str, Any] = {}
        threads = [
            threading.Thread(target=lambda step=step: given.update({step: run.call(step, begin)})) for step in steps
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failing:
            raise failing.pop()
        return given

    with pytest.raises(ConnectionError):
        operations.run(working(work), key="k")
    answer: Any = operations.run(working(work), key="k")
    assert answer.keys() == set(steps)
    assert set(provider.arrivals.values()) == {1}


# --------------------------------------------------------------------------------------------
# Settling, reporting, resuming
# --------------------------------------------------------------------------------------------


def test_what_is_unknown_is_settled_once(operations: Operations, provider: Provider) -> None:
    shop = shopping(provider)
    provider.breaks = lambda key: (_ for _ in ()).throw(TimeoutError())
    with pytest.raises(TimeoutError):
        operations.run(shop, key="k")
    for step, key in (("charge", "k"), ("reserve", "other")):
        with pytest.raises(OperationNotFound):
            operations.settle(shop, key=key, step=step, outcome=Found(1))
    with pytest.raises(NotJson):
        operations.settle(shop, key="k", step="reserve", outcome=Found(object()))
    provider.breaks = lambda key: None
    operations.settle(shop, key="k", step="reserve", outcome=Found({"number": 9}))
    with pytest.raises(Conflict, match="known"):
        operations.settle(shop, key="k", step="reserve", outcome=Found({"number": 8}))
    answer: Any = operations.run(shop, key="k")
    assert (answer["reserved"], answer["charged"]) == (9, 2)
    with pytest.raises(Conflict, match="known"):
        operations.settle(shop, key="k", step="reserve", outcome=Found({"number": 8}))
    assert operations.run(shop, key="k") == answer


def test_a_call_that_was_never_done_is_made_again_once_somebody_says_so(
    operations: Operations, provider: Provider, tenant: str
) -> None:
    # What is stuck is found for every tenant: a name of its own keeps what other tests have left behind out of it.
    name = f"work-{tenant[-12:]}"
    held = working(lambda run: run.call("charge", provider.do, on_unknown=OnUnknown.HOLD), name)
    provider.fails = lambda key: (_ for _ in ()).throw(TimeoutError())
    with pytest.raises(TimeoutError):
        operations.run(held, key="k")
    report = report_of(operations, held)
    with pytest.raises(OutcomeUnknown) as caught:
        operations.run(held, key="k")
    assert report.foreign_keys == {"charge": caught.value.foreign_key}
    assert list(operations.stuck(held, grace=0)) == [(tenant, name, "k")]
    provider.fails = lambda key: None
    operations.settle(held, key="k", step="charge", outcome=None)
    assert report_of(operations, held).foreign_keys == {}
    assert operations.run(held, key="k") == {"number": 1, "key": caught.value.foreign_key}
    assert operations.stuck(held, grace=0) == []


class Wanted(TypedDict):
    """A request with a type."""

    order: str
    amount: int


def test_a_request_is_read_as_a_type(operations: Operations) -> None:
    def work(run: OperationRun) -> int:
        with pytest.raises(ConfigurationError, match="no int"):
            run.request_as(int)
        return run.request_as(Wanted)["amount"]

    assert operations.run(working(work), key="k", request={"order": "order_1", "amount": 900}) == 900


def test_what_somebody_is_at_work_on_is_not_settled(operations: Operations, others: Operations) -> None:
    def work(run: OperationRun) -> Any:
        def look(key: str) -> str:
            with pytest.raises(IdempotencyInFlight):
                others.settle(working(work), key="k", step="charge", outcome=Found(1))
            report = others.report(working(work), key="k")
            assert report is not None
            assert (report.state, report.unknown, report.lapsed) == ("in_progress", ("charge",), False)
            return "done"

        return run.call("charge", look)

    assert operations.run(working(work), key="k") == "done"
    report = report_of(operations, working(work))
    assert (report.operation, report.key, report.state, report.recovery_point) == ("work", "k", "succeeded", "charge")
    assert (report.unknown, report.attempts, report.lapsed) == ((), 1, False)
    assert operations.report(working(work), key="other") is None


def test_operations_that_were_left_behind_are_resumed_for_every_tenant(
    place: Place, tenant: str, kit: OrderKit, operations: Operations, others: Operations, clock: ManualClock
) -> None:
    name = f"work-{tenant[-12:]}"
    left = {"a": TimeoutError(), "b": TimeoutError(), "held": TimeoutError()}
    provider = Provider()

    def work(run: OperationRun) -> Any:
        order = run.commit("order", place_tea)
        if run.key == "held" or run.key in left:
            run.call("held", lambda key: (_ for _ in ()).throw(left.pop(run.key)), on_unknown=OnUnknown.HOLD)
        run.call("charge", provider.do)
        return [run.tenant, run.request, order]

    operation = working(work, name)
    with place.kit(clock=clock) as owner:
        tenants = [tenant, f"{tenant}-2"]
        for each, key in zip((tenant, f"{tenant}-2", tenant), left.copy(), strict=True):
            with pytest.raises(TimeoutError):
                owner.for_tenant(each).operations.run(operation, key=key, request={"key": key})
            if key != "held":
                owner.for_tenant(each).operations.settle(operation, key=key, step="held", outcome=Found(None))
        assert operations.resume(operation, grace=300).done == 0
        clock.advance(300)
        resumed = operations.resume(operation, grace=300, limit=10)
        assert (resumed.done, resumed.more) == (2, False)
        assert list(resumed.failed) == [(tenant, name, "held")]
        assert isinstance(resumed.failed[tenant, name, "held"], OutcomeUnknown)
        for each, key in zip(tenants, "ab", strict=True):
            answer: Any = owner.for_tenant(each).operations.run(operation, key=key, request={"key": key})
            assert answer[:2] == [each, {"key": key}]
            assert [row["id"] for row in place.rows("orders", each)].count(answer[2]) == 1
