"""How policies refuse and end calls, as errors."""

from __future__ import annotations

from contextlib import suppress

from orderkit.errors import OrderKitError, Rejected


def note(error: BaseException, text: str) -> None:
    """Say something on an error, once, if it lets anything be said on it: some cannot be changed."""
    with suppress(Exception):
        if text not in getattr(error, "__notes__", ()):
            error.add_note(text)


class CircuitOpen(Rejected):
    """The other side has failed too often of late: it is left alone for a while."""

    code = "circuit_open"

    def __init__(self, policy: str, retry_after: float) -> None:
        super().__init__(
            f"The circuit {policy!r} is open; nothing was sent. Calls are tried again in {retry_after:g} seconds.",
            policy,
            retry_after,
        )


class RateLimited(Rejected):
    """There were too many calls in a time."""

    code = "rate_limited"

    def __init__(self, policy: str, retry_after: float) -> None:
        super().__init__(
            f"The rate limit of {policy!r} is used up; nothing was sent. Repeat it after {retry_after:g} seconds.",
            policy,
            retry_after,
        )


class BulkheadFull(Rejected):
    """There were too many calls at once."""

    code = "bulkhead_full"

    def __init__(self, policy: str, limit: int) -> None:
        super().__init__(
            f"{limit} calls of {policy!r} are under way, as many as there may be; nothing was sent. Repeat it later.",
            policy,
        )


class DeadlineExceeded(OrderKitError, TimeoutError):
    """The time of a call, or of one attempt of it, was over.

    Attributes:
        policy: The name of the policy whose time it was.
        seconds: How long it was allowed to take.
        sent: Whether the call was begun: what it has done on the other side is unknown then.
    """

    code = "deadline_exceeded"

    def __init__(self, policy: str, seconds: float, *, sent: bool) -> None:
        self.policy = policy
        self.seconds = seconds
        self.sent = sent
        what = "was cut off; what it has done is unknown" if sent else "was not begun"
        super().__init__(f"The {seconds:g} seconds that {policy!r} allows were over, and the call {what}.")
