"""Write the parts of the documentation that follow from the code: `python -m tools.reference`.

A generated part of a page stands between `<!-- generated: NAME -->` and `<!-- end -->`. A test sees to it that all
of them are up to date.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from functools import partial
from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

import orderkit
from orderkit.domain.commands import Command, LineQuantity, OrderCommand, kind_of
from orderkit.domain.decisions import RULES
from orderkit.domain.inputs import _CODES
from orderkit.domain.lines import Charge, Discount, Line
from orderkit.domain.parties import Address, Contact, NoteText
from orderkit.domain.rules import ANY_STATE
from orderkit.domain.status import OrderStatus
from orderkit.errors import OrderKitError
from orderkit.kit.settings import Settings
from orderkit.orders.searching import OrderFilter
from orderkit.storage.sql.migrations.documentation import NOTHING, markdown_table, table_columns
from orderkit.storage.sql.migrations.state import schema_table
from orderkit.storage.sql.tables import PREFIX, metadata
from tools import commandline
from tools.statechart import state_chart
from tools.tablechart import table_chart

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CHARTS = {DOCS / "reference" / "order-states.svg": state_chart, DOCS / "reference" / "tables.svg": table_chart}

_PART = re.compile(r"(<!-- generated: (?P<name>[\w -]+) -->\n).*?(<!-- end -->)", re.DOTALL)

# --- errors -----------------------------------------------------------------------------------


def error_types() -> list[type[OrderKitError]]:
    """Return every error of the package, each below its family."""
    for module in pkgutil.walk_packages(orderkit.__path__, "orderkit."):
        if not module.name.startswith("orderkit.testing"):
            importlib.import_module(module.name)
    # What joins one of ours with an error of an HTTP library has no code of its own.
    ours = (error for error in dict.fromkeys(_below(OrderKitError)) if "code" in vars(error))
    return [error for error in ours if error.__module__.startswith("orderkit.")]


def _below(error: type[OrderKitError]) -> Iterator[type[OrderKitError]]:
    yield error
    for child in sorted(error.__subclasses__(), key=lambda child: child.__name__):
        yield from _below(child)


def _meaning(thing: object) -> str:
    """Return the first paragraph of a docstring on one line."""
    return " ".join((thing.__doc__ or "").partition("\n\n")[0].split())


def errors() -> str:
    """Return the table of errors."""
    rows = [
        (f"`{error.code}`", f"`{error.__name__}`", f"`{error.__bases__[0].__name__}`", _meaning(error))
        for error in error_types()
        if error is not OrderKitError
    ]
    return markdown_table(("code", "class", "is a", "meaning"), rows)


def field_errors() -> str:
    """Return the table of the codes a field error may have, as they stand in the source."""
    found = {code: code.replace("_", " ") for code in _CODES.values()}
    for path in sorted((ROOT / "src" / "orderkit" / "domain").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                found.update(_field_error(node))
    return markdown_table(("code", "meaning"), [(f"`{code}`", found[code]) for code in sorted(found)])


def _field_error(call: ast.Call) -> Mapping[str, str]:
    """Return the code and the message of a call that makes a field error, if it is one."""
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    arguments = {"PydanticCustomError": call.args[:2], "FieldError": call.args[1:3]}.get(name, [])
    texts = [value.value for value in arguments if isinstance(value, ast.Constant) and isinstance(value.value, str)]
    return {texts[0]: re.sub(r"\{\w+\}", "…", texts[1])} if len(texts) == 2 else {}


# --- settings ---------------------------------------------------------------------------------


def settings() -> str:
    """Return the table of settings."""
    rows = [
        (f"`ORDERKIT_{name.upper()}`", _default(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return markdown_table(("variable", "default", "meaning"), rows)


def _default(value: object) -> str:
    return NOTHING if value is None else f"`{value}`"


# --- input ------------------------------------------------------------------------------------


def fields(*models: type[BaseModel]) -> str:
    """Return, for each model, the table of its fields; the `kind` of a command stands above it."""
    return "\n".join(map(_fields, models))


def _fields(model: type[BaseModel]) -> str:
    title = f"### {model.__name__}\n\n"
    if issubclass(model, OrderCommand):
        title += f"`{kind_of(model)}`\n\n"
    rows = [
        (f"`{name}`", f"`{_annotation(model, name)}`", _needed(field), field.description or NOTHING)
        for name, field in model.model_fields.items()
        if name != "kind" or not issubclass(model, OrderCommand)
    ]
    return title + (markdown_table(("field", "type", "default", "meaning"), rows) if rows else "No fields.\n")


def _annotation(model: type, name: str) -> str:
    """Return the type of a field as the source has it, without what it is annotated with."""
    source = next(vars(base)["__annotations__"][name] for base in model.__mro__ if name in base.__annotations__)
    return re.sub(r"Annotated\[(\w+), .*\]", r"\1", str(source))


def _needed(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    return NOTHING if default is None else f"`{default.value if isinstance(default, Enum) else default!r}`"


# --- the life of an order ---------------------------------------------------------------------


def commands() -> str:
    """Return the table of commands: where each is possible and where it leads."""
    new = [
        ("`create_draft`", NOTHING, "`draft`", NOTHING),
        ("`place_order`", NOTHING, "`pending`, `open`", NOTHING),
    ]
    rows = [
        (f"`{rule.kind}`", _states(rule.sources), _states(rule.targets) or "stays", _conditions(rule.guards))
        for rule in RULES.values()
    ]
    return markdown_table(("command", "possible in", "leads to", "also asked"), [*new, *rows])


def _states(states: frozenset[OrderStatus]) -> str:
    if states == ANY_STATE:
        return "any state"
    return ", ".join(f"`{status.value}`" for status in OrderStatus if status in states)


def _conditions(guards: Iterable[Callable[..., object]]) -> str:
    return ", ".join(guard.__name__.strip("_").replace("_", " ") for guard in guards) or NOTHING


# --- pages ------------------------------------------------------------------------------------

TABLES = {**metadata.tables, schema_table.name: schema_table}

PARTS: Mapping[str, Callable[[], str]] = {
    "errors": errors,
    "field errors": field_errors,
    "settings": settings,
    "commands": commands,
    "fields of commands": partial(fields, *get_args(get_args(Command)[0]), LineQuantity),
    "fields of lines": partial(fields, Line, Charge, Discount),
    "fields of parties": partial(fields, Contact, Address, NoteText),
    "fields of filters": partial(fields, OrderFilter),
    "command line": commandline.commands,
    "common options": commandline.common,
    "exit codes": commandline.exit_codes,
    **{f"table {name.removeprefix(PREFIX)}": partial(table_columns, table) for name, table in TABLES.items()},
}
"""What can be generated, by the name that stands in a page."""


def names_in(text: str) -> list[str]:
    """Return the names of the generated parts of a page."""
    return [match["name"] for match in _PART.finditer(text)]


def filled(text: str) -> str:
    """Return a page with its generated parts made anew."""
    return _PART.sub(lambda match: f"{match[1]}\n{PARTS[match['name']]()}\n{match[3]}", text)


def main() -> None:
    """Write every generated part."""
    for page in DOCS.rglob("*.md"):
        page.write_text(filled(page.read_text()))
    for path, draw in CHARTS.items():
        path.write_text(draw())


if __name__ == "__main__":
    main()
