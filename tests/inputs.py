"""Plain data for every kind of input, made from its JSON schema, and ways to spoil it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from orderkit.domain.commands import Command, OrderCommand
from orderkit.orders.searching import OrderFilter

Json = dict[str, Any]
Path = tuple[str | int, ...]

COMMANDS: tuple[type[OrderCommand], ...] = get_args(get_args(Command)[0])
INPUTS: tuple[type[OrderCommand | OrderFilter], ...] = (*COMMANDS, OrderFilter)

KEY = "(key)"
"""The last step of a path that leads to a key of a mapping, and not to a value."""

_BY_PATTERN = {
    "^[A-Z]{2}$": "GB",
    "^[A-Z]{3}$": "EUR",
    "^[A-Za-z0-9_.:-]{1,64}$": "order-1",
    r"^-?[0-9]{1,20}(\.[0-9]{1,20})?$": "1",
    r"^[^@\s\x00-\x1F\x7F]+@[^@\s\x00-\x1F\x7F]+$": "ada@example.org",
}


def complete(model: type[BaseModel]) -> Json:
    """Return plain data with a value for every field of a model."""
    schema = model.model_json_schema()
    data: Json = _sample(schema, schema.get("$defs", {}))
    _make_consistent(data)
    return data


def _make_consistent(data: Any) -> None:
    """Take away what may not stand beside something else."""
    if isinstance(data, dict):
        if "percent" in data:
            del data["percent"]
        if "discounts" in data:
            data["charges"][0]["id"] = "a charge"
    for value in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        _make_consistent(value)


def _sample(schema: Json, defined: Json) -> Any:
    if "$ref" in schema:
        return _sample(defined[schema["$ref"].rpartition("/")[2]], defined)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return _sample(schema["anyOf"][0], defined)
    return _of_type(schema, defined)


def _of_type(schema: Json, defined: Json) -> Any:
    match schema.get("type"):
        case "object" if "properties" in schema:
            return {name: _sample(field, defined) for name, field in schema["properties"].items()}
        case "object":
            value = schema.get("additionalProperties", True)
            return {"name": "text" if not isinstance(value, dict) or "$ref" in value else _sample(value, defined)}
        case "array":
            return [_sample(schema["items"], defined)]
        case "string" if schema.get("format") == "date-time":
            return "2026-01-01T12:00:00Z"
        case "string":
            return _BY_PATTERN.get(schema.get("pattern", ""), "text")
        case "boolean":
            return True
        case "number":
            return "1"
        case _:
            return 1


def texts(data: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every text in plain data but the kind of a command, keys of mappings included."""
    if isinstance(data, str):
        yield path
    elif isinstance(data, list):
        for position, value in enumerate(data):
            yield from texts(value, (*path, position))
    elif isinstance(data, dict):
        for name, value in data.items():
            if name != "kind":
                yield from texts(value, (*path, name))
        if path and set(data) == {"name"}:
            yield (*path, "name", KEY)


def spoiled(data: Json, path: Path, text: str) -> Json:
    """Return a copy of plain data with another text in one place."""
    changed = copy.deepcopy(data)
    steps, last = (path[:-2], path[-2]) if path[-1] == KEY else (path[:-1], path[-1])
    place: Any = changed
    for step in steps:
        place = place[step]
    if path[-1] == KEY:
        place[text] = place.pop(last)
    else:
        place[last] = text
    return changed


def told(path: Path) -> str:
    """Return a path as a name of a test."""
    return ".".join(map(str, path))
