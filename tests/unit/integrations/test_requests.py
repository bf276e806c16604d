"""Which request one is, what is kept of its answer, and which rules cannot be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderkit import AsyncOrderKit, OrderKit
from orderkit.errors import (
    CommitUnknown,
    ConfigurationError,
    InvalidKey,
    LeaseLost,
    OrderKitError,
    Refused,
    StorageUnavailable,
)
from orderkit.http.idempotency import KEPT_HEADERS
from orderkit.integrations import asgi, wsgi
from orderkit.integrations.requests import Response, Rules, checked_tenant, failed, request_of

# Few letters, so that parts of different requests look alike; a server decodes %00 to the last one.
PARTS = st.text(st.sampled_from("a/b\0"), max_size=4)
REQUESTS = st.tuples(st.sampled_from(["POST", "PATCH"]), PARTS, PARTS, PARTS.map(str.encode))


@given(REQUESTS, REQUESTS)
def test_two_requests_are_the_same_if_all_their_parts_are(
    one: tuple[str, str, str, bytes], other: tuple[str, str, str, bytes]
) -> None:
    assert (request_of(*one) == request_of(*other)) is (one == other)


@given(REQUESTS)
def test_the_end_of_one_part_is_never_the_beginning_of_the_next(one: tuple[str, str, str, bytes]) -> None:
    method, path, query, body = one
    moved = (method, f"{path}\0{query}", "", body)
    assert (request_of(*one) == request_of(*moved)) is (one == moved)


def test_a_request_is_known_whatever_a_server_makes_of_its_path() -> None:
    assert request_of("POST", "/\udcff", "", b"") != request_of("POST", "/\udcfe", "", b"")
    assert request_of("post", "/a", "", b"") == request_of("POST", "/a", "", b"")


NAMES = [*sorted(KEPT_HEADERS), "Content-Type", "ETag", "Set-Cookie", "authorization", "date", "X-Odd"]
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            [*sorted(KEPT_HEADERS), "Content-Type", "ETag", "Set-Cookie", "authorization", "date", "X-Odd"]
        ),
        st.text(st.characters(max_codepoint=0xFF), max_size=20),
    ),
    max_size=8,
)


@given(st.integers(200, 499), HEADERS, st.binary(max_size=100))
def test_a_response_comes_back_from_json_as_what_is_kept_of_it(
    status: int, headers: list[tuple[str, str]], body: bytes
) -> None:
    kept: Any = json.loads(json.dumps(Response(status, headers, body).kept()))
    replayed = Response.replayed(kept)
    expected = [(name, value) for name, value in headers if name.lower() in KEPT_HEADERS]
    assert (replayed.status, replayed.body, [*replayed.headers][: len(expected)]) == (status, body, expected)
    added = dict([*replayed.headers][len(expected) :])
    assert added.pop("Idempotent-Replayed") == "true"
    assert added == ({} if status in {204, 304} else {"content-length": str(len(body))})


def test_methods_are_several() -> None:
    assert Rules(methods=["put", "Post"]).methods == {"PUT", "POST"}
    with pytest.raises(ConfigurationError, match="several"):
        Rules(methods="POST")


@pytest.mark.parametrize("rules", [{"lease": 0.0}, {"lease": 7200.0}, {"retention": 3600.0}], ids=str)
def test_rules_that_cannot_be_are_refused_when_the_application_starts(rules: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Rules(**rules)


def test_whether_there_has_to_be_a_key() -> None:
    assert Rules().key_of("post", []) is None
    assert Rules(required=True).key_of("GET", ["a b"]) is None
    assert Rules().key_of("POST", ['"a"']) == "a"
    with pytest.raises(InvalidKey):
        Rules(required=True).key_of("POST", [])


FRESH = Response(201, [], b"done")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StorageUnavailable("gone"), 503),
        (CommitUnknown("gone"), 503),
        (LeaseLost("key", 2), 409),
        (InvalidKey("no"), 400),
    ],
)
def test_an_answer_that_was_not_kept_is_given_unless_somebody_else_gives_one(error: OrderKitError, status: int) -> None:
    assert failed(error, []).status == status
    assert failed(error, [FRESH]).status == (201 if status == 503 else status)


def test_an_error_that_idempotency_has_no_say_in_is_raised() -> None:
    with pytest.raises(Refused):
        failed(Refused("closed"), [])


@pytest.mark.parametrize("tenant", [None, b"acme", 7, object()])
def test_a_tenant_is_a_text(tenant: object) -> None:
    with pytest.raises(ConfigurationError):
        checked_tenant(tenant)


WRONG: list[dict[str, Any]] = [
    {"wait": "2"},
    {"wait": None},
    {"wait": -1},
    {"wait": float("nan")},
    {"max_body": "x"},
    {"max_body": -5},
    {"required": "no"},
    {"methods": []},
    {"methods": {"GET "}},
    {"methods": [5]},
    {"methods": 5},
    {"listeners": print},
    {"listeners": [5]},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_rules_that_are_no_rules_are_refused_when_the_application_starts(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Rules(**wrong)


async def tenant_later(_scope: object) -> str:
    return "acme"


MIDDLEWARES: list[Any] = [wsgi.IdempotencyMiddleware, asgi.IdempotencyMiddleware]


@pytest.mark.parametrize("middleware", MIDDLEWARES)
def test_a_middleware_is_made_of_an_application_a_kit_of_its_protocol_and_a_function(middleware: Any) -> None:
    def app(*_given: object) -> None:
        """Answer nothing."""

    kits: list[Any] = [OrderKit.from_url("memory://"), AsyncOrderKit.from_url("memory://")]
    fitting, other = kits if middleware is wsgi.IdempotencyMiddleware else reversed(kits)
    parts: dict[str, Any] = {"app": app, "kit": fitting, "tenant": str}
    middleware(**parts)
    wrongs: list[dict[str, Any]] = [
        {"app": "app"},
        {"kit": other},
        {"kit": None},
        {"tenant": "acme"},
        {"tenant": tenant_later},
    ]
    for wrong in wrongs:
        with pytest.raises(ConfigurationError):
            middleware(**parts | wrong)
