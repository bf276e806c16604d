"""Take an order once, never lose it, and tell everyone who must know.

The names of this module are the public surface of the library; they are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderkit.exports import lazily

if TYPE_CHECKING:
    from orderkit.domain.commands import (
        AddCharge,
        AddDiscount,
        AddLine,
        AddNote,
        CancelLines,
        CancelOrder,
        ChangeLine,
        ChangeMetadata,
        ChangeTags,
        CompleteOrder,
        ConfirmOrder,
        CreateDraft,
        DiscardDraft,
        ErasePersonalData,
        ExpireOrder,
        HoldOrder,
        ImportOrder,
        LineQuantity,
        PlaceDraft,
        PlaceOrder,
        ReleaseOrder,
        RemoveCharge,
        RemoveDiscount,
        RemoveLine,
        ReopenOrder,
        SetAddress,
        SetContact,
        SetCustomer,
        SetExternalReference,
        SetSubstate,
    )
    from orderkit.domain.decisions import Permission, Preview
    from orderkit.domain.explain import Explanation
    from orderkit.domain.lines import Charge, Discount, Line, OrderCharge, OrderLine
    from orderkit.domain.money import Money, Rounding, UnitPrice
    from orderkit.domain.numbers import GaplessNumbers, NumbersByTenant, RandomNumbers
    from orderkit.domain.order import Order
    from orderkit.domain.parties import Address, Contact, NoteText
    from orderkit.domain.pricing import TaxLevel, TaxRate
    from orderkit.domain.status import OrderStatus
    from orderkit.errors import OrderKitError
    from orderkit.idempotency.operations import IdempotentOperation, OnUnknown
    from orderkit.idempotency.runs import OperationReport, Resumed
    from orderkit.idempotency.steps import Found
    from orderkit.kit.async_front import AsyncOrderKit, AsyncTransaction
    from orderkit.kit.async_operations import AsyncOperationRun
    from orderkit.kit.caching import OrderCache
    from orderkit.kit.front import OrderKit, Transaction
    from orderkit.kit.operations import OperationRun
    from orderkit.kit.settings import Profile, Settings
    from orderkit.orders.bulk import BulkItem, BulkResult
    from orderkit.orders.customers import CustomerExport, Erasure, OrderExport
    from orderkit.orders.reading import PersonalData, RecordedEvent
    from orderkit.orders.searching import OrderFilter, Page
    from orderkit.storage.sql.tables import metadata
    from orderkit.unit_of_work.storage import PoolFigures

_HOMES = {
    "AddCharge": "orderkit.domain.commands",
    "AddDiscount": "orderkit.domain.commands",
    "AddLine": "orderkit.domain.commands",
    "AddNote": "orderkit.domain.commands",
    "Address": "orderkit.domain.parties",
    "AsyncOperationRun": "orderkit.kit.async_operations",
    "AsyncOrderKit": "orderkit.kit.async_front",
    "AsyncTransaction": "orderkit.kit.async_front",
    "BulkItem": "orderkit.orders.bulk",
    "BulkResult": "orderkit.orders.bulk",
    "CancelLines": "orderkit.domain.commands",
    "CancelOrder": "orderkit.domain.commands",
    "ChangeLine": "orderkit.domain.commands",
    "ChangeMetadata": "orderkit.domain.commands",
    "ChangeTags": "orderkit.domain.commands",
    "Charge": "orderkit.domain.lines",
    "CompleteOrder": "orderkit.domain.commands",
    "ConfirmOrder": "orderkit.domain.commands",
    "Contact": "orderkit.domain.parties",
    "CreateDraft": "orderkit.domain.commands",
    "CustomerExport": "orderkit.orders.customers",
    "DiscardDraft": "orderkit.domain.commands",
    "Discount": "orderkit.domain.lines",
    "ErasePersonalData": "orderkit.domain.commands",
    "Erasure": "orderkit.orders.customers",
    "ExpireOrder": "orderkit.domain.commands",
    "Explanation": "orderkit.domain.explain",
    "Found": "orderkit.idempotency.steps",
    "GaplessNumbers": "orderkit.domain.numbers",
    "HoldOrder": "orderkit.domain.commands",
    "IdempotentOperation": "orderkit.idempotency.operations",
    "ImportOrder": "orderkit.domain.commands",
    "Line": "orderkit.domain.lines",
    "LineQuantity": "orderkit.domain.commands",
    "Money": "orderkit.domain.money",
    "NoteText": "orderkit.domain.parties",
    "NumbersByTenant": "orderkit.domain.numbers",
    "OnUnknown": "orderkit.idempotency.operations",
    "OperationReport": "orderkit.idempotency.runs",
    "OperationRun": "orderkit.kit.operations",
    "Order": "orderkit.domain.order",
    "OrderCache": "orderkit.kit.caching",
    "OrderCharge": "orderkit.domain.lines",
    "OrderExport": "orderkit.orders.customers",
    "OrderFilter": "orderkit.orders.searching",
    "OrderKit": "orderkit.kit.front",
    "OrderKitError": "orderkit.errors",
    "OrderLine": "orderkit.domain.lines",
    "OrderStatus": "orderkit.domain.status",
    "Page": "orderkit.orders.searching",
    "Permission": "orderkit.domain.decisions",
    "PersonalData": "orderkit.orders.reading",
    "PlaceDraft": "orderkit.domain.commands",
    "PlaceOrder": "orderkit.domain.commands",
    "PoolFigures": "orderkit.unit_of_work.storage",
    "Preview": "orderkit.domain.decisions",
    "Profile": "orderkit.kit.settings",
    "RandomNumbers": "orderkit.domain.numbers",
    "RecordedEvent": "orderkit.orders.reading",
    "ReleaseOrder": "orderkit.domain.commands",
    "RemoveCharge": "orderkit.domain.commands",
    "RemoveDiscount": "orderkit.domain.commands",
    "RemoveLine": "orderkit.domain.commands",
    "ReopenOrder": "orderkit.domain.commands",
    "Resumed": "orderkit.idempotency.runs",
    "Rounding": "orderkit.domain.money",
    "SetAddress": "orderkit.domain.commands",
    "SetContact": "orderkit.domain.commands",
    "SetCustomer": "orderkit.domain.commands",
    "SetExternalReference": "orderkit.domain.commands",
    "SetSubstate": "orderkit.domain.commands",
    "Settings": "orderkit.kit.settings",
    "TaxLevel": "orderkit.domain.pricing",
    "TaxRate": "orderkit.domain.pricing",
    "Transaction": "orderkit.kit.front",
    "UnitPrice": "orderkit.domain.money",
    "metadata": "orderkit.storage.sql.tables",
}

__all__ = [
    "AddCharge",
    "AddDiscount",
    "AddLine",
    "AddNote",
    "Address",
    "AsyncOperationRun",
    "AsyncOrderKit",
    "AsyncTransaction",
    "BulkItem",
    "BulkResult",
    "CancelLines",
    "CancelOrder",
    "ChangeLine",
    "ChangeMetadata",
    "ChangeTags",
    "Charge",
    "CompleteOrder",
    "ConfirmOrder",
    "Contact",
    "CreateDraft",
    "CustomerExport",
    "DiscardDraft",
    "Discount",
    "ErasePersonalData",
    "Erasure",
    "ExpireOrder",
    "Explanation",
    "Found",
    "GaplessNumbers",
    "HoldOrder",
    "IdempotentOperation",
    "ImportOrder",
    "Line",
    "LineQuantity",
    "Money",
    "NoteText",
    "NumbersByTenant",
    "OnUnknown",
    "OperationReport",
    "OperationRun",
    "Order",
    "OrderCache",
    "OrderCharge",
    "OrderExport",
    "OrderFilter",
    "OrderKit",
    "OrderKitError",
    "OrderLine",
    "OrderStatus",
    "Page",
    "Permission",
    "PersonalData",
    "PlaceDraft",
    "PlaceOrder",
    "PoolFigures",
    "Preview",
    "Profile",
    "RandomNumbers",
    "RecordedEvent",
    "ReleaseOrder",
    "RemoveCharge",
    "RemoveDiscount",
    "RemoveLine",
    "ReopenOrder",
    "Resumed",
    "Rounding",
    "SetAddress",
    "SetContact",
    "SetCustomer",
    "SetExternalReference",
    "SetSubstate",
    "Settings",
    "TaxLevel",
    "TaxRate",
    "Transaction",
    "UnitPrice",
    "metadata",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
