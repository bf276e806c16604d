"""What a policy raises, as an error of the HTTP library as well: both `except` clauses find it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from orderkit.errors import OrderKitError


def joined(error: OrderKitError, foreign: type[Exception], request: object) -> OrderKitError:
    """Return an error that is one of ours, with all it tells, and one of a library's.

    Args:
        error: Ours.
        foreign: The library's class.
        request: What the library's errors have as their `request`.
    """
    if isinstance(error, foreign):
        return error
    joint = _made(type(error), foreign, {**error.__dict__, "_request": request})
    joint.__cause__ = error.__cause__
    return joint.with_traceback(error.__traceback__)


def _made(own: type[OrderKitError], foreign: type[Exception], attributes: Mapping[str, object]) -> OrderKitError:
    kind = _joint_type(own, foreign)
    joint = kind.__new__(kind)
    joint.args = (attributes["message"],)
    joint.__dict__.update(attributes)
    return joint


_types: dict[tuple[type[OrderKitError], type[Exception]], type[OrderKitError]] = {}


def _joint_type(own: type[OrderKitError], foreign: type[Exception]) -> type[OrderKitError]:
    """Return the class that is both, always the same."""
    found = _types.get((own, foreign))
    return _types.setdefault((own, foreign), _new_type(own, foreign)) if found is None else found


def _new_type(own: type[OrderKitError], foreign: type[Exception]) -> type[OrderKitError]:
    """Return a class that is both. It goes by the name under which users know our part of it."""

    def reduce(error: OrderKitError) -> tuple[object, ...]:
        # Neither the class, which no module holds, nor a request with a body under way can be pickled.
        return _made, (own, foreign, {**error.__dict__, "_request": None})

    body = {"__module__": own.__module__, "__doc__": own.__doc__, "__reduce__": reduce}
    return cast("type[OrderKitError]", type(own.__name__, (own, foreign), body))
