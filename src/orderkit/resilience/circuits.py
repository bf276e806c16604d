"""The state of a circuit: pybreaker, which is told how each call has ended, and the windows of rates beside it.

Nothing here locks or looks at a clock: that is done by the breaker around it.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from contextlib import suppress

import pybreaker

from orderkit.resilience.tripping import ConsecutiveFailures, Trip


class CircuitState(enum.StrEnum):
    """Whether calls pass."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class _Told(Exception):
    """Stands for the error of a call, whose traceback and context are left alone."""


def _succeed() -> None:
    """Stand for a call that succeeded."""


def _fail() -> None:
    raise _Told


class Circuit:
    """The state of one circuit, and what it remembers of the calls that led to it.

    Args:
        trips: By which rules it opens.
        probes: After how many successes it closes.

    Attributes:
        is_timed: Whether it matters how long calls take.
    """

    def __init__(self, trips: Sequence[Trip], probes: int) -> None:
        rows = [trip.count for trip in trips if isinstance(trip, ConsecutiveFailures)]
        self._windows = [(trip.reason, window) for trip in trips if (window := trip.window()) is not None]
        self.is_timed = bool(self._windows)
        self._machine = pybreaker.CircuitBreaker(
            # Where only rates count, no number of failures in a row is too many.
            fail_max=min(rows, default=2**62),
            success_threshold=probes,
            state_storage=pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED),
            throw_new_error_on_trip=False,
        )

    @property
    def state(self) -> CircuitState:
        """Whether calls pass."""
        return CircuitState(self._machine.current_state)

    @property
    def is_clean(self) -> bool:
        """Whether a call that succeeds changes nothing."""
        return not self._windows and self._machine.fail_counter == 0

    @property
    def has_failures(self) -> bool:
        """Whether there are failures that would be forgotten with it."""
        return self._machine.fail_counter > 0 or any(window.bad for _, window in self._windows)

    def open(self) -> None:
        """Let no call pass."""
        self._machine.open()

    def half_open(self) -> None:
        """Let probes pass, and count their successes from none on."""
        self._machine.half_open()

    def close(self) -> None:
        """Let every call pass."""
        self._machine.close()

    def forget(self) -> None:
        """Forget what the windows remember."""
        for _, window in self._windows:
            window.clear()

    def record(self, failed: bool, seconds: float) -> str:
        """Take a call into account; return what a change of state is due to."""
        if self.state is not CircuitState.CLOSED:
            return self._record_probe(failed, seconds)
        self._tell(failed)
        # Each is to remember the call, also if an earlier one opens the circuit already.
        tripped = [reason for reason, window in self._windows if window.record(failed, seconds)]
        if self.state is CircuitState.CLOSED and tripped:
            self.open()
            return tripped[0]
        return ConsecutiveFailures.reason

    def _record_probe(self, failed: bool, seconds: float) -> str:
        is_bad = failed or any(window.is_bad(failed, seconds) for _, window in self._windows)
        self._tell(is_bad)
        if failed:
            return "a probe failed"
        return "a probe was slow" if is_bad else "probes succeeded"

    def _tell(self, failed: bool) -> None:
        with suppress(_Told):
            self._machine.call(_fail if failed else _succeed)
