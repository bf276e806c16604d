"""Idempotency keys, transactional: the key is claimed by the commit that does the work.

A crash rolls both back, so there is no lease. The first use of a key stores what it led to; every later
use with the same payload is answered from there, and with another payload it is an error.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta
from typing import Final

import attrs
import msgspec

from orderkit.domain.order import Order
from orderkit.errors import IdempotencyMismatch, InvalidKey
from orderkit.unit_of_work.changes import KeyClaim, KeyReference
from orderkit.unit_of_work.storage import StoredKey

FINGERPRINT_VERSION: Final = "v1"
DEFAULT_RETENTION: Final = timedelta(hours=72)
MAX_KEY_LENGTH: Final = 255

_key_pattern = re.compile(r"[\x20-\x7E]{1,255}")
_canonical = msgspec.json.Encoder(order="sorted", decimal_format="string").encode


@attrs.frozen
class KeyedRequest:
    """A request made under an idempotency key.

    Attributes:
        reference: Tenant, operation and key.
        fingerprint: What was asked, as a versioned hash.
        retention: How long the result is kept.
    """

    reference: KeyReference
    fingerprint: str
    retention: timedelta

    def claim(self, order: Order, now: datetime) -> KeyClaim:
        """Return the record that a commit inserts with the work."""
        tenant, scope, key = self.reference
        return KeyClaim(tenant, scope, key, self.fingerprint, order.id, order.version, now, now + self.retention)

    def check(self, stored: StoredKey) -> None:
        """Make sure that a stored record answers this request.

        A record whose fingerprint was made by another version of the rule is taken to answer it: a
        release never turns keys of yesterday into errors.

        Raises:
            IdempotencyMismatch: The key was used with another payload.
        """
        version, _, _ = stored.fingerprint.partition(":")
        if version == FINGERPRINT_VERSION and stored.fingerprint != self.fingerprint:
            raise IdempotencyMismatch(self.reference.key)


def keyed_request(
    tenant: str, operation: str, key: str, payload: object, retention: timedelta = DEFAULT_RETENTION
) -> KeyedRequest:
    """Return the request that a payload makes under a key.

    Args:
        tenant: Whose key, as the application has authenticated it; never taken from a client's payload.
        operation: What is asked; the same key may be used once per operation.
        key: 1 to 255 printable ASCII characters.
        payload: The declared fields of the request, as plain data.
        retention: How long the result is kept.

    Raises:
        InvalidKey: The key is malformed.
    """
    reference = key_reference(tenant, operation, key)
    digest = hashlib.sha256(_canonical(payload)).hexdigest()
    return KeyedRequest(reference, f"{FINGERPRINT_VERSION}:{digest}", retention)


def key_reference(tenant: str, operation: str, key: str) -> KeyReference:
    """Return what a record is found by.

    Raises:
        InvalidKey: The key is malformed.
    """
    if not isinstance(key, str) or not _key_pattern.fullmatch(key):
        raise InvalidKey(
            f"An idempotency key has 1 to {MAX_KEY_LENGTH} printable ASCII characters; nothing was changed."
        )
    return KeyReference(tenant, operation, key)
