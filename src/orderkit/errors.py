"""The errors of orderkit: one root, a few families, and a stable code on every leaf.

```text
OrderKitError
├── InvalidInput                  what came in cannot be used; nothing was read or written
│   ├── InvalidCommand            field errors of a command, a line, an address …
│   ├── InvalidMoney              (domain.money: unknown currency, float, wrong exponent, …)
│   ├── InvalidQuery              a filter, a sort or a page size that cannot be
│   │   └── InvalidCursor         tampered with, or from another query
│   ├── InvalidKey                an idempotency key, tenant or id that cannot be used
│   ├── UnreadableFile            (cli.output: a file that cannot be read or written as a whole)
│   └── ConfigurationError        settings, URL or driver that cannot work
│       ├── NotJson               (idempotency.outcomes: a value that cannot be kept as JSON)
│       ├── InvalidPolicy         (resilience.layers: layers that cannot stand together, or be used this way)
│       └── NotConfirmed          (cli.output: what cannot be undone was not agreed to)
├── Refused                       a rule of the domain said no; the order is what it was
├── NotFound
│   ├── OrderNotFound
│   └── OperationNotFound         (idempotency.runs: no operation was started under this key)
├── Conflict                      somebody else was there first
│   ├── VersionConflict           the order moved on
│   ├── AlreadyExists             order id or order number taken
│   ├── IdempotencyMismatch       the key was used with another payload
│   ├── IdempotencyInFlight       the key's first use has not finished
│   └── LeaseLost                 the operation was taken over by another claim
├── Rejected                      a policy did not let a call through; nothing was sent
│   ├── CircuitOpen               (resilience.rejections: the other side has failed too often of late)
│   ├── RateLimited               (… too many calls in a time)
│   └── BulkheadFull              (… too many calls at once)
├── OutcomeUnknown                (idempotency.operations: a foreign call whose outcome nobody knows)
├── OperationFailed               (idempotency.operations: the answer was an error that cannot be made again)
├── DeadlineExceeded              (resilience.rejections: the time of a call or of an attempt was over)
└── StorageError                  the place that keeps orders
    ├── StorageUnavailable        not reached; nothing was written
    ├── StorageBusy               locked too long, deadlock or serialization failure; nothing was written
    ├── StorageFull               no room left; nothing was written
    ├── SchemaMissing             tables are not there
    │   ├── SchemaOutdated        (storage.sql.migrations: tables are older than this release needs)
    │   └── SchemaUnfinished      (a migration that this release needs has not come to its end)
    ├── SchemaTooNew              (a newer release has changed the tables beyond what this one can use)
    ├── SchemaForeign             (tables under the names of orderkit that are not its own)
    ├── DataLoss                  (a downgrade would lose data and was not told to)
    ├── NewerSchema               written by a newer release; readable, never re-saved
    ├── TransactionEnded          used after its block or function was over; nothing was done
    ├── TransactionAborted        an earlier error left the transaction fit only to be rolled back; nothing was done
    ├── StorageFailed             the database refused for another reason; nothing was written
    └── CommitUnknown             the connection went during the commit: repeat to find out
```

Every message says what happened, what is unchanged, and what to do. Programs look at the class, at
`code` and at typed attributes, never at the message.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs


class OrderKitError(Exception):
    """Root of everything orderkit raises on purpose.

    Attributes:
        code: A stable name for programs, such as `order_not_found`. Codes never change meaning.
    """

    code: str = "orderkit_error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __reduce__(self) -> tuple[object, ...]:
        return _revive, (type(self), self.__dict__)


def _revive(error_type: type[OrderKitError], attributes: Mapping[str, object]) -> OrderKitError:
    """Rebuild an error that crossed a process boundary, whatever its constructor takes."""
    message = attributes.get("message", "")
    error = error_type.__new__(error_type, message)
    error.args = (message,)  # which `OSError` leaves to its `__init__`
    error.__dict__.update(attributes)
    return error


# --------------------------------------------------------------------------------------------
# Input
# --------------------------------------------------------------------------------------------


class InvalidInput(OrderKitError):
    """What came in cannot be used. Nothing was read, nothing was written."""

    code = "invalid_input"


@attrs.frozen
class FieldError:
    """One thing that is wrong with one field.

    Attributes:
        field: Where, as a dotted path such as `lines.0.quantity`; empty for the whole.
        code: What, as a stable name such as `quantity_not_positive`.
        message: The same for people. It never repeats the value that was given.
    """

    field: str
    code: str
    message: str


class InvalidCommand(InvalidInput):
    """A command, or something inside it, is not valid.

    Attributes:
        code: The one code that all field errors share, or `invalid_command` where they differ.
        subject: What was not valid, such as `Line`.
        errors: Every field error found, in the order of the fields.
    """

    code = "invalid_command"

    def __init__(self, subject: str, errors: tuple[FieldError, ...]) -> None:
        self.subject = subject
        self.errors = errors
        codes = {error.code for error in errors}
        if len(codes) == 1:
            self.code = codes.pop()
        listed = "; ".join(f"{e.field or subject}: {e.message} [{e.code}]" for e in errors)
        super().__init__(f"{subject} is not valid, nothing was changed. {listed}")


class InvalidQuery(InvalidInput):
    """A search cannot be run as asked."""

    code = "invalid_query"


class InvalidCursor(InvalidQuery):
    """A page cursor was tampered with, or belongs to another query or tenant."""

    code = "invalid_cursor"


class InvalidKey(InvalidInput):
    """An idempotency key, a tenant or an identifier is malformed."""

    code = "invalid_key"


class ConfigurationError(InvalidInput):
    """Settings, a URL or a driver cannot work together."""

    code = "configuration_error"


# --------------------------------------------------------------------------------------------
# Rules
# --------------------------------------------------------------------------------------------


class Refused(OrderKitError):
    """A rule of the domain said no. The order is exactly what it was."""

    code = "refused"


class NotFound(OrderKitError):
    """What was asked for does not exist for this tenant."""

    code = "not_found"


class OrderNotFound(NotFound):
    """No order with this id or number exists for this tenant."""

    code = "order_not_found"

    def __init__(self, order_id: str) -> None:
        self.order_id = order_id
        super().__init__(
            f"No order {order_id!r} exists for this tenant. Check the id, and the tenant the kit is bound to."
        )


class Conflict(OrderKitError):
    """Somebody else was there first. Nothing was written."""

    code = "conflict"


class VersionConflict(Conflict):
    """The order is not at the version that was expected.

    Attributes:
        order_id: The order.
        expected: The version the caller or the script had read.
        actual: The version found, where it is known.
        stated: Whether the caller stated the expected version: such a conflict is never retried away.
    """

    code = "version_conflict"

    def __init__(self, order_id: str, expected: int, actual: int | None = None, *, stated: bool = False) -> None:
        self.order_id = order_id
        self.expected = expected
        self.actual = actual
        self.stated = stated
        found = "has moved on" if actual is None else f"is at version {actual}"
        super().__init__(
            f"Order {order_id!r} was expected at version {expected} but {found}; nothing was changed. "
            "Read it again and decide anew."
        )


class AlreadyExists(Conflict):
    """A unique value is taken.

    Attributes:
        what: `order_id` or `number`.
        value: The value that is taken.
    """

    code = "already_exists"

    def __init__(self, what: str, value: str) -> None:
        self.what = what
        self.value = value
        super().__init__(f"An order with {what} {value!r} exists already for this tenant; nothing was changed.")


class IdempotencyMismatch(Conflict):
    """The key was used before with another payload."""

    code = "idempotency_mismatch"

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(
            f"The idempotency key {key!r} was used before with another payload; nothing was changed. "
            "Use a new key for a new request, or repeat the first one unchanged."
        )


class IdempotencyInFlight(Conflict):
    """The first use of the key is still under way.

    Attributes:
        key: The key.
        retry_after: Seconds to wait before repeating the same request.
    """

    code = "idempotency_in_flight"

    def __init__(self, key: str, retry_after: float = 1.0) -> None:
        self.key = key
        self.retry_after = retry_after
        super().__init__(
            f"Another request with the idempotency key {key!r} has not finished; this one changed nothing. "
            f"Repeat it unchanged after {retry_after:g} seconds."
        )


class LeaseLost(Conflict):
    """The operation was taken over by another claim; what this one was about to write was not written.

    Attributes:
        key: The idempotency key of the operation.
        fence: The number of the claim that was overtaken.
    """

    code = "lease_lost"

    def __init__(self, key: str, fence: int) -> None:
        self.key = key
        self.fence = fence
        super().__init__(
            f"The operation with the idempotency key {key!r} is no longer held by claim {fence}: its lease ran out and "
            "it was taken over, or it has ended. What this claim was about to write was not written. "
            "Repeat the request to find out what became of it."
        )


# --------------------------------------------------------------------------------------------
# Calls to others
# --------------------------------------------------------------------------------------------


class Rejected(OrderKitError):
    """A policy did not let a call through. Nothing was sent.

    Attributes:
        policy: The name of what rejected it.
        retry_after: Seconds after which it may be let through, where that is known.
    """

    code = "rejected"

    def __init__(self, message: str, policy: str, retry_after: float | None = None) -> None:
        self.policy = policy
        self.retry_after = retry_after
        super().__init__(message)


# --------------------------------------------------------------------------------------------
# Storage
# --------------------------------------------------------------------------------------------


class StorageError(OrderKitError):
    """The place that keeps orders could not do its part."""

    code = "storage_error"


class StorageUnavailable(StorageError):
    """The database was not reached, or went away before anything was written."""

    code = "storage_unavailable"


class StorageBusy(StorageError):
    """A lock, a deadlock or a serialization failure ended the attempt. Nothing was written."""

    code = "storage_busy"


class StorageFull(StorageError):
    """There is no room left on the database's disk. Nothing was written."""

    code = "storage_full"


class SchemaMissing(StorageError):
    """The tables of orderkit are not there, or not all of them."""

    code = "schema_missing"


class NewerSchema(StorageError):
    """The document was written by a newer release: it can be read but is never re-saved."""

    code = "newer_schema"


class TransactionEnded(StorageError):
    """What belongs to a transaction, or to a function given to `run`, was used after it was over."""

    code = "transaction_ended"

    def __init__(self) -> None:
        super().__init__(
            "The transaction is over; nothing was read or written. Use what it gave you inside its block or function."
        )


class TransactionAborted(StorageError):
    """An earlier error left the surrounding transaction fit only to be rolled back. Nothing was read or written."""

    code = "transaction_aborted"


class StorageFailed(StorageError):
    """The database refused for a reason of its own. Nothing was written."""

    code = "storage_failed"


class CommitUnknown(StorageError):
    """The connection was lost, or the caller cancelled, while the commit was under way.

    The commit happened wholly or not at all. Repeating the request with the same idempotency key or
    the same order id settles it.
    """

    code = "commit_unknown"
