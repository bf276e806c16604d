"""A rule: one command of an axis, where it may be given, what may refuse it, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Generic, TypeVar

import attrs

from orderkit.clock import IdSource
from orderkit.domain.commands import OrderCommand, kind_of
from orderkit.domain.events import Event
from orderkit.domain.order import Order
from orderkit.domain.status import OrderStatus
from orderkit.errors import Refused

CommandT = TypeVar("CommandT", bound=OrderCommand)


class IllegalTransition(Refused):
    """The command is not possible in the order's state.

    Attributes:
        command: The kind of the command.
        status: The state the order is in.
        possible_in: The states in which it would be possible.
    """

    code = "illegal_transition"

    def __init__(self, command: str, status: OrderStatus, possible_in: frozenset[OrderStatus]) -> None:
        self.command = command
        self.status = status
        self.possible_in = possible_in
        wanted = ", ".join(sorted(possible_in)) or "none: it makes a new order"
        super().__init__(
            f"{command!r} is not possible while the order is {status.value}; it is unchanged. Possible in: {wanted}."
        )


Guard = Callable[[Order, datetime], Refused | None]
"""Look at an order at a time and return what speaks against the command, if anything."""


def no_number() -> None:
    """Assign no number."""


@attrs.frozen
class Situation:
    """What a decision may know besides the order and the command.

    Attributes:
        now: The time.
        ids: Where ids come from.
        number: Assigns a number to an order that is placed, once nothing speaks against it any more.
    """

    now: datetime
    ids: IdSource
    number: Callable[[], str | None] = no_number


@attrs.frozen
class Rule(Generic[CommandT]):
    """One command of an axis.

    Attributes:
        command: Its type.
        decide: What follows from it, once nothing speaks against it.
        sources: The states in which it is possible.
        targets: The states it can lead to; empty if the state stays.
        guards: What else may speak against it.
    """

    command: type[CommandT]
    decide: Callable[[Order, CommandT, Situation], tuple[Event, ...]]
    sources: frozenset[OrderStatus]
    targets: frozenset[OrderStatus] = frozenset()
    guards: tuple[Guard, ...] = ()

    @property
    def kind(self) -> str:
        """The `kind` of the command."""
        return kind_of(self.command)

    def refusals(self, order: Order, now: datetime) -> tuple[Refused, ...]:
        """Return everything that speaks against the command, whatever its contents."""
        if order.status not in self.sources:
            return (IllegalTransition(self.kind, order.status, self.sources),)
        return tuple(refusal for guard in self.guards if (refusal := guard(order, now)) is not None)


def states(*members: OrderStatus) -> frozenset[OrderStatus]:
    """Return a set of states."""
    return frozenset(members)


ANY_STATE = frozenset(OrderStatus)
"""Every state there is."""
