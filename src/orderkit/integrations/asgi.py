"""Idempotency keys for a whole ASGI application: a repeated request is answered as the first one was."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Unpack

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
    failed,
    refusal,
    request_of,
    settled,
    too_large,
    unanswered,
    unfinished,
)
from orderkit.kit.async_front import AsyncOrderKit

# The types of ASGI as its specification has them: a scope holds whatever servers and frameworks put there.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_HEADER = KEY_HEADER.lower().encode()


class IdempotencyMiddleware:
    """Answer a repeated request with the response of the first, for an ASGI application of any framework.

    A request with an `Idempotency-Key` is done as a leased operation. Its response is kept, with those of its headers
    that say what it is, unless asking again may mend it (5xx, 401, 403, 408, 409, 425, 429): then the key is free
    again. Bodies and responses are held whole, so that it is not for streams.

    What the application does is not part of the operation's transaction: a process that dies in the middle leaves the
    request to be done anew by a repetition. Give the keys on to `kit.orders` where that matters.

    Args:
        app: The application.
        kit: Where responses are kept.
        tenant: Return whose request it is, from what the application has proved of its caller: put the middleware
            inside of whatever authenticates. Never take it from the request itself.
        **rules: See `Rules`.

    Example:
        ```python
        from orderkit import AsyncOrderKit
        from orderkit.integrations.asgi import IdempotencyMiddleware


        def protected(app, kit: AsyncOrderKit):
            return IdempotencyMiddleware(app, kit, tenant=lambda scope: scope["state"]["tenant"], required=True)
        ```
    """

    def __init__(
        self, app: Application, kit: AsyncOrderKit, *, tenant: Callable[[Scope], str], **rules: Unpack[RuleFields]
    ) -> None:
        check_parts(app, kit, tenant, kind=AsyncOrderKit)
        self._app = app
        self._kit = kit
        self._tenant = tenant
        self._rules = Rules(**rules)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            key = self._rules.key_of(scope["method"], _values(scope["headers"]))
        except OrderKitError as error:
            await _respond(send, refusal(error))
            return
        if key is None:
            await self._app(scope, receive, send)
            return
        with suppress(ClientGone):
            await _respond(send, await self._response(scope, receive, key))

    async def _response(self, scope: Scope, receive: Receive, key: str) -> Response:
        body = await _read(receive, self._rules.max_body)
        if isinstance(body, Response):
            return body
        fresh: list[Response] = []

        async def work(_run: object) -> Json:
            try:
                response = await _play(self._app, scope, receive, body)
            except Exception as error:
                raise Escaped(error) from error
            fresh.append(response)
            return settled(response)

        request = request_of(scope["method"], _path(scope), scope.get("query_string", b"").decode("latin-1"), body)
        operations = self._kit.for_tenant(checked_tenant(self._tenant(scope))).operations
        try:
            kept = await operations.run(self._rules.operation(work), key=key, request=request, wait=self._rules.wait)
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


async def collect_unfinished(kit: AsyncOrderKit, *, grace: float = GRACE, limit: int = 1000) -> int:
    """Forget requests of every tenant that a process has died over and that nobody has repeated; return how many.

    Nothing else can bring them to their end: only their clients know what they were. Call it every day.

    Args:
        kit: Where responses are kept.
        grace: Seconds for which nobody must have been at work on them, three days unless you say otherwise: as long as
            clients repeat requests. A repetition that comes later is a new request.
        limit: How many at most.
    """
    operation, forgotten = unfinished(), 0
    for tenant, _, key in await kit.operations.stuck(operation, grace=grace, limit=limit):
        with suppress(*TAKEN_UP):
            await kit.for_tenant(tenant).operations.abandon(operation, key=key)
            forgotten += 1
    return forgotten


class ClientGone(Exception):
    """Nobody is there to be answered: the client went before its request or the response was whole."""


def _path(scope: Scope) -> str:
    """Return the path as it was sent, where the server tells: decoded, `/a%2Fb` would be `/a/b`."""
    raw: bytes | None = scope.get("raw_path")
    return scope["path"] if raw is None else raw.partition(b"?")[0].decode("latin-1")


def _values(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name.lower() == _HEADER]


async def _read(receive: Receive, most: int) -> bytes | Response:
    """Return the body of a request, or the response to one that is too large.

    Raises:
        ClientGone: The client went in the middle of it.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > most:
            return too_large(most)
        if not message.get("more_body", False):
            return bytes(body)


async def _play(app: Application, scope: Scope, receive: Receive, body: bytes) -> Response:
    """Have the application handle a request whose body was read already, and return its response.

    Raises:
        ClientGone: The application has left it at that, since the client went.
    """
    given = [{"type": "http.request", "body": body, "more_body": False}]
    response = _Collected()
    gone = False

    async def once() -> Message:
        nonlocal gone
        message = given.pop() if given else await receive()
        gone = gone or message["type"] == "http.disconnect"
        return message

    late = None
    try:
        await app(_plain(scope), once, response.collect)
    except Exception as error:
        # What goes on in the background of a framework fails after its response.
        if not response.whole:
            raise
        late = error
    if not response.whole:
        raise ClientGone if gone else unanswered()
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.start.get("headers", ())]
    return Response(response.start["status"], headers, b"".join(response.parts), late)


class _Collected:
    """What an application has sent so far."""

    def __init__(self) -> None:
        self.start: Message = {}
        self.parts: list[bytes] = []
        self.whole = False

    async def collect(self, message: Message) -> None:
        """Take a message in place of the server."""
        if message["type"] == "http.response.start":
            self.start = message
        elif message["type"] == "http.response.body":
            self.parts.append(message.get("body", b""))
            self.whole = bool(self.start) and not message.get("more_body", False)


def _plain(scope: Scope) -> Scope:
    """Return a scope without the ways to answer that are not kept, such as the path of a file."""
    extensions: Mapping[str, object] = scope.get("extensions") or {}
    kept = {name: value for name, value in extensions.items() if not name.startswith("http.response.")}
    return scope if len(kept) == len(extensions) else {**scope, "extensions": kept}


async def _respond(send: Send, response: Response) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
    if response.late is not None:
        raise response.late
