"""One application and one client for both protocols, so that each promise is tested in both.

The application is a plain function of a request. In the asynchronous world it runs in a thread, as a framework runs a
plain view, and every thread of a test becomes a task of one event loop.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Unpack
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import attrs

from orderkit import AsyncOrderKit, OrderKit
from orderkit.integrations import asgi, wsgi
from orderkit.integrations.requests import RuleFields
from tests.integration.kit.facade import Loop

Headers = Sequence[tuple[str, str]]

PLAIN = (("content-type", "text/plain"),)


@attrs.frozen
class Request:
    """A request, and whose it is."""

    tenant: str
    body: bytes = b'{"sku": "TEA-001"}'
    method: str = "POST"
    path: str = "/orders"
    query: str = ""
    headers: Headers = (("idempotency-key", '"checkout-7f3a"'),)

    def under(self, *keys: str) -> Request:
        """Return the same request under other keys, or none."""
        return attrs.evolve(self, headers=tuple(("idempotency-key", key) for key in keys))


@attrs.frozen
class Answered:
    """A response, the names of its headers in lower case."""

    status: int = 201
    headers: Headers = PLAIN
    body: bytes = b"done"

    def __getitem__(self, name: str) -> str | None:
        return dict(self.headers).get(name)

    @property
    def replayed(self) -> bool:
        return self["idempotent-replayed"] == "true"


Handler = Callable[[Request], Answered]


class Shop:
    """An application that remembers what it was asked.

    Args:
        answer: What it answers, or how.
    """

    def __init__(self, answer: Answered | Handler | Exception | None = None) -> None:
        self.answer = Answered() if answer is None else answer
        self.asked: list[Request] = []

    @property
    def calls(self) -> int:
        return len(self.asked)

    def __call__(self, request: Request) -> Answered:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, Answered):
            return attrs.evolve(self.answer, body=self.answer.body.replace(b"#", str(self.calls).encode()))
        return self.answer(request)


class Client(Protocol):
    """Send requests to an application with the middleware around it."""

    def send(self, request: Request) -> Answered:
        """Return the answer, or raise what a server would have to handle."""
        ...


# --- WSGI -----------------------------------------------------------------------------------------


def environ_of(request: Request) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query,
        "CONTENT_LENGTH": str(len(request.body)),
        "wsgi.input": io.BytesIO(request.body),
        "shop.tenant": request.tenant,
    }
    for name, value in request.headers:
        variable = f"HTTP_{name.upper().replace('-', '_')}"
        # As servers do with a header that is sent more than once.
        environ[variable] = f"{environ[variable]}, {value}" if variable in environ else value
    setup_testing_defaults(environ)
    return environ


def wsgi_application(handler: Handler) -> Callable[..., Any]:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        headers = [(name, str(value)) for name, value in environ.items() if name.startswith("HTTP_")]
        answer = handler(
            Request(
                environ["shop.tenant"],
                body,
                environ["REQUEST_METHOD"],
                environ["PATH_INFO"],
                environ["QUERY_STRING"],
                headers,
            )
        )
        start_response(f"{answer.status} Said", [*answer.headers])
        return [answer.body]

    return application


def wsgi_answer(application: Callable[..., Any], environ: dict[str, Any]) -> Answered:
    """Be the server for one request."""
    begun: list[Any] = []

    def start_response(*started: Any) -> Callable[[bytes], object]:
        begun.append(started)
        return bytearray().extend

    parts = application(environ, start_response)
    try:
        body = b"".join(parts)
    finally:
        if hasattr(parts, "close"):
            parts.close()
    status, headers = begun[-1][:2]
    return Answered(int(status[:3]), [(name.lower(), value) for name, value in headers], body)


@attrs.frozen
class WsgiClient:
    """A client of a WSGI application, with a validator on both sides of the middleware."""

    application: Callable[..., Any]

    @classmethod
    def of(cls, kit: OrderKit, handler: Handler, **rules: Unpack[RuleFields]) -> WsgiClient:
        inner: Any = validator(wsgi_application(handler))
        middleware = wsgi.IdempotencyMiddleware(inner, kit, tenant=lambda environ: environ["shop.tenant"], **rules)
        return cls(validator(middleware))

    def send(self, request: Request) -> Answered:
        return wsgi_answer(self.application, environ_of(request))


# --- ASGI -----------------------------------------------------------------------------------------


def scope_of(request: Request) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.path.encode("latin-1"),
        "query_string": request.query.encode("latin-1"),
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers],
        "state": {"tenant": request.tenant},
    }


def body_of(request: Request) -> list[dict[str, Any]]:
    """Return the body in three messages, as servers send what comes in pieces."""
    cuts = [request.body[:1], b"", request.body[1:]]
    return [{"type": "http.request", "body": part, "more_body": at < 2} for at, part in enumerate(cuts)]


def asgi_application(handler: Handler) -> asgi.Application:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        parts = [await receive()]
        while parts[-1]["more_body"]:
            parts.append(await receive())
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        request = Request(
            scope["state"]["tenant"],
            b"".join(part["body"] for part in parts),
            scope["method"],
            scope["path"],
            scope["query_string"].decode("latin-1"),
            headers,
        )
        answer = await asyncio.to_thread(handler, request)
        coded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": coded})
        await send({"type": "http.response.body", "body": answer.body[:1], "more_body": True})
        await send({"type": "http.response.body", "body": answer.body[1:]})

    return application


@attrs.frozen
class Exchange:
    """What a server and an application say to each other in one scope."""

    scope: dict[str, Any]
    incoming: list[dict[str, Any]]
    sent: list[Any] = attrs.field(factory=list)
    disconnected: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def receive(self) -> Any:
        if self.incoming:
            return self.incoming.pop(0)
        await self.disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def through(self, application: asgi.Application) -> Answered:
        """Be the server for one request, and insist on a response as the protocol has it."""
        await application(self.scope, self.receive, self.send)
        return self.answered()

    def answered(self) -> Answered:
        start, *bodies = self.sent
        assert start["type"] == "http.response.start"
        assert [message["type"] for message in bodies] == ["http.response.body"] * len(bodies)
        assert [message.get("more_body", False) for message in bodies] == [True] * (len(bodies) - 1) + [False]
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
        assert all(name == name.lower() for name, _ in headers)
        return Answered(start["status"], headers, b"".join(message.get("body", b"") for message in bodies))


@attrs.frozen
class AsgiClient:
    """A client of an ASGI application."""

    application: asgi.Application
    loop: Loop

    @classmethod
    def of(cls, kit: AsyncOrderKit, loop: Loop, handler: Handler, **rules: Unpack[RuleFields]) -> AsgiClient:
        inner = asgi_application(handler)
        return cls(asgi.IdempotencyMiddleware(inner, kit, tenant=lambda scope: scope["state"]["tenant"], **rules), loop)

    def send(self, request: Request) -> Answered:
        async def exchange() -> Answered:
            return await Exchange(scope_of(request), body_of(request)).through(self.application)

        return self.loop.run(exchange())


# --- what is insisted on --------------------------------------------------------------------------


def problem_of(answer: Answered, status: int, code: str) -> dict[str, Any]:
    """Insist on problem details as RFC 9457 has them; return them."""
    assert (answer.status, answer["content-type"]) == (status, "application/problem+json")
    assert answer["content-length"] == str(len(answer.body))
    problem: dict[str, Any] = json.loads(answer.body)
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["type"] == "about:blank"
    assert isinstance(problem["title"], str)
    assert isinstance(problem["detail"], str)
    return problem
