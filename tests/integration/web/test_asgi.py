"""The ASGI middleware, message by message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Unpack

import attrs
import pytest

from orderkit import AsyncOrderKit
from orderkit.errors import ConfigurationError
from orderkit.integrations.asgi import Application, IdempotencyMiddleware
from orderkit.integrations.requests import RuleFields
from tests.integration.kit.places import Place
from tests.integration.web.worlds import (
    Answered,
    Exchange,
    Request,
    Shop,
    asgi_application,
    body_of,
    problem_of,
    scope_of,
)

pytestmark = pytest.mark.parametrize("place", ["sqlite-async", "memory-async"], indirect=True)

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

BODY = {"type": "http.response.body", "body": b"done"}


def start(*headers: tuple[bytes, bytes], status: int = 201) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain"), *headers]}


@asynccontextmanager
async def around(application: Application, place: Place, **rules: Unpack[RuleFields]) -> AsyncIterator[Application]:
    """Put the middleware around an application."""
    async with place.async_kit() as kit:
        yield IdempotencyMiddleware(application, kit, tenant=lambda scope: scope["state"]["tenant"], **rules)


def exchange(request: Request, **scope: object) -> Exchange:
    return Exchange({**scope_of(request), **scope}, body_of(request))


class Saying:
    """An application that sends these messages and then, perhaps, raises."""

    def __init__(self, *messages: dict[str, Any], then: Exception | None = None) -> None:
        self.messages = messages
        self.then = then
        self.calls = 0

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        self.calls += 1
        for message in self.messages:
            await send(dict(message))
        if self.then is not None:
            raise self.then


@pytest.mark.parametrize("kind", ["lifespan", "websocket", "something.new"])
def test_what_is_no_request_passes_through(place: Place, kind: str) -> None:
    passed: list[object] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        passed.extend((scope, receive, send))

    async def main() -> None:
        async with around(application, place, required=True) as app:
            given = Exchange({"type": kind, "headers": []}, [])
            await app(given.scope, given.receive, given.send)
            assert passed == [given.scope, given.receive, given.send]
            assert passed[0] is given.scope

    asyncio.run(main())


def test_a_request_without_a_key_passes_through_as_it_is(place: Place, order: Request) -> None:
    passed: list[object] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        passed.extend((scope, receive, send))

    async def main() -> None:
        async with around(application, place) as app:
            given = exchange(order.under())
            await app(given.scope, given.receive, given.send)
            assert passed[0] is given.scope
            assert passed[1:] == [given.receive, given.send]

    asyncio.run(main())


def test_keys_in_several_headers_must_be_the_same(place: Place, order: Request) -> None:
    async def main() -> None:
        shop = Shop()
        async with around(asgi_application(shop), place) as app:
            problem_of(await exchange(order.under("a", "b")).through(app), 400, "invalid_key")
            assert not shop.calls
            assert (await exchange(order.under("a", '"a"')).through(app)).status == 201

    asyncio.run(main())


# --- clients that go ------------------------------------------------------------------------------


def test_a_client_that_goes_in_the_middle_of_its_body_has_asked_for_nothing(place: Place, order: Request) -> None:
    async def main() -> None:
        shop = Shop()
        async with around(asgi_application(shop), place) as app:
            given = exchange(order)
            del given.incoming[-1]
            given.disconnected.set()
            await app(given.scope, given.receive, given.send)
            assert (given.sent, shop.calls) == ([], 0)
            assert not (await exchange(order).through(app)).replayed

    asyncio.run(main())


def test_what_is_done_for_a_client_that_went_is_there_when_it_comes_back(place: Place, order: Request) -> None:
    """That is what it has a key for."""

    async def main() -> None:
        given = exchange(order)
        heard: list[str] = []

        async def application(_scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            given.disconnected.set()
            heard.append((await receive())["type"])
            await send(start())
            await send(BODY)

        async with around(application, place) as app:
            await given.through(app)
            again = await exchange(order).through(app)
        assert heard == ["http.disconnect"]
        assert (again.body, again.replayed) == (b"done", True)

    asyncio.run(main())


@pytest.mark.parametrize("sent", [[], [start()], [start(), {**BODY, "more_body": True}]], ids=len)
def test_a_response_cut_short_since_the_client_went_is_not_kept(
    place: Place, order: Request, sent: list[dict[str, Any]]
) -> None:
    """As frameworks do that listen for it while they stream."""

    async def main() -> None:
        given = exchange(order)
        calls = []

        async def application(_scope: Scope, receive: Receive, send: Send) -> None:
            calls.append(await receive())
            if len(calls) == 1:
                for message in sent:
                    await send(dict(message))
                given.disconnected.set()
                await receive()
                return
            await send(start())
            await send(BODY)

        async with around(application, place) as app:
            await app(given.scope, given.receive, given.send)
            assert given.sent == []
            again = await exchange(order).through(app)
        assert (again.body, again.replayed) == (b"done", False)

    asyncio.run(main())


# --- applications that do not do what they ought to -----------------------------------------------


@pytest.mark.parametrize("sent", [[], [BODY], [start()], [start(), {**BODY, "more_body": True}]], ids=str)
def test_an_application_that_does_not_respond_wholly_is_told_so(
    place: Place, order: Request, sent: list[dict[str, Any]]
) -> None:
    async def main() -> None:
        application = Saying(*sent)
        async with around(application, place) as app:
            for number in (1, 2):
                given = exchange(order)
                with pytest.raises(ConfigurationError, match="whole response"):
                    await app(given.scope, given.receive, given.send)
                assert (given.sent, application.calls) == ([], number)

    asyncio.run(main())


@pytest.mark.parametrize("sent", [[], [start()], [start(), {**BODY, "more_body": True}]], ids=len)
def test_an_error_before_the_response_is_whole_is_what_the_server_gets(
    place: Place, order: Request, sent: list[dict[str, Any]]
) -> None:
    async def main() -> None:
        application = Saying(*sent, then=LookupError("in the middle"))
        async with around(application, place) as app:
            for number in (1, 2):
                given = exchange(order)
                with pytest.raises(LookupError):
                    await app(given.scope, given.receive, given.send)
                assert (given.sent, application.calls) == ([], number)

    asyncio.run(main())


def test_an_error_after_the_response_takes_nothing_back(place: Place, order: Request) -> None:
    """As in the background tasks of Starlette and FastAPI, which run once the response is sent."""

    async def main() -> None:
        application = Saying(start(), BODY, then=LookupError("in the background"))
        async with around(application, place) as app:
            given = exchange(order)
            with pytest.raises(LookupError):
                await app(given.scope, given.receive, given.send)
            assert given.answered().body == b"done"
            again = await exchange(order).through(app)
            assert (again.body, again.replayed, application.calls) == (b"done", True, 1)

    asyncio.run(main())


# --- what servers offer ---------------------------------------------------------------------------


def test_an_application_cannot_answer_in_ways_that_are_not_kept(place: Place, order: Request) -> None:
    """A path that a server is to send, for one, would leave nothing to replay."""
    offered = {"http.response.pathsend": {}, "http.response.trailers": {}, "tls": {"version": 772}}
    seen: list[object] = []

    async def application(scope: Scope, _receive: Receive, send: Send) -> None:
        seen.append(scope["extensions"])
        scope["state"]["noted"] = True
        await send(start())
        await send(BODY)

    async def main() -> None:
        async with around(application, place) as app:
            given = exchange(order, extensions=offered)
            await given.through(app)
            assert seen == [{"tls": {"version": 772}}]
            assert given.scope["extensions"] is offered
            assert given.scope["state"]["noted"]

    asyncio.run(main())


def test_several_cookies_of_a_first_answer_are_all_sent(place: Place, order: Request) -> None:
    cookies = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"x-odd", bytes(range(0xA0, 0x100)))]

    async def main() -> None:
        async with around(Saying(start(*cookies), BODY), place) as app:
            given = exchange(order)
            await given.through(app)
            assert given.sent[0]["headers"][1:] == cookies
            assert "set-cookie" not in dict((await exchange(order).through(app)).headers)

    asyncio.run(main())


# --- cancellation ---------------------------------------------------------------------------------


def test_a_cancelled_request_frees_its_key(place: Place, order: Request) -> None:
    async def main() -> None:
        begun = asyncio.Event()
        calls = []

        async def application(_scope: Scope, receive: Receive, send: Send) -> None:
            calls.append(await receive())
            if len(calls) == 1:
                begun.set()
                await asyncio.Event().wait()
            await send(start())
            await send(BODY)

        async with around(application, place, wait=0.0) as app:
            given = exchange(order)
            task = asyncio.create_task(given.through(app))
            await begun.wait()
            problem_of(await exchange(order).through(app), 409, "idempotency_in_flight")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert given.sent == []
            changed = attrs.evolve(order, body=b"the key is free")
            assert not (await exchange(changed).through(app)).replayed
            assert (await exchange(changed).through(app)).replayed
        assert len(calls) == 2

    asyncio.run(main())


def test_a_repetition_that_is_cancelled_while_it_waits_leaves_the_first_alone(place: Place, order: Request) -> None:
    async def main() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
            begun.set()
            await go_on.wait()
            await send(start())
            await send(BODY)

        async with around(application, place, wait=30.0) as app:
            first = asyncio.create_task(exchange(order).through(app))
            await begun.wait()
            second = asyncio.create_task(exchange(order).through(app))
            done, _ = await asyncio.wait([second], timeout=0.1)
            assert not done
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            go_on.set()
            assert (await first).body == b"done"
            assert (await exchange(order).through(app)).replayed

    asyncio.run(main())


def test_of_many_tasks_at_once_one_asks_the_application(place: Place, order: Request) -> None:
    async def main() -> None:
        application = Saying(start(), BODY)
        async with around(application, place, wait=30.0) as app:
            await app(*parts(exchange(order.under("before"))))
            answers: list[Answered] = await asyncio.gather(*(exchange(order).through(app) for _ in range(32)))
        assert application.calls == 2
        assert sorted(answer.replayed for answer in answers) == [False] + [True] * 31

    asyncio.run(main())


def parts(given: Exchange) -> tuple[Any, Any, Any]:
    return given.scope, given.receive, given.send


def test_a_body_is_not_read_beyond_what_it_may_have(place: Place, order: Request) -> None:
    async def main() -> None:
        shop = Shop()
        async with around(asgi_application(shop), place, max_body=10) as app:
            endless = [{"type": "http.request", "body": b"x" * 4, "more_body": True} for _ in range(100)]
            given = Exchange(scope_of(order), endless)
            problem_of(await given.through(app), 413, "body_too_large")
            assert (len(given.incoming), shop.calls) == (97, 0)

    asyncio.run(main())


def test_an_app_of_a_kit_that_serves_others_too_is_bound_to_its_tenant(place: Place, order: Request) -> None:
    """Whatever the kit itself is bound to."""

    async def main() -> None:
        async with place.async_kit() as kit:
            shop = Shop(Answered(body=b"call #"))

            def wrapped(bound: AsyncOrderKit) -> Application:
                app = asgi_application(shop)
                return IdempotencyMiddleware(app, bound, tenant=lambda scope: scope["state"]["tenant"])

            first = await exchange(order).through(wrapped(kit.for_tenant("somebody-else")))
            second = await exchange(order).through(wrapped(kit))
            assert (first.body, second.body) == (b"call 1", b"call 1")

    asyncio.run(main())
