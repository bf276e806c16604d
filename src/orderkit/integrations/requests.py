"""What both middlewares know of a request and its response: which request it is, and what is kept of the answer."""

from __future__ import annotations

import base64
import hashlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, TypedDict, cast

import attrs

from orderkit.errors import ConfigurationError, Conflict, IdempotencyInFlight, NotFound, OrderKitError, StorageError
from orderkit.http.idempotency import KEPT_HEADERS, KEY_HEADER, REPLAYED_HEADER, Answer, answer_to, is_kept, read_key
from orderkit.idempotency.operations import IdempotentOperation, Json, check_seconds
from orderkit.resilience.events import Listener

Headers = Sequence[tuple[str, str]]

OPERATION: Final = "http"
"""The name of the operation that every request is: a key that was used for another path is used already."""

GRACE: Final = 259_200.0
"""Seconds after which a request that was broken off counts as one that nobody repeats."""

TAKEN_UP: Final = (IdempotencyInFlight, NotFound, Conflict)
"""What is raised where a request that was broken off is not so any more."""


@attrs.frozen
class Response:
    """A response, whole.

    Attributes:
        status: Its status.
        headers: Its headers.
        body: Its body.
        late: What the application raised after it was whole, to be raised again once it is sent.
    """

    status: int
    headers: Headers
    body: bytes = attrs.field(repr=False)
    late: Exception | None = None

    def kept(self) -> Json:
        """Return what is kept of it: of the headers those that say what it is, and not whose connection it was for."""
        headers = [[name, value] for name, value in self.headers if name.lower() in KEPT_HEADERS]
        return {"status": self.status, "headers": headers, "body": base64.b64encode(self.body).decode()}

    @classmethod
    def replayed(cls, kept: Json) -> Response:
        """Return the response that was kept, marked as a repetition."""
        found = cast("_Kept", kept)
        body = base64.b64decode(found["body"])
        headers = [(name, value) for name, value in found["headers"]]
        # A response that cannot have a body says nothing of its length (RFC 9110, section 8.6).
        length = [] if found["status"] in _BODILESS else [("content-length", str(len(body)))]
        return cls(found["status"], [*headers, *length, REPLAYED_HEADER], body)

    @classmethod
    def answering(cls, answer: Answer) -> Response:
        """Return the response for an error."""
        length = ("content-length", str(len(answer.body)))
        return cls(answer.status, [*answer.headers.items(), length], answer.body)


_BODILESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class _Kept(TypedDict):
    status: int
    headers: list[list[str]]
    body: str


class NotKept(Exception):
    """Carries a response that is not kept: the request may be repeated, and is done anew then."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class Escaped(Exception):
    """Carries what the application raised and nobody handled: never the answer to a request, whatever it is."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class RuleFields(TypedDict, total=False):
    """The fields of `Rules`."""

    methods: Iterable[str]
    required: bool
    wait: float
    max_body: int
    lease: float
    retention: float
    listeners: Iterable[Listener]


_method_pattern = re.compile(r"[!#$%&'*+.^_`|~0-9A-Z-]+")


def _upper(methods: Iterable[str]) -> frozenset[str]:
    if isinstance(methods, str):
        raise ConfigurationError(f'Give several methods, such as `methods={{"{methods}"}}`.')
    try:
        return frozenset(method.upper() for method in methods)
    except (TypeError, AttributeError):
        raise ConfigurationError("`methods` are the names of methods, as texts.") from None


def _listeners(given: Iterable[Listener]) -> tuple[Listener, ...]:
    if not isinstance(given, Iterable):
        raise ConfigurationError("`listeners` are functions of an event.")
    return tuple(given)


def _check_rules(rules: Rules) -> None:
    check_seconds("wait", rules.wait)
    if not rules.methods or not all(map(_method_pattern.fullmatch, rules.methods)):
        raise ConfigurationError("`methods` are the names of methods, such as `{'POST', 'PATCH'}`; at least one.")
    if not isinstance(rules.required, bool):
        raise ConfigurationError("`required` is True or False.")
    if not isinstance(rules.max_body, int) or isinstance(rules.max_body, bool) or rules.max_body < 0:
        raise ConfigurationError("`max_body` is a whole number of bytes, zero or more.")


@attrs.frozen
class Rules:
    """Which requests are done once.

    Args:
        methods: The methods whose requests are.
        required: Whether one without a key is refused, rather than done as often as it comes.
        wait: Seconds for which a repetition waits while the first request is under way.
        max_body: How many bytes a body may have; it is read whole, to know whether two requests are the same.
        lease: Seconds without a sign of life after which a request counts as broken off.
        retention: Seconds for which a response is kept.
        listeners: Who is told of replays and takeovers.

    Raises:
        ConfigurationError: One of them is not what it has to be.
    """

    methods: frozenset[str] = attrs.field(default=frozenset({"POST", "PATCH"}), converter=_upper)
    required: bool = False
    wait: float = 2.0
    max_body: int = 1_048_576
    lease: float = 60.0
    retention: float = 259_200.0
    listeners: tuple[Listener, ...] = attrs.field(default=(), converter=_listeners)

    def __attrs_post_init__(self) -> None:
        _check_rules(self)
        self.operation(Response)  # which refuses what it cannot do when the application starts

    def key_of(self, method: str, headers: Iterable[str]) -> str | None:
        """Return the key of a request; None where it is done as often as it comes.

        Args:
            method: Its method.
            headers: Every value of the header that holds keys.

        Raises:
            InvalidKey: The key is malformed, or is missing and required.
        """
        if method.upper() not in self.methods:
            return None
        values = [*headers]
        return read_key(values) if values or self.required else None

    def operation(self, work: Callable[..., Any]) -> IdempotentOperation[Any]:
        """Return the operation that a request is."""
        return IdempotentOperation(
            OPERATION, work, lease=self.lease, retention=self.retention, listeners=self.listeners
        )


def unfinished() -> IdempotentOperation[Any]:
    """Return the operation by which requests that were broken off are found."""
    return Rules().operation(Response)


def request_of(method: str, path: str, query: str, body: bytes) -> Mapping[str, Json]:
    """Return what a request is known by. Its body is kept as a hash alone: it may hold what is personal."""
    digest = hashlib.sha256()
    for part in (path.encode("utf-8", "surrogatepass"), query.encode("utf-8", "surrogatepass"), body):
        digest.update(len(part).to_bytes(8, "big") + part)
    return {"method": method.upper(), "digest": digest.hexdigest()}


def settled(response: Response) -> Json:
    """Return what is kept of a response.

    Raises:
        NotKept: It is one that asking again may mend.
    """
    if not is_kept(response.status):
        raise NotKept(response)
    return response.kept()


def failed(error: OrderKitError, fresh: Sequence[Response]) -> Response:
    """Return the response where an operation failed, for another reason than its work.

    Args:
        error: Why it failed.
        fresh: What the application has answered, if it was asked.
    """
    # That it could not be kept makes it no less true, and "nothing was changed" would be.
    return fresh[0] if fresh and isinstance(error, StorageError) else refusal(error)


def refusal(error: OrderKitError) -> Response:
    """Return the response for an error that idempotency has a say in; any other is raised again."""
    answer = answer_to(error)
    if answer is None:
        raise error
    return Response.answering(answer)


def too_large(most: int) -> Response:
    """Return the response for a body that is not read."""
    detail = f"A request with an {KEY_HEADER} has a body of at most {most} bytes; nothing was changed."
    return _problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, "body_too_large")


def cut_short() -> Response:
    """Return the response for a body of which only a part has come."""
    detail = "The body is shorter than its Content-Length; nothing was changed. Repeat the request."
    return _problem(HTTPStatus.BAD_REQUEST, detail, "body_cut_short")


def without_length() -> Response:
    """Return the response for a body of which nobody can tell where it ends."""
    detail = f"A request with an {KEY_HEADER} says its Content-Length here; nothing was changed. Repeat it with one."
    return _problem(HTTPStatus.LENGTH_REQUIRED, detail, "length_required")


def _problem(status: HTTPStatus, detail: str, code: str) -> Response:
    problem = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail, "code": code}
    return Response.answering(Answer(status.value, {"content-type": "application/problem+json"}, problem))


def unanswered() -> ConfigurationError:
    """Return the error of an application that returned without a response."""
    return ConfigurationError("The application returned without a whole response; nothing is kept of the request.")


def check_parts(app: object, kit: object, tenant: object, *, kind: type) -> None:
    """Refuse a middleware that cannot work, when the application starts.

    Raises:
        ConfigurationError: One of its parts is not what it has to be.
    """
    if not callable(app):
        raise ConfigurationError("The middleware surrounds an application: give the application itself.")
    if not isinstance(kit, kind):
        raise ConfigurationError(f"This middleware works with `{kind.__name__}`; the other protocol has its own.")
    if not callable(tenant) or inspect.iscoroutinefunction(tenant):
        raise ConfigurationError("`tenant` is a plain function, of the request's scope or environment.")


def checked_tenant(tenant: object) -> str:
    """Return the tenant that the application gave.

    Raises:
        ConfigurationError: It gave none.
    """
    if not isinstance(tenant, str):
        raise ConfigurationError(
            "The middleware was given no tenant for a request; nothing was done. `tenant` returns the one that the "
            "caller has proved, as a text."
        )
    return tenant
