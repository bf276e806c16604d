"""What each row of the files is: part of an order, or something that is told by its kind."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal

from reading import Row


class Kind(StrEnum):
    """What a row is."""

    GOODS = "goods"
    MANUAL_ENTRIES = "manual_entries"
    VOUCHERS = "vouchers"
    SAMPLES = "samples"
    SHIPPING = "shipping"
    FEES = "fees"
    DISCOUNTS = "discounts"

    CANCELLATIONS = "cancellations"
    ADJUSTMENTS = "adjustments"
    STOCK_WRITE_OFFS = "stock_write_offs"
    ZERO_PRICE = "zero_price"
    ZERO_QUANTITY = "zero_quantity"
    NO_STOCK_CODE = "no_stock_code"
    DISCOUNTS_NOT_TAKEN = "discounts_not_taken"
    REFUSED = "refused"
    ROUNDING = "rounding"


MEANING: Final[Mapping[Kind, str]] = {
    Kind.GOODS: "",
    Kind.MANUAL_ENTRIES: "typed in by hand",
    Kind.VOUCHERS: "gift vouchers sold",
    Kind.SAMPLES: "",
    Kind.SHIPPING: "postage and carriage",
    Kind.FEES: "of banks and marketplaces",
    Kind.DISCOUNTS: "",
    Kind.CANCELLATIONS: "they name no order to return from",
    Kind.ADJUSTMENTS: "bad debt, negative prices",
    Kind.STOCK_WRITE_OFFS: "negative quantities that cancel nothing",
    Kind.ZERO_PRICE: "stock found, gifts, remarks",
    Kind.ZERO_QUANTITY: "",
    Kind.NO_STOCK_CODE: "nothing says what was sold",
    Kind.DISCOUNTS_NOT_TAKEN: "more than there is to reduce, or parts of a penny",
    Kind.REFUSED: "invoices that orderkit does not take",
    Kind.ROUNDING: "of lines to whole pence",
}
"""What people are told about a kind."""

IN_ORDERS: Final = tuple(Kind)[: tuple(Kind).index(Kind.CANCELLATIONS)]
"""The kinds that orders are made of."""

CHARGES: Final[Mapping[Kind, Literal["shipping", "fee"]]] = {Kind.SHIPPING: "shipping", Kind.FEES: "fee"}
"""The kinds that become a charge of an order, and what the charge is for."""

_CODES: Final[Mapping[str, Kind]] = {
    "ADJUST": Kind.ADJUSTMENTS,
    "ADJUST2": Kind.ADJUSTMENTS,
    "AMAZONFEE": Kind.FEES,
    "B": Kind.ADJUSTMENTS,
    "BANK CHARGES": Kind.FEES,
    "C2": Kind.SHIPPING,
    "CRUK": Kind.FEES,
    "D": Kind.DISCOUNTS,
    "DOT": Kind.SHIPPING,
    "M": Kind.MANUAL_ENTRIES,
    "POST": Kind.SHIPPING,
    "S": Kind.SAMPLES,
}


def kind_of_code(code: str) -> Kind:
    """Return what a stock code stands for."""
    name = code.upper()
    return Kind.VOUCHERS if name.startswith("GIFT_") else _CODES.get(name, Kind.GOODS)


def kind_of(row: Row) -> Kind:
    """Return what a row is, by its invoice number, its stock code, its quantity and its price."""
    kind = kind_of_code(row.stock_code)
    if row.invoice_number.startswith("C"):
        return Kind.CANCELLATIONS
    if row.invoice_number.startswith("A") or kind is Kind.ADJUSTMENTS or row.unit_price < 0:
        return Kind.ADJUSTMENTS
    if row.unit_price == 0:
        return Kind.STOCK_WRITE_OFFS if row.quantity < 0 else Kind.ZERO_PRICE
    if row.quantity == 0:
        return Kind.ZERO_QUANTITY
    if row.quantity < 0 and kind is not Kind.DISCOUNTS:
        return Kind.STOCK_WRITE_OFFS
    return kind if row.stock_code else Kind.NO_STOCK_CODE
