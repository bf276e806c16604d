"""Rounding and sharing of whole minor units, on integers alone."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, assert_never

from orderkit.errors import InvalidInput


class InvalidMoney(InvalidInput):
    """An amount, a currency or a way of sharing an amount cannot be used."""

    code = "invalid_money"


class Rounding(StrEnum):
    """How an exact value becomes a whole number of minor units.

    `half_up`, `half_down`, `up` and `down` speak of the distance from zero, `ceiling` and `floor` of the
    direction; the names are those of the `decimal` module.
    """

    HALF_EVEN = "half_even"
    HALF_UP = "half_up"
    HALF_DOWN = "half_down"
    UP = "up"
    DOWN = "down"
    CEILING = "ceiling"
    FLOOR = "floor"


# Looking a member up on its class costs as much as the whole division.
_HALF_EVEN: Final = Rounding.HALF_EVEN


def round_division(numerator: int, denominator: int, mode: Rounding) -> int:
    """Divide two integers and round the exact quotient.

    Args:
        numerator: May be negative.
        denominator: Greater than zero.
        mode: How to round.

    Example:
        >>> round_division(5, 2, Rounding.HALF_EVEN), round_division(-5, 2, Rounding.HALF_UP)
        (2, -3)
    """
    floor, rest = divmod(numerator, denominator)
    if not rest:
        return floor
    if mode is _HALF_EVEN or mode is Rounding.HALF_UP or mode is Rounding.HALF_DOWN:
        if 2 * rest != denominator:
            return floor + (2 * rest > denominator)
        if mode is _HALF_EVEN:
            return floor + floor % 2
        return floor + ((numerator > 0) is (mode is Rounding.HALF_UP))
    if mode is Rounding.UP or mode is Rounding.DOWN:
        return floor + ((numerator > 0) is (mode is Rounding.UP))
    if mode is Rounding.CEILING or mode is Rounding.FLOOR:
        return floor + (mode is Rounding.CEILING)
    assert_never(mode)


def apportion(total: int, quotas: Sequence[int], divisor: int) -> tuple[int, ...]:
    """Round exact quotas, each `quota / divisor`, to integers that add up to a total.

    Every share is its quota rounded down or up. Those with the largest remainder are rounded up, the
    first of equals first (Hamilton's method).

    Args:
        total: The sum of the exact quotas, rounded down or up.
        quotas: Their numerators.
        divisor: Their denominator, greater than zero.
    """
    divided = [divmod(quota, divisor) for quota in quotas]
    shares = [floor for floor, _ in divided]
    missing = total - sum(shares)
    if missing:
        by_remainder = sorted(range(len(shares)), key=lambda position: -divided[position][1])
        for position in by_remainder[:missing]:
            shares[position] += 1
    return tuple(shares)


def allocate(total: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Share an amount in proportion to weights, by largest remainder, so that the shares sum exactly to it.

    A weight of zero gets nothing, equal remainders are served from the left, and a negative amount is the
    mirror image of the positive one. No share is greater than its weight unless the amount is greater than
    all weights together.

    Raises:
        InvalidMoney: A weight is negative, or all are zero and the amount is not.

    Example:
        >>> allocate(100, [1, 1, 1])
        (34, 33, 33)
    """
    if total < 0:
        return tuple(-part for part in allocate(-total, weights))
    whole = sum(weights)
    if min(weights, default=0) < 0 or (total and not whole):
        raise InvalidMoney(
            "An amount can only be shared over weights of zero or more that are not all zero; nothing was changed. "
            "Share it over other lines."
        )
    return apportion(total, [total * weight for weight in weights], whole or 1)


def share(total: int, start: int, stop: int, of: int) -> int:
    """Return the part of an amount that falls on the units from `start` up to, not including, `stop`.

    The parts of any partition of the units sum exactly to the amount, because each is a difference of
    rounded prefixes: `round(total * stop / of) - round(total * start / of)`, half to even.

    Raises:
        InvalidMoney: `0 <= start <= stop <= of` does not hold, or there are no units.

    Example:
        >>> share(100, 0, 1, 3), share(100, 1, 2, 3), share(100, 2, 3, 3)
        (33, 34, 33)
    """
    if not 0 <= start <= stop <= of or not of:
        raise InvalidMoney("A part must lie within the units of its line; nothing was changed. Ask for fewer units.")
    return round_division(total * stop, of, _HALF_EVEN) - round_division(total * start, of, _HALF_EVEN)
