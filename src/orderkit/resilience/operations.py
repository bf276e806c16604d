"""What a call does to the world, and whether a failed one can have done it: what may be repeated follows from both."""

from __future__ import annotations

import enum
import socket

from orderkit.errors import Rejected


class Operation(enum.StrEnum):
    """What repeating a call would do (RFC 9110, section 9.2, and the idempotency keys of payment providers).

    `SAFE` reads only. `IDEMPOTENT` may be done twice to the same effect. `KEYED` carries a key by which the other side
    knows a repetition; it is made once, outside of what repeats. `UNSAFE` does its work as often as it arrives.
    """

    SAFE = "safe"
    IDEMPOTENT = "idempotent"
    KEYED = "keyed"
    UNSAFE = "unsafe"


_NOT_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
_HTTP_LIBRARIES = ("httpx", "httpx2", "httpcore", "httpcore2")


def nothing_sent(error: BaseException) -> bool:
    """Tell whether an error shows that the request never left: the call can be repeated whatever it does.

    What a local rejection, a refused connection or an unknown host is raised for cannot have arrived; neither can what
    `httpx` and `httpx2` raise before they have a connection. Everything else may have. It tells it of one call: where a
    function makes several, the error of the last says nothing of those before it.
    """
    if isinstance(error, Rejected | ConnectionRefusedError | socket.gaierror):
        return True
    if getattr(error, "sent", None) is False:
        return True
    return any(
        kind.__name__ in _NOT_SENT and kind.__module__.partition(".")[0] in _HTTP_LIBRARIES
        for kind in type(error).__mro__
    )
