"""Several change sets in one transaction, and many orders in one look: what bulk work and group commit stand on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter

from orderkit.storage.sql.dialect import Dialect
from orderkit.storage.sql.execution import Executor, Rows
from orderkit.storage.sql.records import order_record, read_keys, read_orders, stored_key
from orderkit.unit_of_work.batches import STALE, TAKEN, side_by_side
from orderkit.unit_of_work.changes import ChangeSet, KeyReference, Value, merged
from orderkit.unit_of_work.storage import OrderRecord, Outcome, StoredKey

Fetch = Callable[[str, Sequence[Value]], Rows]
"""Run a template with its parameters."""

_MOST = 512
"""How many values one statement lists at most."""


def write_each(dialect: Dialect, executor: Executor, changes: Sequence[ChangeSet]) -> list[Outcome]:
    """Write those change sets whose guards hold and whose keys are free, inside a transaction.

    The guards of all are checked first, and an order that somebody else has locked counts as one that has moved on:
    waiting for it would keep all others waiting. Then the keys of those that are left are claimed, then what is left of
    those is written as if it were one change set.
    """
    if any(part.advance is not None for part in changes):
        raise AssertionError("a change set that moves an operation on is written alone")
    outcomes = side_by_side(changes)

    def left() -> list[int]:
        return [position for position, outcome in enumerate(outcomes) if outcome.committed]

    guards = sorted(guard for position in left() for guard in changes[position].guards)
    held = dialect.lock_guards(executor, guards, wait=False) if guards else set()
    for position in left():
        if not held.issuperset(changes[position].guards):
            outcomes[position] = STALE
    claims = sorted(claim for position in left() if (claim := changes[position].claim) is not None)
    claimed = dialect.claim_keys(executor, claims) if claims else set()
    for position in left():
        claim = changes[position].claim
        if claim is not None and KeyReference(*claim[:3]) not in claimed:
            outcomes[position] = TAKEN
    dialect.write_rows(executor, merged(changes[position] for position in left()))
    return outcomes


def find_orders(fetch: Fetch, tenant: str, order_ids: Iterable[str]) -> dict[str, OrderRecord]:
    """Return those of several orders that are there."""
    rows = (row for ids in _portions(sorted(set(order_ids))) for row in fetch(read_orders(len(ids)), (tenant, *ids)))
    return {str(row[0]): order_record(row[1:]) for row in rows}


def find_keys(
    dialect: Dialect, fetch: Fetch, tenant: str, keys: Iterable[KeyReference]
) -> dict[KeyReference, StoredKey]:
    """Return the records of those of several keys of a tenant that are there."""
    found: dict[KeyReference, StoredKey] = {}
    for scope, references in groupby(sorted(set(keys)), attrgetter("scope")):
        for portion in _portions([reference.key for reference in references]):
            rows = fetch(read_keys(len(portion)), (tenant, scope, *portion))
            stored = ((KeyReference(tenant, scope, str(row[0])), stored_key(dialect, row[1:])) for row in rows)
            found |= {key: record for key, record in stored if record is not None}
    return found


def _portions(values: Sequence[str]) -> Iterator[list[str]]:
    """Yield the values a few hundred at a time.

    The last ones are repeated until their number is a power of two, so that there are only a few statements for
    a database to prepare.
    """
    for start in range(0, len(values), _MOST):
        portion = list(values[start : start + _MOST])
        length = 1 << (len(portion) - 1).bit_length()
        yield portion + portion[-1:] * (length - len(portion))
