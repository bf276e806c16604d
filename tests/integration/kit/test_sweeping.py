"""Whose time a sweep goes by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orderkit import IdempotentOperation, OperationRun, OrderKit
from orderkit.testing.clock import ManualClock

LONG = timedelta(days=3650)


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{path}/shop.db"])
@pytest.mark.parametrize("start", [datetime(2000, 1, 1, tzinfo=UTC), datetime(2090, 1, 1, tzinfo=UTC)])
def test_finished_operations_are_kept_and_forgotten_by_the_clock_of_the_application(
    url: str, start: datetime, tmp_path: Path
) -> None:
    clock, done = ManualClock(start), iter(range(10))

    def work(_run: OperationRun) -> int:
        return next(done)

    operation = IdempotentOperation("count", work)
    with OrderKit.from_url(url.format(path=tmp_path), clock=clock) as kit:
        assert kit.operations.run(operation, key="a") == 0
        assert kit.sweep()["collect_operations"].done == 0
        assert kit.operations.run(operation, key="a") == 0
        clock.advance(LONG)
        assert kit.sweep()["collect_operations"].done == 1
        assert kit.operations.run(operation, key="a") == 1


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{path}/shop.db"])
def test_without_one_they_are_kept_by_the_time_of_the_storage(url: str, tmp_path: Path) -> None:
    done = iter(range(10))
    operation = IdempotentOperation("count", lambda _run: next(done))
    with OrderKit.from_url(url.format(path=tmp_path)) as kit:
        assert kit.operations.run(operation, key="a") == 0
        assert kit.sweep()["collect_operations"].done == 0
        assert kit.operations.run(operation, key="a") == 0
