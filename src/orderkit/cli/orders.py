"""`orderkit orders`: find orders and look at them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, cast

import typer

from orderkit.cli.filters import order_filter
from orderkit.cli.options import Invocation, command
from orderkit.cli.output import facts, table
from orderkit.errors import InvalidKey, OrderNotFound

if TYPE_CHECKING:
    from rich.console import Console

    from orderkit.domain.decisions import Permission
    from orderkit.domain.explain import Explanation
    from orderkit.domain.order import Order
    from orderkit.kit.front import OrderKit
    from orderkit.orders.reading import RecordedEvent
    from orderkit.orders.searching import OrderFilter, Page, Sort

orders = typer.Typer(no_args_is_help=True, help="Find orders, look at them, bring them in and take them out.")

Wanted = Annotated[str, typer.Argument(metavar="ID|NUMBER", help="The id of an order, or its number.")]


def _sorts(incomplete: str) -> list[str]:
    """Return what lists can be sorted by, for the completion of shells."""
    from typing import get_args

    from orderkit.orders.searching import Sort

    return [sort for sort in get_args(Sort) if sort.startswith(incomplete)]


@command(
    orders,
    "list",
    takes=order_filter,
    examples="""
    orderkit orders list --status open --status pending --sort=-total
    orderkit orders list --customer cust-42 --placed-from 2026-11-01
    orderkit orders list --held --limit 500 --json | jq '.items[].number'
    """,
)
def list_orders(
    call: Invocation,
    wanted: OrderFilter,
    sort: Annotated[
        str,
        typer.Option(
            metavar="FIELD",
            autocompletion=_sorts,
            help="created_at, placed_at, updated_at, total or number; a minus sign puts the greatest first.",
        ),
    ] = "-created_at",
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many orders are shown.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the page begins: `next` or `previous` of another.")] = None,
) -> None:
    """List orders, page by page.

    All that is asked must hold. Ranges include their lower end and exclude their upper one; a time without a zone
    is meant in UTC.
    """
    with call.kit() as kit:
        page = kit.orders.search(wanted, sort=cast("Sort", sort), limit=limit, cursor=cursor)
    found = {"items": page.items, "next": page.next, "previous": page.previous}
    call.output.result(found, lambda console: _show_page(console, page))
    if page.next is not None and not call.output.as_json:
        call.output.say(f"There are more: give --cursor {page.next}")


def _show_page(console: Console, page: Page) -> None:
    rows = [
        (
            order.number,
            order.id,
            f"{order.status}{' (held)' if order.held else ''}",
            order.customer,
            order.current_total,
            _moment(order.placed_at or order.created_at),
        )
        for order in page.items
    ]
    if rows:
        console.print(table(("number", "id", "status", "customer", "total", "placed"), rows, right=("total",)))
    else:
        console.print("No order is like that.")


@command(
    orders,
    "show",
    examples="""
    orderkit orders show A-1001
    orderkit orders show order_0199c1f0e5a07d3c --json | jq .allowed
    """,
)
def show(call: Invocation, order: Wanted) -> None:
    """Show an order: its lines, where its total comes from, and what can be done with it now."""
    with call.kit() as kit:
        found = find(kit, order)
        explanation = kit.orders.explain(found.id)
        allowed = kit.orders.allowed(found.id)
    whole = {
        "order": found,
        "total": found.total,
        "current_total": found.current_total,
        "explanation": explanation.root,
        "allowed": {kind: _permission(permission) for kind, permission in allowed.items()},
    }
    call.output.result(whole, lambda console: _show_order(console, found, explanation, allowed))


def find(kit: OrderKit, wanted: str) -> Order:
    """Return the order with this id, or else with this number.

    Raises:
        OrderNotFound: There is none.
    """
    from orderkit.orders.searching import OrderFilter

    try:
        return kit.orders.get(wanted)
    except (OrderNotFound, InvalidKey):
        # Anything may be looked for; what cannot be a number either is found by nobody.
        numbered = kit.orders.search(OrderFilter(number=wanted), limit=1).items if wanted.isprintable() else ()
    if not numbered:
        raise OrderNotFound(wanted)
    return numbered[0]


def _permission(permission: Permission) -> Mapping[str, object]:
    reasons = [{"code": refusal.code, "message": refusal.message} for refusal in permission.refusals]
    return {"allowed": bool(permission), "reasons": reasons}


def _show_order(console: Console, order: Order, explanation: Explanation, allowed: Mapping[str, Permission]) -> None:
    from rich.text import Text

    console.print(facts(dict(_header(order))))
    console.print()
    console.print(table(_LINE, _line_rows(order), right=_LINE[2:]))
    console.print()
    console.print(Text(str(explanation)), soft_wrap=True)
    if order.totals.cancelled:
        console.print(Text(f"cancelled {order.cancelled_total}, so that it costs {order.current_total} now"))
    console.print()
    _show_allowed(console, allowed)


def _show_allowed(console: Console, allowed: Mapping[str, Permission]) -> None:
    """Show what can be done now, and why the rest cannot: most of it because of the state the order is in."""
    from orderkit.domain.rules import IllegalTransition

    reasons = [(kind, refusal) for kind, permission in allowed.items() for refusal in permission.refusals]
    elsewhere = [kind for kind, refusal in reasons if isinstance(refusal, IllegalTransition)]
    others = {kind: refusal.message for kind, refusal in reasons if kind not in elsewhere}
    possible = [kind for kind, permission in allowed.items() if permission]
    told = {"possible now": ", ".join(possible) or None, "in other states": ", ".join(elsewhere) or None, **others}
    console.print(facts(told))


_LINE = ("sku", "description", "quantity", "cancelled", "unit price", "discount", "tax", "total")


def _line_rows(order: Order) -> Iterator[tuple[object, ...]]:
    from orderkit.domain.lines import quantity_of

    for line in order.lines:
        amounts = (order.money(amount).amount for amount in (line.discount, line.tax, line.total))
        cancelled = quantity_of(line.cancelled, line.precision) if line.cancelled else None
        yield line.sku, line.description, line.quantity, cancelled, f"{line.unit_price:f}", *amounts
    for charge in order.charges:
        amounts = (order.money(amount).amount for amount in (charge.discount, charge.tax, charge.total))
        yield charge.kind, charge.label, None, None, order.money(charge.gross).amount, *amounts


def _header(order: Order) -> Iterator[tuple[str, object]]:
    yield "number", order.number
    yield "id", order.id
    yield "status", order.status if order.substate is None else f"{order.status}/{order.substate}"
    yield "held", ", ".join(hold.name for hold in order.holds) or None
    yield "customer", order.customer or "a guest"
    yield "version", order.version
    yield "created", _moment(order.created_at)
    yield "placed", _moment(order.placed_at)
    yield "updated", _moment(order.updated_at)
    yield "expires", _moment(order.expires_at)
    yield "tags", ", ".join(order.tags) or None
    yield "elsewhere", ", ".join(f"{system}={known}" for system, known in order.external_references.items()) or None


def _moment(time: datetime | None) -> str | None:
    """Return a time for people, in UTC."""
    return None if time is None else f"{time:%Y-%m-%d %H:%M:%S}Z"


@command(
    orders,
    "history",
    examples="""
    orderkit orders history A-1001
    orderkit orders history A-1001 --json | jq '.[] | [.at, .type, .actor]'
    """,
)
def history(call: Invocation, order: Wanted) -> None:
    """Show everything that happened to an order, from the first event, and who did it."""
    with call.kit() as kit:
        events = kit.orders.history(find(kit, order).id)
    call.output.result(
        [_recorded(event) for event in events],
        lambda console: console.print(table(_EVENT, [_event_row(event) for event in events], right=_EVENT[:1])),
    )


_EVENT = ("version", "at", "what", "who", "correlation")


def _event_row(recorded: RecordedEvent) -> tuple[object, ...]:
    event = recorded.event
    return recorded.version, _moment(event.at), event.type, recorded.actor, recorded.correlation_id


def _recorded(recorded: RecordedEvent) -> Mapping[str, object]:
    """Return an event with its type, which is not among its own fields, and when it happened in front."""
    return {
        "version": recorded.version,
        "id": recorded.id,
        "type": recorded.event.type,
        "at": recorded.event.at,
        "actor": recorded.actor,
        "correlation_id": recorded.correlation_id,
        "causation_id": recorded.causation_id,
        "data": recorded.event,
    }
