"""Commands: one registry, told apart by kind, and the same whether they come as objects or as JSON."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from orderkit.domain import commands as module
from orderkit.domain.commands import Command, CreateDraft, ImportOrder, OrderCommand, PlaceOrder, SetAddress, kind_of
from orderkit.domain.decisions import RULES
from orderkit.errors import InvalidCommand
from orderkit.testing.strategies import commands, create_drafts, orders, place_orders
from orderkit.testing.strategies.orders import _COMMANDS
from tests.unit.domain.stories import BRIEF

UNION: tuple[type[OrderCommand], ...] = get_args(get_args(Command)[0])
DECLARED = {
    value
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, OrderCommand) and not name.startswith("_")
} - {OrderCommand}


def test_every_command_is_in_the_union_and_has_a_rule() -> None:
    assert set(UNION) == DECLARED
    assert set(RULES) == DECLARED - {CreateDraft, PlaceOrder, ImportOrder}
    assert {kind_of(command) for command in RULES} == set(_COMMANDS)


def test_every_command_has_a_kind_of_its_own() -> None:
    kinds = [kind_of(command) for command in UNION]
    assert len(set(kinds)) == len(kinds)
    words = {"".join(part.capitalize() for part in kind.split("_")) for kind in kinds}
    assert words == {command.__name__ for command in UNION}


@pytest.mark.parametrize("command", UNION, ids=kind_of)
def test_every_command_and_field_is_described(command: type[OrderCommand]) -> None:
    assert command.__doc__
    schema = command.model_json_schema()
    undescribed = [name for name, field in schema["properties"].items() if "description" not in field]
    assert undescribed == ["kind"]
    assert schema["additionalProperties"] is False


def test_the_union_has_a_json_schema() -> None:
    schema = TypeAdapter(Command).json_schema()
    assert set(schema["discriminator"]["mapping"]) == {kind_of(command) for command in UNION}


@BRIEF
@given(st.data())
def test_a_command_survives_json(data: st.DataObject) -> None:
    source = st.one_of(orders(2).flatmap(commands), place_orders(), create_drafts())
    command: OrderCommand = data.draw(source)
    text = command.model_dump_json()
    assert type(command).parse(text) == command
    assert type(command).parse(json.loads(text)) == command
    assert TypeAdapter[Any](Command).validate_json(text) == command


@BRIEF
@given(place_orders())
def test_a_command_is_frozen(command: PlaceOrder) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(command, "customer", "somebody else")  # noqa: B010  # a type checker would not allow it


def test_personal_data_is_not_shown() -> None:
    command = SetAddress.parse(
        {
            "slot": "billing_address",
            "address": {"name": "Ada Lovelace", "lines": ["1 Secret Road"], "city": "Hidden", "country": "GB"},
        }
    )
    assert set(command.personal()) == {"billing_address"}
    assert not any(secret in repr(command) for secret in ("Ada", "Secret", "Hidden"))


def test_fields_that_are_not_known_are_refused() -> None:
    with pytest.raises(InvalidCommand) as caught:
        CreateDraft.parse({"currency": "EUR", "colour": "red"})
    assert (caught.value.code, caught.value.errors[0].field) == ("unknown_field", "colour")
