"""What policies tell: one typed event for every retry, rejection, trip and time-out, for logs and for metrics."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable

import attrs

from orderkit.forking import Guarded
from orderkit.resilience import conditions

_logger = logging.getLogger("orderkit.resilience")


@attrs.frozen(kw_only=True)
class PolicyEvent:
    """Something a policy did. Errors are told by the name of their class: their text may hold what is private.

    Attributes:
        policy: The name of the policy, or of the breaker that is shared by several.
    """

    policy: str


@attrs.frozen(kw_only=True)
class RetryScheduled(PolicyEvent):
    """A failed attempt will be followed by another.

    Attributes:
        attempt: Which attempt failed, from 1.
        wait: Seconds until the next one.
        error: The class of what it failed with.
    """

    attempt: int
    wait: float
    error: str


@attrs.frozen(kw_only=True)
class RetryGivenUp(PolicyEvent):
    """A failed attempt will not be followed by another, although the error was one to be retried.

    Attributes:
        attempt: Which attempt failed, from 1.
        reason: `attempts`, `deadline`, `budget`, `may_have_been_sent` or `circuit_open`.
        error: The class of what it failed with.
    """

    attempt: int
    reason: str
    error: str


@attrs.frozen(kw_only=True)
class CallRejected(PolicyEvent):
    """A call was not let through, and nothing was sent.

    Attributes:
        layer: Which layer rejected it, such as `circuit_breaker`.
        retry_after: Seconds after which it may be let through, where that is known.
        shadow: It was let through nevertheless: the layer only watches.
    """

    layer: str
    retry_after: float | None
    shadow: bool = False


@attrs.frozen(kw_only=True)
class CircuitChanged(PolicyEvent):
    """A circuit breaker went from one state to another.

    Attributes:
        before: The state it was in: `closed`, `open` or `half-open`.
        after: The state it is in.
        reason: What led to it, such as `consecutive failures`.
    """

    before: str
    after: str
    reason: str


@attrs.frozen(kw_only=True)
class TimedOut(PolicyEvent):
    """The time of a call or of one attempt was over.

    Attributes:
        layer: `deadline` or `attempt_timeout`.
        seconds: How long it was allowed to take.
    """

    layer: str
    seconds: float


@attrs.frozen(kw_only=True)
class FallbackUsed(PolicyEvent):
    """A call failed and something else was returned.

    Attributes:
        error: The class of what it failed with.
    """

    error: str


@attrs.frozen(kw_only=True)
class HedgeStarted(PolicyEvent):
    """A further attempt was begun beside one that takes long.

    Attributes:
        attempt: Which one, from 2.
    """

    attempt: int


@attrs.frozen(kw_only=True)
class CacheAnswered(PolicyEvent):
    """A cache was asked.

    Attributes:
        outcome: `hit`, `miss`, or `joined` where another caller was already loading the value.
    """

    outcome: str


@attrs.frozen(kw_only=True)
class Degraded(PolicyEvent):
    """What several processes share was not reached, and a layer went on by itself.

    Attributes:
        layer: Which layer, such as `rate_limit`.
        error: The class of what was raised.
    """

    layer: str
    error: str


Listener = Callable[[PolicyEvent], object]
"""Is told every event, in the thread or task of the call: it must be quick and must not block."""


def tell(listeners: Iterable[Listener], event: PolicyEvent) -> None:
    """Tell an event to listeners. What one of them raises is logged and reaches neither the others nor the call."""
    for listener in (*listeners, *conditions.present.listeners):
        try:
            listener(event)
        except Exception:
            _logger.exception("A listener failed on %s; the call goes on.", type(event).__name__)


class EventLog:
    """Write events to a logger, their fields beside the message as `extra`.

    Args:
        logger: Where to; `orderkit.resilience` where absent.
        level: How important they are.

    Example:
        >>> log = EventLog(level=logging.DEBUG)
        >>> log(RetryScheduled(policy="psp", attempt=1, wait=0.1, error="TimeoutError"))
    """

    def __init__(self, logger: logging.Logger = _logger, level: int = logging.INFO) -> None:
        self._logger = logger
        self._level = level

    def __call__(self, event: PolicyEvent) -> None:
        """Write one event."""
        fields = attrs.asdict(event)
        told = ", ".join(f"{name}={value}" for name, value in fields.items())
        self._logger.log(self._level, "%s: %s", type(event).__name__, told, extra={"event": fields})


class EventCounter(Guarded):
    """Count events by their kind and their policy, for metrics and for tests.

    Attributes:
        counts: How many there were, by the name of the event's class and of the policy.

    Example:
        >>> counter = EventCounter()
        >>> counter(FallbackUsed(policy="rates", error="TimeoutError"))
        >>> counter.counts["FallbackUsed", "rates"]
        1
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        super().__init__()

    def __call__(self, event: PolicyEvent) -> None:
        """Count one event."""
        with self._lock:
            self.counts[type(event).__name__, event.policy] += 1
