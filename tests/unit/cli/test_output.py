"""What the command line never prints, and what it makes of values."""

from __future__ import annotations

import json

import pytest

from orderkit import Contact, Money, OrderKit
from orderkit.cli.options import synchronous
from orderkit.cli.output import masked, secrets_of, to_json, to_line, with_code
from tests.integration.kit.places import TEA


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://shop:s3cret@db/shop", "postgresql://shop:***@db/shop"),
        ("postgresql+psycopg://shop:p@ss:w/rd@db:5432/shop", "postgresql+psycopg://shop:***@db:5432/shop"),
        ("see mysql://:pw@db/shop and go", "see mysql://:***@db/shop and go"),
        ("postgresql://shop@db/shop", "postgresql://shop@db/shop"),
        ("postgresql://db/shop?user=a&password=b&sslmode=on", "postgresql://db/shop?user=a&password=***&sslmode=on"),
        ("host=db password=geheim dbname=shop", "host=db password=*** dbname=shop"),
        ("password='with spaces' user=a", "password=*** user=a"),
        ("ORDERKIT_CURSOR_SECRET=abc", "ORDERKIT_CURSOR_SECRET=***"),
        ("at 12:30 mail ada@example.org", "at 12:30 mail ada@example.org"),
        ("https://docs.example.org/a:b", "https://docs.example.org/a:b"),
    ],
)
def test_what_looks_like_a_password_is_masked(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_the_password_of_the_url_is_masked_wherever_it_stands() -> None:
    secrets = secrets_of("postgresql://shop:s3cr%40t@db/shop")
    assert set(secrets) == {"s3cr%40t", "s3cr@t"}
    assert masked("cannot log in with s3cr@t or s3cr%40t", secrets) == "cannot log in with *** or ***"


@pytest.mark.parametrize("url", [None, "", "nonsense", "sqlite:///shop.db", "postgresql://[::1", "postgresql://a@b/c"])
def test_urls_without_a_password_have_no_secrets(url: str | None) -> None:
    assert secrets_of(url) == ()


def test_a_short_password_does_not_mask_every_letter() -> None:
    assert masked("a banana", secrets_of("postgresql://shop:a@db/shop")) == "a banana"


@pytest.mark.parametrize(
    ("url", "used"),
    [
        ("postgresql+asyncpg://a:b@c/d", "postgresql+psycopg://a:b@c/d"),
        ("postgresql://c/d", "postgresql+psycopg://c/d"),
        ("mysql+aiomysql://c/d", "mysql+pymysql://c/d"),
        ("mariadb://c/d", "mariadb+pymysql://c/d"),
        ("sqlite:///a.db", "sqlite:///a.db"),
        ("nonsense", "nonsense"),
    ],
)
def test_urls_of_asynchronous_drivers(url: str, used: str) -> None:
    assert synchronous(url) == used


def test_values_as_json() -> None:
    with OrderKit.from_url("memory://") as kit:
        order = kit.orders.place(lines=TEA, number="A-1")
    told = json.loads(to_json({"order": order, "total": Money("4.50", "EUR"), "to": Contact(name="Ada")}))
    assert (told["order"]["number"], told["order"]["lines"][0]["unit_price"]) == ("A-1", "4.50")
    assert told["total"] == {"minor": 450, "currency": "EUR"}
    assert told["to"] == {"name": "Ada"}
    assert to_line({"b": 1, "a": "ü"}) == '{"a":"ü","b":1}\n'.encode()


def test_a_code_stands_at_the_end_once() -> None:
    assert with_code("It is so.", "so") == "It is so. [so]"
    assert with_code("It is so. [so]", "so") == "It is so. [so]"
