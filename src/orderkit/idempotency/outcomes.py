"""What steps and operations ended in, as JSON: values, and errors that can be raised again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, cast, get_type_hints

import msgspec

from orderkit.errors import ConfigurationError, OrderKitError
from orderkit.idempotency.operations import Json, OperationFailed

_encode = msgspec.json.Encoder(order="sorted").encode

T = TypeVar("T")


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
        args: Its `args`; None where they, or an attribute of it, are no JSON, so that it cannot be made again.
        attributes: Its attributes.
    """

    type: str
    message: str
    args: list[Any] | None = None
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


def request_as(text: str, kind: type[T]) -> T:
    """Return a request that is kept as a type.

    Raises:
        ConfigurationError: It is none such.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, TypeError) as error:
        raise ConfigurationError(f"The request is no {getattr(kind, '__name__', kind)}: {error}") from None


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
    """Return an error as it is kept: with what it can be made again from, if all of that is JSON."""
    kind = type(error)
    hints = _hints(kind)
    told = str(error).encode(errors="backslashreplace").decode()
    args = list(error.args)
    attributes = {
        name: _kept(value, hints.get(name, Any)) for name, value in vars(error).items() if not name.startswith("__")
    }
    kept = {name: value for name, value in attributes.items() if value is not None}
    whole = _kept(args) is not None and kept.keys() == attributes.keys()
    return Failure(kind.__name__, told, args, kept) if whole else Failure(kind.__name__, told)


def encode_failure(failure: Failure) -> str:
    """Return an error as JSON text."""
    return _encode(failure).decode()


def decode_failure(text: str) -> Failure:
    """Return the error that is kept."""
    return _failure_decoder.decode(text)


def raised_again(failure: Failure, final: Sequence[type[Exception]]) -> Exception:
    """Return the error that was kept: of the same class, if that is one of orderkit's or of those that were named.

    Args:
        failure: What is kept.
        final: The application's own errors that an operation may end in; nothing is imported by a name that was kept.
    """
    if failure.args is not None:
        for kind in _kinds(*final, OrderKitError):
            error = _made_again(kind, failure, failure.args) if kind.__name__ == failure.type else None
            if error is not None:
                return error
    return OperationFailed(failure.type, failure.message)


def _made_again(kind: type[Exception], failure: Failure, args: Sequence[Any]) -> Exception | None:
    """Return an error of a class; None if it would not be what it was.

    Its constructor is asked first, for what it may set up besides. Many take something else than what they pass on to
    `Exception`, so that what comes of it is compared.
    """
    for make in (kind, partial(kind.__new__, kind)):
        with suppress(Exception):
            error = make(*args)
            attributes = _attributes(kind, failure)
            error.__dict__.update(attributes)
            if error.args == tuple(args) and str(error) == failure.message and vars(error) == attributes:
                return error
    return None


def _attributes(kind: type[Exception], failure: Failure) -> dict[str, object]:
    hints = _hints(kind)
    return {name: msgspec.json.decode(value, type=hints.get(name, Any)) for name, value in failure.attributes.items()}


def _kept(value: object, kind: Any = Any) -> msgspec.Raw | None:
    """Return a value as JSON, or None where it would not come back as what it was."""
    try:
        text = _encode(value)
        same: bool = msgspec.json.decode(text, type=kind) == value
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        return None
    return msgspec.Raw(text) if same else None


def _hints(kind: type[Exception]) -> Mapping[str, Any]:
    """Return the types of what the constructor of an error takes, after which its attributes are named."""
    try:
        return get_type_hints(kind.__init__)
    except Exception:  # noqa: BLE001 - names that are there for type checkers alone
        return {}


def _kinds(*parents: type[Exception]) -> Iterator[type[Exception]]:
    """Yield classes of errors, and all that are derived from them."""
    for parent in parents:
        yield parent
        yield from _kinds(*parent.__subclasses__())
