"""Many callers at once: each key is done by one of them, and all get its answer."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from orderkit import OperationRun, OrderKit
from orderkit.errors import IdempotencyInFlight
from orderkit.kit.operations import Operations
from tests.integration.kit.places import Place, assert_whole, outcome, race
from tests.integration.operations.facade import operations_of
from tests.integration.operations.world import Provider, place_tea, shopping, states, working

CALLERS = 32


@pytest.mark.parametrize("patient", [False, True], ids=["impatient", "patient"])
def test_one_of_many_callers_does_the_work(
    place: Place, tenant: str, operations: Operations, provider: Provider, patient: bool
) -> None:
    told = threading.Semaphore(0)

    def work(run: OperationRun) -> Any:
        if not patient:
            for _ in range(CALLERS - 1):  # the others are told before this one goes on
                told.acquire()
        return [run.call("charge", provider.do), run.commit("order", place_tea)]

    def attempt(_caller: int) -> Any:
        result = outcome(lambda: operations.run(working(work), key="k", wait=60.0 if patient else 0.0))
        told.release()
        return result

    results = race(CALLERS, attempt)
    answers = [result for result in results if not isinstance(result, Exception)]
    errors = [result for result in results if isinstance(result, Exception)]
    assert len(answers) == (CALLERS if patient else 1)
    assert all(answer == answers[0] for answer in answers)
    assert {type(error) for error in errors} <= {IdempotencyInFlight}
    assert all(0 < error.retry_after <= 60 for error in errors if isinstance(error, IdempotencyInFlight))
    assert list(provider.arrivals.values()) == [1]
    assert states(place, tenant) == ["succeeded"]
    assert assert_whole(place, tenant)["orders"] == 1


@pytest.mark.slow
def test_many_keys_are_done_side_by_side(place: Place, tenant: str, operations: Operations, provider: Provider) -> None:
    shop = shopping(provider)

    def attempt(caller: int) -> list[Any]:
        return [operations.run(shop, key=f"k-{key % 100}", wait=60.0) for key in range(caller * 25, caller * 25 + 25)]

    results = [answer for answers in race(8, attempt) for answer in answers]
    assert results[:100] == results[100:]
    assert len({answer["order"] for answer in results}) == 100
    assert len(provider.effects) == 200
    assert set(provider.arrivals.values()) == {1}
    assert states(place, tenant) == ["succeeded"] * 100
    assert assert_whole(place, tenant)["orders"] == 100


def test_tenants_and_operations_keep_apart(place: Place, tenant: str, kit: OrderKit, provider: Provider) -> None:
    tenants = [tenant, f"{tenant}-2", f"{tenant}/x:y"]

    def work(run: OperationRun) -> Any:
        charged: Any = run.call("charge", provider.do)
        return [run.tenant, run.request, charged["number"], run.commit("order", place_tea)]

    def attempt(caller: int) -> Any:
        operations = operations_of(kit.for_tenant(tenants[caller % 3]))
        name = f"work-{caller % 2}"
        return operations.run(working(work, name), key="k", request=[caller % 3, name], wait=60.0)

    answers = race(12, attempt)
    for caller, answer in enumerate(answers):
        assert answer[:2] == [tenants[caller % 3], [caller % 3, f"work-{caller % 2}"]]
        assert answer == answers[caller % 6]
    assert len({answer[2] for answer in answers}) == len(provider.effects) == 6
    assert [place.count("orders", each) for each in tenants] == [2, 2, 2]
