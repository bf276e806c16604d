"""The synchronous and the asynchronous front door are one: the same names, asked for in the same way."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import cached_property
from typing import Any, Required, get_origin, get_type_hints, is_typeddict

import pytest

from orderkit import AsyncOperationRun, AsyncOrderKit, AsyncTransaction, OperationRun, OrderKit, Transaction
from orderkit.domain.commands import CreateDraft, PlaceOrder
from orderkit.kit.async_customers import AsyncCustomers
from orderkit.kit.async_operations import AsyncOperations
from orderkit.kit.async_orders import AsyncOrders
from orderkit.kit.customers import Customers
from orderkit.kit.operations import Operations
from orderkit.kit.orders import Orders
from orderkit.orders.fields import DraftFields, ExecuteOptions, PlaceFields

PAIRS = [
    (OrderKit, AsyncOrderKit),
    (Orders, AsyncOrders),
    (Customers, AsyncCustomers),
    (Operations, AsyncOperations),
    (OperationRun, AsyncOperationRun),
    (Transaction, AsyncTransaction),
]

DUNDERS = {"__enter__": "__aenter__", "__exit__": "__aexit__"}
"""What context managers are called on either side."""


def public(owner: type) -> set[str]:
    """Return what the class itself defines for others to use."""
    names = {name for name in vars(owner) if not name.startswith("_")}
    return names | {plain for plain, awaited in DUNDERS.items() if {plain, awaited} & set(vars(owner))}


def plain(annotation: object) -> str:
    """Return an annotation as the synchronous side would write it."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    text = re.sub(r"\bAwaitable\[([^\[\]]*)\]", r"\1", text)
    return re.sub(r"\bMany\b", "Iterable", re.sub(r"\bAsync(?=[A-Z])", "", text))


def member(owner: type, name: str) -> Any:
    """Return a method as it is written, or what computes a property."""
    found: Any = getattr(owner, name, None) or getattr(owner, DUNDERS.get(name, ""))
    return found.func if isinstance(found, cached_property) else getattr(found, "fget", found)


def is_property(owner: type, name: str) -> bool:
    return isinstance(vars(owner).get(name), property | cached_property)


def signature(owner: type, name: str) -> tuple[list[tuple[object, ...]], str]:
    """Return how a method is asked: names, kinds, defaults and types of what it takes, and what comes back."""
    method: Callable[..., Any] = member(owner, name)
    asked = inspect.signature(inspect.unwrap(method))
    taken: list[tuple[object, ...]] = [
        (item.name, item.kind, item.default, plain(item.annotation)) for item in asked.parameters.values()
    ]
    return taken, plain(asked.return_annotation)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_both_have_the_same_names(one: type, other: type) -> None:
    assert public(one) == public(other)


@pytest.mark.parametrize(
    ("one", "other", "name"),
    [(one, other, name) for one, other in PAIRS for name in sorted(public(one) & public(other))],
)
def test_both_are_asked_in_the_same_way(one: type, other: type, name: str) -> None:
    assert signature(other, name) == signature(one, name)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_what_does_the_work_is_awaited(one: type, other: type) -> None:
    immediate = {name for name in public(one) if name.startswith("from_") or is_property(one, name)}
    immediate |= {"for_tenant", "bound", "within", "pool", "foreign_key", "request_as"}
    for name in public(one) - immediate:
        unwrapped = inspect.unwrap(member(other, name))
        iterated = str(inspect.signature(unwrapped).return_annotation).startswith("AsyncGenerator[")
        assert inspect.iscoroutinefunction(unwrapped) or inspect.isasyncgenfunction(unwrapped) or iterated, name


@pytest.mark.parametrize("owner", [owner for pair in PAIRS for owner in pair])
def test_everything_public_is_described(owner: type) -> None:
    assert owner.__doc__
    members = {name: inspect.unwrap(member(owner, name)) for name in vars(owner) if not name.startswith("_")}
    assert [name for name, member in members.items() if not member.__doc__] == []


@pytest.mark.parametrize(("fields", "command"), [(PlaceFields, PlaceOrder), (DraftFields, CreateDraft)])
def test_the_verbs_take_the_fields_of_their_commands(fields: type, command: type[PlaceOrder | CreateDraft]) -> None:
    assert is_typeddict(fields)
    assert set(get_type_hints(fields)) == set(command.model_fields) - {"kind"}
    required = {
        name for name, hint in get_type_hints(fields, include_extras=True).items() if get_origin(hint) is Required
    }
    assert required == {name for name, field in command.model_fields.items() if field.is_required()}


def test_every_verb_takes_the_options_of_execute() -> None:
    sugar = [name for name in public(Orders) if "and `execute`" in (getattr(Orders, name).__doc__ or "")]
    assert len(sugar) > 5
    for verb in (*sugar, "execute"):
        last = list(inspect.signature(getattr(Orders, verb)).parameters.values())[-1]
        assert (last.kind, last.annotation) == (inspect.Parameter.VAR_KEYWORD, "Unpack[ExecuteOptions]"), verb
    assert set(get_type_hints(ExecuteOptions)) == {"expected_version", "idempotency_key"}
