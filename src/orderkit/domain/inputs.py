"""What comes in: the base of every command, and the texts and times allowed inside one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, LiteralString, TypeVar

import attrs
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    JsonValue,
    StringConstraints,
)
from pydantic import ValidationError as PydanticValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from orderkit.errors import FieldError, InvalidCommand

MAX_METADATA_DEPTH = 8
MAX_METADATA_CHARACTERS = 65_536

_CODES = {
    **dict.fromkeys(("datetime_from_date_parsing", "datetime_object_invalid", "datetime_parsing"), "not_a_time"),
    **dict.fromkeys(("enum", "literal_error"), "not_a_choice"),
    **dict.fromkeys(("greater_than_equal", "less_than_equal", "less_than"), "out_of_range"),
    "extra_forbidden": "unknown_field",
    "json_invalid": "not_json",
    "missing": "field_missing",
    "string_too_long": "text_too_long",
    "string_too_short": "text_too_short",
    "string_pattern_mismatch": "text_has_control_characters",
    "string_unicode": "text_is_not_unicode",
    "timezone_aware": "date_without_zone",
    "too_long": "too_many_items",
    "too_short": "too_few_items",
}


if TYPE_CHECKING:
    _Base = BaseModel
else:

    class _Meta(type(BaseModel)):
        """Turn pydantic's error into ours at the outermost constructor; nested models are validated inside it."""

        def __call__(cls, /, **fields):
            try:
                # What the constructor comes down to: by way of `__init__` an instance takes half as long again.
                return cls.__pydantic_validator__.validate_python(fields)
            except PydanticValidationError as error:
                raise invalid(cls.__name__, error) from None

    class _Base(BaseModel, metaclass=_Meta):
        # Building its validator would look for plugins in the metadata of every installed package.
        model_config = ConfigDict(defer_build=True)


InputT = TypeVar("InputT", bound="Input")
MetadataT = TypeVar("MetadataT")


class Input(_Base):
    """A value from outside: frozen, without unknown fields, validated when it is made.

    Raises:
        InvalidCommand: Something in it is not valid; nothing has been read or written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, hide_input_in_errors=True)

    @classmethod
    def parse(cls: type[InputT], value: Mapping[str, object] | str | bytes) -> InputT:
        """Validate a mapping or JSON text, for example the body of a request.

        Raises:
            InvalidCommand: It is not JSON, or something in it is not valid.
        """
        try:
            if isinstance(value, str | bytes):
                return cls.model_validate_json(value)
            return cls.model_validate(value)
        except PydanticValidationError as error:
            raise invalid(cls.__name__, error) from None


def invalid(subject: str, error: PydanticValidationError) -> InvalidCommand:
    """Translate pydantic's findings: stable codes, dotted paths, and never the value that was given."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    wrong_items = {detail["loc"][:-1] for detail in details}
    found = tuple(
        FieldError(
            field=".".join(map(_told, detail["loc"])),
            code=_CODES.get(detail["type"], "wrong_type" if detail["type"].endswith("_type") else detail["type"]),
            message=detail["msg"],
        )
        for detail in details
        # Items that are wrong are not counted: that they are too few would be said of what is there.
        if not (
            detail["type"] == "too_short" and any(loc[: len(detail["loc"])] == detail["loc"] for loc in wrong_items)
        )
    )
    return InvalidCommand(subject, found)


def _told(part: str | int) -> str:
    """Return a part of a path: a name that came from outside may be anything, and is told only if it is a plain one."""
    return str(part) if isinstance(part, int) or (len(part) <= 64 and part.isprintable()) else "…"


@attrs.frozen
class Telling:
    """Tell whatever is wrong with a value by one code and message: `Annotated[str, …, Telling(code, message)]`."""

    code: LiteralString
    message: LiteralString

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(
            handler(source), custom_error_type=self.code, custom_error_message=self.message
        )


# No NUL (PostgreSQL cannot store it), no other control characters in names, line breaks only in prose.
# Lone surrogates are refused by pydantic: they are not Unicode text.
_ONE_LINE = r"^[^\x00-\x1F\x7F]*$"
_PROSE = r"^[^\x00-\x08\x0B\x0C\x0E-\x1F\x7F]*$"

Name = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=_ONE_LINE, strict=True)]
"""A name, code or foreign identifier: 1 to 255 characters on one line."""

Prose = Annotated[str, StringConstraints(min_length=1, max_length=10_000, pattern=_PROSE, strict=True)]
"""Text written by a person: at most 10,000 characters, line breaks allowed."""


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("date_out_of_range", "in UTC the time lies before year 1 or after 9999") from None


UtcTime = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A point in time with its zone, kept in UTC."""


def check_metadata(value: MetadataT) -> MetadataT:
    """Return JSON of limited depth and size, exactly as it will be stored.

    Raises:
        PydanticCustomError: It is no such JSON.
    """
    if not isinstance(value, dict):
        raise PydanticCustomError("metadata_not_json", "metadata is a JSON object")
    budget = [MAX_METADATA_CHARACTERS]
    _check_json(value, MAX_METADATA_DEPTH, budget)
    return value


def _check_json(value: object, depth: int, budget: list[int]) -> None:
    if depth < 0:
        raise PydanticCustomError(
            "metadata_too_deep", "metadata may be nested {d} levels deep", {"d": MAX_METADATA_DEPTH}
        )
    _spend(8, budget)
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise PydanticCustomError("metadata_not_json", "every key of metadata is text")
            _check_text(key, budget)
            _check_json(item, depth - 1, budget)
    elif isinstance(value, str):
        _check_text(value, budget)
    elif isinstance(value, list):
        for item in value:
            _check_json(item, depth - 1, budget)
    else:
        _check_scalar(value)


def _check_scalar(value: object) -> None:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise PydanticCustomError("metadata_not_json", "JSON has no NaN and no infinity")
    elif isinstance(value, int) and not isinstance(value, bool):
        if not -(2**63) <= value < 2**63:
            raise PydanticCustomError("metadata_not_json", "integers in metadata have at most 64 bits")
    elif value is not None and not isinstance(value, bool):
        raise PydanticCustomError("metadata_not_json", "metadata is made of JSON values only")


def _check_text(value: str, budget: list[int]) -> None:
    if "\x00" in value:
        raise PydanticCustomError("text_has_control_characters", "text in metadata has no NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError(
            "text_is_not_unicode", "text in metadata is Unicode without lone surrogates"
        ) from None
    _spend(len(value), budget)


def _spend(characters: int, budget: list[int]) -> None:
    budget[0] -= characters
    if budget[0] < 0:
        raise PydanticCustomError(
            "metadata_too_large", "metadata has at most {n} characters", {"n": MAX_METADATA_CHARACTERS}
        )


Metadata = Annotated[dict[str, JsonValue], BeforeValidator(check_metadata)]
"""The application's own JSON object: nested at most 8 levels, at most 65,536 characters.

Text counts as long as it is, everything else as 8 characters.
"""
