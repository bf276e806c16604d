"""Transports that make a client of `httpx` resilient.

```python
import httpx

from orderkit.http.httpx import ResilientTransport
from orderkit.resilience import AttemptTimeout, CircuitBreaker, Deadline, Operation, Policy, Retry

policy = Policy(
    Deadline(10),
    Retry(on=httpx.TransportError),
    CircuitBreaker("payments"),
    AttemptTimeout(2),
    operation=Operation.SAFE,
)
client = httpx.Client(transport=ResilientTransport(policy))
```
"""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self, Unpack

import httpx

from orderkit.http.bodies import Body
from orderkit.http.exchanges import Core, Options
from orderkit.http.libraries import Library
from orderkit.http.ways import Awaiting, Blocking
from orderkit.resilience import Policy, Registry
from orderkit.resilience.runtimes import drive

__all__ = ["AsyncResilientTransport", "ResilientTransport"]


class _Body(Body, httpx.SyncByteStream, httpx.AsyncByteStream):
    """The body of a response, as clients of httpx know it."""


LIBRARY: Final = Library(
    transport_error=httpx.TransportError,
    timeout_error=httpx.TimeoutException,
    status_error=httpx.HTTPStatusError,
    bytes_body=httpx.ByteStream,
    body=_Body,
)


class ResilientTransport(httpx.BaseTransport):
    """Send the requests of a `httpx.Client` by a policy; `orderkit.http` says what it promises.

    Args:
        policy: What surrounds each request.
        transport: What sends it; a `httpx.HTTPTransport` where absent.
        **options: Which statuses stand for failures (`failures`), which header holds the key (`key_header`), and for
            how many origins breakers and budgets are kept (`origins`).

    Raises:
        InvalidPolicy: The policy cannot be that of a transport.
    """

    def __init__(
        self, policy: Policy, transport: httpx.BaseTransport | None = None, **options: Unpack[Options]
    ) -> None:
        self._core = Core[httpx.Request, httpx.Response](LIBRARY, policy, **options)
        self._transport = httpx.HTTPTransport() if transport is None else transport
        self._ways = Blocking(self._transport.handle_request)

    @property
    def policies(self) -> Registry[Policy]:
        """The policies of the origins that were met, by their names such as `https://api.example.com:443`."""
        return self._core.policies

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response to a request: the first that stands for no failure, or that of the last attempt.

        Raises:
            Rejected: It was not let through; also a `httpx.TransportError`.
            DeadlineExceeded: Its time was over; also a `httpx.TimeoutException`.
            httpx.TransportError: What the last attempt failed with.
        """
        return drive(self._core.send(request, self._ways))

    def close(self) -> None:
        """Close the transport that sends."""
        self._transport.close()

    def __enter__(self) -> Self:
        self._transport.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._transport.__exit__(exc_type, exc_value, traceback)


class AsyncResilientTransport(httpx.AsyncBaseTransport):
    """Send the requests of a `httpx.AsyncClient` by a policy, as `ResilientTransport` does.

    Args:
        policy: What surrounds each request.
        transport: What sends it; a `httpx.AsyncHTTPTransport` where absent.
        **options: Which statuses stand for failures (`failures`), which header holds the key (`key_header`), and for
            how many origins breakers and budgets are kept (`origins`).

    Raises:
        InvalidPolicy: The policy cannot be that of a transport.
    """

    def __init__(
        self, policy: Policy, transport: httpx.AsyncBaseTransport | None = None, **options: Unpack[Options]
    ) -> None:
        self._core = Core[httpx.Request, httpx.Response](LIBRARY, policy, **options)
        self._transport = httpx.AsyncHTTPTransport() if transport is None else transport
        self._ways = Awaiting(self._transport.handle_async_request)

    @property
    def policies(self) -> Registry[Policy]:
        """The policies of the origins that were met, by their names such as `https://api.example.com:443`."""
        return self._core.policies

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response to a request; see `ResilientTransport.handle_request`.

        Raises:
            Rejected: It was not let through; also a `httpx.TransportError`.
            DeadlineExceeded: Its time was over; also a `httpx.TimeoutException`.
            httpx.TransportError: What the last attempt failed with.
        """
        return await self._core.send(request, self._ways)

    async def aclose(self) -> None:
        """Close the transport that sends."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._transport.__aexit__(exc_type, exc_value, traceback)
