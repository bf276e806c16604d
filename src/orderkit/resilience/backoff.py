"""How long to wait before the next attempt: full jitter, or what the other side asks for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime

import attrs

from orderkit.resilience import conditions
from orderkit.resilience.layers import InvalidPolicy, checked


@attrs.frozen
class Backoff:
    """Wait a random time below a bound that doubles with every attempt, up to a cap.

    Full jitter: `uniform(0, min(cap, base * 2**n))` (Marc Brooker, "Exponential Backoff And Jitter", AWS, 2015).

    Args:
        base: Seconds below which the first wait is.
        cap: Seconds below which every wait is; also the longest that the other side may ask for.
        throttled_base: The same as `base` where the other side said that there were too many calls.
    """

    base: float = 0.05
    cap: float = 20.0
    throttled_base: float = 1.0

    def __attrs_post_init__(self) -> None:
        checked(self.base, "The base of a backoff", above=False)
        checked(self.throttled_base, "The throttled base of a backoff", above=False)
        checked(self.cap, "The cap of a backoff")
        if max(self.base, self.throttled_base) > self.cap:
            raise InvalidPolicy("The cap of a backoff must be at least its bases; nothing was built.")

    def wait(self, attempt: int, asked: float | None, *, throttled: bool) -> float:
        """Return the seconds to wait after a failed attempt.

        Args:
            attempt: Which attempt failed, from 1.
            asked: The seconds the other side asks for, if it does.
            throttled: Whether it said that there were too many calls.
        """
        uniform = conditions.present.uniform
        base = self.throttled_base if throttled else self.base
        if asked is not None:
            # All who were told the same would come back at the same moment.
            return max(0.0, min(self.cap, asked)) + uniform(0.0, self.base)
        return uniform(0.0, min(self.cap, base * 2.0 ** min(attempt - 1, 64)))


def read_retry_after(value: str | float | None, now: datetime | None = None) -> float | None:
    """Return the seconds that a `Retry-After` asks for, in either of its forms (RFC 9110, section 10.2.3).

    Args:
        value: Seconds, or a date of HTTP; None where the header is absent.
        now: The time a date is compared with; that of the machine where absent.

    Returns:
        At least 0; None where there is none or it cannot be read: a header of somebody else's is no reason to fail.

    Example:
        >>> read_retry_after("120")
        120.0
        >>> read_retry_after("Sat, 28 Nov 2026 12:00:30 GMT", datetime(2026, 11, 28, 12, tzinfo=UTC))
        30.0
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if 0 <= value < _LONGEST else None
    if not isinstance(value, str):
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return read_retry_after(float(text))
    try:
        when = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return max(0.0, (_aware(when) - _aware(now or datetime.now(UTC))).total_seconds())


_LONGEST = 1e15


def _aware(when: datetime) -> datetime:
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


def asked_by(error: BaseException) -> float | None:
    """Return the seconds an error asks to wait: its `retry_after`, or the header of the response it carries or is."""
    own = getattr(error, "retry_after", None)
    if own is not None:
        return read_retry_after(own)
    headers = getattr(getattr(error, "response", error), "headers", None)
    if not isinstance(headers, Mapping | Message):
        return None
    told = (value for name, value in headers.items() if str(name).lower() == "retry-after")
    return read_retry_after(next(told, None))


def is_throttled(error: BaseException) -> bool:
    """Tell whether an error says that there were too many calls: status 429, which did none of the work."""
    sources = (error, getattr(error, "response", None))
    return any(getattr(source, name, None) == 429 for source in sources for name in _STATUSES)


# Of httpx and requests, of aiohttp, and of urllib.
_STATUSES = ("status_code", "status", "code")
