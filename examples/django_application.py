"""Check baskets out in a Django view: the order and the basket are kept together, or neither is.

python examples/django_application.py

Everything is kept in `orderkit.db`, or in the SQLite file that `ORDERKIT_DATABASE_URL` names.
"""

# Django has no types.
# mypy: disable-error-code="misc"
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import django
from django.conf import settings
from django.db import connection, models, transaction
from django.http import HttpRequest, JsonResponse
from django.test import Client
from django.urls import path
from sqlalchemy import make_url

from orderkit import Line, Money, OrderFilter, OrderKit, Settings

kit = OrderKit.from_settings()

DATABASE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": make_url(Settings().url).database,
    "ATOMIC_REQUESTS": True,  # each request is a transaction
    "OPTIONS": {"transaction_mode": "IMMEDIATE"},  # one that may wait for other writers
}
settings.configure(DATABASES={"default": DATABASE}, ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"])
django.setup()


class Basket(models.Model):
    """A basket of the application, which becomes an order once."""

    sku = models.CharField(max_length=40)
    order_id = models.CharField(max_length=64)

    class Meta:
        app_label = "shop"


def check_out(_request: HttpRequest, sku: str, quantity: int) -> JsonResponse:
    """Place the order of a basket in the transaction of the request."""
    basket = Basket.objects.create(sku=sku)
    order = kit.within(connection).orders.place(
        lines=[Line(sku=sku, quantity=quantity, unit_price=Money("4.50", "EUR"))],
        external_references={"basket": str(basket.pk)},
    )
    basket.order_id = order.id
    basket.save()
    transaction.on_commit(lambda: print(f"committed: {order.total}, so the customer may be told"))
    if quantity > 99:
        raise ConnectionError("the warehouse is not there")
    return JsonResponse({"order": order.id, "basket": basket.pk})


urlpatterns = [path("check-out/<sku>/<int:quantity>", check_out)]


def main() -> None:
    """Check one basket out, and fail at another: of that one neither basket nor order is kept."""
    kit.create_schema()
    if "shop_basket" not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            editor.create_model(Basket)
    for quantity in (2, 100):
        answer = Client(raise_request_exception=False).get(f"/check-out/TEA-001/{quantity}")
        print(f"{quantity} of TEA-001: HTTP {answer.status_code}")
    kept = [str(basket.pk) for basket in Basket.objects.all()]
    orders = [kit.orders.search(OrderFilter(external_references={"basket": basket})) for basket in kept]
    print(f"baskets: {len(kept)}, orders: {sum(len(page.items) for page in orders)}")


if __name__ == "__main__":
    main()
    kit.close()
