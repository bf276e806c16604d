"""Every benchmark runs, does its work right and reports in one shape; what it measures is for `make bench`."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks import report, rooms
from benchmarks.databases import Unavailable, Wrong, expect_placed
from benchmarks.measure import ATTEMPTS, Benchmark, Contender, Plan, Race, Ratio, Sample, Stage
from benchmarks.report import Result
from benchmarks.samples import place
from tests.conftest import absent

pytestmark = pytest.mark.slow

TINY = Plan(rounds=1, scale=0.005)

WANTED = {
    "place.postgresql.1",
    "place.postgresql.1.async",
    "place.postgresql.1.vs-cte",
    "place.postgresql.32",
    "place.postgresql.32.groups",
    "place.postgresql.32.groups.async",
    "place.mariadb.1",
    "place.sqlite.full",
    "place.sqlite.normal",
    "place.sqlite.full.32",
    "place.sqlite.full.32.groups",
    "place.vs-django.postgresql",
    "place.vs-django.sqlite",
    "place.vs-django.bulk.postgresql",
    "place.vs-django.bulk.sqlite",
    "bulk.postgresql",
    "bulk.sqlite",
    "load.postgresql",
    "load.sqlite",
    "transition.postgresql",
    "transition.sqlite.full",
    "transition.vs-eventsourcing.postgresql",
    "contended.postgresql.32",
    "list.deep.postgresql",
    "migrate.million",
    "idempotency.replay.postgresql",
    "idempotency.fresh.postgresql",
    "idempotency.leased.postgresql",
    "idempotency.leased.alone.postgresql",
    "idempotency.leased.replay.postgresql",
    "resilience.success",
    "resilience.success.async",
    "breaker.8-threads",
    "breaker.contended",
    "import",
    "memory.stream-100k",
}


def test_every_figure_is_measured_by_one_benchmark() -> None:
    names = [name for benchmark in bench.BENCHMARKS for name in benchmark.names]
    assert sorted(names) == sorted(WANTED)


@pytest.mark.parametrize("benchmark_run", bench.BENCHMARKS, ids=lambda each: each.names[0])
def test_it_does_its_work_right(benchmark_run: Benchmark) -> None:
    try:
        results, floors = benchmark_run.run(TINY, benchmark_run.names)
    except Unavailable as reason:
        absent(str(reason))
    assert [result.name for result in results] == list(benchmark_run.names)
    assert all(result.value > 0 for result in results)
    assert all(floor.seconds > 0 for floor in floors)


def test_an_order_that_is_not_there_is_noticed() -> None:
    with rooms.on_sqlite() as room:
        for key in room.supply.keys(2):
            place(room.kit(), key)
        expect_placed(room.database, 2)
        with pytest.raises(Wrong, match="'orders': 2"):
            expect_placed(room.database, 3)


def test_rounds_whose_halves_disagree_are_measured_again() -> None:
    measured: list[float] = []

    class Slowing:
        """Now fast, now slow."""

        def round(self, operations: int) -> Sample:
            measured.append((1 + len(measured) % 2) / operations)
            return Sample(measured[-1], 0)

    class Steady:
        def round(self, operations: int) -> Sample:
            return Sample(1 / operations, 0)

    @contextmanager
    def stage(_plan: Plan) -> Generator[Stage, None, None]:
        contenders: dict[str, Callable[[], Contender]] = {"slowing": Slowing, "steady": Steady}
        yield Stage(contenders, lambda: None)

    race = Race(stage, (Ratio("slowing", "slowing", "steady", 1), Ratio("steady", "steady", "steady", 1)))
    (steady,), _ = race.run(Plan(rounds=2), ["steady"])
    assert (steady.value, measured) == (1, [])
    race.run(Plan(rounds=2), ["slowing"])
    assert len(measured) == 1 + 2 * ATTEMPTS


def test_figures_are_written_in_one_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "OUTPUT", tmp_path / "build" / "bench.json")
    assert bench.main(["--only", "load.sqlite", "--rounds", "1", "--quick", "--json"]) == 0
    (written,) = json.loads(bench.OUTPUT.read_text())
    assert list(written) == ["name", "value", "unit", "better", "goal", "base", "rounds"]
    assert (written["name"], written["better"], written["goal"], written["rounds"]) == ("load.sqlite", "lower", 5, 1)


def test_a_missed_goal_is_shown_as_missed(capsys: pytest.CaptureFixture[str]) -> None:
    missed, met = (Result("one", value, "MiB", 16, "-", 1) for value in (16.5, 15.5))
    report.show([missed, met], [], ["two: no server"])
    printed = capsys.readouterr().out
    assert ("missed" in printed, "met" in printed, "1 of 2 goals met" in printed) == (True, True, True)
    assert "not measured  two: no server" in printed
