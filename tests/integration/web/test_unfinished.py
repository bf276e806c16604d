"""Requests that a process has died over, and what tells two requests apart on the wire."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import attrs
import pytest

from orderkit import AsyncOrderKit, OrderKit
from orderkit.errors import IdempotencyInFlight
from orderkit.idempotency.operations import OperationReplayed
from orderkit.integrations import asgi, wsgi
from orderkit.integrations.requests import GRACE, unfinished
from orderkit.testing.clock import ManualClock
from tests.integration.kit.places import Place
from tests.integration.web.conftest import EMBEDDED, Serve
from tests.integration.web.worlds import (
    Answered,
    AsgiClient,
    Exchange,
    Request,
    Shop,
    asgi_application,
    environ_of,
    problem_of,
    scope_of,
    wsgi_answer,
    wsgi_application,
)

LEASE = 60.0


class Died(BaseException):
    """Stands for the end of the process: nothing is cleaned up that could not be then."""


def test_requests_that_a_process_has_died_over_are_forgotten_once_nobody_repeats_them(clock: ManualClock) -> None:
    request = Request("acme")
    with OrderKit.from_url("memory://", clock=clock) as kit:
        operations = kit.for_tenant("acme").operations
        request_of_theirs = unfinished()

        def break_off(run: Any) -> None:
            run.call("anything", lambda key: None)
            raise Died

        with pytest.raises(Died):
            operations.run(attrs.evolve(request_of_theirs, work=break_off), key="checkout-7f3a")
        assert wsgi.collect_unfinished(kit) == 0
        with pytest.raises(IdempotencyInFlight):
            operations.abandon(request_of_theirs, key="checkout-7f3a")
        clock.advance(LEASE + GRACE - 1)
        assert wsgi.collect_unfinished(kit) == 0
        clock.advance(2)
        assert wsgi.collect_unfinished(kit) == 1
        assert kit.operations.stuck(request_of_theirs, grace=0) == []
        shop = Shop()
        middleware = wsgi.IdempotencyMiddleware(wsgi_application(shop), kit, tenant=lambda environ: "acme")
        assert wsgi_answer(middleware, environ_of(request)).status == 201
        clock.advance(2 * GRACE)
        assert wsgi.collect_unfinished(kit) == 0  # which has ended, and is forgotten by sweeping


def test_requests_that_a_task_has_died_over_are_forgotten_too(clock: ManualClock) -> None:
    async def scenario() -> None:
        async with AsyncOrderKit.from_url("memory://", clock=clock) as kit:

            async def break_off(run: Any) -> None:
                async def call(_key: str) -> None:
                    """Call nobody."""

                await run.call("anything", call)
                raise Died

            operation: Any = attrs.evolve(unfinished(), work=break_off)
            with pytest.raises(Died):
                await kit.for_tenant("acme").operations.run(operation, key="k")
            clock.advance(LEASE + GRACE + 1)
            assert await asgi.collect_unfinished(kit) == 1
            assert await asgi.collect_unfinished(kit) == 0

    asyncio.run(scenario())


def test_an_encoded_slash_is_another_path_than_a_slash() -> None:
    shop = Shop()

    async def send(raw_path: bytes) -> int:
        scope = {**scope_of(attrs.evolve(Request("acme"), path="/a/b")), "raw_path": raw_path}
        exchange = Exchange(scope, [{"type": "http.request", "body": b"", "more_body": False}])
        return (await exchange.through(middleware)).status

    async def scenario() -> list[int]:
        return [await send(b"/a%2Fb"), await send(b"/a/b"), await send(b"/a%2Fb")]

    kit = AsyncOrderKit.from_url("memory://")
    middleware = asgi.IdempotencyMiddleware(asgi_application(shop), kit, tenant=lambda scope: "acme")
    assert asyncio.run(scenario()) == [201, 422, 201]
    assert shop.calls == 1


def test_a_body_in_chunks_that_the_server_does_not_end_is_refused() -> None:
    shop, request = Shop(), Request("acme")
    with OrderKit.from_url("memory://") as kit:
        middleware = wsgi.IdempotencyMiddleware(wsgi_application(shop), kit, tenant=lambda environ: "acme")
        environ = {**environ_of(request), "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": io.BytesIO(request.body)}
        del environ["CONTENT_LENGTH"]
        problem_of(wsgi_answer(middleware, environ), 411, "length_required")
        assert shop.calls == 0
        assert wsgi_answer(middleware, {**environ, "wsgi.input_terminated": True}).status == 201


@pytest.mark.parametrize("place", EMBEDDED, indirect=True)
def test_listeners_are_told_whose_request_was_repeated(serve: Serve, place: Place, order: Request) -> None:
    told: list[Any] = []
    client = serve(Shop(), listeners=[told.append])
    for _ in range(2):
        client.send(order)
    assert told == [OperationReplayed(policy="http", tenant=order.tenant, key="checkout-7f3a")]
    assert place.asynchronous is isinstance(client, AsgiClient)


@pytest.mark.parametrize("place", EMBEDDED, indirect=True)
def test_asgi_idempotency_header_16_an_exception_answered_further_outside_leaves_the_key_free(
    serve: Serve, order: Request
) -> None:
    shop = Shop(ValueError("a bug"))
    client = serve(shop)
    for _ in range(2):
        with pytest.raises(ValueError, match="a bug"):
            client.send(order)
    shop.answer = Answered()
    answer = client.send(order)
    assert (answer.status, answer.replayed, shop.calls) == (201, False, 3)
