"""What policies take from outside: the time, waiting and chance. A test puts others in their place."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from orderkit.resilience.events import PolicyEvent
    from orderkit.resilience.layers import Invocation, Step


@attrs.frozen
class Conditions:
    """The conditions under which every policy of the process works.

    Attributes:
        monotonic: Return seconds that only ever grow.
        pause: Spend so many seconds instead of sleeping; None to sleep.
        uniform: Draw a number between two others.
        most_attempts: At how many attempts a retry stops, whatever it was built with; None for what it was built with.
        around: Surround the innermost call, to make it fail, wait or answer otherwise; None to leave it alone.
        listeners: Who is told every event of the process, besides those whom a policy tells.
    """

    monotonic: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] | None = None
    uniform: Callable[[float, float], float] = random.uniform  # noqa: S311 - jitter, not a secret
    most_attempts: int | None = None
    around: Callable[[Invocation[Any], Step], Awaitable[object]] | None = None
    listeners: tuple[Callable[[PolicyEvent], object], ...] = ()


present = Conditions()
"""The conditions that hold now, read as `conditions.present`."""


@contextmanager
def replaced(conditions: Conditions) -> Generator[None]:
    """Let other conditions hold for the length of a block, in every thread of the process."""
    global present  # noqa: PLW0603 - threads of an application under test must see it, so no context variable will do
    before, present = present, conditions
    try:
        yield
    finally:
        present = before
