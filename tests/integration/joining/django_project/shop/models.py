"""The application's own tables."""

# Django has no types.
# mypy: ignore-errors

from __future__ import annotations

from django.db import models


class Basket(models.Model):
    """A basket, which becomes an order once."""

    name = models.CharField(max_length=60, unique=True)
    order_id = models.CharField(max_length=64, null=True)
    made_at = models.DateTimeField(auto_now_add=True)
