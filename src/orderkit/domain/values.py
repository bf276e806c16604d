"""How a value object comes in through pydantic and goes out as JSON, without importing pydantic before that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypeVar

from orderkit.errors import InvalidInput

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

ValueT = TypeVar("ValueT")

JsonSchema = dict[str, object]
"""A JSON schema, or a part of one."""

EXACT_NUMBER: Final = {
    "anyOf": [{"type": "string", "pattern": r"^-?[0-9]{1,20}(\.[0-9]{1,20})?$"}, {"type": "integer"}]
}
"""The JSON schema of a number that is exact: text or an integer, as a JSON number with a point becomes a float."""


def value_schema(value_type: type[ValueT], fields: tuple[str, ...], convert: Callable[[object], ValueT]) -> CoreSchema:
    """Return the pydantic schema of a class whose constructor validates.

    An instance is taken as it is, and an object with exactly these fields is handed to the constructor. What
    is refused becomes a pydantic error whose type is the refusal's code.

    Args:
        value_type: The class.
        fields: Its fields in JSON.
        convert: What to do with anything else: return a value, or raise an `InvalidInput`.
    """
    from pydantic_core import PydanticCustomError, core_schema

    def validate(value: object) -> ValueT:
        if isinstance(value, value_type):
            return value
        try:
            if isinstance(value, Mapping) and set(value) == set(fields):
                return value_type(**value)
            return convert(value)
        except InvalidInput as error:
            # Codes are class attributes: as constant as a literal, but a type checker cannot see that.
            code = error.code
            raise PydanticCustomError(code, "{message}", {"message": error.message}) from None  # pyright: ignore[reportArgumentType]

    def serialize(value: ValueT) -> dict[str, str]:
        return {field: _text(getattr(value, field)) for field in fields}

    return core_schema.no_info_plain_validator_function(
        validate,
        ref=f"{value_type.__module__}.{value_type.__qualname__}",
        serialization=core_schema.plain_serializer_function_ser_schema(serialize, when_used="json"),
    )


def value_json_schema(value_type: type, properties: Mapping[str, JsonSchema], example: Mapping[str, str]) -> JsonSchema:
    """Return the JSON schema of a class of which every field is required; its docstring describes it."""
    return {
        "type": "object",
        "title": value_type.__name__,
        "description": (value_type.__doc__ or "").partition("\n")[0],
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
        "examples": [dict(example)],
    }


def _text(value: object) -> str:
    # str() would turn a small Decimal into scientific notation, which is refused when it comes back.
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
