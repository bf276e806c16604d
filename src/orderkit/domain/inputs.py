"""What comes in: the base of every command, and the texts and times allowed inside one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, JsonValue, StringConstraints
from pydantic import ValidationError as PydanticValidationError
from pydantic_core import PydanticCustomError

from orderkit.errors import FieldError, InvalidCommand

MAX_METADATA_DEPTH = 8
MAX_METADATA_CHARACTERS = 65_536
MAX_LABEL_LENGTH = 255

_CODES = {
    "extra_forbidden": "unknown_field",
    "string_too_long": "text_too_long",
    "string_too_short": "text_too_short",
    "string_pattern_mismatch": "text_has_control_characters",
    "string_unicode": "text_is_not_unicode",
    "timezone_aware": "date_without_zone",
}


if TYPE_CHECKING:
    _Base = BaseModel
else:

    class _Meta(type(BaseModel)):
        """Turn pydantic's error into ours at the outermost constructor; nested models are validated inside it."""

        def __call__(cls, *args, **kwargs):
            try:
                return super().__call__(*args, **kwargs)
            except PydanticValidationError as error:
                raise invalid(cls.__name__, error) from None

    class _Base(BaseModel, metaclass=_Meta):
        pass


InputT = TypeVar("InputT", bound="Input")


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
    found = tuple(
        FieldError(
            field=".".join(str(part) for part in detail["loc"]),
            code=_CODES.get(detail["type"], detail["type"]),
            message=detail["msg"],
        )
        for detail in error.errors(include_url=False, include_context=False, include_input=False)
    )
    return InvalidCommand(subject, found)


# No NUL (PostgreSQL cannot store it), no other control characters in names, line breaks only in prose.
# Lone surrogates are refused by pydantic: they are not Unicode text.
_ONE_LINE = r"^[^\x00-\x1F\x7F]*$"
_PROSE = r"^[^\x00-\x08\x0B\x0C\x0E-\x1F\x7F]*$"

Name = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=_ONE_LINE, strict=True)]
"""A name, code or foreign identifier: 1 to 255 characters on one line."""

Prose = Annotated[str, StringConstraints(min_length=1, max_length=10_000, pattern=_PROSE, strict=True)]
"""Text written by a person: at most 10,000 characters, line breaks allowed."""

UtcTime = Annotated[AwareDatetime, AfterValidator(lambda value: value.astimezone(UTC))]
"""A point in time with its zone, kept in UTC."""


def _check_metadata(value: object) -> object:
    """Accept JSON of limited depth and size, exactly as it will be stored."""
    budget = [MAX_METADATA_CHARACTERS]
    _check_json(value, MAX_METADATA_DEPTH, budget)
    return value


def _check_json(value: object, depth: int, budget: list[int]) -> None:
    if depth < 0:
        raise PydanticCustomError(
            "metadata_too_deep", "metadata may be nested {d} levels deep", {"d": MAX_METADATA_DEPTH}
        )
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise PydanticCustomError("metadata_not_json", "every key of metadata is text")
            _check_text(key, budget)
            _check_json(item, depth - 1, budget)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_json(item, depth - 1, budget)
    else:
        _check_scalar(value, budget)


def _check_scalar(value: object, budget: list[int]) -> None:
    if isinstance(value, str):
        _check_text(value, budget)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise PydanticCustomError("metadata_not_json", "JSON has no NaN and no infinity")
    elif isinstance(value, int) and not isinstance(value, bool):
        if not -(2**63) <= value < 2**63:
            raise PydanticCustomError("metadata_not_json", "integers in metadata have at most 64 bits")
    elif value is not None and not isinstance(value, bool):
        raise PydanticCustomError("metadata_not_json", "metadata is made of JSON values only")
    budget[0] -= 8
    _check_budget(budget)


def _check_text(value: str, budget: list[int]) -> None:
    if "\x00" in value:
        raise PydanticCustomError("text_has_control_characters", "text in metadata has no NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError(
            "text_is_not_unicode", "text in metadata is Unicode without lone surrogates"
        ) from None
    budget[0] -= len(value)
    _check_budget(budget)


def _check_budget(budget: list[int]) -> None:
    if budget[0] < 0:
        raise PydanticCustomError(
            "metadata_too_large", "metadata has at most {n} characters", {"n": MAX_METADATA_CHARACTERS}
        )


Metadata = Annotated[dict[str, JsonValue], BeforeValidator(_check_metadata)]
"""The application's own JSON object: nested at most 8 levels, at most 65,536 characters."""
