"""Outbox rows: what the relay will publish, written by the commit that made it true."""

from __future__ import annotations

import zlib
from datetime import datetime
from typing import NamedTuple

from orderkit.unit_of_work.changes import Table

BUCKETS = 64
"""Rows are relayed by bucket; the rows of one key share a bucket and keep their order."""


class OutboxRow(NamedTuple):
    """One message to be published at least once, in order with the others of its key.

    The column names `aggregatetype`, `aggregateid`, `type` and `payload` are those of Debezium's outbox
    event router, so that it can take over the same table. Rows are inserted and deleted, never updated.
    """

    tenant: str
    id: str
    bucket: int
    topic: str
    key: str
    aggregatetype: str
    aggregateid: str
    aggregate_version: int
    type: str
    schema_version: int
    source: str
    content_type: str
    payload: str
    headers: str
    traceparent: str | None
    occurred_at: datetime
    available_at: datetime


OUTBOX = Table("outbox", OutboxRow._fields, key=("tenant", "id"))


def bucket_of(key: str) -> int:
    """Return the bucket of a message key: CRC-32 of its UTF-8 bytes, alike on every database."""
    return zlib.crc32(key.encode()) % BUCKETS
