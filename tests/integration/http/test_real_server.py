"""The transports against a server that keeps to a script: what only sockets can show."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any

import pytest

from orderkit.resilience import (
    AttemptTimeout,
    Backoff,
    Deadline,
    Hedge,
    Operation,
    Policy,
    PolicyEvent,
    Retry,
    RetryScheduled,
    time_left,
)
from orderkit.resilience.rejections import DeadlineExceeded
from tests.unit.http.worlds import WORLDS, World

pytestmark = pytest.mark.slow

SLACK = 0.4
"""Seconds that a busy machine may add."""


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    return WORLDS[request.param]


# --- a server that keeps to a script ------------------------------------------------------------


class Scripted:
    """Answer each request by the next step of a script, the last one again and again.

    Attributes:
        requests: The head and the body of every request.
        connections: How many there were.
        arrived: Set when the first request has been read.
        over: Set when the test is over, so that no step waits any longer.
    """

    def __init__(self, *script: Callable[[socket.socket, Scripted], None]) -> None:
        self.script = script
        self.requests: list[tuple[bytes, bytes]] = []
        self.connections = 0
        self.arrived = threading.Event()
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/orders"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self.over.is_set():
                connection.close()
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(10)
            with connection.makefile("rb") as stream:
                while (request := self._read(stream)) is not None:
                    with self._lock:
                        step = self.script[min(len(self.requests), len(self.script) - 1)]
                        self.requests.append(request)
                    self.arrived.set()
                    step(connection, self)

    @staticmethod
    def _read(stream: Any) -> tuple[bytes, bytes] | None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = stream.readline()
            if not line:
                return None
            head += line
        lowered = head.lower()
        if b"transfer-encoding: chunked" in lowered:
            body = b""
            while size := int(stream.readline(), 16):
                body += stream.read(size)
                stream.readline()
            stream.readline()
            return head, body
        length = int(lowered.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        return head, stream.read(length)

    def close(self) -> None:
        self.over.set()
        with suppress(OSError), socket.create_connection(self._listener.getsockname(), timeout=1):
            pass
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


Step = Callable[[socket.socket, Scripted], None]


def answer(status: int, body: bytes = b"hello", *headers: str) -> Step:
    def step(connection: socket.socket, _server: Scripted) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers]
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    return step


def drip(every: float, parts: int) -> Step:
    def step(connection: socket.socket, server: Scripted) -> None:
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {parts}\r\n\r\n".encode())
        for _ in range(parts):
            if server.over.wait(every):
                return
            connection.sendall(b".")

    return step


def hang(connection: socket.socket, server: Scripted) -> None:
    """Take the request and never answer."""
    server.over.wait(10)
    connection.close()


def stall(connection: socket.socket, server: Scripted) -> None:
    """Answer with headers and never send the body."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    hang(connection, server)


def reset(connection: socket.socket, _server: Scripted) -> None:
    """Break the connection before anything is answered."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.shutdown(socket.SHUT_RD)
    connection.close()
    raise OSError("it is closed")


def reset_before_the_body(connection: socket.socket, server: Scripted) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    reset(connection, server)


@pytest.fixture
def served() -> Iterator[Callable[..., Scripted]]:
    servers: list[Scripted] = []

    def serve(*script: Step) -> Scripted:
        servers.append(Scripted(*script))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """Have the libraries import what they first import on a request, so that no time-out of a test is spent on it."""
    with closing(Scripted(answer(200))) as server:
        for world in WORLDS.values():
            world.ask(sent_by(world, Policy()), ("GET", server.url))


Serve = Callable[..., Scripted]


def policy_of(world: World, *outer: Any, inner: tuple[Any, ...] = (), listeners: Any = (), attempts: int = 3) -> Policy:
    retry = Retry(on=world.library.TransportError, attempts=attempts, backoff=Backoff(base=0.0, throttled_base=0.0))
    return Policy(*outer, retry, *inner, operation=Operation.SAFE, listeners=listeners)


def sent_by(world: World, policy: Policy, connections: int = 1) -> Any:
    """Return a transport of sockets, with a pool of so many connections."""
    limits = world.library.Limits(max_connections=connections)
    inner = world.library.AsyncHTTPTransport if world.is_async else world.library.HTTPTransport
    kind = world.ours.AsyncResilientTransport if world.is_async else world.ours.ResilientTransport
    return kind(policy, inner(limits=limits))


def timed(call: Callable[[], list[Any]]) -> tuple[Any, float]:
    begun = time.monotonic()
    [outcome] = call()
    return outcome, time.monotonic() - begun


# --- time ---------------------------------------------------------------------------------------


def test_a_time_out_bounds_the_whole_although_the_body_drips(world: World, served: Serve) -> None:
    server = served(drip(0.1, 30))
    transport = sent_by(world, policy_of(world, Deadline(0.3)))
    outcome, seconds = timed(lambda: world.ask(transport, ("GET", server.url), timeout=0.3))
    assert isinstance(outcome, DeadlineExceeded)
    assert isinstance(outcome, world.library.TimeoutException)
    # A thread ends with the part that was awaited when the time was over.
    assert 0.25 < seconds < 0.3 + 0.1 + SLACK


def test_a_body_that_never_comes_ends_with_the_deadline(world: World, served: Serve) -> None:
    server = served(stall)
    transport = sent_by(world, policy_of(world, Deadline(0.3)))
    outcome, seconds = timed(lambda: world.ask(transport, ("GET", server.url), timeout=30.0))
    assert isinstance(outcome, DeadlineExceeded)
    assert seconds < 0.3 + SLACK


def test_a_server_that_accepts_and_never_answers_costs_one_attempt(world: World, served: Serve) -> None:
    server = served(hang, answer(200))
    transport = sent_by(world, policy_of(world, Deadline(10), inner=(AttemptTimeout(0.5),)))
    [outcome] = world.ask(transport, ("GET", server.url), timeout=30.0)
    assert (outcome.status_code, outcome.content, len(server.requests)) == (200, b"hello", 2)


def test_an_order_that_got_no_answer_is_not_sent_again(world: World, served: Serve) -> None:
    server = served(hang, answer(200))
    transport = sent_by(world, policy_of(world, inner=(AttemptTimeout(0.5),)))
    [outcome] = world.ask(transport, ("POST", server.url, {"content": b"two teas"}), timeout=30.0)
    assert isinstance(outcome, DeadlineExceeded)
    assert outcome.sent
    assert [body for _, body in server.requests] == [b"two teas"]


def test_nothing_of_a_deadline_is_left_behind(world: World, served: Serve) -> None:
    server = served(answer(200))
    world.ask(sent_by(world, policy_of(world, Deadline(5))), ("GET", server.url))
    assert time_left() is None


# --- connections --------------------------------------------------------------------------------


def test_a_retried_response_never_exhausts_the_pool(world: World, served: Serve) -> None:
    server = served(answer(503, b"x" * 10_000), answer(503, b"x" * 1_000_000), answer(200))
    timeout = world.library.Timeout(5.0, pool=0.5)
    [outcome] = world.ask(sent_by(world, policy_of(world)), ("GET", server.url), timeout=timeout)
    assert (outcome.status_code, len(server.requests)) == (200, 3)


def test_the_connection_of_a_short_failed_response_is_used_again(world: World, served: Serve) -> None:
    server = served(answer(503), answer(429, b"slower", "Retry-After: 0"), answer(200))
    [first, second] = world.ask(sent_by(world, policy_of(world)), *[("GET", server.url)] * 2)
    assert (first.status_code, second.status_code) == (200, 200)
    assert (len(server.requests), server.connections) == (4, 1)


def test_a_long_failed_response_is_given_to_the_caller_whole(world: World, served: Serve) -> None:
    server = served(answer(503, b"0123456789" * 100_000))
    [first, second] = world.ask(sent_by(world, policy_of(world)), *[("GET", server.url)] * 2)
    assert (first.status_code, first.content) == (503, b"0123456789" * 100_000)
    assert second.content == first.content


def test_a_connection_that_breaks_before_the_answer_is_tried_again(world: World, served: Serve) -> None:
    server = served(reset, reset, answer(200))
    [outcome] = world.ask(sent_by(world, policy_of(world)), ("GET", server.url))
    assert (outcome.status_code, len(server.requests)) == (200, 3)


def test_an_order_under_a_key_is_sent_again_with_the_same_key_and_body(world: World, served: Serve) -> None:
    server = served(reset, answer(201))
    call = ("POST", server.url, {"json": {"sku": "TEA"}, "headers": {"Idempotency-Key": "checkout-7f3a"}})
    [outcome] = world.ask(sent_by(world, policy_of(world)), call)
    assert outcome.status_code == 201
    assert len(server.requests) == 2
    assert server.requests[0] == server.requests[1]
    assert b"checkout-7f3a" in server.requests[1][0]


def test_a_body_that_breaks_off_is_an_error_of_the_caller_s_stream(world: World, served: Serve) -> None:
    server = served(reset_before_the_body)
    [outcome] = world.ask(sent_by(world, policy_of(world)), ("GET", server.url))
    assert isinstance(outcome, world.library.TransportError)
    assert len(server.requests) == 1


def test_a_refused_connection_is_tried_again_whatever_the_request_does(world: World) -> None:
    told: list[PolicyEvent] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    [outcome] = world.ask(sent_by(world, policy_of(world, listeners=[told.append])), ("POST", url))
    assert isinstance(outcome, world.library.ConnectError)
    assert sum(isinstance(event, RetryScheduled) for event in told) == 2


# --- bodies -------------------------------------------------------------------------------------


def test_a_generator_body_is_sent_once_and_never_replayed_empty(world: World, served: Serve) -> None:
    server = served(answer(503), answer(200))
    transport = sent_by(world, policy_of(world))
    [outcome] = world.ask(transport, ("PUT", server.url, {"content": world.streamed(b"two ", b"teas")}))
    assert outcome.status_code == 503
    assert [body for _, body in server.requests] == [b"two teas"]


def test_a_big_response_is_streamed_while_it_is_being_sent(world: World, served: Serve) -> None:
    part, parts = b"0123456789abcdef" * 4096, 128
    seen = threading.Event()

    def big(connection: socket.socket, server: Scripted) -> None:
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(part) * parts}\r\n\r\n".encode() + part)
        assert seen.wait(10)
        for _ in range(parts - 1):
            connection.sendall(part)

    server = served(big)
    transport = sent_by(world, policy_of(world, Deadline(20)))

    async def read() -> int:
        length = 0
        async with (
            world.library.AsyncClient(transport=transport) as client,
            client.stream("GET", server.url) as response,
        ):
            async for chunk in response.aiter_raw():
                length += len(chunk)
                seen.set()
        return length

    if world.is_async:
        length = asyncio.run(read())
    else:
        length = 0
        with world.library.Client(transport=transport) as client, client.stream("GET", server.url) as response:
            for chunk in response.iter_raw():
                length += len(chunk)
                seen.set()
    assert length == len(part) * parts


def test_a_stream_that_the_caller_leaves_gives_its_connection_back(world: World, served: Serve) -> None:
    server = served(drip(0.01, 1000), answer(200))
    transport = sent_by(world, policy_of(world, Deadline(20)))
    timeout = world.library.Timeout(5.0, pool=0.5)

    async def leave() -> int:
        async with world.library.AsyncClient(transport=transport, timeout=timeout) as client:
            async with client.stream("GET", server.url) as response:
                async for _ in response.aiter_raw():
                    break
            return int((await client.get(server.url)).status_code)

    if world.is_async:
        assert asyncio.run(leave()) == 200
        return
    with world.library.Client(transport=transport, timeout=timeout) as client:
        with client.stream("GET", server.url) as response:
            next(response.iter_raw())
        assert client.get(server.url).status_code == 200


# --- many at once -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["httpx-loop", "httpx2-loop"])
def test_a_cancelled_request_gives_its_connection_back(name: str, served: Serve) -> None:
    world = WORLDS[name]
    server = served(hang, answer(200))
    transport = sent_by(world, policy_of(world, Deadline(20), inner=(AttemptTimeout(10),)))

    async def scenario() -> int:
        async with world.library.AsyncClient(transport=transport) as client:
            task = asyncio.create_task(client.get(server.url))
            await asyncio.to_thread(server.arrived.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return int((await client.get(server.url, timeout=world.library.Timeout(5.0, pool=0.5))).status_code)

    assert asyncio.run(scenario()) == 200


@pytest.mark.parametrize("name", ["httpx-thread", "httpx2-thread"])
def test_threads_share_a_client(name: str, served: Serve) -> None:
    world = WORLDS[name]
    server = served(*[answer(503), answer(200)] * 20, answer(200))
    # Whichever requests meet the failures: there are fewer of them than each may make attempts.
    transport = sent_by(world, policy_of(world, Deadline(20), attempts=30), connections=4)
    with world.library.Client(transport=transport) as client, ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(lambda _: client.get(server.url).status_code, range(40)))
    assert statuses == [200] * 40
    # httpx itself closes a connection in use now and then, in one of some hundred requests of threads: one more retry.
    assert len(server.requests) >= 60


@pytest.mark.parametrize("name", WORLDS)
def test_a_hedged_read_returns_the_first_answer_and_keeps_no_connection(name: str, served: Serve) -> None:
    world = WORLDS[name]
    server = served(hang, answer(200))
    transport = sent_by(world, Policy(Hedge(0.05), operation=Operation.SAFE), connections=2)
    outcome, seconds = timed(lambda: world.ask(transport, ("GET", server.url), timeout=1.0))
    assert (outcome.status_code, outcome.content) == (200, b"hello")
    assert seconds < 0.5 + SLACK
