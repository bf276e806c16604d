"""The options by which orders are found: those of `OrderFilter`, one for each of its fields.

They stand here and are not derived, because the model would have to be loaded to show a line of help; a test
compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from orderkit.domain.status import OrderStatus

if TYPE_CHECKING:
    from orderkit.domain.money import Money
    from orderkit.orders.searching import OrderFilter

_PANEL: Final = "Which orders"


def read_time(text: str) -> datetime:
    """Return a time as people type it: without a zone it is meant in UTC."""
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter("give a date or a time such as 2026-11-22 or 2026-11-22T09:30+01:00") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _option(name: str, help_text: str, metavar: str | None = None) -> Any:
    """Return an option of the panel of filters, as `typer.Option` does, whose return type is `Any` too."""
    return typer.Option(name, metavar=metavar, help=help_text, rich_help_panel=_PANEL)


def _time_option(name: str, help_text: str) -> Any:
    return typer.Option(name, metavar="TIME", parser=read_time, help=help_text, rich_help_panel=_PANEL)


def order_filter(
    *,
    status: Annotated[
        list[OrderStatus] | None, _option("--status", "One of these states.", "|".join(OrderStatus))
    ] = None,
    substate: Annotated[str | None, _option("--substate", "The application's own state.")] = None,
    held: Annotated[bool | None, _option("--held/--not-held", "Whether a hold stands.")] = None,
    customer: Annotated[str | None, _option("--customer", "Whose order.")] = None,
    guest: Annotated[bool | None, _option("--guest/--not-guest", "Whether it has no customer.")] = None,
    sku: Annotated[str | None, _option("--sku", "Has a line with this SKU.")] = None,
    number: Annotated[str | None, _option("--number", "Its number.")] = None,
    external_reference: Annotated[
        list[str] | None, _option("--external-reference", "Has these ids in these systems.", "SYSTEM=ID")
    ] = None,
    tag: Annotated[list[str] | None, _option("--tag", "Has all of these tags.")] = None,
    metadata: Annotated[
        list[str] | None,
        _option("--metadata", "Has these values under these names at the top level of its metadata.", "NAME=VALUE"),
    ] = None,
    placed_from: Annotated[datetime | None, _time_option("--placed-from", "Placed at or after.")] = None,
    placed_until: Annotated[datetime | None, _time_option("--placed-until", "Placed before.")] = None,
    created_from: Annotated[datetime | None, _time_option("--created-from", "Created at or after.")] = None,
    created_until: Annotated[datetime | None, _time_option("--created-until", "Created before.")] = None,
    updated_from: Annotated[datetime | None, _time_option("--updated-from", "Changed last at or after.")] = None,
    updated_until: Annotated[datetime | None, _time_option("--updated-until", "Changed last before.")] = None,
    expires_until: Annotated[
        datetime | None, _time_option("--expires-until", "Has a time to expire, before this one.")
    ] = None,
    total_from: Annotated[
        str | None, _option("--total-from", "Current total of at least this.", "'AMOUNT CURRENCY'")
    ] = None,
    total_until: Annotated[
        str | None, _option("--total-until", "Current total of less than this.", "'AMOUNT CURRENCY'")
    ] = None,
) -> OrderFilter:
    """Return the filter that the options describe.

    Raises:
        InvalidInput: Something in it cannot be.
    """
    from orderkit.orders.searching import OrderFilter

    return OrderFilter.parse(
        {
            "status": tuple(status or ()),
            "substate": substate,
            "held": held,
            "customer": customer,
            "guest": guest,
            "sku": sku,
            "number": number,
            "external_references": dict(_pairs(external_reference)),
            "tags": tuple(tag or ()),
            "metadata": {name: _label(value) for name, value in _pairs(metadata)},
            "placed_from": placed_from,
            "placed_until": placed_until,
            "created_from": created_from,
            "created_until": created_until,
            "updated_from": updated_from,
            "updated_until": updated_until,
            "expires_until": expires_until,
            "total_from": _money(total_from),
            "total_until": _money(total_until),
        }
    )


def _pairs(texts: Iterable[str] | None) -> Iterable[tuple[str, str]]:
    """Yield what stands on both sides of the first equals sign of each text."""
    for text in texts or ():
        name, _, value = text.partition("=")
        if not (name and value):
            raise typer.BadParameter(f"{text!r} is no name with a value, such as channel=web")
        yield name, value


def _label(text: str) -> object:
    """Return a value of metadata: true, false or an integer where the text is one."""
    if text in {"true", "false"}:
        return text == "true"
    return int(text) if text.isascii() and text.removeprefix("-").isdecimal() else text


def _money(text: str | None) -> Money | None:
    """Return an amount as people type it, such as `10.00 EUR`."""
    from orderkit.domain.money import Money

    if text is None:
        return None
    amount, _, currency = text.strip().partition(" ")
    return Money(amount, currency.strip())
