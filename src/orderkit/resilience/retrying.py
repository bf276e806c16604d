"""Retry, on tenacity, which is entered only after a failure: a call that succeeds never meets it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import attrs

from orderkit.errors import Rejected
from orderkit.resilience import conditions
from orderkit.resilience.backoff import Backoff, asked_by, is_throttled, read_retry_after
from orderkit.resilience.budgets import RetryBudget
from orderkit.resilience.deadlines import time_left
from orderkit.resilience.events import RetryGivenUp, RetryScheduled
from orderkit.resilience.layers import InvalidPolicy, Invocation, Layer, Rank, Step, counted, plain
from orderkit.resilience.operations import Operation, nothing_sent
from orderkit.resilience.rejections import CircuitOpen, DeadlineExceeded, note
from orderkit.resilience.runtimes import carried

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

_logger = logging.getLogger("orderkit.resilience")

Errors = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]
"""Which errors are meant: a class, several, or a function that tells."""


def errors_of(errors: Errors, layer: str) -> Callable[[Exception], bool]:
    """Return the function that tells which errors are meant.

    Raises:
        InvalidPolicy: Nothing or everything is meant, or something that is no error.
    """
    if not isinstance(errors, type | tuple):
        if not callable(errors):
            raise InvalidPolicy(f"Say with `on` which errors {layer} is for: classes, or a function that tells.")
        plain(errors, "`on`")
        return functools.partial(_told, errors)
    kinds = errors if isinstance(errors, tuple) else (errors,)
    if not kinds:
        raise InvalidPolicy(f"Say with `on` which errors {layer} is for: none are named, and there is no default.")
    for kind in kinds:
        if not isinstance(kind, type) or not issubclass(kind, Exception):
            name = getattr(kind, "__name__", repr(kind))
            raise InvalidPolicy(
                f"{name} cannot be what {layer} is for, since it is no `Exception`: a cancellation or the end of the "
                "program is no failure of a call, and must not be held up."
            )
        if kind is Exception:
            raise InvalidPolicy(
                f"With every `Exception` {layer} would also be for mistakes in the program: name the errors that "
                "another attempt can mend."
            )
    return lambda error: isinstance(error, kinds)


def _told(tells: Callable[[Exception], bool], error: Exception) -> bool:
    """Tell whether an error is meant; if the function that tells fails, it is not."""
    try:
        return bool(tells(error))
    except Exception:
        _logger.exception("The function that tells which errors are meant failed on %s.", type(error).__name__)
        return False


def names_of(errors: Errors) -> str:
    """Return which errors are meant, for people."""
    if isinstance(errors, tuple):
        return ", ".join(kind.__name__ for kind in errors)
    return getattr(errors, "__name__", repr(errors))


@attrs.frozen
class Retry(Layer):
    """Repeat a call that failed, where that is allowed and may help; otherwise its own error is raised.

    An attempt is repeated if its error is one of `on`, and the operation may be repeated: one that is `UNSAFE` only
    where nothing was sent or the other side did nothing. An open circuit is not waited for, unless the retry is
    `patient`. A `Retry-After` of the error or of its response is minded, in seconds or as a date.

    Args:
        on: Which errors are worth another attempt; a class, several, or a function that tells. There is no default.
        attempts: How many attempts there are in all.
        backoff: How long to wait between them.
        budget: What retries of this dependency may take; share one among the policies of a dependency.
        retry_after: Read from an error the seconds it asks to wait.
        patient: Wait for an open circuit as long as it says, rather than fail at once.

    Raises:
        InvalidPolicy: No errors are named, or all are, or something is not what it should be.
    """

    on: Errors = attrs.field(default=(), kw_only=True)
    attempts: int = attrs.field(default=3, kw_only=True)
    backoff: Backoff = attrs.field(factory=Backoff, kw_only=True)
    budget: RetryBudget | None = attrs.field(default=None, kw_only=True)
    retry_after: Callable[[BaseException], float | None] = attrs.field(default=asked_by, kw_only=True)
    patient: bool = attrs.field(default=False, kw_only=True)
    _wanted: Callable[[Exception], bool] = attrs.field(init=False, repr=False, eq=False)

    rank: ClassVar[Rank] = Rank.RETRY
    kind: ClassVar[str] = "retry"

    def __attrs_post_init__(self) -> None:
        counted(self.attempts, "The attempts of a retry")
        if not isinstance(self.backoff, Backoff):
            raise InvalidPolicy(f"`backoff` is a `Backoff`, not {self.backoff!r}; nothing was built.")
        if not isinstance(self.budget, RetryBudget | None):
            raise InvalidPolicy(f"`budget` is a `RetryBudget`, not {self.budget!r}; nothing was built.")
        plain(self.retry_after, "`retry_after`")
        object.__setattr__(self, "_wanted", errors_of(self.on, "a retry"))

    async def around(self, invocation: Invocation[T], inner: Step) -> T:
        """Return the result of the first attempt that succeeds."""
        invocation.budget = self.budget
        try:
            result: T = await inner(invocation)
        except Exception as error:  # noqa: BLE001 - what becomes of it is decided below
            first = error
        else:
            self.succeeded()
            return result
        return await self.again(invocation, inner, first)

    def succeeded(self) -> None:
        """Give a token back for a call that needed no retry."""
        if self.budget is not None:
            self.budget.give_back(1)

    async def again(self, invocation: Invocation[T], inner: Step, first: Exception) -> T:
        """Go on after a first attempt that failed.

        Raises:
            Exception: That of the last attempt.
        """
        from tenacity import AsyncRetrying

        attempts = _Attempts(self, invocation, inner, first)
        # Asynchronous also for a thread: what it awaits never suspends there. A new one for each call, since one that
        # is shared mixes up concurrent calls (jd/tenacity#93). Whether there is another attempt is asked where tenacity
        # asks whether to stop, which not even its `TryAgain` gets around.
        retrying = AsyncRetrying(
            sleep=invocation.runtime.sleep, retry=_failed, wait=attempts.judge, stop=attempts.is_over, reraise=True
        )
        result: T = await retrying(attempts.attempt)
        if self.budget is not None:
            self.budget.give_back(attempts.taken)
        return result

    def settings(self) -> Mapping[str, object]:
        """Return what it was built with."""
        return {
            "attempts": self.attempts,
            "on": names_of(self.on),
            "base": self.backoff.base,
            "cap": self.backoff.cap,
            "budget": None if self.budget is None else self.budget.capacity,
            "patient": self.patient,
        }

    def for_target(self, name: str) -> Retry:
        """Return a retry whose budget is that of one target."""
        return self if self.budget is None else attrs.evolve(self, budget=self.budget.renewed())

    def refusal(self, error: Exception, operation: Operation, *, is_own: bool = True) -> str | None:
        """Return why an error is worth no other attempt, however many are left; None where it is.

        Args:
            error: What an attempt failed with.
            operation: What repeating it would do.
            is_own: Whether a layer has raised it. What the function itself has raised says nothing of all it has done.
        """
        if isinstance(error, CircuitOpen):
            if not self.patient:
                return "circuit_open"
        elif not self._wanted(error):
            return "other_error"
        if operation is not Operation.UNSAFE or is_throttled(error):
            return None
        was_refused = isinstance(error, Rejected) or (isinstance(error, DeadlineExceeded) and not error.sent)
        return None if nothing_sent(error) and (is_own or not was_refused) else "may_have_been_sent"

    def judge(self, error: Exception, attempt: int, invocation: Invocation[Any]) -> float | str:
        """Return the seconds to wait before the next attempt, or why there is none.

        Args:
            error: What the attempt failed with.
            attempt: Which one it was, from 1.
            invocation: The call.
        """
        refusal = self.refusal(error, invocation.operation, is_own=error is not invocation.raised)
        if refusal is not None:
            return refusal
        cap = conditions.present.most_attempts
        if attempt >= (self.attempts if cap is None else min(self.attempts, cap)):
            return "attempts"
        wait = self._wait(error, attempt)
        left = time_left()
        return "deadline" if left is not None and wait >= left else wait

    def _wait(self, error: Exception, attempt: int) -> float:
        wait = self.backoff.wait(attempt, self._asked(error), throttled=is_throttled(error))
        # Sooner than an open circuit says there is nothing to try.
        return max(wait, error.retry_after or 0.0) if isinstance(error, CircuitOpen) else wait

    def _asked(self, error: Exception) -> float | None:
        try:
            return read_retry_after(self.retry_after(error))
        except Exception:
            _logger.exception("How long to wait could not be read from %s.", type(error).__name__)
            return None


def _failed(state: RetryCallState) -> bool:
    return state.outcome is not None and state.outcome.failed


class _Attempts(Generic[T]):
    """The attempts of one call, from the first that failed on, as tenacity asks about them."""

    def __init__(self, retry: Retry, invocation: Invocation[T], inner: Step, first: Exception) -> None:
        self._retry = retry
        self._invocation = invocation
        self._inner = inner
        self._first: Exception | None = first
        self._is_over = False
        self.taken = 0

    async def attempt(self) -> T:
        """Make an attempt; the first time, fail as the one has that was made already."""
        first, self._first = self._first, None
        if first is not None:
            raise carried(first)
        result: T = await self._inner(self._invocation)
        return result

    def judge(self, state: RetryCallState) -> float:
        """Return the seconds until the next attempt, and find out whether there is one."""
        error = None if state.outcome is None else state.outcome.exception()
        # What is no `Exception`, such as a cancellation, ends the call (jd/tenacity#529).
        verdict = self._verdict(error, state.attempt_number) if isinstance(error, Exception) else "no_failure"
        self._is_over = isinstance(verdict, str)
        return 0.0 if isinstance(verdict, str) else verdict

    def is_over(self, _state: RetryCallState) -> bool:
        """Tell whether no attempt follows."""
        return self._is_over

    def _verdict(self, error: Exception, attempt: int) -> float | str:
        """Return the seconds to wait or why there is no other attempt, and tell it to listeners."""
        self._invocation.failure = error
        verdict = self._retry.judge(error, attempt, self._invocation)
        if not isinstance(verdict, str) and not self._is_afforded(error):
            verdict = "budget"
            note(error, "Not retried: the retry budget of this dependency is spent.")
        self._tell(error, attempt, verdict)
        return verdict

    def _is_afforded(self, error: Exception) -> bool:
        if self._retry.budget is None:
            return True
        self.taken = self._retry.budget.take(throttled=is_throttled(error))
        return self.taken > 0

    def _tell(self, error: Exception, attempt: int, verdict: float | str) -> None:
        policy, name = self._invocation.policy, type(error).__name__
        if not isinstance(verdict, str):
            self._invocation.tell(RetryScheduled(policy=policy, attempt=attempt, wait=verdict, error=name))
        elif verdict != "other_error":
            self._invocation.tell(RetryGivenUp(policy=policy, attempt=attempt, reason=verdict, error=name))
