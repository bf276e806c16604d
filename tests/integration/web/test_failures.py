"""What fails is never taken for an answer: neither an error of the application nor one of the storage."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest

from orderkit.errors import (
    CommitUnknown,
    ConfigurationError,
    IdempotencyInFlight,
    IdempotencyMismatch,
    InvalidKey,
    LeaseLost,
    Refused,
    StorageBusy,
    StorageUnavailable,
)
from orderkit.testing.clock import ManualClock
from tests.integration.kit.places import SERVERS, Place
from tests.integration.kit.proxy import Proxy
from tests.integration.web.conftest import EMBEDDED, Serve
from tests.integration.web.test_promises import Slow, beside
from tests.integration.web.worlds import Answered, Request, Shop, problem_of

embedded = pytest.mark.parametrize("place", EMBEDDED, indirect=True)
on_servers = pytest.mark.parametrize("place", SERVERS, indirect=True)

ROOT = Path(__file__).parents[3]


class Broken(Exception):
    """An error that nobody has heard of."""


# --- errors of the application --------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        Broken("of the application"),
        Refused("the shop is closed"),
        StorageUnavailable("another database"),
        StorageBusy("another database"),
        CommitUnknown("of another database"),
        IdempotencyInFlight("another-key", 3.0),
        IdempotencyMismatch("another-key"),
        LeaseLost("another-key", 3),
        InvalidKey("another key"),
        ConfigurationError("of the application"),
        ConnectionError(),
        StopAsyncIteration(),
    ],
    ids=lambda error: type(error).__name__,
)
@embedded
def test_what_the_application_raises_comes_out_and_is_never_kept(
    serve: Serve, order: Request, error: Exception
) -> None:
    shop = Shop(error)
    client = serve(shop)
    for number in range(1, 3):
        with pytest.raises(type(error)) as caught:
            client.send(order)
        assert caught.value is error
        assert shop.calls == number
    shop.answer = Answered(body=b"mended")
    assert [client.send(order).replayed for _ in range(2)] == [False, True]


@embedded
def test_an_error_keeps_the_cause_and_the_context_it_came_with(serve: Serve, order: Request) -> None:
    def fail(_request: Request) -> Answered:
        try:
            try:
                raise KeyError("first")
            except KeyError:
                raise LookupError("second")  # noqa: B904 - a context is what is wanted
        except LookupError as error:
            raise Broken("third") from error

    with pytest.raises(Broken) as caught:
        serve(fail).send(order)
    told = "".join(traceback.format_exception(caught.value))
    assert told.index("KeyError") < told.index("LookupError") < told.index("Broken")
    assert "Escaped" not in told


@embedded
def test_a_tenant_that_is_none_is_a_mistake_of_the_application(serve: Serve, order: Request) -> None:
    shop = Shop()
    client = serve(shop)
    for tenant in (None, 7, b"acme", ""):
        with pytest.raises((ConfigurationError, InvalidKey)):
            client.send(attrs.evolve(order, tenant=tenant))  # type: ignore[arg-type]
    assert not shop.calls


# --- the storage is not there ---------------------------------------------------------------------


@on_servers
def test_while_the_storage_is_not_reached_nothing_is_done(place: Place, serve: Serve, order: Request) -> None:
    shop = Shop()
    nowhere = attrs.evolve(place, url=place.url.set(host="127.0.0.1", port=1))
    client = serve(shop, at=nowhere)
    answer = client.send(order)
    problem_of(answer, 503, "storage_unavailable")
    assert int(answer["retry-after"] or 0) >= 1
    assert not shop.calls
    assert client.send(order.under()).status == 201


@pytest.fixture
def proxy(place: Place) -> Iterator[Proxy]:
    """A proxy in front of the place's server."""
    with Proxy(place.url) as proxy:
        yield proxy


@on_servers
def test_an_answer_that_could_not_be_kept_is_given_all_the_same(
    place: Place, proxy: Proxy, serve: Serve, order: Request
) -> None:
    def work(_request: Request) -> Answered:
        proxy.stop()
        return Answered(body=b"done")

    answer = serve(work, at=attrs.evolve(place, url=proxy.url(place.url))).send(order)
    # It was done: that nothing was changed would not be true.
    assert (answer.status, answer.body, answer.replayed) == (201, b"done", False)
    # Nobody does it again before the lease has run out.
    shop = Shop()
    problem_of(serve(shop, wait=0.0).send(order), 409, "idempotency_in_flight")
    assert not shop.calls


# --- who was at work is gone ----------------------------------------------------------------------


@embedded
def test_a_request_whose_lease_has_run_out_is_done_anew_and_the_first_learns_of_it(
    serve: Serve, order: Request, clock: ManualClock
) -> None:
    slow, shop = Slow(), Shop(Answered(body=b"the second"))

    def work(request: Request) -> Answered:
        return shop(request) if slow.calls else slow(request)

    client = serve(work, {"clock": clock}, lease=60.0)

    def repeat() -> None:
        clock.advance(61)
        assert client.send(order).body == b"the second"

    problem_of(beside(client, slow, order, repeat), 409, "lease_lost")
    again = client.send(order)
    assert (again.body, again.replayed) == (b"the second", True)
    assert (slow.calls, shop.calls) == (1, 1)


@pytest.mark.parametrize("place", ["sqlite-async"], indirect=True)
def test_a_request_whose_process_died_is_done_anew(place: Place, serve: Serve, order: Request) -> None:
    dying = f"""
        import os
        from orderkit import OrderKit
        from tests.integration.web.worlds import Request, WsgiClient
        with OrderKit.from_url({place.address!r}) as kit:
            WsgiClient.of(kit, lambda _: os._exit(9)).send(Request({order.tenant!r}))
    """
    command = [sys.executable, "-c", textwrap.dedent(dying)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    shop = Shop(Answered(body=b"anew"))
    clock = ManualClock(datetime.now(UTC))
    client = serve(shop, {"clock": clock}, wait=0.0)
    problem_of(client.send(order), 409, "idempotency_in_flight")
    clock.advance(timedelta(seconds=61))
    assert [client.send(order).body for _ in range(2)] == [b"anew", b"anew"]
    assert shop.calls == 1
