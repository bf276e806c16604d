"""The fallback: what is returned in place of a call that failed for good."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, TypeVar, cast

import attrs

from orderkit.resilience.events import FallbackUsed
from orderkit.resilience.layers import InvalidPolicy, Invocation, Layer, Rank, Step
from orderkit.resilience.retrying import Errors, errors_of, names_of

T = TypeVar("T")


@attrs.frozen
class Fallback(Layer):
    """Return something else where a call has failed with one of these errors, after every retry.

    Args:
        use: Called with the error; what it returns takes the place of the result. An `async` function only in an
            event loop.
        on: Which errors it is for; a class, several, or a function that tells. `Rejected` is for those that were not
            let through. There is no default.

    Raises:
        InvalidPolicy: No errors are named, or all are.
    """

    use: Callable[[Exception], object]
    on: Errors = attrs.field(default=(), kw_only=True)
    _wanted: Callable[[Exception], bool] = attrs.field(init=False, repr=False, eq=False)

    rank: ClassVar[Rank] = Rank.FALLBACK
    kind: ClassVar[str] = "fallback"

    def __attrs_post_init__(self) -> None:
        if not callable(self.use):
            raise InvalidPolicy("A fallback is a function of the error; for a fixed value give `lambda _error: value`.")
        object.__setattr__(self, "_wanted", errors_of(self.on, "a fallback"))

    async def around(self, invocation: Invocation[T], inner: Step) -> T:
        """Return the result of what is surrounded, or what stands in its place."""
        try:
            result: T = await inner(invocation)
        except Exception as error:
            if not self._wanted(error):
                raise
            invocation.tell(FallbackUsed(policy=invocation.policy, error=type(error).__name__))
            # That it can stand for the result is the application's word.
            return cast("T", await invocation.runtime.finish(self.use(error)))
        return result

    def settings(self) -> Mapping[str, object]:
        """Return what it was built with."""
        return {"use": getattr(self.use, "__name__", repr(self.use)), "on": names_of(self.on)}
