from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import multiprocessing
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from orderkit.errors import ConfigurationError
from orderkit.resilience import (
    AttemptTimeout,
    BreakerMode,
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    CircuitState,
    ConsecutiveFailures,
    Deadline,
    EventCounter,
    EventLog,
    FailureRate,
    Fallback,
    FallbackUsed,
    Hedge,
    InvalidPolicy,
    Operation,
    Policy,
    Rejected,
    Retry,
    SlowCalls,
)
from orderkit.testing.resilience import resilience
from tests.unit.resilience.worlds import World, failing

BREAKER = CircuitBreaker("psp")
RETRY = Retry(on=ConnectionError)


async def asynchronous(*_args: object) -> None:
    """Stand for what has to be awaited."""


# --- building -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: Policy(BREAKER, RETRY, operation=Operation.SAFE), "retry stands inside circuit_breaker"),
        (lambda: Policy(AttemptTimeout(1), Deadline(2)), "deadline stands inside attempt_timeout"),
        (lambda: Policy(RETRY, Deadline(2), operation=Operation.SAFE), "deadline stands inside retry"),
        (lambda: Policy(Deadline(1), Fallback(print, on=Rejected)), "fallback stands inside deadline"),
        (lambda: Policy(Deadline(1), Deadline(2)), "stands twice"),
        (lambda: Policy(BREAKER, CircuitBreaker("other")), "stands twice"),
        (lambda: Policy(Deadline(1), AttemptTimeout(2)), "shorter"),
        (lambda: Policy(RETRY), "operation"),
        (lambda: Policy(RETRY, operation="sometimes"), "operation"),
        (lambda: Policy(BREAKER, listeners=print), "listeners"),
        (lambda: Policy(BREAKER, listeners=[5]), "listener"),
        (lambda: Policy(BREAKER, listeners=[asynchronous]), "listener"),
        (lambda: Policy(BREAKER)(5), "surrounds functions"),
        (lambda: Policy(BREAKER)(property(repr)), "surrounds functions"),
        (lambda: Policy(BREAKER)(classmethod(repr)), "surrounds functions"),
        (lambda: Policy(BREAKER)(staticmethod(repr)), "surrounds functions"),
        (lambda: Policy(BREAKER).call(None), "surrounds functions"),
        (lambda: Retry(on=asynchronous), "on"),
        (lambda: Retry(on=OSError, backoff=5), "backoff"),
        (lambda: Retry(on=OSError, budget=5), "budget"),
        (lambda: Retry(on=OSError, retry_after=5), "retry_after"),
        (lambda: CircuitBreaker("psp", 5), "rules"),
        (lambda: CircuitBreaker("psp", ConsecutiveFailures), "rules"),
        (lambda: CircuitBreaker("psp", classify=5), "classify"),
        (lambda: CircuitBreaker("psp", classify=asynchronous), "classify"),
        (lambda: CircuitBreaker("psp", listeners=[asynchronous]), "listener"),
        (lambda: Policy("retry"), "'retry' is none"),
        (lambda: Policy(None), "None is none"),
        (lambda: Policy(Deadline), "is none"),
        (lambda: Fallback(print), "on"),
        (lambda: Fallback(print, on=()), "on"),
        (lambda: Fallback(print, on=Exception), "Exception"),
        (lambda: Fallback(print, on=BaseException), "BaseException"),
        (lambda: Fallback(print, on=asyncio.CancelledError), "CancelledError"),
        (lambda: Fallback(0, on=Rejected), "function"),
        (lambda: CircuitBreaker(""), "name"),
        (lambda: CircuitBreaker(None), "name"),
        (lambda: CircuitBreaker("psp", open_for=0), "stays open"),
        (lambda: CircuitBreaker("psp", open_for=float("nan")), "stays open"),
        (lambda: CircuitBreaker("psp", probes=0), "probes"),
        (lambda: CircuitBreaker("psp", mode="sometimes"), "mode"),
        (lambda: ConsecutiveFailures(0), "consecutive"),
        (lambda: ConsecutiveFailures(True), "consecutive"),
        (lambda: FailureRate(0), "rate"),
        (lambda: FailureRate(1.1), "rate"),
        (lambda: FailureRate(0.5, calls=10, minimum=20), "never open"),
        (lambda: FailureRate(0.5, calls=10**400), "calls"),
        (lambda: SlowCalls(over=0), "slow"),
        (lambda: SlowCalls(over=float("inf")), "slow"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_when_it_is_built(build: Callable[[], object], reason: str) -> None:
    with pytest.raises(InvalidPolicy, match=reason) as caught:
        build()
    assert isinstance(caught.value, ConfigurationError)
    assert caught.value.code == "invalid_policy"


def test_a_policy_describes_itself() -> None:
    policy = Policy(Deadline(10), RETRY, CircuitBreaker("rates"), AttemptTimeout(2), operation=Operation.SAFE)
    assert list(policy.describe()) == ["deadline", "retry", "circuit_breaker", "attempt_timeout"]
    assert policy.describe()["retry"]["on"] == "ConnectionError"
    assert repr(policy) == "Policy('rates', safe: deadline > retry > circuit_breaker > attempt_timeout)"


def test_layers_tell_what_they_were_built_with() -> None:
    policy = Policy(Fallback(repr, on=Rejected), Hedge(1), Bulkhead(5, waiting=3, max_wait=2), operation=Operation.SAFE)
    assert policy.describe() == {
        "fallback": {"use": "repr", "on": "Rejected"},
        "hedge": {"after": 1, "attempts": 2},
        "bulkhead": {"limit": 5, "waiting": 3, "max_wait": 2},
    }


def test_a_mode_may_be_given_by_its_name() -> None:
    breaker = CircuitBreaker("psp", mode="forced_open")
    assert breaker.mode is BreakerMode.FORCED_OPEN
    with pytest.raises(CircuitOpen):
        Policy(breaker).call(int)


def test_the_same_policy_can_be_declared_for_other_calls() -> None:
    policy = Policy(RETRY, BREAKER, operation=Operation.SAFE)
    unsafe = policy.declared(Operation.UNSAFE)
    assert (unsafe.operation, unsafe.layers, unsafe.name) == (Operation.UNSAFE, policy.layers, policy.name)


def test_targets_have_breakers_of_their_own() -> None:
    policy = Policy(CircuitBreaker("psp", ConsecutiveFailures(1)))
    one, other = policy.for_target("one"), policy.for_target("other")
    with pytest.raises(ConnectionError):
        one.call(failing(ConnectionError))
    with pytest.raises(CircuitOpen, match="psp:one"):
        one.call(int)
    assert other.call(int) == policy.call(int) == 0


# --- functions of all kinds -----------------------------------------------------------------


class Client:
    def get(self, number: int) -> int:
        return number

    async def get_asynchronously(self, number: int) -> int:
        return number

    def __call__(self, number: int) -> int:
        return number


class AsyncClient:
    async def __call__(self, number: int) -> int:
        return number


POLICIES = [Policy(), Policy(BREAKER), Policy(RETRY, BREAKER, operation=Operation.SAFE), Policy(Deadline(60), BREAKER)]


@pytest.fixture(params=POLICIES, ids=repr)
def policy(request: pytest.FixtureRequest) -> Policy:
    made: Policy = request.param
    return made


@pytest.mark.parametrize(
    "function",
    [
        Client().get,
        functools.partial(Client().get),
        functools.partial(functools.partial(Client.get, Client())),
        Client(),
        functools.partial(Client()),
        lambda number: number,
        MagicMock(return_value=3),
        abs,
        int,
    ],
)
def test_what_can_be_called_is_called(policy: Policy, function: Callable[[int], int]) -> None:
    assert policy.call(function, 3) == 3


@pytest.mark.parametrize(
    "function",
    [
        Client().get_asynchronously,
        functools.partial(Client().get_asynchronously),
        functools.partial(functools.partial(Client.get_asynchronously, Client())),
        AsyncClient(),
        functools.partial(AsyncClient()),
        AsyncMock(return_value=3),
        functools.partial(AsyncMock(return_value=3)),
    ],
)
def test_what_can_be_awaited_is_awaited(policy: Policy, function: Callable[[int], Any]) -> None:
    async def main() -> None:
        assert await policy.call(function, 3) == 3
        assert await policy(function)(3) == 3

    asyncio.run(main())


def test_a_decorated_function_looks_as_before(policy: Policy) -> None:
    def plain(number: int) -> int:
        """Return it."""
        return number

    async def asynchronous() -> None: ...

    assert (policy(plain).__name__, policy(plain).__doc__) == ("plain", "Return it.")
    assert inspect.signature(policy(plain)) == inspect.signature(plain)
    assert inspect.iscoroutinefunction(policy(asynchronous))
    assert not inspect.iscoroutinefunction(policy(plain))


def generator() -> Iterator[int]:
    yield 1


async def asynchronous_generator() -> AsyncIterator[int]:
    yield 1


async def coroutine() -> int:
    return 1


LAZY = [
    generator,
    asynchronous_generator,
    functools.partial(generator),
    lambda: coroutine(),  # noqa: PLW0108 - that is what is refused
    lambda: generator(),  # noqa: PLW0108
    lambda: asynchronous_generator(),  # noqa: PLW0108
    MagicMock(side_effect=lambda: coroutine()),  # noqa: PLW0108
]


@pytest.mark.slow
@pytest.mark.parametrize("function", LAZY, ids=range(len(LAZY)))
@pytest.mark.filterwarnings("error")
def test_what_begins_its_work_later_is_refused(policy: Policy, function: Callable[[], object]) -> None:
    """It would fail behind the back of the policy; a coroutine is closed, so that nothing warns of it."""
    for way in (policy.call, lambda function: policy(function)()):
        with pytest.raises(InvalidPolicy):
            way(function)
    gc.collect(1)


def test_what_begins_its_work_later_closes_no_circuit() -> None:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(2))
    breaker.failed(breaker.acquire(), ConnectionError())
    with pytest.raises(InvalidPolicy):
        Policy(breaker).call(lambda: coroutine())  # noqa: PLW0108
    breaker.failed(breaker.acquire(), ConnectionError())
    assert breaker.state is CircuitState.OPEN


def test_a_class_is_not_decorated(policy: Policy) -> None:
    with pytest.raises(InvalidPolicy):
        policy(Client)


def test_arguments_and_results_pass_through(world: World, policy: Policy) -> None:
    def work(*args: object, **kwargs: object) -> object:
        return args, kwargs

    assert world.call(policy, work, 1, "two", function="three", self=4) == (
        (1, "two"),
        {"function": "three", "self": 4},
    )
    assert world.decorated(policy, work)(1, policy=2) == ((1,), {"policy": 2})


def test_policies_nest(world: World) -> None:
    outer = Policy(Deadline(60), Retry(on=ConnectionError), CircuitBreaker("outer"), operation=Operation.SAFE)
    inner = Policy(Retry(on=ConnectionError), CircuitBreaker("inner"), operation=Operation.SAFE)
    with resilience() as observed:
        assert world.call(outer, inner(failing(*[ConnectionError] * 4))) == "done"
    assert len(observed.waits) == 2 + 1 + 1


# --- fallback -------------------------------------------------------------------------------


def test_a_fallback_takes_the_place_of_what_failed_for_good(world: World) -> None:
    policy = Policy(Fallback(repr, on=ConnectionError), RETRY, operation=Operation.SAFE, name="rates")
    with resilience() as observed:
        assert world.call(policy, failing(*[ConnectionError] * 3)) == "ConnectionError()"
        with pytest.raises(ValueError, match="wrong"):
            world.call(policy, failing(ValueError("wrong")))
    assert observed.of(FallbackUsed) == [FallbackUsed(policy="rates", error="ConnectionError")]


async def fallback_asynchronously(error: Exception) -> str:
    return repr(error)


def test_an_asynchronous_fallback_is_for_event_loops() -> None:
    policy = Policy(Fallback(fallback_asynchronously, on=ConnectionError))

    async def work() -> str:
        raise ConnectionError

    assert asyncio.run(policy.call(work)) == "ConnectionError()"
    with pytest.raises(InvalidPolicy):
        policy.call(failing(ConnectionError))
    gc.collect(1)


def test_a_cancellation_has_no_fallback() -> None:
    policy = Policy(Fallback(repr, on=lambda _error: True))
    with pytest.raises(asyncio.CancelledError):
        policy.call(failing(asyncio.CancelledError))


# --- many at once ---------------------------------------------------------------------------


def test_threads_share_a_policy() -> None:
    counter = EventCounter()
    policy = Policy(
        Deadline(60),
        Retry(on=ConnectionError),
        CircuitBreaker("psp", FailureRate(1, calls=10**4, minimum=10**4)),
        Bulkhead(32),
        operation=Operation.SAFE,
        listeners=[counter],
    )

    def work(number: int) -> list[int]:
        return [policy.call(failing(ConnectionError, result=step)) for step in range(number, number + 50)]

    with resilience(), ThreadPoolExecutor(32) as pool:
        assert list(pool.map(work, range(32))) == [list(range(number, number + 50)) for number in range(32)]
    assert counter.counts == {("RetryScheduled", "psp"): 32 * 50}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_goes_on_by_itself() -> None:
    breaker, bulkhead = CircuitBreaker("psp", ConsecutiveFailures(1)), Bulkhead(1)
    policy = Policy(breaker, bulkhead)
    here, there = multiprocessing.get_context("fork").Pipe()

    def child() -> None:
        with pytest.raises(ConnectionError):
            policy.call(failing(ConnectionError))
        there.send((breaker.state.value, bulkhead.under_way))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(20)
    assert here.poll(0)
    assert here.recv() == ("open", 0)
    assert breaker.state is CircuitState.CLOSED
    assert policy.call(int) == 0


def test_events_are_written_with_their_fields(caplog: pytest.LogCaptureFixture) -> None:
    policy = Policy(RETRY, operation=Operation.SAFE, name="psp", listeners=[EventLog()])
    with caplog.at_level("INFO", "orderkit.resilience"), resilience(attempts_cap=1), pytest.raises(ConnectionError):
        policy.call(failing(ConnectionError("secret")))
    (record,) = caplog.records
    assert record.event == {"policy": "psp", "attempt": 1, "reason": "attempts", "error": "ConnectionError"}
    assert "secret" not in record.getMessage()


def test_an_operation_can_be_named() -> None:
    assert Policy(RETRY, operation="safe").operation is Operation.SAFE


class Awaited:
    """Is awaited, though it is no coroutine, as what `aiohttp` returns."""

    def __await__(self) -> Iterator[None]:
        yield


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_a_plain_function_that_returns_something_to_be_awaited_is_refused(policy: Policy) -> None:
    for _ in range(2):
        with pytest.raises(InvalidPolicy, match="Awaited"):
            policy.call(Awaited)


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_a_task_that_a_plain_function_returns_is_refused(policy: Policy) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(asyncio.sleep(0))
        with pytest.raises(InvalidPolicy, match="Task"):
            policy.call(lambda: task)
        await task

    asyncio.run(main())


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_a_coroutine_function_that_returns_a_generator_is_refused(policy: Policy) -> None:
    async def lazy() -> object:
        return asynchronous_generator()

    with pytest.raises(InvalidPolicy, match="async_generator"):
        asyncio.run(policy.call(lazy))


@pytest.mark.parametrize("policy", POLICIES[:-1], ids=repr)
def test_without_a_loop_of_asyncio_nothing_is_called(policy: Policy) -> None:
    called: list[None] = []

    async def work() -> None:
        called.append(None)

    with pytest.raises(InvalidPolicy, match="asyncio"):
        policy.call(work).send(None)
    assert called == []
