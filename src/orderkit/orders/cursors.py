"""Page cursors: opaque, and of use only with the query and the tenant they came from."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from datetime import datetime

import attrs
import msgspec

from orderkit.errors import InvalidCursor
from orderkit.unit_of_work.changes import Value

_MAC_BYTES = 16


@attrs.frozen
class Position:
    """A place in a sorted list: behind the order with this sort value and id, or before it.

    Attributes:
        backwards: Whether the page is the one before it.
        kind: `time` for a sort value that is one, written as text; otherwise `plain`.
    """

    backwards: bool
    kind: str
    sort_value: str | int
    order_id: str

    @classmethod
    def at(cls, sort_value: Value, order_id: str, *, backwards: bool) -> Position:
        """Return the position of an order in the list."""
        if isinstance(sort_value, datetime):
            return cls(backwards, "time", sort_value.isoformat(), order_id)
        if not isinstance(sort_value, str | int):
            raise TypeError("lists are sorted by times, text or integers")
        return cls(backwards, "plain", sort_value, order_id)

    @property
    def value(self) -> Value:
        """The sort value as the storage compares it."""
        return datetime.fromisoformat(str(self.sort_value)) if self.kind == "time" else self.sort_value


_decoder = msgspec.json.Decoder(Position)


class Cursors:
    """Make and read cursors with a secret.

    A cursor is the position and an HMAC-SHA256 (RFC 2104), truncated to 128 bits, over the tenant, the
    query and the position.

    Args:
        secret: The same in every process that serves the same lists.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def write(self, position: Position, tenant: str, query: bytes) -> str:
        """Return the cursor of a position."""
        payload = msgspec.json.encode(position)
        return base64.urlsafe_b64encode(self._mac(payload, tenant, query) + payload).rstrip(b"=").decode()

    def read(self, cursor: str, tenant: str, query: bytes) -> Position:
        """Return the position of a cursor.

        Raises:
            InvalidCursor: It was tampered with, or belongs to another query or tenant.
        """
        try:
            if not isinstance(cursor, str):
                raise TypeError("a cursor is text")
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            mac, payload = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
            if not hmac.compare_digest(mac, self._mac(payload, tenant, query)):
                raise ValueError("authentication failed")
            return _decoder.decode(payload)
        except (TypeError, ValueError, binascii.Error, msgspec.MsgspecError) as error:
            raise InvalidCursor(
                "The cursor cannot be used: it was altered, or belongs to another query. Nothing was read. "
                "Start again from the first page."
            ) from error

    def _mac(self, payload: bytes, tenant: str, query: bytes) -> bytes:
        parts = (tenant.encode(), query, payload)
        framed = b"".join(len(part).to_bytes(8) + part for part in parts)
        return hmac.digest(self._secret, framed, hashlib.sha256)[:_MAC_BYTES]
