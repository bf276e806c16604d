"""What users import is a promise: listed, sorted, and nothing else."""

from __future__ import annotations

import types

import orderkit


def test_the_public_names_are_sorted_and_listed_once() -> None:
    assert list(orderkit.__all__) == sorted(set(orderkit.__all__))


def test_every_public_name_can_be_imported() -> None:
    missing = [name for name in orderkit.__all__ if getattr(orderkit, name, None) is None]
    assert not missing


def test_nothing_else_is_public() -> None:
    told = {name for name in dir(orderkit) if not name.startswith("_")}
    submodules = {name for name in told if isinstance(getattr(orderkit, name), types.ModuleType)}
    assert told - submodules == {name for name in orderkit.__all__ if not name.startswith("_")}
