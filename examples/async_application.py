"""Take orders from asyncio: many requests under one key, and one that ran out of time.

python examples/async_application.py

Orders are kept in `orderkit.db`, or wherever `ORDERKIT_DATABASE_URL` says.
"""

from __future__ import annotations

import asyncio
import uuid

from orderkit import AsyncOrderKit, Line, Money, Order

TEA = Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR"))


async def check_out(kit: AsyncOrderKit, key: str) -> Order:
    """Place an order, once under its key."""
    return await kit.orders.place(lines=[TEA], customer="cust-42", idempotency_key=key)


async def check_out_in_time(kit: AsyncOrderKit, key: str, seconds: float) -> Order:
    """Place an order within a time; what became of an attempt that was cut off is settled by repeating it."""
    try:
        async with asyncio.timeout(seconds):
            return await check_out(kit, key)
    except TimeoutError:
        # Written wholly or not at all: the same key finds the order, or takes it now.
        print("out of time; the same key again settles what became of it")
        return await check_out(kit, key)


async def main() -> None:
    """Let twenty impatient clicks become one order, and one that was cut off another."""
    async with AsyncOrderKit.from_settings() as kit:
        await kit.create_schema()
        shop = kit.for_tenant(f"shop-{uuid.uuid4()}")

        clicks = await asyncio.gather(*(check_out(shop, "impatient") for _ in range(20)))
        print(f"{len(clicks)} clicks under one key made {len({order.id for order in clicks})} order")

        order = await check_out_in_time(shop, "hurried", seconds=0)
        print(f"order {order.number} costs {order.total}")

        print(f"orders in the shop: {len([order async for order in shop.orders.stream()])}")


if __name__ == "__main__":
    asyncio.run(main())
