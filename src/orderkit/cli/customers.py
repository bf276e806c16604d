"""`orderkit customers`: what is kept about one customer."""

from __future__ import annotations

from typing import Annotated

import typer

from orderkit.cli.options import Invocation, command
from orderkit.cli.output import private_file

customers = typer.Typer(no_args_is_help=True, help="Give out, or erase, what is kept about one customer.")

Customer = Annotated[str, typer.Argument(metavar="CUSTOMER", help="The application's id of the customer.")]


@command(
    customers,
    "export",
    examples="""
    orderkit customers export cust-42 --output cust-42.json
    orderkit customers export cust-42 | jq '.orders | length'
    """,
)
def export(
    call: Invocation,
    customer: Customer,
    output: Annotated[
        str | None, typer.Option("--output", metavar="FILE", help="A file, for its owner's eyes only, and not stdout.")
    ] = None,
) -> None:
    """Give out everything kept about a customer's orders, as one JSON document.

    It holds the orders, their history, and contact, addresses and notes as far as they were not erased.
    """
    with call.kit() as kit:
        exported = kit.customers.export(customer)
    document = exported.to_plain()
    if output is None:
        call.output.document(document)
        return
    with private_file(output) as file:
        file.write(exported.to_json().encode())
    count = len(exported.orders)
    call.output.result(
        {"customer": customer, "orders": count, "file": output},
        lambda console: console.print(f"{count:,} orders written to {output}", markup=False),
    )


@command(
    customers,
    "erase",
    examples="""
    orderkit customers erase cust-42
    orderkit customers erase cust-42 --yes --reason 'asked for by letter' --json
    """,
)
def erase(
    call: Invocation,
    customer: Customer,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why; it is kept with each order, so it names nobody.")] = None,
) -> None:
    """Erase contact, addresses and notes of all of a customer's orders, for good.

    What the orders are stays: lines, amounts, states, history. Repeat it after an interruption; what was erased before
    is not counted again.
    """
    question = f"Erase contact, addresses and notes of every order of {customer!r} for good?"
    call.output.confirm(question, yes=yes)
    with call.kit() as kit:
        erased = kit.customers.erase(customer, reason=reason)
    call.output.result(
        {"customer": customer, "orders": erased.orders, "pieces": erased.pieces},
        lambda console: console.print(f"{erased.pieces:,} pieces of {erased.orders:,} orders erased."),
    )
