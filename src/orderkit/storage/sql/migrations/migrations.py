"""Bring the tables from one revision to another, one step at a time."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs
from sqlalchemy import inspect
from sqlalchemy.exc import SQLAlchemyError

from orderkit.errors import DataLoss, OrderKitError, SchemaForeign, SchemaTooNew, StorageBusy
from orderkit.storage.sql.databases import dialect_for
from orderkit.storage.sql.dialect import FaultKind
from orderkit.storage.sql.failures import Phase, failure
from orderkit.storage.sql.migrations.history import BASE, History, Revision, Step, Task
from orderkit.storage.sql.migrations.sites import site_for
from orderkit.storage.sql.migrations.state import SchemaState, read_state, schema_table
from orderkit.storage.sql.migrations.steps import create_all
from orderkit.storage.sql.migrations.versions import REVISIONS, revision_0001
from orderkit.storage.sql.tables import metadata

if TYPE_CHECKING:
    from alembic.operations import Operations
    from sqlalchemy import Connection, Engine

    from orderkit.storage.sql.migrations.comparing import Difference

Callback = Callable[["Connection", Step], None]

Plan = Callable[["SchemaState | None"], "Task | None"]


@attrs.frozen
class CurrentSchema:
    """Where the tables of a database are, and where this release would have them.

    Attributes:
        revision: The revision of the tables; None where there are none, or where the application's own
            migrations look after them.
        head: The newest revision this release knows.
        migrating_to: Where a migration that is under way or was interrupted leads.
        compatible_from: The newest revision known to the oldest release that can use the tables.
        outstanding: What an upgrade would do, in order.
    """

    revision: str | None
    head: str
    migrating_to: str | None
    compatible_from: str | None
    outstanding: tuple[Step, ...]


class Migrations:
    """Bring the tables of a database from one revision to another.

    A step is done once and in order, whoever else migrates at the same time. One that was interrupted is done again
    by the next migration in either direction.

    Args:
        engine: A synchronous engine for the database.
        schema: The schema of the tables, PostgreSQL only.
        before: Called before each step with the connection of the migration; what it writes is kept with the step.
        after: The same after each step. A step counts as done once this has returned, so that after an
            interruption both may be called again.
        lock_timeout: Seconds a step waits for a lock that makes others wait behind it.
        revisions: The revisions to go by; those of this release, unless a test has others.

    Raises:
        ConfigurationError: There is no storage for such a database.

    Example:
        >>> from sqlalchemy import create_engine
        >>> migrations = Migrations(create_engine("sqlite://"))
        >>> migrations.upgrade()
        >>> migrations.current().outstanding
        ()
    """

    def __init__(
        self,
        engine: Engine,
        *,
        schema: str | None = None,
        before: Callback | None = None,
        after: Callback | None = None,
        lock_timeout: float = 5.0,
        revisions: Sequence[Revision] = REVISIONS,
    ) -> None:
        self._engine = engine
        self._schema = schema
        self._dialect = dialect_for(engine.dialect.name, engine.dialect.driver, schema)
        self._callbacks = (before, after)
        self._site = site_for(engine, schema, lock_timeout)
        self._history = History(tuple(revisions))

    def current(self) -> CurrentSchema:
        """Return where the tables are, without changing anything.

        Raises:
            StorageError: The database was not reached.
        """
        with self._told():
            state = self._peek()
        outstanding = self._history.upwards(BASE if state is None else state.lowest, self._history.head)
        return CurrentSchema(
            None if state is None else state.revision,
            self._history.head,
            None if state is None else state.migrating_to,
            None if state is None else state.compatible_from,
            tuple(task.step for task in outstanding),
        )

    def upgrade(self, revision: str = "head") -> None:
        """Bring the tables up to a revision; do nothing if they are there already.

        Tables that were made without a version table are taken over, from the first revision on.

        Args:
            revision: Its id, or `head` for the newest.

        Raises:
            ConfigurationError: There is no such revision.
            SchemaTooNew: A newer release has changed the tables too much.
            SchemaForeign: Tables under our names are not ours.
            StorageBusy: A table was held, or another migration ran, for too long; what is done stays.
        """
        target = self._history.find(revision)

        def plan(state: SchemaState | None) -> Task | None:
            if state is None:
                return self._creation(target)
            self._refuse_unknown(state)
            return next(iter(self._history.upwards(state.lowest, target)), None)

        self._follow(plan)

    def downgrade(self, revision: str, *, lose_data: bool = False) -> None:
        """Take the tables back to a revision; do nothing if they are there already.

        Args:
            revision: Its id, or `base` for no tables at all.
            lose_data: Go on although data is lost.

        Raises:
            ConfigurationError: There is no such revision.
            DataLoss: Data would be lost, and was not to be.
            SchemaTooNew: The tables are at a revision that this release does not know.
            StorageBusy: A table was held, or another migration ran, for too long; what is done stays.
        """
        target = self._history.find(revision)

        def plan(state: SchemaState | None) -> Task | None:
            if state is None:
                return None
            self._refuse_unknown(state)
            tasks = self._history.downwards(state.highest, target)
            losses = tuple(task.revision.loses for task in tasks if task.revision.loses is not None)
            if losses and not lose_data:
                raise DataLoss(losses)
            return next(iter(tasks), None)

        self._follow(plan)

    def check(self) -> list[Difference]:
        """Return what differs between the tables and what this release would make; the application's are ignored.

        Raises:
            StorageError: The database was not reached.
        """
        from orderkit.storage.sql.migrations.comparing import differences

        with self._told(), self._site.transaction() as connection:
            return differences(connection)

    def sql(self, source: str = "base", target: str = "head") -> str:
        """Return the statements that lead from one revision to another, for somebody else to run.

        The database is not asked, nor are callbacks called.

        Raises:
            ConfigurationError: There is no such revision.
        """
        from orderkit.storage.sql.migrations.offline import script

        return script(self._engine.dialect, self._schema, self._history, source, target)

    # --- one step after the other -------------------------------------------------------------

    def _follow(self, plan: Plan) -> None:
        """Do what the plan says until it has nothing more to do."""
        with self._told():
            while self._advance(plan):
                pass

    def _advance(self, plan: Plan) -> bool:
        """Do one step, decided anew once nobody else can migrate."""
        task = plan(self._peek())
        if task is None:
            return False
        opened = self._site.session if task.revision.concurrent else self._site.transaction
        with opened() as connection:
            if plan(self._found(connection)) == task:
                self._perform(connection, task)
        return True

    def _perform(self, connection: Connection, task: Task) -> None:
        """Do a step. Before and after it the row says so, which in a transaction nobody gets to see."""
        self._record(connection, task, finished=False)
        before, after = self._callbacks
        if before is not None:
            before(connection, task.step)
        task.run(_operations(connection))
        if after is not None:
            after(connection, task.step)
        self._record(connection, task, finished=True)
