"""The circuit breaker: pybreaker as its state machine, behind a gate that holds no lock while the work is done.

pybreaker's own ways in hold a lock over the whole call, let any number of probes through and count a cancellation as a
failure (danielfm/pybreaker#3). Here it is only told, under a short lock, how each call has ended.
"""

from __future__ import annotations

import enum
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple, TypeVar
from weakref import WeakSet

from orderkit.forking import Guarded
from orderkit.resilience import conditions
from orderkit.resilience.circuits import Circuit, CircuitState
from orderkit.resilience.events import CallRejected, CircuitChanged, Listener, PolicyEvent, tell
from orderkit.resilience.layers import InvalidPolicy, Invocation, Layer, Rank, Step, checked, counted, listening, plain
from orderkit.resilience.rejections import CircuitOpen
from orderkit.resilience.sharing import SharedCircuit
from orderkit.resilience.tripping import ConsecutiveFailures, Trip
from orderkit.resilience.verdicts import Verdict, classify

T = TypeVar("T")

_logger = logging.getLogger("orderkit.resilience")


class BreakerMode(enum.StrEnum):
    """What a breaker does: reject calls while it is open, only say that it would, nothing at all, or reject all."""

    ENFORCED = "enforced"
    SHADOW = "shadow"
    DISABLED = "disabled"
    FORCED_OPEN = "forced_open"


def _mode(mode: str) -> BreakerMode:
    try:
        return BreakerMode(mode)
    except ValueError:
        raise InvalidPolicy(f"{mode!r} is no mode of a breaker; nothing was changed.") from None


class Permit(NamedTuple):
    """What a call holds on its way: it counts only while the breaker is what it was when the call began.

    Attributes:
        generation: Of which state of the breaker it is.
        probe: Of which round of probes it is, from 1; 0 if it is none.
    """

    generation: int
    probe: int = 0


_UNCOUNTED = Permit(-1)


class CircuitBreaker(Layer, Guarded):
    """Leave the other side alone for a while when it fails too often, and try carefully whether it is back.

    Safe to share among threads, tasks and policies. Calls pass without a lock while all is well. After `open_for`
    seconds up to `probes` calls are let through at once, and as many successes close it; a failure opens it again.
    A cancellation is neither, and is never changed.

    Args:
        name: What it is called in errors and events.
        trips: By which rules it opens; after five failures in a row where there are none.
        open_for: Seconds for which calls are rejected.
        probes: How many calls try whether the other side is back.
        classify: Return what an error says of the other side.
        mode: What it does; see `BreakerMode`.
        shared: Where several processes tell each other that it is open; none, by default.
        listeners: Who is told of its changes; those of a policy are told of what its own calls change.

    Attributes:
        name: What it is called.
        open_door: What calls pass with while all is well, without a lock; None while they must ask.
        is_clean: Whether a call that succeeds need not be told.
        is_timed: Whether it matters how long calls take.
    """

    rank: ClassVar[Rank] = Rank.BREAKER
    kind: ClassVar[str] = "circuit_breaker"
    holds: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        *trips: Trip,
        open_for: float = 30.0,
        probes: int = 1,
        classify: Callable[[Exception], Verdict] = classify,
        mode: BreakerMode = BreakerMode.ENFORCED,
        shared: SharedCircuit | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        if not isinstance(name, str) or not name:
            raise InvalidPolicy("A breaker has a name, by which errors and events tell it from others.")
        for trip in trips:
            if not isinstance(trip, Trip) or isinstance(trip, type):
                raise InvalidPolicy(f"A breaker opens by rules, such as `ConsecutiveFailures(5)`; {trip!r} is none.")
        plain(classify, "`classify`")
        self.name = name
        self._trips: tuple[Trip, ...] = trips or (ConsecutiveFailures(),)
        self._open_for = checked(open_for, "The seconds a breaker stays open")
        self._probes = counted(probes, "The probes of a breaker")
        self._classify = classify
        self._shared = shared
        self._listeners = listening(listeners)
        self._circuit = Circuit(self._trips, self._probes)
        self.is_timed = self._circuit.is_timed
        self._generation = 0
        self._since = 0.0
        self._round = 0
        self._probing = 0
        self.is_clean = self._circuit.is_clean
        self._built_mode = self._mode = _mode(mode)
        self._targets: WeakSet[CircuitBreaker] = WeakSet()
        self.open_door = self._door()
        super().__init__()

    def renew(self) -> None:
        """Do as before in a child after a fork, where the calls of the parent do not end: probes begin anew."""
        super().renew()
        before, self._circuit = self.state, Circuit(self._trips, self._probes)
        if before is not CircuitState.CLOSED:
            self._circuit.open()
        if before is CircuitState.HALF_OPEN:
            self._since = -math.inf  # long enough ago: a round of probes begins with the next call
        self._begin_generation()

    # --- what is asked and told from outside ----------------------------------------------------

    @property
    def state(self) -> CircuitState:
        """Whether calls pass, as the last of them has left it."""
        return self._circuit.state

    @property
    def mode(self) -> BreakerMode:
        """What the breaker does."""
        return self._mode

    @property
    def holds_back(self) -> bool:
        """Whether it is not as a new one would be: its circuit is open or half open, or it was switched."""
        return self.state is not CircuitState.CLOSED or self._mode is not self._built_mode

    @property
    def remembers(self) -> bool:
        """Whether anything would be lost with it, be it the failures it has counted."""
        return self.holds_back or self._circuit.has_failures

    def switch(self, mode: BreakerMode) -> None:
        """Have it, and those of its targets, do something else from now on: reject all, watch only, or nothing."""
        with self._lock:
            self._mode = _mode(mode)
            self.open_door = self._door()
            for target in self._targets:
                target.switch(mode)

    def force_open(self) -> None:
        """Reject every call until `reset`."""
        self.switch(BreakerMode.FORCED_OPEN)

    def reset(self) -> None:
        """Close it, forget what it remembers, and do again what it was built to do; so do those of its targets."""
        with self._lock:
            before = self.state
            self._circuit.close()
            self._mode = self._built_mode
            change = self._moved(before, "reset", whatever=True)
            targets = list(self._targets)
        self._announce(change)
        for target in targets:
            target.reset()

    # --- the gate -------------------------------------------------------------------------------

    def acquire(self, listeners: Sequence[Listener] = ()) -> Permit:
        """Let a call pass, of which `succeeded` or `failed` must be told whatever becomes of it.

        Raises:
            CircuitOpen: It is not let through.
        """
        return self.open_door or self._acquire_carefully(listeners)

    def _acquire_carefully(self, listeners: Sequence[Listener]) -> Permit:
        now = conditions.present.monotonic()
        with self._lock:
            change = self._half_open_if_due(now)
            if self.state is CircuitState.HALF_OPEN and self._probing < self._probes and not self._is_forced:
                self._probing += 1
                permit, wait = Permit(self._generation, self._round), None
            elif self.state is CircuitState.CLOSED and not self._is_forced:
                permit, wait = Permit(self._generation), None
            else:
                permit, wait = _UNCOUNTED, self._wait(now)
            shadow = self._mode is BreakerMode.SHADOW
        self._announce(change, listeners)
        if wait is None:
            return permit
        self._announce(CallRejected(policy=self.name, layer=self.kind, retry_after=wait, shadow=shadow), listeners)
        if shadow:
            return permit
        raise CircuitOpen(self.name, wait)

    def succeeded(self, permit: Permit, begun: float = 0.0, *, listeners: Sequence[Listener] = ()) -> None:
        """Take a call that succeeded into account.

        Args:
            permit: What it was let through with.
            begun: When it began, by the monotonic clock, if the breaker `is_timed`.
            listeners: Who is told if that closes it, besides its own.
        """
        self._release(permit, Verdict.SUCCESS, begun, listeners)

    def failed(
        self,
        permit: Permit,
        error: BaseException,
        begun: float = 0.0,
        *,
        is_over: bool = False,
        listeners: Sequence[Listener] = (),
    ) -> None:
        """Take a call that failed into account, as its error is classified.

        Args:
            permit: What it was let through with.
            error: What it ended with. A cancellation says nothing of the other side.
            begun: When it began, by the monotonic clock, if the breaker `is_timed`.
            is_over: Whether it was cancelled because its own time was over, which is a failure.
            listeners: Who is told if that opens it, besides its own.
        """
        if isinstance(error, Exception):
            verdict = self._classified(error)
        else:
            verdict = Verdict.FAILURE if is_over else Verdict.IGNORED
        self._release(permit, verdict, begun, listeners)

    def _classified(self, error: Exception) -> Verdict:
        try:
            return Verdict(self._classify(error))
        except Exception:
            _logger.exception("The classifier of the breaker %r failed; the call counts as a failure.", self.name)
            return Verdict.FAILURE

    def _release(self, permit: Permit, verdict: Verdict, begun: float, listeners: Sequence[Listener]) -> None:
        seconds = conditions.present.monotonic() - begun if self.is_timed else 0.0
        with self._lock:
            if permit.generation != self._generation:
                # It began in an earlier state of the breaker, of which it says nothing any more.
                return
            is_replaced = permit.probe != self._round
            if permit.probe and not is_replaced:
                self._probing -= 1
            failed = verdict is Verdict.FAILURE
            # A probe that was replaced can still say that the other side is back, though not that it is down: where
            # every call takes longer than `open_for`, nothing else ever would.
            if verdict is Verdict.IGNORED or self._mode is BreakerMode.DISABLED or (is_replaced and failed):
                return
            before, reason = self.state, self._circuit.record(failed, seconds)
            change = self._moved(before, reason)
            self.is_clean = self._circuit.is_clean
        self._announce(change, listeners)

    def _half_open_if_due(self, now: float) -> CircuitChanged | None:
        """Let probes through once the time is over, and other ones if those before have not come back for as long."""
        if self.state is CircuitState.CLOSED or now - self._since < self._open_for or self._is_forced:
            return None
        if self.state is CircuitState.OPEN:
            self._circuit.half_open()
            change = self._moved(CircuitState.OPEN, "time to try again")
        elif self._probing < self._probes:
            return None
        else:
            self._since, self._probing, change = now, 0, None
        self._round += 1
        return change

    def _moved(self, before: CircuitState, reason: str, *, whatever: bool = False) -> CircuitChanged | None:
        """Begin a new generation if the state has changed; what the old one still has under way counts no more."""
        after = self.state
        if before is after and not whatever:
            return None
        self._since = conditions.present.monotonic()
        self._circuit.forget()
        self._begin_generation()
        return None if before is after else CircuitChanged(policy=self.name, before=before, after=after, reason=reason)

    def _begin_generation(self) -> None:
        self._generation += 1
        self._round = self._probing = 0
        self.is_clean = self._circuit.is_clean
        self.open_door = self._door()

    def _door(self) -> Permit | None:
        if self.state is CircuitState.CLOSED and not self._is_forced:
            return Permit(self._generation)
        return _UNCOUNTED if self._mode is BreakerMode.DISABLED else None

    @property
    def _is_forced(self) -> bool:
        return self._mode is BreakerMode.FORCED_OPEN

    def _wait(self, now: float) -> float:
        """Return the seconds after which a call may pass."""
        if self._is_forced:
            return self._open_for
        left = self._since + self._open_for - now
        # While probes are under way, what they show is known soon.
        return left if self.state is CircuitState.OPEN else min(1.0, self._open_for)

    def _announce(self, event: PolicyEvent | None, listeners: Sequence[Listener] = ()) -> None:
        """Tell its own listeners and those of the call, each once."""
        if event is not None:
            tell(dict.fromkeys((*self._listeners, *listeners)), event)

    # --- the layer ------------------------------------------------------------------------------

    @property
    def is_local(self) -> bool:
        """Whether it shares nothing with other processes, so that it waits for nobody."""
        return self._shared is None

    async def around(self, invocation: Invocation[T], inner: Step) -> T:
        """Let a call pass and watch how it ends."""
        if self._shared is not None:
            await self._shared.look(self, invocation)
        permit = self.open_door or self.acquire(invocation.listeners)
        begun = conditions.present.monotonic() if self.is_timed else 0.0
        try:
            result: T = await inner(invocation)
        except BaseException as error:
            is_over = invocation.is_over
            self.failed(permit, error, begun, is_over=is_over, listeners=invocation.listeners)
            if self._shared is not None and (is_over or isinstance(error, Exception)):
                await self._shared.publish(self, invocation)
            raise
        if invocation.late is not None:
            late, invocation.late = invocation.late, None
            self.failed(permit, late, begun, listeners=invocation.listeners)
            if self._shared is not None:
                await self._shared.publish(self, invocation)
        elif not self.is_clean or permit.probe:
            self.succeeded(permit, begun, listeners=invocation.listeners)
        return result

    def opened_by_others(self, seconds: float) -> None:
        """Open it as another process has, for so many seconds more."""
        with self._lock:
            if self.state is not CircuitState.CLOSED:
                return
            self._circuit.open()
            change = self._moved(CircuitState.CLOSED, "another process")
            self._since += min(0.0, seconds - self._open_for)
        self._announce(change)

    @property
    def seconds_left(self) -> float:
        """How long it still rejects calls; 0 while it does not."""
        if self.state is not CircuitState.OPEN:
            return 0.0
        return max(0.0, self._since + self._open_for - conditions.present.monotonic())

    def settings(self) -> Mapping[str, object]:
        """Return what it was built with."""
        rules: dict[str, object] = {}
        for trip in self._trips:
            rules.update(trip.settings())
        return {"name": self.name, **rules, "open_for": self._open_for, "probes": self._probes, "mode": str(self._mode)}

    def for_target(self, name: str) -> CircuitBreaker:
        """Return a breaker for one target, with the same settings and nothing remembered.

        It does what this one is switched to, now and as long as both are there; reset this one, and it is reset.
        """
        target = CircuitBreaker(
            f"{self.name}:{name}",
            *self._trips,
            open_for=self._open_for,
            probes=self._probes,
            classify=self._classify,
            mode=self._built_mode,
            shared=self._shared,
            listeners=self._listeners,
        )
        with self._lock:
            self._targets.add(target)
            target.switch(self._mode)
        return target

    def __repr__(self) -> str:
        return f"CircuitBreaker({self.name!r}, {self.state.value}, {self._mode.value})"
