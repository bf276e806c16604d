"""A repeated request is answered as the first one was, and the application does it once."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orderkit.http.idempotency import KEPT_HEADERS
from orderkit.idempotency.leases import OPERATIONS
from orderkit.testing.clock import ManualClock
from tests.integration.kit.places import Place, new_tenant, race
from tests.integration.web.conftest import EMBEDDED, Serve
from tests.integration.web.worlds import PLAIN, Answered, Client, Request, Shop, problem_of

embedded = pytest.mark.parametrize("place", EMBEDDED, indirect=True)

WAITING = 30.0
"""Seconds that a test waits for another thread on a busy machine."""


def stored(place: Place, tenant: str) -> str:
    """Return everything that is kept of a tenant's requests, as text."""
    if place.shell.startswith("memory"):
        return json.dumps([list(map(str, row)) for row in place.memory.rows(OPERATIONS, tenant)])
    table = "orderkit_idempotent_operations"
    found = place.query(f"SELECT * FROM {table} WHERE tenant = {place.placeholder}", tenant)
    return json.dumps([{name: str(value) for name, value in row.items()} for row in found])


# --- repeating ------------------------------------------------------------------------------------


def test_a_repeated_request_is_answered_as_the_first_was(serve: Serve, order: Request) -> None:
    headers = [*PLAIN, ("location", "/orders/7"), ("etag", '"1"'), ("link", "<a>"), ("link", "<b>")]
    shop = Shop(Answered(201, headers, b"call #"))
    client = serve(shop)
    first, *later = [client.send(order) for _ in range(3)]
    assert (first.status, first.headers, first.body, first.replayed) == (201, headers, b"call 1", False)
    for answer in later:
        assert (answer.status, answer.body, answer.replayed) == (201, b"call 1", True)
        assert answer.headers == [*headers, ("content-length", "6"), ("idempotent-replayed", "true")]
    assert shop.calls == 1


def test_the_application_gets_the_request_as_it_came(serve: Serve, order: Request) -> None:
    shop = Shop()
    asked = attrs.evolve(order, body=bytes(range(256)), path="/a/é", query="b=c&d")
    serve(shop).send(asked)
    (got,) = shop.asked
    assert (got.body, got.path, got.query, got.method) == (asked.body, asked.path, asked.query, "POST")


def test_another_kit_over_the_same_storage_replays_too(serve: Serve, order: Request) -> None:
    shop = Shop(Answered(body=b"call #"))
    assert [serve(shop).send(order).body for _ in range(2)] == [b"call 1", b"call 1"]


@pytest.mark.parametrize(
    "changed",
    [{"body": b'{"sku": "TEA-002"}'}, {"path": "/returns"}, {"query": "express=1"}, {"method": "PATCH"}, {"body": b""}],
    ids=str,
)
def test_another_request_under_a_used_key_is_refused_and_told_nothing(
    serve: Serve, order: Request, changed: dict[str, object]
) -> None:
    shop = Shop(Answered(body=b"the answer"))
    client = serve(shop)
    client.send(order)
    answer = client.send(attrs.evolve(order, **changed))  # type: ignore[arg-type]
    problem_of(answer, 422, "idempotency_mismatch")
    told = answer.body + repr(answer.headers).encode()
    assert not any(word in told for word in (b"checkout-7f3a", b"TEA-001", b"/orders", b"the answer"))
    assert shop.calls == 1
    assert client.send(order).replayed


def test_tenants_have_keys_of_their_own(serve: Serve, order: Request, other: Request) -> None:
    shop = Shop(Answered(body=b"call #"))
    client = serve(shop)
    assert [client.send(each).body for each in (order, other, order, other)] == [
        b"call 1",
        b"call 2",
        b"call 1",
        b"call 2",
    ]


@embedded
def test_nothing_in_a_request_chooses_its_tenant(serve: Serve, order: Request, other: Request) -> None:
    shop = Shop(Answered(body=b"call #"))
    client = serve(shop)
    client.send(order)
    posing = attrs.evolve(
        other,
        headers=[*other.headers, ("x-tenant", order.tenant), ("tenant", order.tenant), ("host", order.tenant)],
    )
    assert client.send(posing).body == b"call 2"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
@embedded
def test_requests_that_may_be_repeated_anyway_are_left_alone(serve: Serve, order: Request, method: str) -> None:
    shop = Shop(Answered(200, PLAIN, b"" if method == "HEAD" else b"call #"))
    client = serve(shop, required=True)
    asked = attrs.evolve(order, method=method, body=b"" if method in {"GET", "HEAD"} else order.body)
    assert not any(client.send(asked).replayed for _ in range(2))
    assert shop.calls == 2


@embedded
def test_other_methods_can_be_named(serve: Serve, order: Request) -> None:
    client = serve(Shop(), methods={"put"})
    put = attrs.evolve(order, method="PUT")
    assert [client.send(put).replayed for _ in range(2)] == [False, True]


# --- keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [["a b"], ['""'], [""], ['"é"'], ["é"], ['"' + "k" * 256 + '"'], ["k" * 256], ['"a', "a"], ["a, b"], ["a", "b"]],
    ids=ascii,
)
@embedded
def test_a_malformed_key_is_refused(serve: Serve, order: Request, keys: list[str]) -> None:
    shop = Shop()
    problem = problem_of(serve(shop).send(order.under(*keys)), 400, "invalid_key")
    assert "k" * 255 not in problem["detail"]
    assert not shop.calls


@embedded
def test_a_missing_key_is_refused_where_it_is_required(serve: Serve, order: Request) -> None:
    shop = Shop()
    problem_of(serve(shop, required=True).send(order.under()), 400, "invalid_key")
    assert not shop.calls


@embedded
def test_without_a_key_a_request_is_done_as_often_as_it_comes(serve: Serve, order: Request) -> None:
    shop = Shop()
    client = serve(shop)
    assert not any(client.send(order.under()).replayed for _ in range(2))
    assert shop.calls == 2


@embedded
def test_a_key_is_the_same_in_quotes_and_without(serve: Serve, order: Request) -> None:
    client = serve(Shop())
    assert [client.send(order.under(key)).replayed for key in ("abc", '"abc"', ' "abc" ')] == [False, True, True]


# --- what is kept ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 202, 204, 303, 304, 400, 404, 410, 422, 451])
@embedded
def test_an_answer_that_asking_again_would_not_mend_is_kept(serve: Serve, order: Request, status: int) -> None:
    bodiless = status in {204, 304}
    shop = Shop(Answered(status, () if bodiless else PLAIN, b"" if bodiless else b"call #"))
    client = serve(shop)
    first, second = client.send(order), client.send(order)
    assert (second.status, second.body, second.replayed) == (status, first.body, True)
    # RFC 9110, section 8.6: one that cannot have a body says nothing of its length.
    assert (second["content-length"] is None) is bodiless
    assert shop.calls == 1


@pytest.mark.parametrize("status", [401, 403, 408, 409, 425, 429, 500, 502, 503, 504, 599])
@embedded
def test_an_answer_that_asking_again_may_mend_frees_the_key(serve: Serve, order: Request, status: int) -> None:
    shop = Shop(Answered(status, [*PLAIN, ("retry-after", "1")], b"call #"))
    client = serve(shop)
    for number in range(1, 3):
        answer = client.send(order)
        assert (answer.status, answer.body, answer["retry-after"]) == (status, b"call %d" % number, "1")
    shop.answer = Answered(body=b"call #")
    # With the key even another request is the first now.
    changed = attrs.evolve(order, body=b"changed")
    assert [client.send(changed).body for _ in range(2)] == [b"call 3", b"call 3"]


def test_what_is_personal_or_of_one_session_is_not_kept(place: Place, serve: Serve, order: Request) -> None:
    secret = [("set-cookie", "a=cookie-1"), ("set-cookie", "b=cookie-2"), ("authorization", "Bearer token-3")]
    shop = Shop(Answered(201, [*PLAIN, *secret, ("x-request-id", "trace-4"), ("date", "today-5")], b"done"))
    client = serve(shop)
    asked = attrs.evolve(
        order,
        body=b'{"email": "ada@example.com"}',
        path="/customers/lovelace",
        query="phone=555-1234",
        headers=[*order.headers, ("cookie", "session-6"), ("authorization", "Bearer token-7")],
    )
    first, second = client.send(asked), client.send(asked)
    assert [pair for pair in first.headers if pair in secret] == secret
    assert {name for name, _ in second.headers} == {"content-type", "content-length", "idempotent-replayed"}
    kept = stored(place, order.tenant)
    assert "checkout-7f3a" in kept
    secrets = ["lovelace", "@example", "555-1234", "cookie-1", "cookie-2", "token-3", "trace-4", "today-5", "session-6"]
    assert not [word for word in secrets if word in kept]


@pytest.mark.parametrize("size", [65_536, 300_000])
def test_large_answers_come_back_whole(serve: Serve, order: Request, size: int) -> None:
    client = serve(Shop(Answered(200, PLAIN, bytes(index * 7 % 256 for index in range(size)))))
    first, second = client.send(order), client.send(order)
    assert second.replayed
    assert first.body == second.body
    assert len(first.body) == size


VISIBLE = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f").filter(
        lambda c: c >= "\xa0" or c < "\x7f"
    ),
    max_size=30,
)


@embedded
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(
    status=st.integers(200, 499).filter(lambda status: status not in {204, 304, 401, 403, 407, 408, 409, 425, 429}),
    body=st.binary(max_size=2000),
    kept=st.lists(st.tuples(st.sampled_from(sorted(KEPT_HEADERS - {"content-type"})), VISIBLE), max_size=4),
    asked=st.binary(max_size=2000),
)
def test_answers_come_back_byte_for_byte(
    serve: Serve, status: int, body: bytes, kept: list[tuple[str, str]], asked: bytes
) -> None:
    headers = [("content-type", "application/octet-stream"), *kept]
    shop = Shop(lambda _: Answered(status, headers, body))
    client = serve(shop)
    request = Request(new_tenant(), asked)
    first, second = client.send(request), client.send(request)
    assert (first.status, first.headers, first.body) == (status, headers, body)
    assert (second.status, second.headers[: len(headers)], second.body, second.replayed) == (
        status,
        headers,
        body,
        True,
    )
    assert [one.body for one in shop.asked] == [asked]


@embedded
def test_an_answer_is_kept_for_the_time_it_was_told(serve: Serve, order: Request, clock: ManualClock) -> None:
    shop = Shop(Answered(body=b"call #"))
    client = serve(shop, {"clock": clock}, retention=86_400.0)
    assert client.send(order).body == b"call 1"
    clock.advance(86_399)
    assert client.send(order).body == b"call 1"
    clock.advance(1)
    assert client.send(order).body == b"call 2"


@embedded
def test_a_body_that_is_too_large_is_refused_unread(serve: Serve, order: Request) -> None:
    shop = Shop()
    client = serve(shop, max_body=100)
    problem_of(client.send(attrs.evolve(order, body=b"x" * 101)), 413, "body_too_large")
    assert not shop.calls
    assert client.send(attrs.evolve(order, body=b"x" * 100)).status == 201


# --- at the same time -----------------------------------------------------------------------------


class Slow:
    """An application that is at work until it is told to be done."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.calls = 0

    def __call__(self, _request: Request) -> Answered:
        self.calls += 1
        self.begun.set()
        assert self.go_on.wait(WAITING)
        return Answered(body=b"done in the end")


def beside(client: Client, slow: Slow, request: Request, act: Callable[[], object]) -> Answered:
    """Do something while the application is at work on a request; return its answer."""
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.send, request)
        try:
            assert slow.begun.wait(WAITING)
            act()
        finally:
            slow.go_on.set()
        return first.result(WAITING)


def test_a_repetition_of_a_request_under_way_is_told_to_come_again(serve: Serve, order: Request) -> None:
    slow = Slow()
    client = serve(slow, wait=0.0)

    def repeat() -> None:
        answer = client.send(order)
        problem_of(answer, 409, "idempotency_in_flight")
        assert b"checkout-7f3a" not in answer.body
        assert int(answer["retry-after"] or 0) >= 1

    assert beside(client, slow, order, repeat).body == b"done in the end"
    assert client.send(order).replayed
    assert slow.calls == 1


@embedded
def test_a_repetition_waits_for_the_first_to_end(serve: Serve, order: Request) -> None:
    slow = Slow()
    client = serve(slow, wait=WAITING)
    with ThreadPoolExecutor(1) as pool:
        waiting = []

        def repeat() -> None:
            waiting.append(pool.submit(client.send, order))
            with pytest.raises(TimeoutError):
                waiting[0].result(0.1)

        first = beside(client, slow, order, repeat)
        second = waiting[0].result(WAITING)
    assert (first.replayed, second.replayed, second.body) == (False, True, first.body)
    assert slow.calls == 1


def test_another_request_under_the_key_is_refused_while_the_first_is_under_way(serve: Serve, order: Request) -> None:
    slow = Slow()
    client = serve(slow)
    changed = attrs.evolve(order, body=b"other")
    beside(client, slow, order, lambda: problem_of(client.send(changed), 422, "idempotency_mismatch"))


def test_of_many_at_once_the_application_sees_one(serve: Serve, order: Request) -> None:
    shop = Shop(Answered(body=b"call #"))
    client = serve(shop, wait=WAITING)
    client.send(order.under("a-key-before"))  # so that tables are there
    answers = race(32, lambda _: client.send(order))
    assert shop.calls == 2
    assert Counter((answer.status, answer.body, answer.replayed) for answer in answers) == {
        (201, b"call 2", False): 1,
        (201, b"call 2", True): 31,
    }
