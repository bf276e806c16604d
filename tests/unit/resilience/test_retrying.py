from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import socket
import threading
import urllib.error
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from typing import Any, ClassVar

import httpx
import pytest
import tenacity

from orderkit.errors import IdempotencyInFlight
from orderkit.resilience import (
    Backoff,
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    CircuitState,
    ConsecutiveFailures,
    Deadline,
    Fallback,
    InvalidPolicy,
    Operation,
    Policy,
    PolicyEvent,
    Rejected,
    Retry,
    RetryBudget,
    RetryGivenUp,
    RetryScheduled,
    time_left,
)
from orderkit.resilience.backoff import asked_by, is_throttled
from orderkit.testing.clock import ManualClock
from orderkit.testing.resilience import Observed, resilience
from tests.unit.resilience.worlds import World, failing

FIXED = Backoff(base=0.0, cap=20, throttled_base=0.0)


@pytest.fixture(autouse=True)
def observed(clock: ManualClock) -> Iterator[Observed]:
    with resilience(clock=clock) as observed:
        yield observed


def policy(*layers: Any, operation: Operation = Operation.SAFE, **settings: Any) -> Policy:
    return Policy(Retry(**{"on": (ConnectionError, TimeoutError), **settings}), *layers, operation=operation)


class HttpError(Exception):
    """An error that carries a response, as those of httpx and requests do."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(status)
        self.response = httpx.Response(status, headers={name.replace("_", "-"): text for name, text in headers.items()})


# --- what is repeated -----------------------------------------------------------------------


@pytest.mark.parametrize("breaker", [[], [CircuitBreaker("psp")]], ids=["alone", "with a breaker"])
def test_a_call_is_repeated_until_it_succeeds(world: World, observed: Observed, breaker: list[CircuitBreaker]) -> None:
    assert world.call(policy(*breaker), failing(ConnectionError, TimeoutError())) == "done"
    assert [(event.attempt, event.error) for event in observed.of(RetryScheduled)] == [
        (1, "ConnectionError"),
        (2, "TimeoutError"),
    ]
    assert len(observed.waits) == 2


def test_the_error_of_the_last_attempt_is_raised(world: World, observed: Observed) -> None:
    errors = [ConnectionError(number) for number in range(4)]
    with pytest.raises(ConnectionError) as caught:
        world.call(policy(), failing(*errors))
    assert caught.value is errors[2]
    assert caught.value.__context__ is None
    assert [event.reason for event in observed.of(RetryGivenUp)] == ["attempts"]


def test_other_errors_are_not_repeated(world: World, observed: Observed) -> None:
    with pytest.raises(ValueError, match="wrong"):
        world.call(policy(), failing(ValueError("wrong")))
    assert observed.events == []


def test_a_function_can_tell_what_is_repeated(world: World) -> None:
    wanted = policy(on=lambda error: getattr(error, "response", None) is not None)
    assert world.call(wanted, failing(HttpError(503))) == "done"
    with pytest.raises(ConnectionError):
        world.call(wanted, failing(ConnectionError))


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), GeneratorExit()], ids=repr)
@pytest.mark.parametrize("before", [[], [ConnectionError]], ids=["at first", "later"])
@pytest.mark.parametrize("breaker", [[], [CircuitBreaker("psp")]], ids=["alone", "with a breaker"])
def test_tenacity_529_what_is_no_failure_is_not_swallowed(
    error: BaseException, before: list[type[Exception]], breaker: list[CircuitBreaker]
) -> None:
    """jd/tenacity#529: where all but some errors are repeated, so is a cancellation."""
    everything = policy(*breaker, on=lambda _error: True)
    work = failing(*before, error)
    with pytest.raises(type(error)) as caught:
        everything.call(work)
    assert caught.value is error
    assert work() == "done"


def test_a_cancelled_wait_ends_the_call() -> None:
    calls: list[int] = []

    async def work() -> None:
        calls.append(1)
        raise ConnectionError

    async def main() -> None:
        task = asyncio.create_task(policy(backoff=FIXED).call(work))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert len(calls) == 1


def test_stop_iteration_passes_unchanged() -> None:
    """A coroutine may not raise it (PEP 479), and a policy goes through coroutines."""
    for each in (policy(), policy(CircuitBreaker("psp")), Policy(CircuitBreaker("psp")), Policy(Deadline(1))):
        error = StopIteration("end")
        with pytest.raises(StopIteration) as caught:
            each.call(failing(error))
        assert caught.value is error
        assert error.__context__ is None
        assert not error.__suppress_context__


def test_what_tenacity_would_repeat_for_ever_is_bounded(world: World) -> None:
    work = failing(*[tenacity.TryAgain] * 10)
    with pytest.raises(tenacity.TryAgain):
        world.call(policy(), work)
    with pytest.raises(tenacity.TryAgain):
        world.call(policy(on=tenacity.TryAgain, operation=Operation.UNSAFE), work)
    with pytest.raises(tenacity.TryAgain):
        world.call(policy(on=tenacity.TryAgain), work)
    assert sum(1 for _ in _left(work)) == 5


def _left(work: Any) -> Iterator[None]:
    while True:
        try:
            work()
        except tenacity.TryAgain:
            yield None
        else:
            return


# --- what may be repeated -------------------------------------------------------------------


@pytest.mark.parametrize("operation", [Operation.SAFE, Operation.IDEMPOTENT, Operation.KEYED])
def test_what_does_no_harm_is_repeated_whatever_has_arrived(world: World, operation: Operation) -> None:
    assert world.call(policy(operation=operation), failing(TimeoutError)) == "done"


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        socket.gaierror(),
        httpx.ConnectError("no"),
        httpx.ConnectTimeout("no"),
        httpx.PoolTimeout("no"),
        HttpError(429),
    ],
    ids=repr,
)
def test_what_is_unsafe_is_repeated_only_where_nothing_was_done(world: World, error: Exception) -> None:
    assert world.call(policy(on=lambda _error: True, operation=Operation.UNSAFE), failing(error)) == "done"


@pytest.mark.parametrize(
    "error", [ConnectionResetError(), TimeoutError(), httpx.ReadTimeout("late"), HttpError(503)], ids=repr
)
def test_what_is_unsafe_and_may_have_arrived_is_not_repeated(
    world: World, error: Exception, observed: Observed
) -> None:
    with pytest.raises(type(error)):
        world.call(policy(on=lambda _error: True, operation=Operation.UNSAFE), failing(error))
    assert [event.reason for event in observed.of(RetryGivenUp)] == ["may_have_been_sent"]


# --- how long it waits ----------------------------------------------------------------------


def test_retry_after_is_minded_up_to_the_cap(world: World, observed: Observed) -> None:
    patient = policy(on=HttpError, backoff=Backoff(base=0.0, cap=20, throttled_base=0.0), attempts=5)
    date = "Thu, 01 Jan 1970 00:00:00 GMT"
    errors = [HttpError(503, retry_after=text) for text in ("3", "9999", date, "garbage")]
    world.call(patient, failing(*errors))
    assert observed.waits == [3, 20, 0, 0]


def test_stripe_ruby_431_a_key_in_flight_is_waited_for(world: World, observed: Observed) -> None:
    """stripe/stripe-ruby#431: a retry met the first attempt still under way, and its 409 was raised."""
    keyed = policy(on=(TimeoutError, IdempotencyInFlight), backoff=FIXED, operation=Operation.KEYED)
    assert world.call(keyed, failing(TimeoutError, IdempotencyInFlight("k", retry_after=2))) == "done"
    assert observed.waits == [0, 2]
    told = policy(on=lambda error: error.response.status_code == 409, backoff=FIXED, operation=Operation.KEYED)
    assert world.call(told, failing(HttpError(409, Retry_After="4"))) == "done"
    assert observed.waits[2:] == [4]


@pytest.mark.parametrize("asked", [-5.0, float("nan"), float("inf"), 10**400])
def test_a_reader_of_retry_after_cannot_break_a_call(world: World, observed: Observed, asked: float) -> None:
    assert world.call(policy(retry_after=lambda _error: asked, backoff=FIXED), failing(ConnectionError)) == "done"
    assert 0 <= observed.waits[0] <= 20


def test_throttling_waits_longer(observed: Observed) -> None:
    throttled = policy(on=HttpError, attempts=50, backoff=Backoff(base=0.0, cap=20, throttled_base=20))
    throttled.call(failing(*[HttpError(429)] * 49))
    assert 5 < sum(observed.waits) / 49 < 15
    observed.waits.clear()
    throttled.call(failing(*[HttpError(503)] * 49))
    assert sum(observed.waits) == 0


def test_no_attempt_begins_that_a_deadline_leaves_no_time_for(world: World, observed: Observed) -> None:
    bounded = Policy(
        Deadline(10), Retry(on=HttpError, attempts=9, backoff=FIXED), operation=Operation.SAFE, name="bounded"
    )
    errors = [HttpError(503, retry_after="4") for _ in range(5)]
    with pytest.raises(HttpError) as caught:
        world.call(bounded, failing(*errors))
    assert caught.value is errors[2]
    assert observed.waits == [4, 4]
    assert [event.reason for event in observed.of(RetryGivenUp)] == ["deadline"]


# --- open circuits --------------------------------------------------------------------------


@pytest.fixture
def open_circuit() -> CircuitBreaker:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(1), open_for=30)
    breaker.failed(breaker.acquire(), OSError())
    return breaker


def test_an_open_circuit_is_not_repeated(world: World, observed: Observed, open_circuit: CircuitBreaker) -> None:
    """The default predicate of tenacity repeats it."""
    with pytest.raises(CircuitOpen):
        world.call(policy(open_circuit, on=lambda _error: True), failing())
    assert observed.waits == []
    assert [event.reason for event in observed.of(RetryGivenUp)] == ["circuit_open"]


def test_a_patient_retry_waits_as_long_as_an_open_circuit_says(
    world: World, observed: Observed, open_circuit: CircuitBreaker
) -> None:
    assert world.call(policy(open_circuit, patient=True, backoff=FIXED), failing()) == "done"
    assert observed.waits == [pytest.approx(30)]
    assert open_circuit.state is CircuitState.CLOSED


def test_a_retry_stops_when_its_own_failures_open_the_circuit(world: World) -> None:
    breaker = CircuitBreaker("psp", ConsecutiveFailures(2))
    work = failing(*[ConnectionError] * 5)
    with pytest.raises(CircuitOpen):
        world.call(policy(breaker, attempts=5), work)
    with pytest.raises(ConnectionError):
        work()


# --- budgets --------------------------------------------------------------------------------


def test_a_spent_budget_raises_the_original_error_with_a_note(world: World, observed: Observed) -> None:
    error = ConnectionError("down")
    budget = RetryBudget(20, transient=14)
    limited = policy(budget=budget)
    with pytest.raises(ConnectionError) as caught:
        world.call(limited, failing(ConnectionError, error))
    assert caught.value is error
    assert error.__notes__ == ["Not retried: the retry budget of this dependency is spent."]
    assert budget.tokens == 6
    assert [event.reason for event in observed.of(RetryGivenUp)] == ["budget"]


@pytest.mark.parametrize("breaker", [[], [CircuitBreaker("psp")]], ids=["alone", "with a breaker"])
def test_a_success_gives_back_what_its_last_retry_took(world: World, breaker: list[CircuitBreaker]) -> None:
    budget = RetryBudget(100, transient=14, throttled=5)
    limited = policy(*breaker, budget=budget)
    world.call(limited, failing(ConnectionError, ConnectionError))
    assert budget.tokens == 100 - 14
    world.call(limited, failing())
    assert budget.tokens == 100 - 14 + 1


def test_a_storm_of_failures_adds_few_retries() -> None:
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        raise ConnectionError

    limited = policy(budget=RetryBudget())
    for _ in range(1000):
        with pytest.raises(ConnectionError):
            limited.call(work)
    assert len(calls) == 1000 + 500 // 14


def test_targets_have_budgets_of_their_own() -> None:
    budget = RetryBudget(14)
    one = policy(budget=budget).for_target("one")
    one.call(failing(ConnectionError))
    renewed = one.layers[0]
    assert isinstance(renewed, Retry)
    assert renewed.budget is not budget
    assert budget.tokens == 14


# --- many at once ---------------------------------------------------------------------------


def test_tenacity_93_concurrent_calls_of_one_policy_keep_apart(observed: Observed) -> None:
    """jd/tenacity#93: what is shared by concurrent calls mixes them up."""
    shared = policy(CircuitBreaker("psp", ConsecutiveFailures(10**6)), backoff=FIXED)
    tried: set[int] = set()

    async def work(number: int) -> int:
        await asyncio.sleep(0)
        if number % 3 and number not in tried:
            tried.add(number)
            raise ConnectionError(number)
        return number

    async def main() -> list[int]:
        return await asyncio.gather(*(shared.call(work, number) for number in range(1000)))

    assert asyncio.run(main()) == list(range(1000))
    assert {event.attempt for event in observed.of(RetryScheduled)} == {1}


def test_tenacity_701_attempts_are_counted_for_each_call_by_itself(observed: Observed) -> None:
    """jd/tenacity#701: an attempt's number changes when another thread, or the function itself, enters the retry."""
    shared = policy(CircuitBreaker("psp", ConsecutiveFailures(10**6)), backoff=FIXED)
    meet = threading.Barrier(32)

    def work(number: int) -> int:
        state = own.get()
        own.set(state + 1)
        if state == 0:
            meet.wait(20)
        if state < number % 3:
            raise ConnectionError(number)
        return number if number < 100 else shared.call(failing(ConnectionError, result=number))

    own = contextvars.ContextVar("own", default=0)
    with ThreadPoolExecutor(32) as pool:
        calls = [pool.submit(contextvars.Context().run, shared.call, work, number) for number in range(90, 122)]
        assert [call.result(20) for call in calls] == list(range(90, 122))
    assert not observed.of(RetryGivenUp)


def test_events_of_a_listener_that_raises_reach_nobody_else(world: World) -> None:
    def bad(_event: PolicyEvent) -> None:
        raise ZeroDivisionError

    shaky = Policy(Retry(on=ConnectionError), operation=Operation.SAFE, listeners=[bad])
    assert world.call(shaky, failing(ConnectionError)) == "done"


def test_the_time_left_is_none_without_a_deadline(world: World) -> None:
    assert world.call(policy(), time_left) is None


# --- building -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"on": ()},
        {"on": Exception},
        {"on": (ValueError, Exception)},
        {"on": BaseException},
        {"on": KeyboardInterrupt},
        {"on": asyncio.CancelledError},
        {"on": (ConnectionError, asyncio.CancelledError)},
        {"on": "ConnectionError"},
        {"on": int},
        {"on": [ConnectionError]},
        {"on": (ConnectionError(),)},
        {"on": None},
        *({"on": OSError, "attempts": bad} for bad in (0, -1, True, 1.5, "3", None, 10**400, float("nan"))),
    ],
    ids=repr,
)
def test_a_retry_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidPolicy):
        Retry(**settings)


@pytest.mark.parametrize("bad", [-1, True, float("nan"), float("inf"), "1", None, 1e300, 10**400], ids=repr)
@pytest.mark.parametrize("name", ["base", "cap", "throttled_base"])
def test_a_backoff_that_cannot_be(name: str, bad: Any) -> None:
    with pytest.raises(InvalidPolicy):
        Backoff(**{name: bad})


def test_a_backoff_is_capped_at_no_less_than_it_begins_with() -> None:
    with pytest.raises(InvalidPolicy):
        Backoff(base=3, cap=2)


@pytest.mark.parametrize(
    "figures", [{"capacity": 0}, {"capacity": 10}, {"throttled": 501}, {"transient": True}], ids=repr
)
def test_a_budget_that_cannot_be(figures: dict[str, Any]) -> None:
    with pytest.raises(InvalidPolicy):
        RetryBudget(**figures)


# --- what fails on the way ------------------------------------------------------------------


def test_a_rejection_by_something_inside_the_function_is_no_proof_that_nothing_was_sent(world: World) -> None:
    charged: list[None] = []
    mail = Policy(Bulkhead(1), name="mail")

    def charge_and_mail() -> None:
        charged.append(None)
        with mail, mail:
            raise AssertionError

    policy = Policy(Retry(on=Rejected, backoff=Backoff(base=0)), operation=Operation.UNSAFE)
    with pytest.raises(BulkheadFull):
        world.call(policy, charge_and_mail)
    assert len(charged) == 1


def test_a_rejection_by_a_layer_of_the_policy_is(world: World, observed: Observed) -> None:
    full = Bulkhead(1)
    policy = Policy(Retry(on=Rejected), full, operation=Operation.UNSAFE)
    with Policy(full), pytest.raises(BulkheadFull):
        world.call(policy, failing())
    assert len(observed.of(RetryScheduled)) == 2


def broken(error: Exception) -> Any:
    raise ZeroDivisionError


def test_a_function_that_fails_to_tell_what_is_repeated_hides_no_error(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConnectionError, match="down"):
        world.call(Policy(Retry(on=broken), operation=Operation.SAFE), failing(ConnectionError("down")))
    with pytest.raises(ConnectionError, match="down"):
        world.call(Policy(Fallback(repr, on=broken)), failing(ConnectionError("down")))
    assert "which errors are meant" in caplog.text


@pytest.mark.parametrize("reads", [broken, lambda _error: "soon", lambda _error: object()])
def test_a_wish_that_cannot_be_read_is_none(world: World, reads: Any) -> None:
    policy = Policy(Retry(on=ConnectionError, retry_after=reads), operation=Operation.SAFE)
    assert world.call(policy, failing(ConnectionError())) == "done"


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    status: int = 503


def test_an_error_on_which_nothing_can_be_noted_is_raised_nevertheless(world: World) -> None:
    spent = RetryBudget(14)
    spent.take(throttled=False)
    with pytest.raises(FrozenError):
        world.call(Policy(Retry(on=FrozenError, budget=spent), operation=Operation.SAFE), failing(FrozenError()))


def test_a_note_is_made_once_on_an_error_that_is_raised_again_and_again(world: World) -> None:
    spent, error = RetryBudget(14), ConnectionError()
    spent.take(throttled=False)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            world.call(Policy(Retry(on=ConnectionError, budget=spent), operation=Operation.SAFE), failing(error))
    assert len(error.__notes__) == 1


class OfAiohttp(Exception):
    """As `aiohttp.ClientResponseError`."""

    status = 429
    headers: ClassVar[dict[str, str]] = {"Retry-After": "7"}


def of_urllib() -> Exception:
    headers = Message()
    headers["Retry-After"] = "7"
    return urllib.error.HTTPError("https://shop.example", 429, "too many", headers, None)


@pytest.mark.parametrize("error", [OfAiohttp(), of_urllib()], ids=["aiohttp", "urllib"])
def test_other_libraries_say_that_there_were_too_many_calls_in_their_own_way(error: Exception) -> None:
    assert is_throttled(error)
    assert asked_by(error) == 7
