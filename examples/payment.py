"""Pay an order once, although the payment provider's answers are lost: a leased operation under a policy.

python examples/payment.py keeps its orders in `orderkit.db`, or wherever `ORDERKIT_DATABASE_URL` says.
"""

from __future__ import annotations

from typing import TypedDict

from orderkit import IdempotentOperation, Line, Money, OperationRun, OrderKit
from orderkit.resilience import AttemptTimeout, CircuitBreaker, Deadline, Operation, Policy, Retry

RETRY = Retry(on=(ConnectionError, TimeoutError), attempts=2)
POLICY = Policy(Deadline(20), RETRY, CircuitBreaker("gateway"), AttemptTimeout(8), operation=Operation.KEYED)


class Request(TypedDict):
    """What is asked: references, and nothing personal."""

    order: str
    amount: int


class Gateway:
    """Charge once for each key, as providers do, and lose as many answers as it is told to."""

    def __init__(self) -> None:
        self.calls = self.lost = 0
        self.charges: dict[str, str] = {}

    def charge(self, amount: int, key: str) -> str:
        """Charge a card, and answer or not."""
        self.calls += 1
        charge = self.charges.setdefault(key, f"ch_{len(self.charges) + 1} of {amount}")
        if self.lost:
            self.lost -= 1
            raise TimeoutError
        return charge


GATEWAY = Gateway()


def pay(run: OperationRun) -> dict[str, str]:
    """Charge the card and confirm the order: steps that are done are not done again, whoever goes on."""
    request = run.request_as(Request)
    charge = run.call("charge", lambda key: GATEWAY.charge(request["amount"], key), policy=POLICY)
    return run.complete(lambda tx: {"status": tx.orders.confirm(request["order"]).status, "charge": charge})


PAY = IdempotentOperation("pay", pay)


def take(kit: OrderKit, name: str, *, lost: int) -> None:
    """Place an order and pay it, while so many answers are lost; a customer who gets none comes again."""
    tea = Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR"))
    order = kit.orders.place(lines=[tea], idempotency_key=f"payment-{name}")
    request = Request(order=order.id, amount=order.total.minor)
    GATEWAY.lost, calls, charges = lost, GATEWAY.calls, len(GATEWAY.charges)
    try:
        answer = kit.operations.run(PAY, key=name, request=request)
    except TimeoutError:
        print(f"{name}: no answer, and nobody knows: {kit.operations.report(PAY, key=name)}")
        answer = kit.operations.run(PAY, key=name, request=request)
    print(f"{name}: {answer}, {GATEWAY.calls - calls} calls, {len(GATEWAY.charges) - charges} charge")
    confirmed = [entry.event.type for entry in kit.orders.history(order.id)].count("order.confirmed")
    again = kit.operations.run(PAY, key=name, request=request)
    print(f"{name}: confirmed {confirmed} time, a replay gives the same answer: {again == answer}")


def main() -> None:
    """Pay three orders: with no answer lost, with one, and with all that a request waits for."""
    with OrderKit.from_settings() as kit:
        kit.create_schema()
        for name, lost in {"smooth": 0, "repeated": 1, "given-up": 2}.items():
            take(kit, name, lost=lost)


if __name__ == "__main__":
    main()
