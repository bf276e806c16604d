"""The diagram tells the rules that are enforced: every arrow of it, and no other."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from orderkit.domain.commands import kind_of
from orderkit.domain.decisions import RULES, decide
from orderkit.domain.diagram import state_diagram
from orderkit.domain.evolution import replay
from orderkit.domain.order import Order
from orderkit.domain.status import OrderStatus
from orderkit.errors import InvalidInput, Refused
from orderkit.testing.clock import ManualClock, SequentialIds
from orderkit.testing.strategies import commands, orders
from tests.unit.domain.stories import BRIEF


def arrows() -> dict[tuple[str, str], set[str]]:
    """Return the commands on each arrow of the diagram."""
    found = re.findall(r"^    (\S+) --> (\S+?)(?:: (.+))?$", state_diagram(), re.MULTILINE)
    return {(source, target): set(filter(None, kinds.split(", "))) for source, target, kinds in found}


def test_the_arrows_are_those_of_the_rules() -> None:
    expected: dict[tuple[str, str], set[str]] = {
        ("[*]", "draft"): {"create_draft"},
        ("[*]", "pending"): {"place_order"},
        ("[*]", "open"): {"place_order"},
        **{(status.value, "[*]"): set() for status in OrderStatus if status.final},
    }
    for rule in RULES.values():
        for source in rule.sources:
            for target in rule.targets:
                expected.setdefault((source.value, target.value), set()).add(rule.kind)
    assert arrows() == expected


def test_the_life_of_an_order_is_the_one_that_was_designed() -> None:
    ways = {way for way in arrows() if "[*]" not in way}
    assert ways == {
        ("draft", "pending"),
        ("draft", "open"),
        ("draft", "discarded"),
        ("pending", "open"),
        ("pending", "cancelled"),
        ("pending", "expired"),
        ("open", "completed"),
        ("open", "cancelled"),
        ("completed", "open"),
    }


@BRIEF
@given(orders(), st.data())
def test_an_order_moves_along_the_arrows_only(order: Order, data: st.DataObject) -> None:
    clock = ManualClock(order.updated_at)
    command = data.draw(commands(order, clock.now()))
    try:
        after = replay(decide(order, command, now=clock.now(), ids=SequentialIds()), order)
    except (Refused, InvalidInput):
        return
    if after.status is not order.status:
        assert kind_of(type(command)) in arrows()[order.status.value, after.status.value]


def test_it_begins_as_mermaid_text_does() -> None:
    assert state_diagram().startswith("stateDiagram-v2\n")
