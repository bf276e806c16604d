"""Processes die in the middle of operations: whoever comes after them does what is left, and nothing twice."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orderkit import IdempotentOperation, OrderStatus
from orderkit.idempotency.operations import foreign_key
from orderkit.idempotency.runs import OperationReport
from orderkit.kit.operations import Operations
from orderkit.testing.clock import ManualClock
from orderkit.unit_of_work.changes import KeyReference
from tests.integration.kit.places import Place, assert_whole
from tests.torture.operations import Ledger, name_of, shopping
from tests.torture.test_crash import ROOT, prepare, start, with_paths

WAYS = [
    ("sqlite", "run", 13),
    pytest.param("psycopg", "run", 1, marks=pytest.mark.slow),
    *(
        pytest.param(*way, 5, marks=pytest.mark.slow)
        for way in (("sqlite", "resume"), ("asyncpg", "run"), ("pymysql", "resume"), ("aiomysql", "run"))
    ),
    *(
        pytest.param(shell, way, 1, marks=pytest.mark.torture)
        for shell in ("sqlite", "psycopg", "pymysql", "asyncpg", "aiomysql")
        for way in ("run", "resume")
        if (shell, way) != ("psycopg", "run")
    ),
]

Record = Callable[[str, object], None]

STAGES = {
    None,
    ("started", ()),
    ("started", ("reserve",)),
    ("reserve", ()),
    ("order", ()),
    ("order", ("charge",)),
    ("charge", ()),
}
"""Everything that a crash before the end can leave behind: the last step that is done, and what was begun."""


def done_again(_run: object) -> Any:
    raise AssertionError("what was done is done again")


def stage(report: OperationReport | None) -> tuple[str, tuple[str, ...]] | None:
    return None if report is None else (report.recovery_point, report.unknown)


def assert_done_once(
    place: Place, tenant: str, ledger: Ledger, answers: Mapping[str, Any], operations: Operations
) -> None:
    """Insist on one effect for each foreign key, one order for each operation, and answers that stay as they are."""
    foreign = {
        key: {step: foreign_key(KeyReference(tenant, name_of(tenant), key), step) for step in ("reserve", "charge")}
        for key in answers
    }
    effects = ledger.effects()
    assert effects.keys() == {one for both in foreign.values() for one in both.values()}
    for key, answer in answers.items():
        assert answer["reserved"] == effects[foreign[key]["reserve"]]
        assert answer["charged"] == effects[foreign[key]["charge"]]
    orders = {row["id"]: row for row in place.rows("orders", tenant)}
    assert sorted(orders) == sorted(answer["order"] for answer in answers.values())
    assert {(row["version"], row["status"]) for row in orders.values()} == {(2, OrderStatus.OPEN)}
    assert assert_whole(place, tenant)["orders"] == len(answers)
    again = IdempotentOperation(name_of(tenant), done_again)
    assert {key: operations.run(again, key=key) for key in answers} == answers


@pytest.mark.parametrize(("place", "way", "stride"), WAYS, indirect=["place"])
def test_a_process_that_dies_at_any_moment_is_followed_by_one_that_goes_on(
    place: Place, tenant: str, tmp_path: Path, way: str, stride: int, record_property: Record
) -> None:
    prepare(place)
    path = tmp_path / "ledger.db"
    dying = subprocess.run(
        [sys.executable, "-m", "tests.torture.operations", "points", place.address, tenant, str(path), str(stride)],
        cwd=ROOT,
        env=with_paths(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (dying.returncode, dying.stderr) == (0, "")
    last = int(dying.stdout)
    ledger, keys = Ledger(path), [f"k-{moment}" for moment in range(1, last + 1, stride)]
    with place.kit(clock=ManualClock(datetime.now(UTC) + timedelta(hours=1))) as kit:
        operations, operation = kit.for_tenant(tenant).operations, shopping(tenant, ledger)
        reports = {key: operations.report(operation, key=key) for key in keys}
        unfinished = {key: report for key, report in reports.items() if report is None or report.lapsed}
        stages = {stage(report) for report in unfinished.values()}
        assert stages == STAGES if stride == 1 else stages <= STAGES
        before = Counter(ledger.arrivals())
        if way == "resume":
            resumed = kit.operations.resume(operation, limit=last)
            assert (resumed.done, resumed.failed) == (len([one for one in unfinished.values() if one]), {})
            assert kit.operations.resume(operation).done == 0
        answers: dict[str, Any] = {key: operations.run(operation, key=key) for key in keys}
        arrivals = Counter(ledger.arrivals())
        unknown = sum(len(report.unknown) for report in unfinished.values() if report)
        assert max(before.values()) == 1
        # Only what was begun, and not known to be done, was asked for a second time; if it had arrived at all.
        assert (stride == 1) <= sum(count - 1 for count in arrivals.values()) <= unknown
        assert max(arrivals.values()) <= 2
        assert_done_once(place, tenant, ledger, answers, operations)
    record_property("moments", last)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("place", "kills", "keys"),
    [
        pytest.param("psycopg", 6, 20, marks=pytest.mark.slow),
        *(
            pytest.param(shell, 120, 400, marks=pytest.mark.torture)
            for shell in ("sqlite", "psycopg", "asyncpg", "pymysql", "aiomysql")
        ),
    ],
    indirect=["place"],
)
def test_processes_that_are_killed_while_they_compete_do_nothing_twice(
    place: Place, tenant: str, tmp_path: Path, kills: int, keys: int, record_property: Record
) -> None:
    prepare(place)
    path = tmp_path / "ledger.db"
    ledger = Ledger(path)
    arguments = ("hammer", place.address, tenant, str(path), str(keys))
    running = [start("operations", *arguments) for _ in range(3)]
    killed = 0
    while killed < kills and all(process.poll() is None for process in running):
        seen = len(ledger.arrivals())
        time.sleep(random.uniform(0, 0.3))  # when it dies is what is tried here
        victim = random.randrange(len(running))
        if len(ledger.arrivals()) > seen:  # somebody is at work, and not only starting
            running[victim].kill()
            running[victim].wait()
            running[victim] = start("operations", *arguments)
            killed += 1
    assert [process.wait() for process in running] == [0] * len(running)
    with place.kit() as kit:
        operations = kit.for_tenant(tenant).operations
        again = IdempotentOperation(name_of(tenant), done_again)
        answers: dict[str, Any] = {f"k-{n}": operations.run(again, key=f"k-{n}") for n in range(keys)}
        assert_done_once(place, tenant, ledger, answers, operations)
    arrivals = Counter(ledger.arrivals())
    record_property("figures", {"killed": killed, "repeated": sum(arrivals.values()) - len(arrivals)})
