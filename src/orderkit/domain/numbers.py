"""Order numbers: what people call an order by. Assigned when it is placed."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Protocol

import attrs

_CROCKFORD = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ" * 8
"""The character of each byte, in Crockford's base 32: no I, L, O or U to be misread or to form words with."""


class OrderNumbers(Protocol):
    """Assign order numbers."""

    def assign(self, tenant: str, count: Callable[[], int]) -> str:
        """Return a number for a new order.

        Args:
            tenant: Whose order it is.
            count: Takes the tenant's next number, without gaps. It needs a real transaction and makes the
                placements of a tenant wait for each other, so that only a gapless strategy calls it.
        """
        ...


@attrs.frozen
class RandomNumbers:
    """Random numbers: nobody learns from one how many orders there are, and none waits for another.

    Attributes:
        prefix: What every number begins with.
        length: How many random characters follow, in groups of four; 12 have 60 bits.

    Example:
        >>> len(RandomNumbers().assign("acme", lambda: 0))
        14
    """

    prefix: str = ""
    length: int = attrs.field(default=12, validator=attrs.validators.in_(range(8, 33)))

    def assign(self, tenant: str, count: Callable[[], int]) -> str:
        """Return a random number."""
        characters = secrets.token_bytes(self.length).translate(_CROCKFORD).decode()
        return self.prefix + "-".join([characters[start : start + 4] for start in range(0, self.length, 4)])


@attrs.frozen
class GaplessNumbers:
    """Consecutive numbers per tenant, without gaps.

    Every placement of a tenant waits for the one before it to be committed: choose it where the law asks
    for it, not for looks.

    Attributes:
        prefix: What every number begins with.
        digits: The least number of digits, filled with zeros.

    Example:
        >>> GaplessNumbers(prefix="A", digits=6).assign("acme", lambda: 42)
        'A000042'
    """

    prefix: str = ""
    digits: int = 1

    def assign(self, tenant: str, count: Callable[[], int]) -> str:
        """Return the tenant's next number."""
        return f"{self.prefix}{count():0{self.digits}d}"


@attrs.frozen
class NumbersByTenant:
    """A strategy for each tenant that needs one of its own.

    Attributes:
        tenants: The strategy by tenant.
        default: The strategy of all others.

    Example:
        >>> numbers = NumbersByTenant({"acme": GaplessNumbers()})
        >>> numbers.assign("acme", lambda: 42)
        '42'
    """

    tenants: Mapping[str, OrderNumbers]
    default: OrderNumbers = attrs.Factory(RandomNumbers)

    def assign(self, tenant: str, count: Callable[[], int]) -> str:
        """Return a number as the tenant's strategy assigns it."""
        return self.tenants.get(tenant, self.default).assign(tenant, count)
