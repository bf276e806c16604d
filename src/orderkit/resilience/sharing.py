"""What several processes may share of a breaker, as a port: off by default, since one sick process opens it for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from orderkit.resilience.breaker import CircuitBreaker
    from orderkit.resilience.layers import Invocation


class SharedCircuit(Protocol):
    """Let processes tell each other which circuits are open. What cannot be reached changes nothing."""

    async def look(self, breaker: CircuitBreaker, invocation: Invocation[Any]) -> None:
        """Open a breaker if another process has, before a call; look only now and then."""
        ...

    async def publish(self, breaker: CircuitBreaker, invocation: Invocation[Any]) -> None:
        """Tell the others if a breaker has just opened here, after a call that failed."""
        ...
