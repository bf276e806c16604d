"""A view that checks a basket out, in the transaction of the request."""

# Django has no types.
# mypy: ignore-errors

from __future__ import annotations

from django.db import connection, transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path

from orderkit import Line, Money
from shop.models import Basket
from shop.orders import kit

LINES = (Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR")),)

told: list[str] = []


def check_out(request: HttpRequest, name: str) -> JsonResponse:
    basket = Basket.objects.create(name=name)
    order = kit.within(connection).orders.place(lines=LINES, idempotency_key=f"check-out-{name}")
    basket.order_id = order.id
    basket.save()
    transaction.on_commit(lambda: told.append(order.id))
    if "fail" in request.GET:
        raise ConnectionError("the gift wrapping service is not there")
    return JsonResponse({"order": order.id, "total": str(order.total)})


@transaction.non_atomic_requests
def without_transaction(_request: HttpRequest) -> JsonResponse:
    kit.within(connection).orders.place(lines=LINES)
    return JsonResponse({})


urlpatterns = [path("baskets/<name>/check-out", check_out), path("without-transaction", without_transaction)]
