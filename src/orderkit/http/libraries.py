"""What `httpx` and `httpx2` have in common, as the shared core sees it, and the few types by which they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import attrs

if TYPE_CHECKING:
    from orderkit.http.bodies import Body


class Url(Protocol):
    """Where a request goes."""

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        ...

    @property
    def raw_host(self) -> bytes:
        """The host in ASCII, an address of IPv6 without its brackets."""
        ...

    @property
    def port(self) -> int | None:
        """The port, unless it is that of the scheme."""
        ...


class Request(Protocol):
    """A request of either library."""

    method: str
    # Types of the library's own, which the core copies without looking into most of them.
    headers: Any
    stream: Any
    extensions: Any

    @property
    def url(self) -> Url:
        """Where it goes."""
        ...


class Response(Protocol):
    """A response of either library."""

    stream: Any

    @property
    def status_code(self) -> int:
        """Its status."""
        ...

    @property
    def is_closed(self) -> bool:
        """Whether its body has been read already."""
        ...


RequestT = TypeVar("RequestT", bound=Request)
ResponseT = TypeVar("ResponseT", bound=Response)


@attrs.frozen(kw_only=True)
class Library:
    """The types by which one library differs from the other.

    Attributes:
        transport_error: What a transport raises.
        timeout_error: What it raises where a time-out was over.
        status_error: What a response that stands for a failure is raised as.
        bytes_body: The body of a request that is held as bytes, and so can be sent again.
        body: Our body of a response, as a stream of this library.
    """

    transport_error: type[Exception]
    timeout_error: type[Exception]
    status_error: type[Exception]
    bytes_body: type[object]
    body: type[Body]
