"""What comes in is checked at the door, field by field, and what is wrong with it is told by a stable code."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given

from orderkit.domain.commands import CancelLines, ChangeMetadata, CreateDraft, OrderCommand, PlaceOrder, kind_of
from orderkit.domain.inputs import Input
from orderkit.domain.lines import Charge, Discount, Line
from orderkit.domain.money import Money, UnitPrice
from orderkit.domain.parties import Address, NoteText
from orderkit.errors import InvalidCommand
from orderkit.testing.strategies import metadata, names, prose
from tests.inputs import COMMANDS, Path, complete, spoiled, texts, told
from tests.unit.domain.stories import BRIEF

CONTROL, SURROGATE, HUGE = "text_has_control_characters", "text_is_not_unicode", "text_too_long"
SPOILERS = {"NUL": ("a\x00b", CONTROL), "surrogate": ("a\ud800b", SURROGATE), "megabyte": ("x" * 1_000_000, HUGE)}

# Fields that are no free text tell what they should be instead.
OTHERWISE = {
    **dict.fromkeys(("rounding", "tax_level", "slot", "author", "status"), "not_a_choice"),
    **dict.fromkeys(("expires_at", "placed_at", "closed_at"), "not_a_time"),
    "amount": "invalid_money",
    "country": "invalid_country",
    "currency": "unknown_currency",
    "email": "invalid_email",
    "rate": "invalid_tax_rate",
}


def invalid(model: type[Input], data: Any) -> InvalidCommand:
    with pytest.raises(InvalidCommand, match="nothing was changed") as caught:
        model.parse(data)
    return caught.value


def expected(path: Path, code: str) -> set[str]:
    """Return the codes that tell of a text in a place that cannot be there."""
    last = str(path[-1])
    if path == ("id",):
        return {"invalid_order_id"}
    if "tax_rates" in path:
        return {"invalid_tax_rate"}
    if ("metadata" in path or "attributes" in path) and code == HUGE:
        return {"metadata_too_large"}
    if last == "kind" or last in OTHERWISE:
        return {OTHERWISE.get(last, "not_a_choice"), SURROGATE}
    return {code}


@pytest.mark.parametrize("spoiler", SPOILERS)
@pytest.mark.parametrize("command", COMMANDS, ids=kind_of)
def test_no_text_of_any_command_takes_what_no_database_should(command: type[OrderCommand], spoiler: str) -> None:
    text, code = SPOILERS[spoiler]
    data = complete(command)
    command.parse(data)
    for path in texts(data):
        error = invalid(command, spoiled(data, path, text))
        assert error.code in expected(path, code), told(path)
        assert len(error.message) < 500
        assert all(found.field.startswith(str(path[0])) for found in error.errors)


@BRIEF
@given(names(), prose())
def test_any_text_of_one_line_is_a_name_and_any_other_is_prose(name: str, text: str) -> None:
    assert Address(name=name, lines=(name,), city=name, country="GB").city == name
    assert NoteText(text=text).text == text


@BRIEF
@given(metadata())
def test_any_json_object_is_metadata(value: dict[str, Any]) -> None:
    command = ChangeMetadata(metadata=value)
    assert json.dumps(command.metadata) == json.dumps(value)


def nested(depth: int) -> object:
    return {"a": nested(depth - 1)} if depth else 1


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (nested(9), "metadata_too_deep"),
        (nested(500), "metadata_too_deep"),
        ({"a": math.nan}, "metadata_not_json"),
        ({"a": math.inf}, "metadata_not_json"),
        ({"a": 2**63}, "metadata_not_json"),
        ({"a": {1, 2}}, "metadata_not_json"),
        ({"a": (1, 2)}, "metadata_not_json"),
        ({"a": datetime(2026, 1, 1, tzinfo=UTC)}, "metadata_not_json"),
        ({"a": Decimal(1)}, "metadata_not_json"),
        ({"a": b"x"}, "metadata_not_json"),
        ({1: 2}, "metadata_not_json"),
        ([1], "metadata_not_json"),
        ("text", "metadata_not_json"),
        (None, "metadata_not_json"),
        ({"a": "x" * 65_536}, "metadata_too_large"),
        ({"a": [[]] * 10_000}, "metadata_too_large"),
        ({"a": [{}] * 10_000}, "metadata_too_large"),
        ({"a": [None] * 10_000}, "metadata_too_large"),
    ],
)
def test_metadata_is_json_of_limited_depth_and_size(value: object, code: str) -> None:
    error = invalid(ChangeMetadata, {"metadata": value})
    assert (error.code, error.errors[0].field) == (code, "metadata")
    assert invalid(CreateDraft, {"currency": "EUR", "metadata": value}).code == code


def test_metadata_that_holds_itself_is_too_deep() -> None:
    value: dict[str, object] = {}
    value["self"] = value
    assert invalid(ChangeMetadata, {"metadata": value}).code == "metadata_too_deep"


def test_metadata_goes_as_deep_as_it_says() -> None:
    assert ChangeMetadata.parse({"metadata": nested(8)}).metadata == nested(8)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (datetime(2026, 1, 1), "date_without_zone"),  # noqa: DTZ001  # that is the point
        ("2026-01-01T00:00:00", "date_without_zone"),
        (datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))), "date_out_of_range"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=1))), "date_out_of_range"),
        ("yesterday", "not_a_time"),
        (2**80, "not_a_time"),
        ([], "wrong_type"),
    ],
)
def test_a_time_has_a_zone_and_a_year(value: object, code: str) -> None:
    assert invalid(CreateDraft, {"currency": "EUR", "expires_at": value}).code == code


def test_times_are_kept_in_utc() -> None:
    command = CreateDraft.parse({"currency": "EUR", "expires_at": "2026-06-01T12:00:00+02:00"})
    assert command.expires_at == datetime(2026, 6, 1, 10, tzinfo=UTC)
    assert str(command.expires_at).endswith("+00:00")


@pytest.mark.parametrize(
    ("quantity", "precision", "code"),
    [
        (0, 0, "quantity_not_positive"),
        (-1, 0, "quantity_not_positive"),
        ("-0.5", 1, "quantity_not_positive"),
        (2**31, 0, "quantity_too_large"),
        pytest.param(10**6000, 0, "quantity_too_large", id="thousands of digits"),
        ("2147483648", 0, "quantity_too_large"),
        ("2147483.648", 3, "quantity_too_large"),
        ("0.5", 0, "quantity_too_precise"),
        (Decimal("1.0000000000000000000000000000001"), 0, "quantity_too_precise"),
        (1.0, 0, "quantity_not_exact"),
        (math.nan, 0, "quantity_not_exact"),
        (True, 0, "quantity_not_exact"),
        ("1e3", 0, "quantity_not_exact"),
        ("1_000", 0, "quantity_not_exact"),
        pytest.param("1" * 1_000_000, 0, "quantity_not_exact", id="a megabyte"),
        (Decimal("1e999999"), 0, "quantity_not_exact"),
        (Decimal("Infinity"), 0, "quantity_not_exact"),
        (None, 0, "quantity_not_exact"),
        ([1], 0, "quantity_not_exact"),
    ],
)
def test_a_quantity_is_exact_positive_and_of_bounded_size(quantity: object, precision: int, code: str) -> None:
    price = {"amount": "1", "currency": "EUR"}
    error = invalid(Line, {"sku": "a", "quantity": quantity, "precision": precision, "unit_price": price})
    assert (error.code, error.errors[0].field) == (code, "quantity")


@pytest.mark.parametrize(
    ("price", "code"),
    [
        ({"amount": 1.5, "currency": "EUR"}, "float_money"),
        (1.5, "float_money"),
        ({"amount": "1.5", "currency": "EURO"}, "unknown_currency"),
        ({"amount": "1.5", "currency": "eur"}, "unknown_currency"),
        ({"amount": "1.5", "currency": "XAU"}, "unknown_currency"),
        ({"amount": "1." + "1" * 13, "currency": "EUR"}, "wrong_exponent"),
        ({"amount": str(10**13), "currency": "EUR"}, "money_out_of_range"),
        ({"amount": "one", "currency": "EUR"}, "invalid_money"),
        ({"amount": "1.5"}, "invalid_money"),
        ({"amount": "-1.50", "currency": "EUR"}, "unit_price_negative"),
        (Money("-1.50", "EUR"), "unit_price_negative"),
        (UnitPrice("-0.0001", "EUR"), "unit_price_negative"),
    ],
)
def test_a_price_is_exact_and_of_a_currency_that_exists(price: object, code: str) -> None:
    error = invalid(Line, {"sku": "a", "quantity": 1, "unit_price": price})
    assert (error.code, [found.field for found in error.errors]) == (code, ["unit_price"])


@pytest.mark.parametrize(
    ("amount", "code"),
    [
        ({"amount": "1.505", "currency": "EUR"}, "wrong_exponent"),
        ({"amount": "1.5", "currency": "JPY"}, "wrong_exponent"),
        ({"amount": 1.0, "currency": "EUR"}, "float_money"),
        ({"amount": "-1", "currency": "EUR"}, "charge_negative"),
    ],
)
def test_a_charge_is_money_of_zero_or_more(amount: object, code: str) -> None:
    assert invalid(Charge, {"amount": amount}).code == code


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "discount_ambiguous"),
        ({"amount": Money(1, "EUR"), "percent": 10}, "discount_ambiguous"),
        ({"amount": Money(0, "EUR")}, "discount_not_positive"),
        ({"amount": Money(-1, "EUR")}, "discount_not_positive"),
        ({"percent": 0.1}, "invalid_percentage"),
        ({"percent": 0}, "invalid_percentage"),
        ({"percent": 101}, "invalid_percentage"),
        ({"percent": "0.0000001"}, "invalid_percentage"),
        ({"percent": "ten"}, "invalid_percentage"),
        ({"percent": Decimal("1e999999")}, "invalid_percentage"),
    ],
)
def test_a_discount_is_a_positive_amount_or_a_percentage(fields: dict[str, Any], code: str) -> None:
    assert invalid(Discount, {"label": "off", **fields}).code == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "not_json"),
        ("{", "not_json"),
        pytest.param("[" * 100_000, "not_json", id="too deep"),
        (b'{"currency": "\xff"}', "not_json"),
        ('{"currency": "\\ud800"}', "not_json"),
        ('{"currency": "\ud800"}', "text_is_not_unicode"),
        ("[]", "wrong_type"),
        ("null", "wrong_type"),
        ('{"currency": "EUR", "metadata": {"a": 1e999}}', "metadata_not_json"),
    ],
)
def test_text_that_is_no_command_is_told_so(text: str | bytes, code: str) -> None:
    assert invalid(CreateDraft, text).code == code


def test_every_error_is_told_with_its_place() -> None:
    error = invalid(
        PlaceOrder,
        {"lines": [{"sku": "", "quantity": 0, "unit_price": {"amount": 1.5, "currency": "EUR"}}], "colour": "red"},
    )
    assert {(found.field, found.code) for found in error.errors} == {
        ("lines.0.sku", "text_too_short"),
        ("lines.0.quantity", "quantity_not_positive"),
        ("lines.0.unit_price", "float_money"),
        ("colour", "unknown_field"),
    }
    assert (error.subject, error.code) == ("PlaceOrder", "invalid_command")


def test_items_that_are_wrong_are_not_called_too_few() -> None:
    assert invalid(CancelLines, {"lines": []}).code == "too_few_items"
    assert invalid(CancelLines, {"lines": [{"line_id": "", "quantity": 1}]}).code == "text_too_short"
    assert invalid(PlaceOrder, {"lines": []}).code == "order_empty"


def test_a_message_never_repeats_what_was_given() -> None:
    secret = "Ada Lovelace"
    error = invalid(Address, {"name": [secret], "lines": [secret + "\x00"], "city": "", "country": secret})
    assert secret not in error.message
    strange = invalid(CreateDraft, {"currency": "EUR", "external_references": {"x" * 300: "1", "\x07": "2"}})
    assert {found.field for found in strange.errors} == {"external_references.….[key]"}
