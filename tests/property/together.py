"""Threads that come together, and take turns in the middle of what they do, which is too short for it otherwise."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

MOST = 3
"""How many there are at most: what they do is held against every order of it."""

_threads = ThreadPoolExecutor(MOST)


def together(works: Sequence[Callable[[], T]]) -> list[T]:
    """Do things at once, each in a thread of its own; return what each gave."""
    barrier = threading.Barrier(len(works))

    def do(work: Callable[[], T]) -> T:
        barrier.wait()
        return work()

    with _switching_often():
        return list(_threads.map(do, works))


@contextmanager
def _switching_often() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
