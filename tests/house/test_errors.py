"""Every error has a code of its own and stands in the tree, where users look it up."""

from __future__ import annotations

import collections
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import orderkit
from orderkit import errors
from orderkit.errors import OrderKitError

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"


def subclasses(parent: type[OrderKitError]) -> Iterator[type[OrderKitError]]:
    """Yield a class of errors and all below it."""
    yield parent
    for child in parent.__subclasses__():
        yield from subclasses(child)


def is_joint(error: type[OrderKitError]) -> bool:
    """Tell whether a class only joins one of ours with one of an HTTP library, by either of which users catch it.

    Such classes are made when they are first raised. They have the name and the code of ours, and mean the same.
    """
    return any(base.__module__.partition(".")[0] in {"httpx", "httpx2"} for base in error.__bases__)


@pytest.fixture(scope="module")
def error_types() -> list[type[OrderKitError]]:
    for module in pkgutil.walk_packages(orderkit.__path__, "orderkit."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
    found = [error for error in dict.fromkeys(subclasses(OrderKitError)) if error.__module__.startswith("orderkit.")]
    return [error for error in found if not is_joint(error)]


def test_every_error_has_a_code_of_its_own(error_types: list[type[OrderKitError]]) -> None:
    assert [error.__name__ for error in error_types if "code" not in vars(error)] == []
    codes = collections.Counter(error.code for error in error_types)
    assert [code for code, count in codes.items() if count > 1] == []
    assert [code for code in codes if not re.fullmatch(r"[a-z]+(_[a-z]+)*", code)] == []


def test_every_error_stands_in_the_tree_or_on_its_page(error_types: list[type[OrderKitError]]) -> None:
    told = set(re.findall(r"\w+", (errors.__doc__ or "") + PAGE.read_text()))
    assert [error.__name__ for error in error_types if error.__name__ not in told] == []


def test_the_tree_names_nothing_that_does_not_exist(error_types: list[type[OrderKitError]]) -> None:
    tree = (errors.__doc__ or "").partition("```text")[2].partition("```")[0]
    drawn = set(re.findall(r"^[│├└─ ]*([A-Z]\w+)", tree, re.MULTILINE))
    assert len(drawn) > 20
    assert drawn - {error.__name__ for error in error_types} == set()
