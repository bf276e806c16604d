"""The core of the transports: one request, as many attempts as its policy makes, and one response."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, Generic, TypedDict, cast

from orderkit.errors import Rejected
from orderkit.http.bodies import Bound, Timeouts
from orderkit.http.idempotency import KEY_HEADER
from orderkit.http.libraries import Library, RequestT, ResponseT
from orderkit.http.rejections import joined
from orderkit.http.targets import Targets, kind_of, origin_of
from orderkit.http.ways import Ways
from orderkit.resilience import Policy, Registry, Retry
from orderkit.resilience.rejections import DeadlineExceeded, note

FAILED_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""The statuses that another attempt may mend, or that say that the other side is not well."""

_READ_AHEAD: Final = 65_536


class Options(TypedDict, total=False):
    """What a transport may be given besides its policy.

    Attributes:
        failures: Which statuses stand for failures; `FAILED_STATUSES` where absent.
        key_header: In which header a request carries its idempotency key; `Idempotency-Key` where absent.
        origins: For how many origins breakers and budgets are kept; 1000 where absent.
    """

    failures: Collection[int]
    key_header: str
    origins: int


class Core(Generic[RequestT, ResponseT]):
    """Send requests by the policy of their origin."""

    def __init__(
        self,
        library: Library,
        policy: Policy,
        *,
        failures: Collection[int] = FAILED_STATUSES,
        key_header: str = KEY_HEADER,
        origins: int = 1000,
    ) -> None:
        self.library = library
        self.failures = frozenset(failures)
        self._key_header = key_header
        self._targets = Targets(library, policy, origins)

    @property
    def policies(self) -> Registry[Policy]:
        """The policies of the origins that were met, by their names such as `https://api.example.com:443`."""
        return self._targets.policies

    async def send(self, request: RequestT, ways: Ways[RequestT, ResponseT]) -> ResponseT:
        """Return the response to a request: the first that stands for no failure, or that of the last attempt.

        Raises:
            Rejected: The policy did not let it through. It is a transport error of the library as well.
            DeadlineExceeded: Its time was over. It is a time-out of the library as well.
            Exception: What the transport raised at last.
        """
        kind = kind_of(request, self._key_header, self.library.bytes_body)
        policy = self._targets.policy(origin_of(request.url), kind)
        exchange = _Exchange(self, policy, request, ways)
        try:
            return exchange.handed_over(await ways.call(policy, exchange.attempt))
        except self.library.status_error as error:
            return exchange.handed_over(cast("Any", error).response)
        except Exception as error:
            exchange.explain(error)
            surfaced = self._surfaced(error, request)
            if surfaced is error:
                raise
            raise surfaced from error.__cause__
        finally:
            await exchange.end()

    def _surfaced(self, error: Exception, request: RequestT) -> Exception:
        """Return an error as the caller is to see it."""
        if isinstance(error, Rejected):
            return joined(error, self.library.transport_error, request)
        if isinstance(error, DeadlineExceeded):
            return joined(error, self.library.timeout_error, request)
        return error


class _Exchange(Generic[RequestT, ResponseT]):
    """One request with its attempts, several of which may be under way at once."""

    def __init__(
        self, core: Core[RequestT, ResponseT], policy: Policy, request: RequestT, ways: Ways[RequestT, ResponseT]
    ) -> None:
        self._core = core
        self._policy = policy
        self._request = request
        self._ways = ways
        self._lock = threading.Lock()
        self._received: list[ResponseT] = []
        self._failed: list[ResponseT] = []
        self._result: ResponseT | None = None
        self._is_over = False

    async def attempt(self) -> ResponseT:
        """Send the request once."""
        failed, self._failed = self._failed, []
        await self._close(failed)
        bound = Bound(self._core.library, self._policy, self._request)
        response = await bound.judged(self._ways.send(self._copy(bound)))
        await self._keep(response)
        is_failed = response.status_code in self._core.failures
        if not response.is_closed and (is_failed or bound.left is not None):
            response.stream = self._core.library.body(self._ways, response.stream, bound)
        if is_failed:
            raise await self._as_failure(response)
        return response

    def _copy(self, bound: Bound) -> RequestT:
        """Return a copy of the request for one attempt: whatever is changed on the way, the caller's stays as it is."""
        request = self._request
        # The libraries' own way to copy leaves the body out, for the sake of pickling.
        attempt = object.__new__(type(request))
        vars(attempt).update(vars(request))
        attempt.headers = request.headers.copy()
        attempt.extensions = dict(request.extensions)
        if bound.left is not None:
            attempt.extensions["timeout"] = Timeouts(request.extensions.get("timeout") or {}, bound)
        return attempt

    async def _keep(self, response: ResponseT) -> None:
        """Remember a response, to be closed unless it is the one that is returned."""
        with self._lock:
            is_late = self._is_over
            self._received.append(response)
        if is_late:
            # Of a hedge in a thread, which has lost and whose request has ended only now.
            await self._close([response])

    async def _as_failure(self, response: ResponseT) -> Exception:
        """Return the error that stands for a response, which gives its connection back while the next attempt waits."""
        self._failed.append(response)
        if not response.is_closed:
            await response.stream.read_ahead(_READ_AHEAD)
        message = f"The response has the status {response.status_code}."
        status_error = cast("Callable[..., Exception]", self._core.library.status_error)
        return status_error(message, request=self._request, response=response)

    async def _close(self, responses: Iterable[ResponseT]) -> None:
        for response in responses:
            await self._ways.close(response, None)

    def handed_over(self, response: ResponseT) -> ResponseT:
        """Return the response that the caller is given, whose body is the caller's to read."""
        self._result = response
        return response

    async def end(self) -> None:
        """Close every response but the one that the caller is given."""
        with self._lock:
            self._is_over = True
        await self._close(response for response in self._received if response is not self._result)

    def explain(self, error: Exception) -> None:
        """Say on an error that would have been retried that it was not, because the body cannot be sent again."""
        if isinstance(self._request.stream, self._core.library.bytes_body):
            return
        for layer in self._policy.layers:
            if not isinstance(layer, Retry):
                continue
            if layer.refusal(error, self._policy.operation) is None:
                note(error, "Not retried: the body of the request is a stream, which can be sent only once.")
