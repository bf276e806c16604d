"""What the transports of both libraries promise, in threads and in event loops alike."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orderkit.errors import OrderKitError
from orderkit.resilience import (
    AttemptTimeout,
    Backoff,
    Bulkhead,
    CircuitBreaker,
    CircuitState,
    ConsecutiveFailures,
    Deadline,
    Fallback,
    Hedge,
    InvalidPolicy,
    Operation,
    Policy,
    PolicyEvent,
    RateLimit,
    Retry,
    RetryBudget,
    RetryGivenUp,
    RetryScheduled,
    TimedOut,
    time_left,
)
from orderkit.resilience.conditions import Conditions, replaced
from orderkit.resilience.layers import Layer, Rank
from orderkit.resilience.rejections import BulkheadFull, CircuitOpen, DeadlineExceeded
from tests.unit.http.worlds import LIBRARIES, WORLDS, World

HERE = "https://shop.example/orders?page=2"
KEY = {"Idempotency-Key": "checkout-7f3a"}


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    return WORLDS[request.param]


@pytest.fixture
def waits() -> Iterator[list[float]]:
    """The waits between attempts, none of which takes time; each is the longest it may be."""
    spent: list[float] = []
    with replaced(Conditions(pause=spent.append, uniform=lambda _low, high: high)):
        yield spent


class Server:
    """Answer requests by a script, the last part of it again and again."""

    def __init__(self, *script: Any) -> None:
        self.script = script
        self.requests: list[Any] = []

    def __call__(self, request: Any) -> Any:
        answer = self.script[min(len(self.requests), len(self.script) - 1)]
        self.requests.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer() if callable(answer) else answer


def answers(world: World, *statuses: int, **more: Any) -> Server:
    return Server(*(lambda status=status: world.library.Response(status, **more) for status in statuses))


def policy_of(world: World, *others: Layer, listeners: Any = (), **retry: Any) -> Policy:
    outer = [layer for layer in others if layer.rank < Rank.RETRY]
    inner = [layer for layer in others if layer.rank > Rank.RETRY]
    repeated = Retry(on=world.library.TransportError, **retry)
    return Policy(*outer, repeated, *inner, operation=Operation.SAFE, listeners=listeners)


# --- responses that stand for failures ----------------------------------------------------------


@pytest.mark.usefixtures("waits")
def test_a_503_is_retried_unlike_by_the_retries_of_httpx_108(world: World) -> None:
    server = answers(world, 503, 503, 200)
    [response] = world.ask(world.transport(policy_of(world), server), ("GET", HERE))
    assert (response.status_code, len(server.requests)) == (200, 3)


@pytest.mark.usefixtures("waits")
def test_after_the_last_attempt_the_response_is_returned_as_it_is(world: World) -> None:
    server = answers(world, 503, headers={"x-trace": "abc"}, content=b"come back later")
    [response] = world.ask(world.transport(policy_of(world), server), ("GET", HERE))
    assert (response.status_code, response.headers["x-trace"], response.content) == (503, "abc", b"come back later")
    assert str(response.request.url) == HERE
    assert len(server.requests) == 3


@pytest.mark.usefixtures("waits")
def test_a_streamed_failure_can_be_read_to_its_end_by_the_caller(world: World) -> None:
    def long_failure() -> Any:
        return world.library.Response(503, content=world.streamed(b"a" * 50_000, b"b" * 50_000, b"c"))

    [response] = world.ask(world.transport(policy_of(world), Server(long_failure)), ("GET", HERE))
    assert response.content == b"a" * 50_000 + b"b" * 50_000 + b"c"


@pytest.mark.parametrize("status", [200, 204, 301, 400, 404, 409, 422, 501])
def test_other_statuses_are_answers_and_never_retried(world: World, status: int) -> None:
    server = answers(world, status)
    [response] = world.ask(world.transport(policy_of(world), server), ("GET", HERE))
    assert (response.status_code, len(server.requests)) == (status, 1)


@pytest.mark.usefixtures("waits")
def test_which_statuses_stand_for_failures_can_be_said(world: World) -> None:
    server = answers(world, 404, 503)
    transport = world.transport(policy_of(world), server, failures={404})
    [response] = world.ask(transport, ("GET", HERE))
    assert (response.status_code, len(server.requests)) == (503, 2)


def test_a_misspelt_option_is_refused(world: World) -> None:
    with pytest.raises(TypeError):
        world.transport(policy_of(world), Server(), faliures={404})


def test_failed_responses_open_the_circuit(world: World) -> None:
    server = answers(world, 500)
    transport = world.transport(Policy(CircuitBreaker("shop", ConsecutiveFailures(2))), server)
    first, second, third = world.ask(transport, *[("GET", HERE)] * 3)
    assert (first.status_code, second.status_code, len(server.requests)) == (500, 500, 2)
    assert isinstance(third, CircuitOpen)


def test_responses_without_a_failure_close_no_door(world: World) -> None:
    transport = world.transport(Policy(CircuitBreaker("shop", ConsecutiveFailures(1))), answers(world, 404))
    assert [one.status_code for one in world.ask(transport, *[("GET", HERE)] * 3)] == [404] * 3


@pytest.mark.parametrize("status", [429, 503])
def test_the_seconds_of_a_retry_after_are_waited_for(world: World, waits: list[float], status: int) -> None:
    server = Server(
        lambda: world.library.Response(status, headers={"Retry-After": "7"}), lambda: world.library.Response(200)
    )
    world.ask(world.transport(policy_of(world, backoff=Backoff(base=0.0)), server), ("GET", HERE))
    assert waits == [7.0]


def test_the_date_of_a_retry_after_is_waited_for(world: World, waits: list[float]) -> None:
    date = {"Retry-After": "Sat, 28 Nov 2099 12:00:00 GMT"}
    server = Server(lambda: world.library.Response(503, headers=date), lambda: world.library.Response(200))
    world.ask(world.transport(policy_of(world, backoff=Backoff(base=0.0, cap=9.0)), server), ("GET", HERE))
    assert waits == [9.0]


def test_a_fallback_answers_in_place_of_the_failure(world: World) -> None:
    answer = world.library.Response(200, json={"kept": True})
    policy = Policy(Fallback(lambda _error: answer, on=world.library.HTTPStatusError))
    [response] = world.ask(world.transport(policy, answers(world, 500)), ("GET", HERE))
    assert response.json() == {"kept": True}


# --- what may be repeated -----------------------------------------------------------------------


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize(
    ("method", "headers", "status", "attempts"),
    [
        ("GET", {}, 503, 3),
        ("HEAD", {}, 503, 3),
        ("OPTIONS", {}, 503, 3),
        ("PUT", {}, 503, 3),
        ("DELETE", {}, 503, 3),
        ("POST", {}, 503, 1),
        ("PATCH", {}, 503, 1),
        ("BREW", {}, 503, 1),
        ("POST", KEY, 503, 3),
        ("PATCH", KEY, 503, 3),
        ("POST", {"Idempotency-Key": ""}, 503, 1),
        ("POST", {}, 429, 3),
    ],
)
def test_a_request_says_by_method_and_key_whether_it_may_be_repeated(
    world: World, method: str, headers: dict[str, str], status: int, attempts: int
) -> None:
    server = answers(world, status)
    [response] = world.ask(world.transport(policy_of(world), server), (method, HERE, {"headers": headers}))
    assert (response.status_code, len(server.requests)) == (status, attempts)


@pytest.mark.usefixtures("waits")
def test_the_header_of_the_key_can_be_another(world: World) -> None:
    server = answers(world, 503)
    transport = world.transport(policy_of(world), server, key_header="X-Request-Key")
    world.ask(transport, ("POST", HERE, {"headers": KEY}), ("POST", HERE, {"headers": {"X-Request-Key": "7f3a"}}))
    assert len(server.requests) == 1 + 3


@pytest.mark.usefixtures("waits")
def test_what_was_never_sent_is_repeated_whatever_it_does(world: World) -> None:
    server = Server(world.library.ConnectError("refused"), lambda: world.library.Response(201))
    [response] = world.ask(world.transport(policy_of(world), server), ("POST", HERE, {"json": {"sku": "TEA"}}))
    assert (response.status_code, len(server.requests)) == (201, 2)


@pytest.mark.usefixtures("waits")
def test_an_order_whose_connection_broke_is_not_sent_again(world: World) -> None:
    server = Server(world.library.ReadError("reset"))
    [error] = world.ask(world.transport(policy_of(world), server), ("POST", HERE))
    assert isinstance(error, world.library.ReadError)
    assert len(server.requests) == 1


@pytest.mark.usefixtures("waits")
def test_errors_that_were_not_named_are_raised_at_once(world: World) -> None:
    server = Server(ValueError("a mistake"))
    [error] = world.ask(world.transport(policy_of(world), server), ("GET", HERE))
    assert isinstance(error, ValueError)
    assert len(server.requests) == 1


# --- bodies of requests -------------------------------------------------------------------------


@pytest.mark.usefixtures("waits")
def test_a_body_held_as_bytes_is_sent_whole_each_time(world: World) -> None:
    server = answers(world, 503)
    world.ask(world.transport(policy_of(world), server), ("PUT", HERE, {"content": b"two teas"}))
    assert [request.content for request in server.requests] == [b"two teas"] * 3


@pytest.mark.usefixtures("waits")
def test_a_generator_body_is_never_replayed_empty(world: World) -> None:
    told: list[PolicyEvent] = []
    server = answers(world, 503)
    transport = world.transport(policy_of(world, listeners=[told.append]), server)
    [response] = world.ask(transport, ("PUT", HERE, {"content": world.streamed(b"two ", b"teas")}))
    assert response.status_code == 503
    assert [request.content for request in server.requests] == [b"two teas"]
    assert [(event.reason, event.attempt) for event in told if isinstance(event, RetryGivenUp)] == [("attempts", 1)]


@pytest.mark.usefixtures("waits")
def test_an_error_says_that_a_generator_body_kept_it_from_being_retried(world: World) -> None:
    server = Server(world.library.ReadError("reset"))
    transport = world.transport(policy_of(world), server)
    [error] = world.ask(transport, ("PUT", HERE, {"content": world.streamed(b"two teas")}))
    assert isinstance(error, world.library.ReadError)
    assert "which can be sent only once" in error.__notes__[0]
    [other] = world.ask(transport, ("PUT", HERE, {"content": b"two teas"}))
    assert not hasattr(other, "__notes__") or other.__notes__ == error.__notes__


def test_the_request_of_the_caller_stays_as_it_is(world: World) -> None:
    def meddle(request: Any) -> Any:
        request.headers["x-meddled"] = "yes"
        request.extensions["meddled"] = True
        return world.library.Response(200)

    transport = world.transport(policy_of(world, Deadline(5)), meddle)
    [response] = world.ask(transport, ("GET", HERE, {"extensions": {"trace": None}}), timeout=30.0)
    assert "x-meddled" not in response.request.headers
    assert set(response.request.extensions) == {"trace", "timeout"}
    assert response.request.extensions["timeout"]["read"] == 30.0


# --- origins ------------------------------------------------------------------------------------


def test_each_origin_has_a_circuit_of_its_own(world: World) -> None:
    def answer(request: Any) -> Any:
        return world.library.Response(500 if request.url.host == "sick.example" else 200)

    transport = world.transport(Policy(CircuitBreaker("all", ConsecutiveFailures(1))), answer)
    outcomes = world.ask(
        transport,
        ("GET", "https://sick.example/a"),
        ("GET", "https://well.example/a"),
        ("POST", "https://user:secret@SICK.example:443/other?token=secret"),
        ("GET", "http://sick.example/a"),
        ("GET", "https://sick.example:8443/a"),
    )
    assert [getattr(outcome, "status_code", "rejected") for outcome in outcomes] == [500, 200, "rejected", 500, 500]
    assert outcomes[2].policy == "all:https://sick.example:443"
    assert "secret" not in str(outcomes[2])


def test_a_circuit_that_is_forced_open_holds_back_every_origin_until_it_is_reset(world: World) -> None:
    server = answers(world, 200)
    breaker = CircuitBreaker("shop")
    transport = world.transport(Policy(breaker, operation=Operation.SAFE), server)
    met, new = ("GET", "https://met.example/"), ("GET", "https://new.example/")
    world.ask(transport, met)
    breaker.force_open()
    assert [type(outcome).__name__ for outcome in world.ask(transport, met, new)] == ["CircuitOpen", "CircuitOpen"]
    breaker.reset()
    assert [outcome.status_code for outcome in world.ask(transport, met, new)] == [200, 200]


def test_the_policies_of_the_origins_can_be_looked_at_and_reset_together(world: World) -> None:
    breaker = CircuitBreaker("shop", ConsecutiveFailures(1))
    transport = world.transport(Policy(breaker, operation=Operation.SAFE), answers(world, 503))
    world.ask(transport, ("GET", "https://down.example/"))
    [(origin, policy)] = transport.policies
    [its_own] = policy.layers
    assert (origin, its_own.state) == ("https://down.example:443", CircuitState.OPEN)
    breaker.reset()
    assert its_own.state is CircuitState.CLOSED


def test_the_origin_of_an_address_has_its_brackets(world: World) -> None:
    transport = world.transport(Policy(CircuitBreaker("all", ConsecutiveFailures(1))), answers(world, 500))
    *_, error = world.ask(transport, *[("GET", "http://[::1]/a")] * 2)
    assert error.policy == "all:http://[::1]:80"


def test_only_so_many_origins_are_kept(world: World) -> None:
    transport = world.transport(Policy(CircuitBreaker("all", ConsecutiveFailures(2))), answers(world, 500), origins=2)
    hosts = ["a", "b", "c", "a"]
    outcomes = world.ask(transport, *[("GET", f"https://{host}.example/") for host in hosts])
    # Had it been kept, this would have been its second failure.
    assert [outcome.status_code for outcome in outcomes] == [500] * 4
    assert world.ask(transport, ("GET", "https://a.example/"))[0].status_code == 500


@pytest.mark.usefixtures("waits")
def test_an_origin_that_is_slow_takes_the_places_of_no_other(world: World) -> None:
    outcomes: list[Any] = []

    def answer(request: Any) -> Any:
        if request.url.host == "slow.example":
            ask = lambda *calls: outcomes.extend(world.ask(transport, *calls))  # noqa: E731
            thread = threading.Thread(target=ask, args=[("GET", "https://other.example/")])
            thread.start()
            thread.join()
        return world.library.Response(200)

    transport = world.transport(Policy(Bulkhead(1), RateLimit("2/minute")), answer)
    world.ask(transport, ("GET", "https://slow.example/"))
    assert [outcome.status_code for outcome in outcomes] == [200]


def test_origins_share_no_rate(world: World) -> None:
    transport = world.transport(Policy(RateLimit("1/minute")), answers(world, 200))
    calls = [("GET", f"https://{name}.example/") for name in ("a", "b", "a")]
    assert [type(outcome).__name__ for outcome in world.ask(transport, *calls)] == [
        "Response",
        "Response",
        "RateLimited",
    ]


def test_each_origin_has_a_budget_of_its_own(world: World) -> None:
    server = answers(world, 503)
    policy = policy_of(world, budget=RetryBudget(14))
    world.ask(world.transport(policy, server), *[("GET", f"https://{host}.example/") for host in ("a", "a", "b")])
    assert len(server.requests) == 2 + 1 + 2


# --- errors -------------------------------------------------------------------------------------


def test_a_rejection_is_caught_as_ours_and_as_the_library_s(world: World) -> None:
    transport = world.transport(Policy(CircuitBreaker("shop", ConsecutiveFailures(1))), answers(world, 500))
    _, error = world.ask(transport, *[("GET", HERE)] * 2)
    assert isinstance(error, CircuitOpen)
    assert isinstance(error, world.library.TransportError)
    assert not isinstance(error, world.library.TimeoutException)
    assert (error.code, error.policy) == ("circuit_open", "shop:https://shop.example:443")
    assert 0 < error.retry_after <= 30
    assert str(error) == error.message
    assert str(error.request.url) == HERE
    assert type(error).__name__ == "CircuitOpen"


def test_a_rejection_crosses_processes(world: World) -> None:
    transport = world.transport(Policy(CircuitBreaker("shop", ConsecutiveFailures(1))), answers(world, 500))
    _, error = world.ask(transport, *[("GET", HERE)] * 2)
    revived = pickle.loads(pickle.dumps(error))
    assert type(revived) is type(error)
    assert (str(revived), revived.retry_after) == (str(error), error.retry_after)
    with pytest.raises(RuntimeError):
        _ = revived.request


def test_the_class_of_a_rejection_is_always_the_same(world: World) -> None:
    transport = world.transport(Policy(CircuitBreaker("shop", ConsecutiveFailures(1))), answers(world, 500))
    _, first, second = world.ask(transport, *[("GET", HERE)] * 3)
    assert type(first) is type(second)
    assert first is not second


@pytest.mark.usefixtures("waits")
def test_an_open_circuit_is_not_retried_although_it_is_a_transport_error(world: World) -> None:
    server = Server(world.library.ConnectError("refused"))
    transport = world.transport(policy_of(world, CircuitBreaker("shop", ConsecutiveFailures(1))), server)
    [error] = world.ask(transport, ("GET", HERE))
    assert isinstance(error, CircuitOpen)
    assert len(server.requests) == 1


def test_a_full_bulkhead_is_a_transport_error(world: World) -> None:
    inner: list[Any] = []

    def answer(_request: Any) -> Any:
        if not inner:
            inner.append(None)
            # Another client in the middle of this request, with the same transport.
            thread = threading.Thread(target=lambda: inner.extend(world.ask(another, ("GET", HERE))))
            thread.start()
            thread.join()
        return world.library.Response(200)

    another = world.transport(Policy(Bulkhead(1)), answer)
    [response] = world.ask(another, ("GET", HERE))
    assert response.status_code == 200
    assert isinstance(inner[1], BulkheadFull)
    assert isinstance(inner[1], world.library.TransportError)


def test_a_deadline_that_is_over_before_is_a_time_out_of_the_library(world: World) -> None:
    transport = world.transport(policy_of(world), answers(world, 200))
    now = [0.0]
    with replaced(Conditions(monotonic=lambda: now[0])), Policy(Deadline(1)):
        now[0] = 2.0
        assert time_left() == 0.0
        policy = Policy(Deadline(1))
        [error] = world.ask(world.transport(policy, answers(world, 200)), ("GET", HERE))
    assert isinstance(error, DeadlineExceeded)
    assert isinstance(error, world.library.TimeoutException)
    assert isinstance(error, TimeoutError)
    assert error.sent is False
    assert str(error) == error.message
    assert transport is not None


# --- time ---------------------------------------------------------------------------------------


def timeouts_seen(world: World, policy: Policy, timeout: Any) -> dict[str, float | None]:
    seen: list[Any] = []

    def answer(request: Any) -> Any:
        timeouts = request.extensions["timeout"]
        assert {phase: timeouts.get(phase) for phase in timeouts} == dict(timeouts)
        assert timeouts.get("unknown", timeouts["read"]) == timeouts["read"]
        seen.append(dict(timeouts))
        return world.library.Response(200)

    with replaced(Conditions(monotonic=lambda: 100.0)):
        [response] = world.ask(world.transport(policy, answer), ("GET", HERE), timeout=timeout)
    assert response.status_code == 200
    [found] = seen
    return dict(found)


def test_time_outs_are_lowered_to_what_is_left_and_never_raised(world: World) -> None:
    timeout = world.library.Timeout(30.0, connect=1.0, pool=None)
    policy = policy_of(world, Deadline(10), AttemptTimeout(2))
    assert timeouts_seen(world, policy, timeout) == {"connect": 1.0, "read": 2.0, "write": 2.0, "pool": 2.0}


def test_without_a_deadline_the_time_outs_stay_as_they_are(world: World) -> None:
    timeout = world.library.Timeout(30.0, pool=None)
    policy = policy_of(world)
    assert timeouts_seen(world, policy, timeout) == {"connect": 30.0, "read": 30.0, "write": 30.0, "pool": None}


def test_the_deadline_around_a_request_counts(world: World) -> None:
    with replaced(Conditions(monotonic=lambda: 100.0)), Policy(Deadline(3)):
        policy = policy_of(world)
        assert timeouts_seen(world, policy, None)["read"] == 3.0


@pytest.mark.usefixtures("waits")
def test_a_time_out_that_is_the_attempt_s_is_raised_as_that_and_stays_what_it_was(world: World) -> None:
    told: list[PolicyEvent] = []
    now = [100.0]

    def hang(_request: Any) -> Any:
        now[0] += 2.0
        raise world.library.ConnectTimeout("timed out")

    with replaced(Conditions(monotonic=lambda: now[0], pause=lambda _seconds: None)):
        policy = policy_of(world, CircuitBreaker("shop"), AttemptTimeout(2), attempts=2, listeners=[told.append])
        [error] = world.ask(world.transport(policy, hang), ("POST", HERE))
    assert isinstance(error, DeadlineExceeded)
    assert isinstance(error, world.library.ConnectTimeout)
    assert (error.seconds, str(error.request.url)) == (2, HERE)
    assert isinstance(error.__cause__, world.library.ConnectTimeout)
    assert [type(event) for event in told] == [TimedOut, RetryScheduled, TimedOut, RetryGivenUp]


def test_a_time_out_of_the_client_s_own_stays_one(world: World) -> None:
    server = Server(world.library.ReadTimeout("timed out"))
    [error] = world.ask(world.transport(policy_of(world, Deadline(10), attempts=1), server), ("GET", HERE))
    assert type(error) is world.library.ReadTimeout


def test_a_body_that_drips_past_the_deadline_is_cut_off(world: World) -> None:
    told: list[PolicyEvent] = []
    now = [100.0]

    def tick(part: bytes) -> bytes:
        now[0] += 0.2
        return part

    def drip() -> Iterator[bytes]:
        yield from (tick(b".") for _ in range(100))

    async def drip_asynchronously() -> AsyncIterator[bytes]:
        for part in drip():
            yield part

    def answer(_request: Any) -> Any:
        return world.library.Response(200, content=drip_asynchronously() if world.is_async else drip())

    with replaced(Conditions(monotonic=lambda: now[0])):
        policy = policy_of(world, Deadline(0.5), listeners=[told.append])
        [error] = world.ask(world.transport(policy, answer), ("GET", HERE))
    assert isinstance(error, DeadlineExceeded)
    assert isinstance(error, world.library.TimeoutException)
    assert now[0] == pytest.approx(100.6)
    assert told == [TimedOut(policy="policy:https://shop.example:443", layer="deadline", seconds=0.5)]


def test_an_attempt_that_was_cut_off_is_retried_as_the_transport_error_it_is() -> None:
    attempts: list[Any] = []

    async def answer(request: Any) -> Any:
        attempts.append(request)
        if len(attempts) == 1:
            await asyncio.sleep(60)
        return httpx.Response(200)

    world = WORLDS["httpx-loop"]
    policy = policy_of(world, AttemptTimeout(0.05), backoff=Backoff(base=0.0))
    [response] = world.ask(world.transport(policy, answer), ("GET", HERE))
    assert (response.status_code, len(attempts)) == (200, 2)


# --- what is closed -----------------------------------------------------------------------------


def closing_body(world: World, closed: list[str], name: str, *parts: bytes) -> Any:
    class Stream(world.library.SyncByteStream, world.library.AsyncByteStream):  # type: ignore[misc,name-defined]
        def __iter__(self) -> Iterator[bytes]:
            return iter(parts)

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for part in parts:
                yield part

        def close(self) -> None:
            closed.append(name)

        async def aclose(self) -> None:
            closed.append(name)

    return Stream()


def test_the_response_of_a_failed_attempt_is_closed_before_the_wait(world: World) -> None:
    closed: list[str] = []
    order: list[list[str]] = []
    server = Server(
        lambda: world.library.Response(503, stream=closing_body(world, closed, "failed", b"x")),
        lambda: world.library.Response(200, stream=closing_body(world, closed, "good", b"y")),
    )
    with replaced(Conditions(pause=lambda _seconds: order.append(list(closed)))):
        [response] = world.ask(world.transport(policy_of(world), server), ("GET", HERE))
    assert response.content == b"y"
    assert order == [["failed"]]
    assert "good" in closed


@pytest.mark.usefixtures("waits")
def test_a_long_failed_response_is_closed_before_the_next_attempt(world: World) -> None:
    closed: list[str] = []

    def second() -> Any:
        assert closed == ["failed"]
        return world.library.Response(200)

    stream = closing_body(world, closed, "failed", *[b"x" * 40_000] * 4)
    server = Server(lambda: world.library.Response(503, stream=stream), second)
    [response] = world.ask(world.transport(policy_of(world), server), ("GET", HERE))
    assert response.status_code == 200


def test_a_failed_response_that_is_replaced_by_a_fallback_is_closed(world: World) -> None:
    closed: list[str] = []
    stream = closing_body(world, closed, "failed", *[b"x" * 40_000] * 4)
    policy = Policy(Fallback(lambda _error: world.library.Response(200), on=world.library.HTTPStatusError))
    [response] = world.ask(
        world.transport(policy, Server(lambda: world.library.Response(500, stream=stream))), ("GET", HERE)
    )
    assert response.status_code == 200
    assert closed


def test_closing_and_entering_pass_to_the_transport_that_sends(world: World) -> None:
    told: list[str] = []

    class Inner(world.library.BaseTransport, world.library.AsyncBaseTransport):  # type: ignore[misc,name-defined]
        def __enter__(self) -> Any:
            told.append("entered")
            return self

        async def __aenter__(self) -> Any:
            told.append("entered")
            return self

        def close(self) -> None:
            told.append("closed")

        async def aclose(self) -> None:
            told.append("closed")

    async def use() -> None:
        async with world.ours.AsyncResilientTransport(Policy(), Inner()) as transport:
            assert isinstance(transport, world.ours.AsyncResilientTransport)
        await transport.aclose()

    if world.is_async:
        asyncio.run(use())
    else:
        with world.ours.ResilientTransport(Policy(), Inner()) as transport:
            assert isinstance(transport, world.ours.ResilientTransport)
        transport.close()
    assert told == ["entered", "closed", "closed"]


# --- streams to the caller ----------------------------------------------------------------------


def test_a_stream_to_the_caller_is_not_read_before_the_caller_does(world: World) -> None:
    read: list[int] = []

    def parts() -> Iterator[bytes]:
        for number in range(3):
            read.append(number)
            yield b"."

    async def parts_asynchronously() -> AsyncIterator[bytes]:
        for part in parts():
            yield part

    def answer(_request: Any) -> Any:
        return world.library.Response(200, content=parts_asynchronously() if world.is_async else parts())

    policy = policy_of(world, Deadline(10))
    transport = world.transport(policy, answer)

    async def stream() -> None:
        async with world.library.AsyncClient(transport=transport) as client, client.stream("GET", HERE) as response:
            assert read == []
            assert [part async for part in response.aiter_raw()] == [b"."] * 3

    if world.is_async:
        asyncio.run(stream())
    else:
        with world.library.Client(transport=transport) as client, client.stream("GET", HERE) as response:
            assert read == []
            assert list(response.iter_raw()) == [b"."] * 3
    assert read == [0, 1, 2]


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_stream_that_the_caller_leaves_is_ended_at_once(name: str) -> None:
    world = WORLDS[f"{name}-loop"]
    ended: list[str] = []

    async def parts() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            yield b"second"
        finally:
            ended.append("not by the garbage collector")

    class Parts(world.library.AsyncByteStream):  # type: ignore[misc,name-defined]
        def __aiter__(self) -> AsyncIterator[bytes]:
            return parts()

    async def leave() -> None:
        transport = world.transport(Policy(Deadline(10)), lambda _request: world.library.Response(200, stream=Parts()))
        async with world.library.AsyncClient(transport=transport) as client, client.stream("GET", HERE) as response:
            chunks = response.aiter_raw()
            assert await anext(chunks) == b"first"
            await response.aclose()
            assert ended

    asyncio.run(leave())


# --- hedges -------------------------------------------------------------------------------------


def test_a_hedge_is_for_reads_and_other_requests_go_without(world: World) -> None:
    server = answers(world, 200)
    policy = Policy(Hedge(0.01), operation=Operation.SAFE)
    [read, written] = world.ask(world.transport(policy, server), ("GET", HERE), ("POST", HERE))
    assert (read.status_code, written.status_code) == (200, 200)


def test_the_response_of_a_hedge_that_lost_is_closed_whenever_it_comes() -> None:
    world = WORLDS["httpx-thread"]
    closed: list[str] = []
    won, late = threading.Event(), threading.Event()
    numbers = iter(range(2))

    def answer(_request: Any) -> Any:
        first = next(numbers) == 0
        if first:
            won.wait(10)
        name = "lost" if first else "won"
        return httpx.Response(200, stream=Watched(name))

    class Watched(httpx.SyncByteStream):
        def __init__(self, name: str) -> None:
            self.name = name

        def __iter__(self) -> Iterator[bytes]:
            yield self.name.encode()

        def close(self) -> None:
            closed.append(self.name)
            if self.name == "lost":
                late.set()

    policy = Policy(Hedge(0.01), operation=Operation.SAFE)
    [response] = world.ask(world.transport(policy, answer), ("GET", HERE))
    assert response.content == b"won"
    won.set()
    assert late.wait(10)


# --- policies -----------------------------------------------------------------------------------


def test_what_cannot_be_the_policy_of_a_transport_is_refused_when_it_is_built(world: World) -> None:
    class Cache(Layer):
        rank = Rank.CACHE
        kind = "cache"

        async def around(self, invocation: Any, inner: Any) -> Any:
            return await inner(invocation)

        def settings(self) -> dict[str, object]:
            return {}

    with pytest.raises(InvalidPolicy, match="same response"):
        world.transport(Policy(Cache()), Server())
    with pytest.raises(InvalidPolicy, match="is given a `Policy`"):
        world.transport(Retry(on=OSError), Server())  # type: ignore[arg-type]
    assert issubclass(InvalidPolicy, OrderKitError)


# --- cancellation -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_cancellation_passes_unchanged_and_closes_what_is_open(name: str) -> None:
    world = World(*LIBRARIES[name], True)
    closed: list[str] = []

    async def stall() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(60)

    class Stalling(world.library.AsyncByteStream):  # type: ignore[misc,name-defined]
        def __aiter__(self) -> AsyncIterator[bytes]:
            return stall()

        async def aclose(self) -> None:
            closed.append("failed")

    async def scenario() -> None:
        breaker = CircuitBreaker("shop", ConsecutiveFailures(1))
        policy = policy_of(world, Deadline(30), breaker)
        transport = world.transport(policy, lambda _request: world.library.Response(503, stream=Stalling()))
        async with world.library.AsyncClient(transport=transport) as client:
            task = asyncio.create_task(client.get(HERE))
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(scenario())
    assert closed == ["failed"]


def test_the_transports_of_both_libraries_differ_in_nothing_but_its_name() -> None:
    of_httpx, of_httpx2 = (
        Path(str(ours.__file__)).read_text(encoding="utf-8") for _, ours in (LIBRARIES["httpx"], LIBRARIES["httpx2"])
    )
    assert of_httpx2.replace("httpx2", "httpx") == of_httpx
