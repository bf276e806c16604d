"""Embed orders in a bare ASGI application: tenant, actor and correlation id of each request are kept with the events.

python examples/asgi_application.py plays one request to it; a server runs `create_app(kit)`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from orderkit import AsyncOrderKit, Line, OrderKitError
from orderkit.errors import Conflict, InvalidInput, NotFound, Refused, StorageError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

JSON = (b"content-type", b"application/json")
STATUSES = {InvalidInput: 422, Refused: 409, Conflict: 409, NotFound: 404, StorageError: 503}


def create_app(kit: AsyncOrderKit) -> App:
    """Return an application that takes orders by POST."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            # In earnest tenant and actor come from what the caller has proved, never from a header as here.
            shop = kit.for_tenant(headers["x-tenant"])
            shop = shop.bound(actor=headers["x-actor"], correlation_id=headers.get("x-request-id"))
            asked = json.loads(await read(receive))
            lines = [Line.parse(line) for line in asked["lines"]]
            order = await shop.orders.place(lines=lines, idempotency_key=headers.get("idempotency-key"))
            status, answer = 201, {"id": order.id, "number": order.number, "total": str(order.total)}
        except OrderKitError as error:
            status = next((status for family, status in STATUSES.items() if isinstance(error, family)), 500)
            answer = {"code": error.code, "message": error.message}
        except (KeyError, ValueError, TypeError):
            status, answer = 400, {"code": "malformed_request"}
        await send({"type": "http.response.start", "status": status, "headers": [JSON]})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    return app


async def read(receive: Receive) -> bytes:
    """Return the whole body of a request."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


async def main() -> None:
    """Play a request to the application, and show who is on record for it."""
    request = {"lines": [{"sku": "TEA-001", "quantity": 2, "unit_price": {"amount": "4.50", "currency": "EUR"}}]}
    headers = [(b"x-tenant", b"acme"), (b"x-actor", b"ada"), (b"x-request-id", b"r-1"), (b"idempotency-key", b"k-1")]
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": json.dumps(request).encode()}

    async def send(message: Message) -> None:
        sent.append(message)

    async with AsyncOrderKit.from_settings() as kit:
        await kit.create_schema()
        await create_app(kit)({"type": "http", "method": "POST", "headers": headers}, receive, send)
        order_id = json.loads(sent[1]["body"])["id"]
        (placed,) = await kit.for_tenant("acme").orders.history(order_id)
    print(sent[0]["status"], sent[1]["body"].decode())
    print(f"{placed.event.type} by {placed.actor} in request {placed.correlation_id}")


if __name__ == "__main__":
    asyncio.run(main())
