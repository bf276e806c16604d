"""What differs from one database to the next, as one contract: a database is one module that fulfils it."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from sqlalchemy.engine import Dialect as EngineDialect
from sqlalchemy.pool import PoolProxiedConnection

from orderkit.storage.sql.execution import Executor, Rows
from orderkit.storage.sql.tables import PREFIX, metadata
from orderkit.unit_of_work.changes import ChangeSet, Guard, KeyClaim, KeyReference, Table, Value
from orderkit.unit_of_work.storage import Outcome


class FaultKind(enum.Enum):
    """What a driver's error comes down to."""

    DUPLICATE = enum.auto()
    BUSY = enum.auto()
    LOCK_TIMEOUT = enum.auto()
    FULL = enum.auto()
    SCHEMA_MISSING = enum.auto()
    LOST = enum.auto()
    ABORTED = enum.auto()
    READ_ONLY = enum.auto()
    SESSIONLESS = enum.auto()
    OTHER = enum.auto()


class Fault(NamedTuple):
    """A driver's error, understood.

    Attributes:
        kind: What it comes down to.
        code: The database's own code for it, safe to show.
        where: What it speaks of, such as the name of a constraint. It is never shown.
    """

    kind: FaultKind
    code: str
    where: str = ""


class Dialect(Protocol):
    """Speak one database's SQL in one driver's placeholder style."""

    def executor(self, connection: PoolProxiedConnection) -> Executor:
        """Return what runs statements on a pooled connection."""
        ...

    @property
    def begin(self) -> str:
        """The statement that opens a transaction meant for writing."""
        ...

    @property
    def one_statement(self) -> bool:
        """Whether `write` is a single statement, atomic without a transaction around it."""
        ...

    @property
    def row_lock(self) -> str:
        """What is appended to a select to keep its rows locked; empty where a writer is alone anyway."""
        ...

    @property
    def latest(self) -> str:
        """What is appended to a select to have it see past the transaction's snapshot; empty where nothing does."""
        ...

    @property
    def compares_rows(self) -> bool:
        """Whether an index answers `(a, b) < (?, ?)`; otherwise it is written out with OR."""
        ...

    @property
    def takes_hints(self) -> bool:
        """Whether a statement may say, as in MariaDB, which index is not to be used."""
        ...

    @property
    def fresh_plans(self) -> str:
        """The statement that has a connection forget its plans; empty where it keeps none."""
        ...

    @property
    def clock(self) -> str:
        """The template of a time by the database's own clock, so many microseconds from now."""
        ...

    @property
    def returning(self) -> bool:
        """Whether a statement that writes can say which rows it wrote."""
        ...

    def borrow(self, engine: EngineDialect, connection: PoolProxiedConnection) -> None:
        """Set up a connection of the application's own engine, as connections of ours are from the start.

        Raises:
            ConfigurationError: See `check_session`.
        """
        ...

    def give_back(self, engine: EngineDialect, connection: PoolProxiedConnection) -> None:
        """Give a connection of the application's own engine back as it was."""
        ...

    def check_session(self, executor: Executor) -> None:
        """Make sure that a connection somebody else set up keeps values as they are given.

        Raises:
            ConfigurationError: It would change them silently.
        """
        ...

    def compile(self, template: str) -> str:
        """Turn a template into a statement, once; see `compile_template`."""
        ...

    def encode(self, value: Value) -> Value:
        """Return a value as the driver takes it."""
        ...

    def decode_time(self, value: object) -> datetime:
        """Return a time as it was given: aware and in UTC."""
        ...

    def write(self, executor: Executor, changes: ChangeSet) -> Outcome:
        """Write a change set, or find out why it cannot be; the caller makes it atomic if need be."""
        ...

    def lock_guards(self, executor: Executor, guards: Sequence[Guard], *, wait: bool) -> set[Guard]:
        """Return those of several guards that hold, their orders locked until the transaction ends.

        Args:
            executor: Runs statements inside the transaction.
            guards: What to look at.
            wait: Whether to wait for an order that somebody else has locked; it is passed over otherwise.
        """
        ...

    def claim_keys(self, executor: Executor, claims: Sequence[KeyClaim]) -> set[KeyReference]:
        """Insert those of several claims whose keys are free; return their keys."""
        ...

    def write_rows(self, executor: Executor, changes: ChangeSet) -> None:
        """Write the rows of a change set without guards or claim, in as many statements as is fast."""
        ...

    def next_number(self, executor: Executor, tenant: str) -> int:
        """Take the tenant's next number inside a transaction, with which it would go back."""
        ...

    def insert_unless_taken(
        self, executor: Executor, insert: str, row: Sequence[Value], read: str, key: Sequence[Value]
    ) -> Rows | None:
        """Insert a row unless its primary key is taken.

        Args:
            executor: Runs statements.
            insert: The template that inserts it.
            row: The parameters of that, encoded.
            read: The template that reads what is there.
            key: The parameters of that, encoded.

        Returns:
            None if it was inserted. Otherwise what is there: nothing, if whoever was first cannot be seen yet.
        """
        ...

    def delete_some(self, executor: Executor, table: Table, condition: str, values: Sequence[Value]) -> int:
        """Remove the rows that a condition picks, but those that others are about to change; return how many.

        Args:
            executor: Runs statements.
            table: Their table.
            condition: The template of the condition, with a limit.
            values: The parameters of that, encoded.
        """
        ...

    def fault(self, error: BaseException) -> Fault:
        """Understand a driver's error."""
        ...


_MARKER = re.compile(r"(?<![:\w]):(text|integer|bigint|boolean|time)\b")


def compile_template(template: str, schema: str | None, parameter: Callable[[int, str], str]) -> str:
    """Turn a template into a statement.

    `{orders}` stands for the qualified name of a table; `:text`, `:time` and the other kinds stand for
    parameters, in the order in which they are given.

    Args:
        template: The statement with its markers.
        schema: The schema of the tables, quoted already, or None for the connection's default.
        parameter: Returns the driver's placeholder for a position, counted from 1, and a kind.
    """
    position = 0

    def placeholder(match: re.Match[str]) -> str:
        nonlocal position
        position += 1
        return parameter(position, match[1])

    qualifier = "" if schema is None else f"{schema}."
    names = {name.removeprefix(PREFIX): qualifier + name for name in metadata.tables}
    return _MARKER.sub(placeholder, template.format_map(names))


def replacing(table: Table) -> str:
    """Return the end of an insert that replaces the row with the same primary key."""
    assigned = ", ".join(f"{column} = excluded.{column}" for column in table.columns if column not in table.key)
    return f" ON CONFLICT ({', '.join(table.key)}) DO {f'UPDATE SET {assigned}' if assigned else 'NOTHING'}"
