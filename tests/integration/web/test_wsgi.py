"""The WSGI middleware, to the letter of PEP 3333, behind a server of its own and around Django."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Unpack
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.validate import validator

import pytest

from orderkit import OrderKit
from orderkit.errors import ConfigurationError
from orderkit.integrations.requests import RuleFields
from orderkit.integrations.wsgi import IdempotencyMiddleware
from tests.integration.web.worlds import PLAIN, Answered, Request, Shop, environ_of, problem_of, wsgi_answer

ROOT = Path(__file__).parents[3]

Environ = dict[str, Any]
Application = Callable[..., Any]


class Reading:
    """An application that answers with the body it was sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def __call__(self, environ: Environ, start_response: Any) -> list[bytes]:
        self.bodies.append(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        start_response("200 OK", [*PLAIN])
        return [self.bodies[-1]]


@pytest.fixture
def kit() -> Iterator[OrderKit]:
    with OrderKit.from_url("memory://") as kit:
        yield kit


Send = Callable[..., Answered]


@pytest.fixture
def send(kit: OrderKit, order: Request) -> Send:
    """Have an application answer the request of the test, with some of its environment replaced."""

    def sending(application: Any, rules: RuleFields | None = None, without: str = "", **replaced: object) -> Answered:
        environ = {name: value for name, value in environ_of(order).items() if name != without}
        environ.update({name.replace("__", "."): value for name, value in replaced.items()})
        middleware = around(application, kit, **(rules or {}))
        return wsgi_answer(validator(middleware) if _is_length(environ.get("CONTENT_LENGTH")) else middleware, environ)

    return sending


def around(application: Application, kit: OrderKit, **rules: Unpack[RuleFields]) -> Application:
    inner: Any = validator(application)
    return IdempotencyMiddleware(inner, kit, tenant=lambda environ: environ["shop.tenant"], **rules)


def _is_length(given: str | None) -> bool:
    """Tell whether the validator, which checks a server as well, would put up with this."""
    return not given or (given.isdecimal() and len(given) < 20)


# --- the body -------------------------------------------------------------------------------------


class Dripping(io.BytesIO):
    """An input that gives less than it was asked for, as one that is read from a socket may."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size, 3) if size is not None and size > 0 else size)


@pytest.mark.parametrize("kind", [io.BytesIO, Dripping])
def test_the_body_is_read_whole_however_it_comes(send: Send, kind: Callable[[bytes], io.BytesIO]) -> None:
    application = Reading()
    assert send(application, wsgi__input=kind(b"0123456789"), CONTENT_LENGTH="10").body == b"0123456789"


def test_of_an_input_no_more_is_read_than_it_is_told_to_have(send: Send) -> None:
    given = io.BytesIO(b"0123456789, and the next request")
    assert send(Reading(), wsgi__input=given, CONTENT_LENGTH="10").body == b"0123456789"
    assert given.read() == b", and the next request"


@pytest.mark.parametrize("length", [None, "", "abc", "-5", "+5", "1e3", "٣", " 5", "5 "], ids=ascii)
def test_without_a_length_that_can_be_read_there_is_no_body(send: Send, length: str | None) -> None:
    """Nor does the application see one: whatever it is given is what the request is known by."""
    application = Reading()
    given = io.BytesIO(b"never to be read")
    replaced = {} if length is None else {"CONTENT_LENGTH": length}
    answer = send(application, without="CONTENT_LENGTH", wsgi__input=given, **replaced)
    assert (answer.status, application.bodies, given.tell()) == (200, [b""], 0)


@pytest.mark.parametrize("length", [None, "", "abc"])
def test_a_body_in_chunks_is_read_where_the_server_ends_the_input(send: Send, length: str | None) -> None:
    replaced: dict[str, object] = {} if length is None else {"CONTENT_LENGTH": length}
    answer = send(
        Reading(),
        without="CONTENT_LENGTH",
        wsgi__input=Dripping(b"chunk by chunk"),
        wsgi__input_terminated=True,
        HTTP_TRANSFER_ENCODING="chunked",
        **replaced,
    )
    assert (answer.status, answer.body) == (200, b"chunk by chunk")


def test_a_body_that_is_shorter_than_it_is_told_to_be_is_no_request(send: Send) -> None:
    """Its client went in the middle of it: what is missing may matter."""
    application = Reading()
    problem_of(send(application, wsgi__input=io.BytesIO(b"0123"), CONTENT_LENGTH="10"), 400, "body_cut_short")
    assert not application.bodies
    whole = send(application, wsgi__input=io.BytesIO(b"0123456789"), CONTENT_LENGTH="10")
    assert (whole.status, whole.replayed) == (200, False)


@pytest.mark.parametrize("length", ["11", "9" * 25, "9" * 5000], ids=len)
def test_a_body_that_says_it_is_too_large_is_not_read(send: Send, length: str) -> None:
    given = io.BytesIO(b"x" * 100)
    problem_of(send(Reading(), {"max_body": 10}, wsgi__input=given, CONTENT_LENGTH=length), 413, "body_too_large")
    assert given.tell() == 0


def test_a_body_in_chunks_that_is_too_large_is_read_no_further(send: Send) -> None:
    given = io.BytesIO(b"x" * 100)
    options = {"wsgi__input": given, "wsgi__input_terminated": True}
    problem_of(send(Reading(), {"max_body": 10}, without="CONTENT_LENGTH", **options), 413, "body_too_large")
    assert given.tell() == 11
    options["wsgi__input"] = io.BytesIO(b"x" * 10)
    assert send(Reading(), {"max_body": 10}, without="CONTENT_LENGTH", **options).body == b"x" * 10


# --- start_response -------------------------------------------------------------------------------


def test_a_status_that_is_replaced_by_an_error_is_the_one_that_counts(send: Send) -> None:
    def application(_environ: Environ, start_response: Any) -> list[bytes]:
        start_response("200 OK", [*PLAIN])
        try:
            raise LookupError("while it was made")
        except LookupError:
            start_response("404 Not Found", [*PLAIN], sys.exc_info())
        return [b"no such thing"]

    for replayed in (False, True):
        answer = send(application)
        assert (answer.status, answer.body, answer.replayed) == (404, b"no such thing", replayed)


@pytest.mark.parametrize("way", ["written", "yielded"])
def test_an_error_after_the_first_byte_is_raised_and_nothing_is_kept(send: Send, way: str) -> None:
    def application(_environ: Environ, start_response: Any) -> Iterator[bytes]:
        write = start_response("200 OK", [*PLAIN])
        if way == "written":
            write(b"half of ")
        else:
            yield b"half of "
        try:
            raise LookupError("in the middle")
        except LookupError:
            start_response("500 Oh", [*PLAIN], sys.exc_info())
        yield b"an error page"

    with pytest.raises(LookupError, match="in the middle"):
        send(application)
    assert not send(Reading()).replayed


def test_a_second_status_without_an_error_is_a_mistake(kit: OrderKit, order: Request) -> None:
    def application(_environ: Environ, start_response: Any) -> list[bytes]:
        start_response("200 OK", [*PLAIN])
        start_response("200 OK", [*PLAIN])
        return [b""]

    middleware = IdempotencyMiddleware(application, kit, tenant=lambda environ: environ["shop.tenant"])
    with pytest.raises(AssertionError, match="twice"):
        wsgi_answer(middleware, environ_of(order))


def test_what_is_written_comes_before_what_is_returned(send: Send) -> None:
    def application(_environ: Environ, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [*PLAIN])
        write(b"one ")
        write(b"two ")
        return [b"three"]

    assert [send(application).body for _ in range(2)] == [b"one two three"] * 2


def test_an_application_may_begin_its_response_with_its_first_part(send: Send) -> None:
    def application(_environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response("202 Accepted", [*PLAIN])
        yield b"a "
        yield b""
        yield b"generator"

    for replayed in (False, True):
        answer = send(application)
        assert (answer.status, answer.body, answer.replayed) == (202, b"a generator", replayed)


def test_an_application_that_begins_no_response_is_told_so(kit: OrderKit, order: Request) -> None:
    middleware = IdempotencyMiddleware(lambda *_: [b"done"], kit, tenant=lambda environ: environ["shop.tenant"])
    with pytest.raises(ConfigurationError, match="whole response"):
        wsgi_answer(middleware, environ_of(order))


# --- close ----------------------------------------------------------------------------------------


class Closing:
    """What an application returns that is to be closed."""

    def __init__(self, *, fails: bool = False) -> None:
        self.closed = 0
        self._fails = fails

    def __call__(self, _environ: Environ, start_response: Any) -> Closing:
        start_response("200 OK", [*PLAIN])
        return self

    def __iter__(self) -> Iterator[bytes]:
        yield b"done"
        if self._fails:
            raise LookupError("in the middle")

    def close(self) -> None:
        self.closed += 1


def test_what_is_returned_is_closed_once(send: Send) -> None:
    application = Closing()
    assert [send(application).body for _ in range(2)] == [b"done", b"done"]
    assert application.closed == 1


def test_what_fails_in_the_middle_is_closed_and_nothing_is_kept(send: Send) -> None:
    application = Closing(fails=True)
    for number in (1, 2):
        with pytest.raises(LookupError):
            send(application)
        assert application.closed == number


def test_what_passes_through_is_given_on_as_it_is(kit: OrderKit, order: Request) -> None:
    application = Closing()
    middleware = IdempotencyMiddleware(application, kit, tenant=lambda environ: environ["shop.tenant"])
    environ = environ_of(order.under())
    assert middleware(environ, lambda *_: print) is application
    assert application.closed == 0


def test_the_way_an_application_is_mounted_is_part_of_its_path(kit: OrderKit, order: Request) -> None:
    shop = Shop()

    def application(environ: Environ, start_response: Any) -> list[bytes]:
        shop(order)
        start_response("200 OK", [*PLAIN])
        return []

    for mounted in ("/eu", "/us"):
        environ = {**environ_of(order), "SCRIPT_NAME": mounted}
        answer = wsgi_answer(around(application, kit), environ)
    problem_of(answer, 422, "idempotency_mismatch")


# --- a server -------------------------------------------------------------------------------------


class Silent(WSGIRequestHandler):
    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@contextmanager
def served(application: Application) -> Iterator[HTTPConnection]:
    with make_server("127.0.0.1", 0, application, handler_class=Silent) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield HTTPConnection("127.0.0.1", server.server_port, timeout=30)
        finally:
            server.shutdown()
            thread.join()


def test_a_real_server_and_a_real_client(kit: OrderKit) -> None:
    application = Reading()

    middleware = around(application, kit, required=True)

    def authenticating(environ: Environ, start_response: Any) -> Any:
        return middleware({**environ, "shop.tenant": "acme"}, start_response)

    with served(validator(authenticating)) as client:

        def post(body: bytes, **headers: str) -> tuple[int, str | None, bytes]:
            client.request("POST", "/orders", body, {"Content-Type": "text/plain", **headers})
            response = client.getresponse()
            return response.status, response.getheader("Idempotent-Replayed"), response.read()

        key = {"Idempotency-Key": '"7f3a"'}
        assert post(b"a", **key) == (200, None, b"a")
        assert post(b"a", **key) == (200, "true", b"a")
        assert post(b"b", **key)[0] == 422
        assert post(b"a")[0] == 400
    assert application.bodies == [b"a"]


# --- Django ---------------------------------------------------------------------------------------

DJANGO = """
    import json
    import django
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application
    from orderkit.integrations.wsgi import IdempotencyMiddleware
    from tests.integration.web.worlds import Request, WsgiClient, environ_of, wsgi_answer

    application = get_wsgi_application()
    call_command("migrate", run_syncdb=True, verbosity=0)
    from shop.models import Basket
    from shop.orders import kit

    application = IdempotencyMiddleware(application, kit, tenant=lambda environ: environ["shop.tenant"])
    request = Request("acme", path="/baskets/a/check-out", headers=[("idempotency-key", "7f3a")])
    answers = [wsgi_answer(application, environ_of(request)) for _ in range(2)]
    print(json.dumps([[answer.status, answer.replayed, answer.body.decode()] for answer in answers]))
    print(Basket.objects.count(), len(list(kit.orders.stream())))
"""


@pytest.mark.slow
def test_the_requests_of_a_django_project_are_done_once(tmp_path: Path) -> None:
    project = ROOT / "tests" / "integration" / "joining" / "django_project"
    surroundings = {
        "PATH": "",
        "PYTHONPATH": f"{project}:{ROOT}",
        "DJANGO_SETTINGS_MODULE": "settings",
        "SHOP_DATABASE_URL": f"sqlite:///{tmp_path / 'shop.db'}",
        "SHOP_FOLDER": str(tmp_path),
    }
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(DJANGO)]
    done = subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers, counts = done.stdout.splitlines()
    (status, first, body), again = json.loads(answers)
    assert (status, first) == (200, False)
    assert again == [200, True, body]
    assert counts == "1 1"
