"""Take an order from a plain script: once, however often the script runs.

python examples/plain_script.py

Orders are kept in `orderkit.db`, or wherever `ORDERKIT_DATABASE_URL` says.
"""

from __future__ import annotations

from orderkit import Charge, Discount, Line, Money, OrderFilter, OrderKit, OrderKitError, UnitPrice


def main() -> None:
    """Place an order, confirm it, look at it from all sides, and be refused something."""
    with OrderKit.from_settings() as kit:
        kit.create_schema()
        order = kit.orders.place(
            customer="cust-42",
            lines=[
                Line(id="tea", sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR")),
                Line(id="labels", sku="LABEL", quantity=250, unit_price=UnitPrice("0.0125", "EUR")),
            ],
            charges=[Charge(kind="shipping", amount=Money("3.90", "EUR"))],
            discounts=[Discount(label="Welcome", amount=Money("1.00", "EUR"), applies_to=("tea",))],
            # The same key again gives the same order, and makes nothing new.
            idempotency_key="plain-script-order",
        )
        order = kit.orders.confirm(order.id, idempotency_key="plain-script-confirm")
        print(f"order {order.number} is {order.status} and costs {order.total}")
        print(kit.orders.explain(order.id))
        for entry in kit.orders.history(order.id):
            print(f"version {entry.version}: {entry.event.type}")

        try:
            kit.orders.confirm(order.id)
        except OrderKitError as error:
            print(f"refused: {error.code}")

        found = kit.orders.search(OrderFilter(customer="cust-42", sku="TEA-001"))
        print(f"orders of the customer with this tea: {len(found.items)}")


if __name__ == "__main__":
    main()
