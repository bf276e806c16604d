"""What the end of a call says of the other side: for breakers, which count it."""

from __future__ import annotations

import enum

from orderkit.errors import ConfigurationError, Rejected
from orderkit.resilience.rejections import DeadlineExceeded


class Verdict(enum.StrEnum):
    """What the end of a call says of the other side."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"


def classify(error: Exception) -> Verdict:
    """Return what an error says of the other side: a failure, unless the call was rejected here or was wrong."""
    not_begun = isinstance(error, DeadlineExceeded) and not error.sent
    return Verdict.IGNORED if not_begun or isinstance(error, Rejected | ConfigurationError) else Verdict.FAILURE
