"""What idempotency means to HTTP, as data: the key in a header, and the answer to each way a request can fail.

After draft-ietf-httpapi-idempotency-key-header. It knows no framework: a middleware reads the key, asks what an error
is answered with, and keeps of a response what may be replayed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

import attrs

from orderkit.errors import (
    CommitUnknown,
    IdempotencyInFlight,
    IdempotencyMismatch,
    InvalidKey,
    LeaseLost,
    OrderKitError,
    StorageBusy,
    StorageFull,
    StorageUnavailable,
)
from orderkit.resilience.backoff import read_retry_after

KEY_HEADER: Final = "Idempotency-Key"
"""In which header a client sends the key of a request."""

REPLAYED_HEADER: Final = ("Idempotent-Replayed", "true")
"""By which a replayed response is told from the first one."""

KEPT_HEADERS: Final = frozenset(
    {
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-location",
        "content-type",
        "etag",
        "expires",
        "last-modified",
        "link",
        "location",
        "vary",
    }
)
"""The headers, in lower case, that are stored with a response. All others are of one connection, session or moment."""

# --- the key ----------------------------------------------------------------------------------

# A string of RFC 8941, section 3.3.3. What follows is wider than its token, which could not begin with a digit as a
# UUID may; a comma would be a second value, and a semicolon begin a parameter.
_QUOTED: Final = re.compile(r'"((?:[\x20\x21\x23-\x5B\x5D-\x7E]|\\["\\])*)"')
_BARE: Final = re.compile(r"[\x21\x23-\x2B\x2D-\x3A\x3C-\x5B\x5D-\x7E]+")
_ESCAPED: Final = re.compile(r"\\(.)")
_MOST: Final = 255


def read_key(value: str | Sequence[str] | None) -> str:
    """Return the key that the `Idempotency-Key` of a request holds, as a quoted string or bare.

    Args:
        value: The header; all of them, if it was sent more than once; None where there is none.

    Raises:
        InvalidKey: It is missing or malformed, or there are several that differ.

    Example:
        >>> read_key('"8e03978e-40d5-43dd-bc93-6894a57f9324"')
        '8e03978e-40d5-43dd-bc93-6894a57f9324'
        >>> read_key("checkout-7f3a")
        'checkout-7f3a'
    """
    values = () if value is None else (value,) if isinstance(value, str) else value
    keys = {_read_one(one) for one in values}
    if not keys:
        raise InvalidKey(f"The header {KEY_HEADER} is required; nothing was changed. Send a new key for a new request.")
    if len(keys) > 1:
        raise InvalidKey(f"The header {KEY_HEADER} was sent with different values; nothing was changed. Send one.")
    return keys.pop()


def _read_one(value: str) -> str:
    text = value.strip(" \t")
    found = _QUOTED.fullmatch(text) or _BARE.fullmatch(text)
    key = "" if found is None else _ESCAPED.sub(r"\1", found[found.lastindex or 0])
    if not 1 <= len(key) <= _MOST:
        raise InvalidKey(
            f"The header {KEY_HEADER} must be a quoted string of 1 to {_MOST} printable ASCII characters; "
            "nothing was changed."
        )
    return key


# --- the answers ------------------------------------------------------------------------------


@attrs.frozen
class Answer:
    """What a request is answered with.

    Attributes:
        status: The status.
        headers: The headers, their names in lower case.
        problem: The body as problem details (RFC 9457), with the `code` of the error. It repeats neither the key nor
            anything of a request.
    """

    status: int
    headers: Mapping[str, str]
    problem: Mapping[str, object]

    @property
    def body(self) -> bytes:
        """The problem as JSON."""
        return json.dumps(self.problem, separators=(",", ":")).encode()


@attrs.frozen
class _Rule:
    """How a family of errors is answered.

    Attributes:
        status: The status.
        detail: What people are told; never the message of the error, which may hold a key.
        wait: Seconds after which to repeat the request, if that helps and the error says none; None where it does not.
    """

    status: HTTPStatus
    detail: str
    wait: float | None = None


_RULES: Final[Mapping[type[OrderKitError], _Rule]] = {
    InvalidKey: _Rule(
        HTTPStatus.BAD_REQUEST,
        f"The {KEY_HEADER} is missing or malformed. Send one quoted string of 1 to 255 printable ASCII characters.",
    ),
    IdempotencyInFlight: _Rule(
        HTTPStatus.CONFLICT, "The first request with this key has not finished. Repeat this one unchanged later.", 1.0
    ),
    LeaseLost: _Rule(
        HTTPStatus.CONFLICT,
        "Another request with this key goes on with the work. Repeat this one unchanged later.",
        1.0,
    ),
    IdempotencyMismatch: _Rule(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "This key was used with another request. Use a new key for a new request, or repeat the first one unchanged.",
    ),
    StorageUnavailable: _Rule(
        HTTPStatus.SERVICE_UNAVAILABLE, "The service is not available; nothing was changed. Repeat the request.", 5.0
    ),
    StorageBusy: _Rule(
        HTTPStatus.SERVICE_UNAVAILABLE, "The service is busy; nothing was changed. Repeat the request.", 1.0
    ),
    StorageFull: _Rule(
        HTTPStatus.SERVICE_UNAVAILABLE, "The service takes nothing in; nothing was changed. Repeat it later.", 60.0
    ),
    CommitUnknown: _Rule(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "It is not known whether the request was done. Repeat it unchanged with the same key to find out.",
        1.0,
    ),
}


def answer_to(error: OrderKitError) -> Answer | None:
    """Return what a request that failed is answered with; None where idempotency has no say in it.

    Example:
        >>> from orderkit.errors import IdempotencyInFlight
        >>> answer = answer_to(IdempotencyInFlight("checkout-7f3a", retry_after=1.2))
        >>> answer.status, answer.headers["retry-after"]
        (409, '2')
    """
    rule = next((_RULES[kind] for kind in type(error).__mro__ if kind in _RULES), None)
    if rule is None:
        return None
    headers = {"content-type": "application/problem+json"}
    if rule.wait is not None:
        asked = read_retry_after(getattr(error, "retry_after", None))
        headers["retry-after"] = str(max(1, math.ceil(rule.wait if asked is None else asked)))
    problem = {
        "type": "about:blank",
        "title": rule.status.phrase,
        "status": rule.status.value,
        "detail": rule.detail,
        "code": error.code,
    }
    return Answer(rule.status.value, headers, problem)


# --- what is kept -----------------------------------------------------------------------------

_PASSING: Final = frozenset({401, 403, 407, 408, 409, 425, 429})


def is_kept(status: int) -> bool:
    """Tell whether a response with this status is stored and replayed: one that asking again would not mend."""
    return 200 <= status < 500 and status not in _PASSING
