"""What tells a call from others: the function that is called, and names computed from its arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable

from orderkit.resilience.layers import InvalidPolicy


def named(value: object, name: str) -> str:
    """Return what was computed, if it is a name.

    Raises:
        InvalidPolicy: It is no string.
    """
    if not isinstance(value, str):
        raise InvalidPolicy(f"{name} must be a string, but its function returned {type(value).__name__}.")
    return value


def name_of(function: Callable[..., object]) -> str:
    """Return where a function was defined, the same in every process.

    Example:
        >>> name_of(name_of)
        'orderkit.resilience.keys.name_of'
    """
    while isinstance(function, functools.partial):
        function = function.func
    # An object that can be called has no name of its own.
    known = function if hasattr(function, "__qualname__") else type(function)
    return f"{getattr(known, '__module__', None)}.{known.__qualname__}"
