"""Give attrs classes a signature in the reference: griffe reads sources, and knows only dataclasses.

An extension of griffe, named in `mkdocs.yml`, for classes that say what they take in a section `Args:`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from griffe import (
    Attribute,
    Class,
    Expr,
    ExprCall,
    ExprKeyword,
    Extension,
    Function,
    Inspector,
    ObjectNode,
    Parameter,
    ParameterKind,
    Parameters,
    Visitor,
)

DECORATORS = ("attrs.frozen", "attrs.define")


class AttrsSignatures(Extension):
    """Write the `__init__` that attrs would."""

    def on_class_members(
        self, *, node: ast.AST | ObjectNode, cls: Class, agent: Visitor | Inspector, **kwargs: Any
    ) -> None:
        """Add it to a class whose members have been read."""
        decorators = [str(each.value) for each in cls.decorators]
        mine = [text for text in decorators if text.startswith(DECORATORS)]
        documented = cls.docstring is not None and "Args:" in cls.docstring.value
        if not mine or not documented or "__init__" in cls.members:
            return
        parameters = Parameters(*_parameters(cls, keywords_only="kw_only=True" in mine[0]))
        init = Function("__init__", parameters=parameters, returns="None", lineno=cls.lineno, endlineno=cls.endlineno)
        cls.set_member("__init__", init)


def _parameters(cls: Class, *, keywords_only: bool) -> Iterator[Parameter]:
    for name, member in cls.members.items():
        # Attributes of the class alone are declared as `ClassVar`.
        if not isinstance(member, Attribute) or "instance-attribute" not in member.labels:
            continue
        given = _field(member.value)
        if given.get("init") == "False":
            continue
        keyword = keywords_only or given.get("kw_only") == "True"
        default = given.get("default") or ("..." if "factory" in given else None)
        kind = ParameterKind.keyword_only if keyword else ParameterKind.positional_or_keyword
        yield Parameter(name.lstrip("_"), annotation=member.annotation, kind=kind, default=default)


def _field(value: str | Expr | None) -> dict[str, str]:
    """Return what an attribute says of itself: by `attrs.field`, or as a plain default."""
    if isinstance(value, ExprCall) and str(value.function) == "attrs.field":
        return {each.name: str(each.value) for each in value.arguments if isinstance(each, ExprKeyword)}
    return {} if value is None else {"default": str(value)}
