"""Exact amounts of money as decimals, of any size and never rounded silently."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact, InvalidOperation

# The default context rounds silently at 28 digits; this one is wide, and raises rather than round.
_EXACT = Context(prec=200, traps=[Inexact, InvalidOperation])
_ROUNDING = Context(prec=200, rounding=ROUND_HALF_EVEN)
_PENNY = Decimal("0.01")


def add(first: Decimal, second: Decimal) -> Decimal:
    """Return the exact sum."""
    return _EXACT.add(first, second)


def multiply(quantity: int, price: Decimal) -> Decimal:
    """Return the exact product."""
    return _EXACT.multiply(Decimal(quantity), price)


def from_pence(pence: int) -> Decimal:
    """Return whole pence as pounds."""
    return _EXACT.multiply(Decimal(pence), _PENNY)


def rounded(amount: Decimal) -> Decimal:
    """Return an amount in whole pence, rounded as orderkit rounds a line: half to even."""
    return amount.quantize(_PENNY, context=_ROUNDING)


def text_of(amount: Decimal, *, grouped: bool = False) -> str:
    """Return an amount as exact decimal text, with two decimal places or as many as it needs."""
    whole = rounded(amount)
    exact = whole if whole == amount else amount.normalize(_EXACT)
    return f"{exact or _PENNY * 0:{',' if grouped else ''}f}"
