"""Add up what became of every row, and tell it: as one JSON object or as a table for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from amounts import add, from_pence, multiply, text_of
from kinds import CHARGES, IN_ORDERS, MEANING, Kind, kind_of_code
from reading import Row

from orderkit import Order, OrderKit
from orderkit.errors import AlreadyExists


@dataclass
class Sum:
    """How many rows of how many invoices there are of a kind, and what they come to."""

    count: int = 0
    invoices: int = 0
    total: Decimal = Decimal(0)
    last_invoice: str | None = None


@dataclass
class Ledger:
    """What is accounted for, by kind."""

    sums: dict[Kind, Sum] = field(default_factory=dict)

    def add(self, kind: Kind, invoice_number: str, amount: Decimal) -> None:
        """Account for a row. The rows of an invoice come one after the other."""
        entry = self.sums.setdefault(kind, Sum())
        entry.count += 1
        entry.total = add(entry.total, amount)
        entry.invoices += entry.last_invoice != invoice_number
        entry.last_invoice = invoice_number

    def add_order(self, order: Order) -> None:
        """Account for an order by what is stored of it alone."""
        number = order.number or order.id
        for line in order.lines:
            kept = from_pence(line.gross)
            self.add(kind_of_code(line.sku), number, kept)
            difference = add(multiply(line.units, line.unit_price), -kept)
            if difference:
                self.add(Kind.ROUNDING, number, difference)
        for charge in order.charges:
            kind = next(kind for kind, name in CHARGES.items() if name == charge.kind)
            self.add(kind, number, from_pence(charge.gross))
        for discount in order.adjustments:
            self.add(Kind.DISCOUNTS, number, from_pence(-discount.amount))

    @property
    def total(self) -> Decimal:
        """What all kinds come to."""
        return _sum(entry.total for entry in self.sums.values())


@dataclass
class Report:
    """What became of the files.

    Attributes:
        ledger: What is accounted for; what is in orders was read back from the database.
        orders_total: The sum of the totals of the stored orders.
        file_total: The sum of quantity times price over all rows of the files, whatever they are.
        placed: How many orders were placed by this run, not by an earlier one.
        problems: Invoices that could not be placed as they are in the files, with the code of the error.
        seconds: How long reading and placing took.
        shown: The order that is shown to people.
    """

    files: int
    ledger: Ledger = field(default_factory=Ledger)
    lines: int = 0
    invoices: int = 0
    file_total: Decimal = Decimal(0)
    orders: int = 0
    orders_total: Decimal = Decimal(0)
    customers: set[str] = field(default_factory=set)
    guests: int = 0
    placed: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    shown: Order | None = None

    def read(self, rows: Iterable[Row]) -> None:
        """Count an invoice of the files, before anything is known about it."""
        self.invoices += 1
        for row in rows:
            self.lines += 1
            self.file_total = add(self.file_total, row.amount)

    def stored(self, order: Order) -> None:
        """Count an order that was read back."""
        self.orders += 1
        self.orders_total = add(self.orders_total, order.total.amount)
        self.ledger.add_order(order)
        # The key of an earlier run is forgotten in time, but a number is never given twice.
        if order.number and self.problems.get(order.number) == AlreadyExists.code:
            del self.problems[order.number]
        if order.customer is None:
            self.guests += 1
        else:
            self.customers.add(order.customer)
        if self.shown is None or _worth_showing(order) > _worth_showing(self.shown):
            self.shown = order

    @property
    def accounted_total(self) -> Decimal:
        """What the stored orders and everything that is in no order come to."""
        outside = (entry.total for kind, entry in self.ledger.sums.items() if kind not in IN_ORDERS)
        return add(self.orders_total, _sum(outside))

    @property
    def reconciles(self) -> bool:
        """Whether the files are accounted for exactly, in total and kind by kind."""
        return self.file_total == self.accounted_total == self.ledger.total

    def as_json(self) -> str:
        """Return one JSON object; amounts are exact decimal text, in pounds."""
        by_kind = {
            kind: {"count": entry.count, "invoices": entry.invoices, "total": text_of(entry.total)}
            for kind, entry in _by_kind(self.ledger)
        }
        told = {
            "reconciles": self.reconciles,
            "file_total": text_of(self.file_total),
            "accounted_total": text_of(self.accounted_total),
            "orders": self.orders,
            "orders_total": text_of(self.orders_total),
            "by_kind": by_kind,
            "files": self.files,
            "lines": self.lines,
            "invoices": self.invoices,
            "customers": len(self.customers),
            "guest_orders": self.guests,
            "placed_now": self.placed,
            "placed_before": self.orders - self.placed,
            "problems": self.problems,
            "seconds": round(self.seconds, 3),
            "orders_per_second": round(self.placed / self.seconds),
        }
        return json.dumps(told, indent=2)

    def as_text(self) -> str:
        """Return a table, and a last line that says whether it reconciles."""
        inside = [entry for entry in _by_kind(self.ledger) if entry[0] in IN_ORDERS]
        outside = [entry for entry in _by_kind(self.ledger) if entry[0] not in IN_ORDERS]
        lines = [
            f"{'in orders':<22}{'rows':>8}{'invoices':>10}{'GBP':>18}",
            *(_line(kind, entry) for kind, entry in inside),
            _sum_line(f"{self.orders:,} orders, as stored", self.orders_total),
            "",
            "in no order",
            *(_line(kind, entry) for kind, entry in outside),
            "",
            _sum_line("accounted for", self.accounted_total),
            _sum_line(f"{self.files:,} files", self.file_total, f"{self.lines:>8,}{self.invoices:>10,}"),
            "",
            f"{self.placed:,} orders were placed in {self.seconds:.1f} s, {self.orders - self.placed:,} stood already.",
            f"They are of {len(self.customers):,} customers, and {self.guests:,} of guests.",
            *self._problems(),
            self._verdict(),
        ]
        return "\n".join(lines)

    def _problems(self) -> Iterator[str]:
        if self.problems:
            some = ", ".join(f"{number} ({code})" for number, code in list(self.problems.items())[:5])
            more = f" and {len(self.problems) - 5:,} more" if len(self.problems) > 5 else ""
            yield f"Not placed as they are in the files: {some}{more}."

    def _verdict(self) -> str:
        if self.reconciles:
            return "It reconciles: every row is in a stored order or told by its kind, to the last fraction of a penny."
        difference = text_of(add(self.file_total, -self.accounted_total), grouped=True)
        return f"IT DOES NOT RECONCILE: {difference} GBP of the files are not accounted for."


def portrait(kit: OrderKit, order: Order) -> str:
    """Tell one order as the kit knows it: its total explained, its history, what may be done with it."""
    allowed = [kind for kind, permission in kit.orders.allowed(order.id).items() if permission]
    whose = f"customer {order.customer}" if order.customer else "a guest"
    lines = [
        f"order {order.number} of {whose}, {order.placed_at:%d %B %Y %H:%M} UTC, {order.status}",
        "",
        *str(kit.orders.explain(order.id)).splitlines(),
        "",
        *(
            f"version {entry.version}  {entry.event.type} by {entry.actor} on {entry.event.at:%d %B %Y %H:%M} UTC"
            for entry in kit.orders.history(order.id)
        ),
        "",
        f"now allowed: {', '.join(allowed)}",
    ]
    return "\n".join(lines)


def _worth_showing(order: Order) -> tuple[bool, int, int]:
    """Prefer a short order in which much is to be explained."""
    return len(order.lines) <= 8, len(order.charges) + len(order.adjustments), -len(order.lines)


def _by_kind(ledger: Ledger) -> Iterator[tuple[Kind, Sum]]:
    return ((kind, ledger.sums[kind]) for kind in Kind if kind in ledger.sums)


def _line(kind: Kind, entry: Sum) -> str:
    counts = f"{entry.count:>8,}{entry.invoices:>10,}"
    label = "  " + kind.replace("_", " ")
    return f"{_sum_line(label, entry.total, counts)}  {MEANING[kind]}".rstrip()


def _sum_line(label: str, amount: Decimal, counts: str = "") -> str:
    """Align a label, what was counted, and an amount."""
    return f"{label:<{40 - len(counts)}}{counts}{text_of(amount, grouped=True):>18}"


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for amount in amounts:
        total = add(total, amount)
    return total
