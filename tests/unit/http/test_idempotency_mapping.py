"""What idempotency means to HTTP: which keys are read, what errors are answered with, what is kept."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orderkit import errors
from orderkit.errors import OrderKitError
from orderkit.http.idempotency import KEPT_HEADERS, REPLAYED_HEADER, answer_to, is_kept, read_key
from orderkit.idempotency.keys import key_reference

PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255)


def quoted(key: str) -> str:
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


# --- the key ------------------------------------------------------------------------------------


@given(PRINTABLE)
@example('say "hello" \\ twice')
@example(" ")
def test_every_key_can_be_sent_as_a_quoted_string(key: str) -> None:
    assert read_key(quoted(key)) == key
    assert read_key(f" \t{quoted(key)} ") == key


@given(st.one_of(st.text(), st.from_regex(r'[ \t]*"(\\.|[^"])*"?[ \t]*', fullmatch=True), PRINTABLE))
@example('"')
@example('""')
@example('"a\\"')
@example('"a\\b"')
@example('"a" "a"')
@example("a\n")
@example('"é"')
@example("\u2028")
@example('"' + "a" * 256 + '"')
def test_whatever_is_sent_is_a_valid_key_or_an_invalid_one(value: str) -> None:
    try:
        key = read_key(value)
    except errors.InvalidKey:
        return
    assert re.fullmatch(r"[\x20-\x7E]{1,255}", key)
    assert key_reference("tenant", "place", key).key == key


@given(st.lists(st.one_of(st.text(max_size=5), PRINTABLE.map(quoted)), max_size=4))
def test_several_headers_are_one_key_or_an_invalid_one(values: list[str]) -> None:
    try:
        key = read_key(values)
    except errors.InvalidKey:
        return
    assert {read_key(value) for value in values} == {key}


@pytest.mark.parametrize(
    "bare", ["checkout-7f3a", "8e03978e-40d5-43dd-bc93-6894a57f9324", "abc/+=:~*@", "'a'", "a" * 255]
)
def test_bare_keys_are_accepted_too(bare: str) -> None:
    assert read_key(bare) == bare


@pytest.mark.parametrize(
    "malformed",
    ["", " ", '""', '"a', 'a"', "a b", "a,b", '"a", "b"', '"a";b=1', "a;b", "a\\b", "ä", "a\x00", "a\x7f", "a" * 256],
)
def test_malformed_keys_are_refused(malformed: str) -> None:
    with pytest.raises(errors.InvalidKey):
        read_key(malformed)


def test_a_malformed_key_is_not_repeated_in_the_error() -> None:
    with pytest.raises(errors.InvalidKey) as raised:
        read_key("secret key")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("missing", [None, [], ()])
def test_a_missing_key_is_refused_where_one_is_required(missing: list[str] | None) -> None:
    with pytest.raises(errors.InvalidKey, match="is required"):
        read_key(missing)


def test_the_same_key_twice_is_one_key_and_two_are_refused() -> None:
    assert read_key(["7f3a", '"7f3a"']) == "7f3a"
    with pytest.raises(errors.InvalidKey, match="different values"):
        read_key(["7f3a", "7f3b"])


# --- the answers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (errors.InvalidKey("no"), 400, None),
        (errors.IdempotencyInFlight("secret-key", retry_after=0.2), 409, "1"),
        (errors.IdempotencyInFlight("secret-key", retry_after=2.001), 409, "3"),
        (errors.LeaseLost("secret-key", 2), 409, "1"),
        (errors.IdempotencyMismatch("secret-key"), 422, None),
        (errors.StorageUnavailable("postgresql://secret-key@host"), 503, "5"),
        (errors.StorageBusy("secret-key"), 503, "1"),
        (errors.StorageFull("secret-key"), 503, "60"),
        (errors.CommitUnknown("secret-key"), 503, "1"),
    ],
)
def test_each_error_has_its_answer(error: OrderKitError, status: int, retry_after: str | None) -> None:
    answer = answer_to(error)
    assert answer is not None
    assert (answer.status, answer.headers.get("retry-after")) == (status, retry_after)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = json.loads(answer.body)
    assert (problem["status"], problem["code"], problem["type"]) == (status, error.code, "about:blank")
    assert b"secret-key" not in answer.body


def test_an_error_below_one_of_the_table_is_answered_like_it() -> None:
    class Unreachable(errors.StorageUnavailable):
        code = "unreachable"

    answer = answer_to(Unreachable("no"))
    assert answer is not None
    assert (answer.status, answer.problem["code"]) == (503, "unreachable")


@pytest.mark.parametrize("wait", [float("inf"), float("nan"), -3.0])
def test_a_wait_that_makes_no_sense_is_replaced(wait: float) -> None:
    answer = answer_to(errors.IdempotencyInFlight("key", retry_after=wait))
    assert answer is not None
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("error", [errors.OrderNotFound("1"), errors.InvalidQuery("no"), errors.OrderKitError("no")])
def test_other_errors_are_the_application_s_to_answer(error: OrderKitError) -> None:
    assert answer_to(error) is None


# --- what is kept -------------------------------------------------------------------------------


def test_responses_that_asking_again_would_not_mend_are_kept() -> None:
    kept = {status for status in range(100, 600) if is_kept(status)}
    assert kept == set(range(200, 500)) - {401, 403, 407, 408, 409, 425, 429}


def test_headers_of_one_connection_session_or_moment_are_not_kept() -> None:
    assert {"content-type", "content-language", "location", "etag", "last-modified"} <= KEPT_HEADERS
    passing = {"set-cookie", "connection", "transfer-encoding", "content-length", "date", "server", "retry-after"}
    assert not KEPT_HEADERS & passing
    assert {name.lower() for name in KEPT_HEADERS} == set(KEPT_HEADERS)


def test_a_replay_says_that_it_is_one() -> None:
    assert REPLAYED_HEADER == ("Idempotent-Replayed", "true")
