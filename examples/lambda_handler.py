"""Take orders in a function as a service: the kit is made once, a call only uses it.

python examples/lambda_handler.py

It plays a delivery of messages to itself, the way a queue delivers: at least once. Orders are kept in `orderkit.db`,
or wherever `ORDERKIT_DATABASE_URL` says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypedDict

from orderkit import Line, OrderKit
from orderkit.errors import InvalidInput, StorageError

# Outside of the handler: connections outlive a call and serve the next. Nothing is connected before it is needed.
KIT = OrderKit.from_settings()


class Message(TypedDict):
    """A message of the queue."""

    messageId: str
    body: str


def handler(event: Mapping[str, Sequence[Message]], _context: object) -> dict[str, list[dict[str, str]]]:
    """Place the order of each message, and name those that shall be delivered again."""
    again: list[dict[str, str]] = []
    for message in event["Records"]:
        try:
            take(message)
        except InvalidInput as error:
            # Delivering it again would make it no better.
            print(f"{message['messageId']} is dropped: {error.code}")
        except StorageError as error:
            print(f"{message['messageId']} is wanted again: {error.code}")
            again.append({"itemIdentifier": message["messageId"]})
    return {"batchItemFailures": again}


def take(message: Message) -> None:
    """Place the order of a message; the id of the message is its key, so a second delivery makes nothing new."""
    asked = json.loads(message["body"])
    order = KIT.orders.place(
        customer=asked["customer"],
        lines=[Line.parse(line) for line in asked["lines"]],
        idempotency_key=message["messageId"],
    )
    print(f"{message['messageId']} is order {order.number}, {order.total}")


def main() -> None:
    """Deliver a good message twice and a bad one once."""
    with KIT:
        deliver()


def deliver() -> None:
    """Deliver the messages; where the handler really runs, the kit stays open between them."""
    KIT.create_schema()
    line = {"sku": "TEA-001", "quantity": 2, "unit_price": {"amount": "4.50", "currency": "EUR"}}
    good = Message(messageId="m-1", body=json.dumps({"customer": "cust-42", "lines": [line]}))
    bad = Message(messageId="m-2", body=json.dumps({"customer": "cust-42", "lines": [{**line, "quantity": 0}]}))
    print(handler({"Records": [good, bad, good]}, None))
    print(f"orders of the customer: {len(KIT.orders.search().items)}")


if __name__ == "__main__":
    main()
