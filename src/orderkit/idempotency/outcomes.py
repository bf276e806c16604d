"""What steps and operations ended in, as JSON: values, and errors that can be raised again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec

from orderkit.errors import ConfigurationError, OrderKitError
from orderkit.idempotency.operations import Json, OperationFailed

_encode = msgspec.json.Encoder(order="sorted").encode


class Step(msgspec.Struct, omit_defaults=True):
    """A step of an operation as it is kept.

    Attributes:
        done: Whether its outcome is known; a foreign call that was begun is kept without one.
        value: What it gave.
        error: What it failed with for good.
    """

    done: bool = False
    value: msgspec.Raw = msgspec.Raw(b"null")
    error: Failure | None = None


class Failure(msgspec.Struct, omit_defaults=True):
    """An error as it is kept.

    Attributes:
        type: The name of its class.
        message: What it said.
        args: What it was made with, where that is JSON.
        attributes: The attributes of an error of orderkit, where they are JSON.
    """

    type: str
    message: str
    args: msgspec.Raw | None = None
    attributes: dict[str, msgspec.Raw] = {}


Steps = dict[str, Step]
_steps_decoder = msgspec.json.Decoder(Steps)
_failure_decoder = msgspec.json.Decoder(Failure)


class NotJson(ConfigurationError):
    """A value cannot be kept, since it is no JSON or would not come back as what it was."""

    code = "not_json"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} cannot be kept; it was not written. Give plain data: text, numbers, booleans, None, lists and "
            "mappings with text keys; of an order, for example, its id."
        )


def encode_json(value: object, what: str) -> str:
    """Return a value as JSON text.

    Args:
        value: The value.
        what: What it is, for the error.

    Raises:
        NotJson: It would not come back as what it was.
    """
    try:
        text = _encode(value)
        same: bool = msgspec.json.decode(text) == value
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        raise NotJson(what) from None
    if not same:
        raise NotJson(what)
    return text.decode()


def decode_json(text: str | bytes | msgspec.Raw) -> Json:
    """Return the value of JSON text."""
    return cast("Json", msgspec.json.decode(text))


def encode_steps(steps: Mapping[str, Step]) -> str:
    """Return steps as JSON text."""
    return _encode(steps).decode()


def decode_steps(text: str) -> Steps:
    """Return the steps that are kept."""
    return _steps_decoder.decode(text)


def done_with(value: object, name: str) -> Step:
    """Return a step that gave a value.

    Raises:
        NotJson: The value is no JSON.
    """
    return Step(done=True, value=msgspec.Raw(encode_json(value, f"The result of step {name!r}").encode()))


def failed_with(error: Exception) -> Failure:
    """Return an error as it is kept, as far as it is JSON."""
    attributes = {}
    if isinstance(error, OrderKitError):
        given = {name: _raw(value) for name, value in vars(error).items() if not name.startswith("_")}
        attributes = {name: value for name, value in given.items() if value is not None}
    return Failure(type(error).__name__, str(error), None if attributes else _raw(list(error.args)), attributes)


def encode_failure(failure: Failure) -> str:
    """Return an error as JSON text."""
    return _encode(failure).decode()


def decode_failure(text: str) -> Failure:
    """Return the error that is kept."""
    return _failure_decoder.decode(text)


def raised_again(failure: Failure, final: Sequence[type[Exception]]) -> Exception:
    """Return the error that was kept: of the same class, if that is one of orderkit's or one that was named.

    Args:
        failure: What is kept.
        final: The application's own errors that an operation may end in.
    """
    for kind in _known():
        if kind.__name__ == failure.type and failure.attributes:
            error = kind.__new__(kind, failure.message)
            error.__dict__.update({name: decode_json(value) for name, value in failure.attributes.items()})
            return error
    for other in final:
        if other.__name__ == failure.type and failure.args is not None:
            try:
                return other(*cast("list[Any]", decode_json(failure.args)))
            except TypeError:
                break
    return OperationFailed(failure.type, failure.message)


def _raw(value: object) -> msgspec.Raw | None:
    """Return a value as JSON, or None where it is none."""
    try:
        return msgspec.Raw(_encode(value))
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        return None


def _known(parent: type[OrderKitError] = OrderKitError) -> Iterator[type[OrderKitError]]:
    """Yield the errors of orderkit: nothing is imported by a name that was kept."""
    for kind in parent.__subclasses__():
        yield kind
        yield from _known(kind)
