"""Idempotency keys, transactional: the key is claimed by the commit that does the work.

A crash rolls both back, so there is no lease. The first use of a key stores what it led to; every later
use with the same payload is answered from there, and with another payload it is an error.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

import attrs
import msgspec

from orderkit.domain.inputs import Input
from orderkit.domain.order import Order
from orderkit.errors import IdempotencyMismatch, InvalidKey
from orderkit.unit_of_work.changes import KeyClaim, KeyReference
from orderkit.unit_of_work.storage import StoredKey

FINGERPRINT_VERSION: Final = "v1"
DEFAULT_RETENTION: Final = timedelta(hours=72)
MAX_KEY_LENGTH: Final = 255

_key_pattern = re.compile(r"[\x20-\x7E]{1,255}")


@functools.cache
def _defaults(kind: type[Input]) -> Mapping[str, object]:
    return {name: field.get_default(call_default_factory=True) for name, field in kind.model_fields.items()}


def _given(value: object) -> Mapping[str, object]:
    """Return the declared fields of an input: those that were given, so that a new default changes no hash."""
    if not isinstance(value, Input):
        raise TypeError(f"{type(value).__name__} is no part of a request")
    defaults = _defaults(type(value))
    fields = ((name, getattr(value, name)) for name in value.model_fields_set)
    return {name: field for name, field in fields if field != defaults[name]}


_canonical = msgspec.json.Encoder(order="sorted", decimal_format="string", enc_hook=_given).encode


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

        Raises:
            IdempotencyMismatch: The key was used with another payload.
        """
        if contradicts(stored.fingerprint, self.fingerprint):
            raise IdempotencyMismatch(self.reference.key)


def contradicts(stored: str, fingerprint: str) -> bool:
    """Tell whether a stored fingerprint is that of another request.

    One that was made by another version of the rule is taken to be of the same: a release never turns keys of
    yesterday into errors.
    """
    stored_version, version = (one.partition(":")[0] for one in (stored, fingerprint))
    return stored_version == version and stored != fingerprint


class RecentKeys:
    """Remember which keys were used in this process lately: a repetition of one is looked up before it is decided.

    Only a hint. Who takes a key for fresh finds out by its claim, at the price of a decision that was for nothing.
    """

    def __init__(self, most: int = 4096) -> None:
        self._most = most
        self._keys: dict[KeyReference, None] = {}

    def __contains__(self, key: KeyReference) -> bool:
        """Tell whether a key was used here lately."""
        return key in self._keys

    def add(self, key: KeyReference) -> None:
        """Remember a key, and forget the one that was remembered first if there are too many."""
        keys = self._keys
        if len(keys) >= self._most and key not in keys:
            # Others add at the same time: a few more or fewer make no difference.
            with suppress(StopIteration, KeyError, RuntimeError):
                del keys[next(iter(keys))]
        keys[key] = None


def keyed_request(
    tenant: str, operation: str, key: str, payload: object, retention: timedelta = DEFAULT_RETENTION
) -> KeyedRequest:
    """Return the request that a payload makes under a key.

    Args:
        tenant: Whose key, as the application has authenticated it; never taken from a client's payload.
        operation: What is asked; the same key may be used once per operation.
        key: 1 to 255 printable ASCII characters.
        payload: The request: inputs, or plain data.
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
