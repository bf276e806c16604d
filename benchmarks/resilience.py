"""What a policy costs a call that succeeds, against the decorators of tenacity and pybreaker, and no policy at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial

import pybreaker
import tenacity

from benchmarks.databases import Wrong
from benchmarks.measure import Contender, Plan, Race, Ratio, Stage, Timed, awaited, in_threads, one_by_one
from orderkit.resilience import CircuitBreaker, Operation, Policy, Retry

THREADS = 8
WAIT = 0.005

POLICY = "orderkit, retry and breaker"
DECORATORS = "tenacity and pybreaker decorators"
BREAKER = "orderkit, breaker"
PYBREAKER = "pybreaker.call"
BARE = "bare function"


def policy() -> Policy:
    """Return what both decorators do, as one policy."""
    return Policy(Retry(on=(OSError,)), CircuitBreaker("bench"), operation=Operation.SAFE)


class Calls:
    """Count calls, so that each can be shown to have been made; Python's `+=` is not safe among threads."""

    def __init__(self) -> None:
        self.wanted = 0
        self._made: list[None] = []

    def made(self, _input: None) -> None:
        """Be called."""
        self._made.append(None)

    @property
    def noted(self) -> Callable[[None], None]:
        """The least that can be called and counted: a function in C."""
        return self._made.append

    def waited(self, _input: None) -> None:
        """Be called, and take as long as a call to another service."""
        time.sleep(WAIT)
        self._made.append(None)

    async def awaited(self, _input: None) -> None:
        """Be awaited."""
        self._made.append(None)

    def inputs(self, number: int) -> list[None]:
        """Return the inputs of that many calls."""
        self.wanted += number
        return [None] * number

    def check(self) -> None:
        """Raise unless every call was made."""
        if len(self._made) != self.wanted:
            raise Wrong(f"{len(self._made)} of {self.wanted} calls were made")


@contextmanager
def success(_plan: Plan) -> Generator[Stage, None, None]:
    """Set up calls from one thread."""
    calls = Calls()
    decorated = tenacity.retry(stop=tenacity.stop_after_attempt(3), retry=tenacity.retry_if_exception_type(OSError))(
        pybreaker.CircuitBreaker()(calls.made)
    )

    def contender(function: Callable[[None], object]) -> Callable[[], Contender]:
        return partial(Timed, calls.inputs, one_by_one(function))

    yield Stage({POLICY: contender(policy()(calls.made)), DECORATORS: contender(decorated)}, calls.check)


@contextmanager
def asynchronous_success(_plan: Plan) -> Generator[Stage, None, None]:
    """Set up calls from one task. pybreaker's own asynchronous way needs tornado: it is used around the call."""
    calls, breaker = Calls(), pybreaker.CircuitBreaker()

    @tenacity.retry(stop=tenacity.stop_after_attempt(3), retry=tenacity.retry_if_exception_type(OSError))
    async def decorated(given: None) -> None:
        with breaker.calling():
            await calls.awaited(given)

    through = policy()(calls.awaited)
    with asyncio.Runner() as runner:
        yield Stage(
            {
                POLICY: partial(Timed, calls.inputs, awaited(runner, through)),
                DECORATORS: partial(Timed, calls.inputs, awaited(runner, decorated)),
            },
            calls.check,
        )


@contextmanager
def waiting_threads(_plan: Plan) -> Generator[Stage, None, None]:
    """Set up calls that take their time, from several threads through one breaker."""
    calls = Calls()
    with ExitStack() as stack:
        yield _in_threads(calls, stack, {BREAKER: Policy(CircuitBreaker("bench"))(calls.waited), BARE: calls.waited})


@contextmanager
def contending_threads(_plan: Plan) -> Generator[Stage, None, None]:
    """Set up calls that do nothing, from several threads through one breaker."""
    calls, breaker = Calls(), pybreaker.CircuitBreaker()
    with ExitStack() as stack:
        contenders: dict[str, Callable[[None], object]] = {
            BREAKER: Policy(CircuitBreaker("bench"))(calls.noted),
            PYBREAKER: partial(breaker.call, calls.noted),
        }
        yield _in_threads(calls, stack, contenders)


def _in_threads(calls: Calls, stack: ExitStack, contenders: Mapping[str, Callable[[None], object]]) -> Stage:
    pool = stack.enter_context(ThreadPoolExecutor(THREADS))
    return Stage(
        {
            name: partial(Timed, calls.inputs, in_threads(pool, [function] * THREADS))
            for name, function in contenders.items()
        },
        calls.check,
    )


BENCHMARKS = (
    Race(success, (Ratio("resilience.success", POLICY, DECORATORS, 0.1),), operations=20_000),
    Race(asynchronous_success, (Ratio("resilience.success.async", POLICY, DECORATORS, 0.1),), operations=10_000),
    Race(waiting_threads, (Ratio("breaker.8-threads", BREAKER, BARE, 1.1),), operations=THREADS * 20),
    Race(contending_threads, (Ratio("breaker.contended", BREAKER, PYBREAKER, 0.15),), operations=THREADS * 5_000),
)
