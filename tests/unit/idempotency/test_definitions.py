"""What an application may say of an operation, and the keys by which others know its steps."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderkit import IdempotentOperation
from orderkit.errors import (
    CommitUnknown,
    ConfigurationError,
    Conflict,
    InvalidKey,
    LeaseLost,
    OrderKitError,
    Refused,
    StorageUnavailable,
)
from orderkit.idempotency.operations import OutcomeUnknown, foreign_key
from orderkit.unit_of_work.changes import KeyReference


def work(_run: object) -> None:
    """Do nothing."""


class Same(Exception):
    pass


OTHER = type("Same", (Exception,), {})

defined: Any = IdempotentOperation

WRONG: list[dict[str, Any]] = [
    {"name": ""},
    {"name": "with space"},
    {"name": "x" * 101},
    {"name": 7},
    {"name": None},
    {"work": None},
    {"work": "work"},
    {"lease": timedelta(0)},
    {"lease": timedelta(seconds=0.09)},
    {"lease": timedelta(hours=2)},
    {"lease": -timedelta(seconds=30)},
    {"lease": 0.05},
    {"lease": float("nan")},
    {"lease": "30"},
    {"lease": None},
    {"retention": timedelta(hours=23)},
    {"retention": timedelta.max},
    {"retention": 3600},
    {"retention": float("inf")},
    {"final": ValueError},
    {"final": [ValueError]},
    {"final": (Exception,)},
    {"final": (BaseException,)},
    {"final": (KeyboardInterrupt,)},
    {"final": (ValueError("an error"),)},
    {"final": ("ValueError",)},
    {"final": (Same, OTHER)},
    {"listeners": print},
    {"listeners": ("print",)},
]


@pytest.mark.parametrize("options", WRONG, ids=str)
def test_a_definition_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        defined(**({"name": "pay", "work": work} | options))


def test_what_is_an_answer() -> None:
    pay = IdempotentOperation("pay", work, final=(OrderKitError, ValueError))
    for answer in (Refused("no"), InvalidKey("bad"), ValueError(), UnicodeError(), Conflict("other")):
        assert pay.is_final(answer)
    for error in (
        LeaseLost("k", 1),
        StorageUnavailable("gone"),
        CommitUnknown("lost"),
        OutcomeUnknown("pay", "k", "charge", "orderkit:…"),
        ConfigurationError("wrong"),
        TimeoutError(),
    ):
        assert not pay.is_final(error)


def test_an_ordinary_key_can_be_read() -> None:
    assert foreign_key(KeyReference("acme", "pay", "order_7:a"), "charge") == "orderkit:acme/pay:order_7%3Aa:charge"


names = st.text("ab:/%", min_size=1, max_size=4)
references = st.tuples(st.builds(KeyReference, names, names, names), names)


@given(references, references)
def test_two_steps_never_share_a_key(one: tuple[KeyReference, str], other: tuple[KeyReference, str]) -> None:
    assert (foreign_key(*one) == foreign_key(*other)) is (one == other)


@given(st.text(min_size=1, max_size=100).filter(lambda text: text.isprintable()), st.text("k:", min_size=1))
def test_a_key_is_short_and_plain(tenant: str, key: str) -> None:
    made = foreign_key(KeyReference(tenant, "pay", key), "charge")
    assert len(made) <= 255
    assert made.isascii()
    assert made.isprintable()
    assert " " not in made
