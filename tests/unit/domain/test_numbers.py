"""Order numbers: what people call an order by."""

from __future__ import annotations

from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderkit.domain.numbers import GaplessNumbers, NumbersByTenant, RandomNumbers


def never() -> NoReturn:
    raise AssertionError("random numbers are not counted")


@given(st.integers(8, 32))
def test_random_numbers_are_of_plain_characters_in_groups_of_four(length: int) -> None:
    number = RandomNumbers("A-", length).assign("acme", never)
    assert number.startswith("A-")
    groups = number.removeprefix("A-").split("-")
    assert all(len(group) == 4 for group in groups[:-1])
    assert sum(map(len, groups)) == length
    assert set("".join(groups)) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")


def test_random_numbers_do_not_repeat() -> None:
    numbers = RandomNumbers()
    assert len({numbers.assign("acme", never) for _ in range(10_000)}) == 10_000


def test_every_character_of_a_random_number_is_random() -> None:
    columns = zip(*(RandomNumbers(length=8).assign("acme", never) for _ in range(500)), strict=True)
    assert [len(set(column)) > 1 for column in columns] == [True] * 4 + [False] + [True] * 4


@pytest.mark.parametrize("length", [0, 7, 33])
def test_a_random_number_is_neither_guessable_nor_endless(length: int) -> None:
    with pytest.raises(ValueError, match="range"):
        RandomNumbers(length=length)


@given(st.integers(1, 10**12), st.integers(1, 12))
def test_gapless_numbers_are_counted(count: int, digits: int) -> None:
    number = GaplessNumbers("R", digits).assign("acme", lambda: count)
    assert number[0] == "R"
    assert int(number[1:]) == count
    assert len(number) >= digits + 1


def test_a_tenant_may_have_numbers_of_its_own() -> None:
    numbers = NumbersByTenant({"acme": GaplessNumbers("A")}, RandomNumbers("R-"))
    assert numbers.assign("acme", lambda: 7) == "A7"
    assert numbers.assign("other", never).startswith("R-")
