"""Idempotency keys for a whole WSGI application: a repeated request is answered as the first one was."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Unpack

from orderkit.errors import OrderKitError
from orderkit.http.idempotency import KEY_HEADER
from orderkit.idempotency.operations import Json
from orderkit.integrations.requests import (
    GRACE,
    TAKEN_UP,
    Escaped,
    NotKept,
    Response,
    RuleFields,
    Rules,
    check_parts,
    checked_tenant,
    cut_short,
    failed,
    refusal,
    request_of,
    settled,
    too_large,
    unanswered,
    unfinished,
    without_length,
)
from orderkit.kit.front import OrderKit

if TYPE_CHECKING:
    from types import TracebackType
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_HEADER = f"HTTP_{KEY_HEADER.upper().replace('-', '_')}"


class IdempotencyMiddleware:
    """Answer a repeated request with the response of the first, for a WSGI application of any framework.

    See `orderkit.integrations.asgi.IdempotencyMiddleware` for what is kept, and for how long a promise reaches.

    Args:
        app: The application.
        kit: Where responses are kept.
        tenant: Return whose request it is, from what the application has proved of its caller: put the middleware
            inside of whatever authenticates. Never take it from the request itself.
        **rules: See `Rules`.

    Example:
        ```python
        from orderkit import OrderKit
        from orderkit.integrations.wsgi import IdempotencyMiddleware


        def protected(app, kit: OrderKit):
            return IdempotencyMiddleware(app, kit, tenant=lambda environ: environ["shop.tenant"])
        ```
    """

    def __init__(
        self,
        app: WSGIApplication,
        kit: OrderKit,
        *,
        tenant: Callable[[WSGIEnvironment], str],
        **rules: Unpack[RuleFields],
    ) -> None:
        check_parts(app, kit, tenant, kind=OrderKit)
        self._app = app
        self._kit = kit
        self._tenant = tenant
        self._rules = Rules(**rules)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Handle one request."""
        try:
            values = [environ[_HEADER]] if _HEADER in environ else []
            key = self._rules.key_of(environ["REQUEST_METHOD"], values)
        except OrderKitError as error:
            return _respond(start_response, refusal(error))
        if key is None:
            return self._app(environ, start_response)
        return _respond(start_response, self._response(environ, key))

    def _response(self, environ: WSGIEnvironment, key: str) -> Response:
        body = _read(environ, self._rules.max_body)
        if isinstance(body, Response):
            return body
        fresh: list[Response] = []

        def work(_run: object) -> Json:
            try:
                response = _play(self._app, environ, body)
            except Exception as error:
                raise Escaped(error) from error
            fresh.append(response)
            return settled(response)

        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        request = request_of(environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""), body)
        operations = self._kit.for_tenant(checked_tenant(self._tenant(environ))).operations
        try:
            kept = operations.run(self._rules.operation(work), key=key, request=request, wait=self._rules.wait)
        except NotKept as error:
            return error.response
        except Escaped as escaped:
            raised = escaped.error
        except OrderKitError as error:
            return failed(error, fresh)
        else:
            return fresh[0] if fresh else Response.replayed(kept)
        # Outside of the handler, so that it keeps the cause and the context it came with.
        raise raised


def collect_unfinished(kit: OrderKit, *, grace: float = GRACE, limit: int = 1000) -> int:
    """Forget requests of every tenant that a process has died over; see `orderkit.integrations.asgi`."""
    operation, forgotten = unfinished(), 0
    for tenant, _, key in kit.operations.stuck(operation, grace=grace, limit=limit):
        with suppress(*TAKEN_UP):
            kit.for_tenant(tenant).operations.abandon(operation, key=key)
            forgotten += 1
    return forgotten


def _read(environ: WSGIEnvironment, most: int) -> bytes | Response:
    """Return the body of a request, or the response to one that is too large or has come in part only."""
    length = _length(environ)
    if length == 0 and environ.get("HTTP_TRANSFER_ENCODING"):
        return without_length()
    if length is not None and length > most:
        return too_large(most)
    body = bytearray()
    wanted = most + 1 if length is None else length
    while len(body) < wanted and (part := environ["wsgi.input"].read(wanted - len(body))):
        body += part
    if len(body) > most:
        return too_large(most)
    return bytes(body) if length is None or len(body) == length else cut_short()


def _length(environ: WSGIEnvironment) -> int | None:
    """Return how many bytes the body of a request has; None where the server ends the input itself."""
    given = environ.get("CONTENT_LENGTH") or ""
    if given.isascii() and given.isdigit():
        # Python reads no number of thousands of digits.
        return int(given) if len(given) < 20 else sys.maxsize
    return None if environ.get("wsgi.input_terminated") else 0


def _play(app: WSGIApplication, environ: WSGIEnvironment, body: bytes) -> Response:
    """Have the application handle a request whose body was read already, and return its response."""
    begun: list[tuple[str, list[tuple[str, str]]]] = []
    written: list[bytes] = []

    def start_response(
        status: str,
        headers: list[tuple[str, str]],
        error: tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None] | None = None,
    ) -> Callable[[bytes], object]:
        if begun and (error is None or error[1] is None):
            raise AssertionError("start_response was called twice, and without exc_info")
        if error is not None and error[1] is not None and any(written):
            # Headers go out with the first byte, so that there is nothing to be replaced any more (PEP 3333).
            raise error[1].with_traceback(error[2])
        begun[:] = [(status, headers)]
        return written.append

    given = {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    parts: Any = app(given, start_response)
    try:
        for part in parts:
            written.append(part)  # noqa: PERF402 - one after the other, for `start_response` to know of them
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()
    if not begun:
        raise unanswered()
    status, headers = begun[0]
    return Response(int(status.partition(" ")[0]), headers, b"".join(written))


def _respond(start_response: StartResponse, response: Response) -> list[bytes]:
    try:
        phrase = HTTPStatus(response.status).phrase
    except ValueError:
        phrase = "Unknown"
    start_response(f"{response.status} {phrase}", [*response.headers])
    return [response.body]
