"""Measure: `python -m benchmarks [--only PATTERN] [--rounds N] [--quick] [--json]`."""

from __future__ import annotations

import argparse
import fnmatch
from collections.abc import Sequence
from pathlib import Path

import psycopg
from rich.console import Console

from benchmarks import (
    bulk,
    contended,
    footprint,
    idempotency,
    listing,
    load,
    migrating,
    place,
    report,
    resilience,
    transition,
)
from benchmarks.databases import Unavailable, Wrong
from benchmarks.measure import Benchmark, Plan
from benchmarks.report import Floor, Result
from orderkit.errors import OrderKitError

BENCHMARKS: tuple[Benchmark, ...] = tuple(
    benchmark
    for family in (place, bulk, load, transition, contended, listing, migrating, idempotency, resilience, footprint)
    for benchmark in family.BENCHMARKS
)
OUTPUT = Path(__file__).parents[1] / "build" / "bench.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for, write it and print it; return how many figures could not be had."""
    options = _options(arguments)
    plan = Plan(options.rounds or 3, 0.1) if options.quick else Plan(options.rounds or 11)
    results, floors, failures = measure(plan, options.only)
    report.write(results, OUTPUT)
    if options.json:
        print(report.as_json(results))
    else:
        report.show(results, floors, failures)
    return len(failures)


def measure(plan: Plan, pattern: str) -> tuple[list[Result], list[Floor], list[str]]:
    """Return the figures whose names match a pattern, the floors beside them, and what could not be measured."""
    results: list[Result] = []
    floors: list[Floor] = []
    failures: list[str] = []
    with Console(stderr=True).status("measuring") as status:
        for benchmark in BENCHMARKS:
            wanted = [name for name in benchmark.names if fnmatch.fnmatch(name, pattern)]
            if not wanted:
                continue
            status.update(f"measuring {', '.join(wanted)}")
            try:
                found = benchmark.run(plan, wanted)
            except (Unavailable, Wrong, OrderKitError, psycopg.Error) as error:
                failures.append(f"{', '.join(wanted)}: {error}")
            else:
                results += found[0]
                floors += found[1]
    return results, floors, failures


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="PATTERN", default="*", help="figures to measure, such as 'place.*'")
    parser.add_argument("--rounds", metavar="N", type=int, help="rounds of each measurement; 11 by default")
    parser.add_argument("--quick", action="store_true", help="a tenth of the operations in 3 rounds: a first look")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
