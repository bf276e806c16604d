from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from orderkit.clock import UuidV7
from orderkit.errors import ConfigurationError
from orderkit.testing.clock import ManualClock, SequentialIds


def test_a_clock_stands_still_until_it_is_told_to_go_on(clock: ManualClock) -> None:
    start = clock.now()
    assert clock.now() == start
    clock.advance(1.5)
    clock.advance(timedelta(days=1))
    assert clock.now() == start + timedelta(days=1, seconds=1.5)


def test_a_clock_shows_utc_whatever_it_was_set_by() -> None:
    clock = ManualClock(datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2))))
    assert clock.now() == datetime(2026, 7, 1, 10, tzinfo=UTC)
    assert clock.now().tzinfo is UTC


def test_a_clock_needs_a_zone() -> None:
    with pytest.raises(ConfigurationError):
        ManualClock(datetime(2026, 1, 1))  # noqa: DTZ001 - that is what is refused


def test_ids_count_for_each_prefix_and_look_like_real_ones(ids: SequentialIds) -> None:
    minted = [ids.new("order") for _ in range(300)]
    assert minted == sorted(set(minted))
    assert {len(each) for each in minted} == {len(UuidV7().new("order"))}
    assert minted[0] == "order_" + "1".zfill(32)
    assert ids.new("event") == "event_" + "1".zfill(32)
    assert SequentialIds().new("order") == minted[0]
