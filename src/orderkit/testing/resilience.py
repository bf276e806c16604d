"""Policies under test: no waits, few attempts, chance that repeats itself, and time that a test commands.

Example:
    >>> from orderkit.resilience import Operation, Policy, Retry
    >>> from orderkit.testing.faults import Faults
    >>> from orderkit.testing.resilience import assert_policy, resilience
    >>> policy = Policy(Retry(on=ConnectionError), operation=Operation.SAFE)
    >>> assert_policy(policy, operation=Operation.SAFE, retry={"attempts": 3}, deadline=None)
    >>> with resilience(Faults(ConnectionError), attempts_cap=2) as observed:
    ...     policy.call(round, 2.6)
    3
    >>> len(observed.waits)
    1
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import attrs

from orderkit.resilience import conditions
from orderkit.resilience.conditions import Conditions
from orderkit.resilience.events import PolicyEvent
from orderkit.resilience.layers import Invocation, Step, counted
from orderkit.resilience.operations import Operation
from orderkit.resilience.policy import Policy
from orderkit.testing.clock import ManualClock
from orderkit.testing.faults import Faults

EventT = TypeVar("EventT", bound=PolicyEvent)


class Observed:
    """What policies did in a block of `resilience`.

    Attributes:
        waits: The seconds of every wait that was removed, in their order.
        events: Every event, in their order, whoever else was told.
    """

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.events: list[PolicyEvent] = []

    def of(self, kind: type[EventT]) -> list[EventT]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


@contextmanager
def resilience(
    *faults: Faults,
    no_waits: bool = True,
    attempts_cap: int | None = None,
    clock: ManualClock | None = None,
    seed: int = 0,
) -> Generator[Observed]:
    """Put every policy of the process under the conditions of a test for the length of a block, and yield what they do.

    All threads see it, so that an application under test does. Inside of another such block it adds to it. What only
    real time ends is not hurried: an event loop's time-out of something that hangs, a queue, a hedge.

    Args:
        *faults: What goes wrong with calls; nothing where absent.
        no_waits: Do not wait where a policy would.
        attempts_cap: At how many attempts every retry stops; never raises what one was built with.
        clock: What policies read the time from; waiting lets it go on.
        seed: What chance begins with.

    Raises:
        InvalidPolicy: The cap is none.
    """
    observed, outer = Observed(), conditions.present
    cap = None if attempts_cap is None else counted(attempts_cap, "The cap of attempts")
    caps = [each for each in (cap, outer.most_attempts) if each is not None]
    inner = attrs.evolve(
        outer,
        monotonic=outer.monotonic if clock is None else _monotonic(clock, outer),
        pause=_pause(clock, outer, observed) if no_waits or clock is not None else outer.pause,
        uniform=random.Random(seed).uniform,  # noqa: S311 - chance that a test repeats
        most_attempts=min(caps, default=None),
        around=_around(faults, outer) if faults else outer.around,
        listeners=(*outer.listeners, observed.events.append),
    )
    with conditions.replaced(inner):
        yield observed


def _monotonic(clock: ManualClock, outer: Conditions) -> Callable[[], float]:
    """Go on from about the time it is, so that what outlives the block has not seen a time that never comes."""
    # Few binary digits: what is to be over after eight seconds of the clock is, and not one bit of a float later.
    begun, shown = math.floor(outer.monotonic() * 1024) / 1024, clock.now()
    return lambda: begun + (clock.now() - shown).total_seconds()


def _pause(clock: ManualClock | None, outer: Conditions, observed: Observed) -> Callable[[float], None]:
    def pause(seconds: float) -> None:
        observed.waits.append(seconds)
        if clock is not None:
            clock.advance(seconds)
        elif outer.pause is not None:
            outer.pause(seconds)

    return pause


def _around(faults: Sequence[Faults], outer: Conditions) -> Callable[[Invocation[Any], Step], Awaitable[object]]:
    async def around(invocation: Invocation[Any], inner: Step) -> object:
        step = inner
        for each in reversed(faults):
            step = partial(each.around, inner=step)
        return await (step(invocation) if outer.around is None else outer.around(invocation, step))

    return around


def assert_policy(
    policy: Policy,
    *,
    operation: Operation | None = None,
    order: Sequence[str] | None = None,
    **layers: Mapping[str, object] | None,
) -> None:
    """Check what a policy is made of; whatever is not named may be as it likes.

    Args:
        policy: The policy.
        operation: What repeating a call would do.
        order: The kinds of all its layers, from the outside in.
        **layers: By its kind, such as `retry`, settings that a layer must have; None for a layer there must not be.

    Raises:
        AssertionError: It differs; every difference is told.
    """
    found = policy.describe()
    differences = [line for kind, wanted in layers.items() for line in _differences(kind, found.get(kind), wanted)]
    if operation not in {None, policy.operation}:
        differences.append(f"operation is {policy.operation.value}, not {operation}")
    if order is not None and list(found) != list(order):
        differences.append(f"order is {' > '.join(found)}, not {' > '.join(order)}")
    if differences:
        raise AssertionError(f"{policy!r} differs:\n" + "\n".join(f"- {line}" for line in differences))


def _differences(kind: str, found: Mapping[str, object] | None, wanted: Mapping[str, object] | None) -> list[str]:
    if found is None or wanted is None:
        is_as_wanted = found is None and wanted is None
        return [] if is_as_wanted else [f"{kind} is {'missing' if found is None else 'there'}"]
    return [
        f"{kind}.{name} is {found[name]!r}, not {value!r}" if name in found else f"{kind} has no {name}"
        for name, value in wanted.items()
        if name not in found or found[name] != value
    ]
