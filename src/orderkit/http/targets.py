"""Which policy a request is sent by: one for each origin, in a variant for each kind of operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

import attrs

from orderkit.http.libraries import Library, Request, Url
from orderkit.http.rejections import joined
from orderkit.resilience import InvalidPolicy, Operation, Policy, Registry, Retry
from orderkit.resilience.layers import Layer, Rank
from orderkit.resilience.rejections import DeadlineExceeded
from orderkit.resilience.retrying import errors_of

_OPERATIONS: Final = {
    **dict.fromkeys(("GET", "HEAD", "OPTIONS", "TRACE", "QUERY"), Operation.SAFE),
    **dict.fromkeys(("PUT", "DELETE"), Operation.IDEMPOTENT),
}
_PORTS: Final = {"http": 80, "https": 443}


@attrs.frozen
class Kind:
    """What the variant of a policy depends on.

    Attributes:
        operation: What sending the request again would do.
        is_replayable: Whether it can be sent again at all: its body is held as bytes.
    """

    operation: Operation
    is_replayable: bool = True


def kind_of(request: Request, key_header: str, bytes_body: type[object]) -> Kind:
    """Return what kind of request it is, as it declares by its method, its key and its body (RFC 9110, section 9.2)."""
    operation = _OPERATIONS.get(request.method, Operation.UNSAFE)
    if operation is Operation.UNSAFE and request.headers.get(key_header):
        operation = Operation.KEYED
    return Kind(operation, isinstance(request.stream, bytes_body))


def origin_of(url: Url) -> str:
    """Return scheme, host and port: nothing that tells one request, or one user, from another."""
    host = url.raw_host.decode("ascii")
    port = url.port or _PORTS.get(url.scheme, 0)
    return f"{url.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


class Targets:
    """The policies of each origin, of which the most recently used are kept.

    Args:
        library: Whose errors the policy is about.
        policy: What those of all origins are made from.
        limit: How many origins are kept.

    Attributes:
        policies: Those in use, by their origins.

    Raises:
        InvalidPolicy: The policy cannot be that of a transport.
    """

    def __init__(self, library: Library, policy: Policy, limit: int) -> None:
        if not isinstance(policy, Policy):
            raise InvalidPolicy("A transport is given a `Policy`.")
        if any(layer.rank is Rank.CACHE for layer in policy.layers):
            raise InvalidPolicy("A cache in the policy of a transport would give every request the same response.")
        self._library = library
        for operation in Operation:
            self._variant(policy, Kind(operation))
        self.policies = Registry(policy.for_target, limit=limit)
        # Forgotten with the policy of the origin, whose breaker and budget they share.
        self._variants: WeakKeyDictionary[Policy, dict[Kind, Policy]] = WeakKeyDictionary()

    def policy(self, origin: str, kind: Kind) -> Policy:
        """Return the policy for an origin and a kind of request."""
        base = self.policies.get(origin)
        variants = self._variants.setdefault(base, {})
        found = variants.get(kind)
        # Two threads may make one at once, to the same effect: what they remember is in layers that both share.
        return variants.setdefault(kind, self._variant(base, kind)) if found is None else found

    def _variant(self, policy: Policy, kind: Kind) -> Policy:
        may_be_doubled = kind.operation is Operation.SAFE and kind.is_replayable
        layers = (
            self._adapted(layer, kind)
            for layer in policy.layers
            # One policy is for all requests of a client: those that a hedge would do twice are sent without it.
            if layer.rank is not Rank.HEDGE or may_be_doubled
        )
        return Policy(*layers, operation=kind.operation, name=policy.name, listeners=policy.listeners)

    def _adapted(self, layer: Layer, kind: Kind) -> Layer:
        if not isinstance(layer, Retry):
            return layer
        attempts = layer.attempts if kind.is_replayable else 1
        return attrs.evolve(layer, on=self._wanted(layer), attempts=attempts)

    def _wanted(self, retry: Retry) -> Callable[[Exception], bool]:
        """Return which errors are retried: those that were named, and every response that stands for a failure."""
        named = errors_of(retry.on, "a retry")
        library = self._library

        def is_wanted(error: Exception) -> bool:
            if isinstance(error, DeadlineExceeded) and named(joined(error, library.timeout_error, None)):
                # Raised by a layer further inside, it is what the caller will catch as the library's time-out.
                return True
            return isinstance(error, library.status_error) or named(error)

        return is_wanted
