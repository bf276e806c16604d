"""`decide`, `preview` and `allowed`: what follows from a command, without doing any of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import attrs

from orderkit.clock import IdSource
from orderkit.domain import details, drafting, lifecycle
from orderkit.domain.commands import CreateDraft, ImportOrder, OrderCommand, PlaceOrder
from orderkit.domain.events import Event
from orderkit.domain.evolution import replay
from orderkit.domain.importing import import_order
from orderkit.domain.order import Order
from orderkit.domain.rules import IllegalTransition, Rule, Situation, no_number
from orderkit.errors import Refused

# A rule is invariant in its command; the registry finds it by exactly that type.
RULES: Mapping[type[OrderCommand], Rule[Any]] = {
    rule.command: rule for rule in (*drafting.RULES, *lifecycle.RULES, *details.RULES)
}
"""Every command that acts on an order that exists, with its rule: the one list everything is derived from."""


def decide(
    order: Order | None,
    command: OrderCommand,
    *,
    now: datetime,
    ids: IdSource,
    number: Callable[[], str | None] = no_number,
) -> tuple[Event, ...]:
    """Return the events that follow from a command. Pure: nothing is changed.

    Args:
        order: The order as it is; None for a command that makes a new one.
        command: What is asked of it.
        now: The current time, aware and in UTC.
        ids: Where new ids come from.
        number: Assigns a number to an order that is placed without one of its own. It is asked last: a refused
            command takes no number, which would leave a gap.

    Raises:
        Refused: A rule speaks against it.
        InvalidCommand: What it would make of the order is not valid as a whole.
    """
    if isinstance(command, CreateDraft | PlaceOrder | ImportOrder):
        if order is not None:
            raise IllegalTransition(command.kind, order.status, frozenset())
        if isinstance(command, ImportOrder):
            return import_order(command, Situation(now, ids, number))
        return drafting.create(command, Situation(now, ids, number))
    if order is None:
        raise ValueError(f"{type(command).__name__} acts on an order that exists")
    rule = RULES[type(command)]
    now = _time_of(order, now)
    for refusal in rule.refusals(order, now):
        raise refusal
    decided: tuple[Event, ...] = rule.decide(order, command, Situation(now, ids, number))
    return decided


def _time_of(order: Order, now: datetime) -> datetime:
    """Return the time for an order: it never runs backwards, whatever the clocks of two machines say."""
    return max(now, order.updated_at)


@attrs.frozen
class Preview:
    """What a command would do.

    Attributes:
        before: The order as it is; None if the command makes it.
        after: The order as it would be: its money, quantities and states.
        events: What would happen.
    """

    before: Order | None
    after: Order
    events: tuple[Event, ...]


def preview(order: Order | None, command: OrderCommand, *, now: datetime, ids: IdSource) -> Preview:
    """Return what a command would do, without doing it.

    Raises:
        Refused: It would be refused, for the reason it would be refused for.
        InvalidCommand: What it would make of the order is not valid as a whole.
    """
    events = decide(order, command, now=now, ids=ids)
    return Preview(order, replay(events, order), events)


@attrs.frozen
class Permission:
    """Whether a command is allowed, and if not, everything that speaks against it.

    Attributes:
        command: Its type.
        kind: Its `kind`.
        refusals: The typed reasons; empty if it is allowed.
    """

    command: type[OrderCommand]
    kind: str
    refusals: tuple[Refused, ...]

    def __bool__(self) -> bool:
        """Tell whether the command is allowed."""
        return not self.refusals


def allowed(order: Order, *, now: datetime) -> dict[str, Permission]:
    """Ask every rule what it says of an order: each command by kind, with a yes or the reasons why not.

    What only the contents of a command can tell, such as a quantity beyond what is left, is not asked:
    that is what `preview` is for.
    """
    now = _time_of(order, now)
    return {rule.kind: Permission(rule.command, rule.kind, tuple(rule.refusals(order, now))) for rule in RULES.values()}
