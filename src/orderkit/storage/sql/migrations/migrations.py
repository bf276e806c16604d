"""Bring the tables from one revision to another, one step at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs
from sqlalchemy import inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from orderkit.errors import OrderKitError, StorageBusy
from orderkit.storage.sql.databases import dialect_for
from orderkit.storage.sql.dialect import FaultKind
from orderkit.storage.sql.failures import Phase, failure
from orderkit.storage.sql.migrations.errors import DataLoss, SchemaForeign, SchemaTooNew
from orderkit.storage.sql.migrations.history import History
from orderkit.storage.sql.migrations.sites import site_for
from orderkit.storage.sql.migrations.state import SchemaState, read_state, schema_table, write_state
from orderkit.storage.sql.migrations.tasks import BASE, Creation, Revision, Step, Task
from orderkit.storage.sql.migrations.versions import REVISIONS, revision_0001
from orderkit.storage.sql.tables import PREFIX, PostgresqlOnly

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

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
        with self._told(), self._engine.connect() as connection:
            state = self._state(connection)
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
                return self._first(target)
            if state.compatible_from > self._history.head:
                raise SchemaTooNew(state.highest, state.compatible_from, self._history.head)
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
            if state.highest > self._history.head:
                raise SchemaTooNew(state.highest, state.compatible_from, self._history.head)
            tasks = self._history.downwards(state.highest, target)
            losses = tuple(task.applied.loses for task in tasks if task.applied.loses is not None)
            if losses and not lose_data:
                raise DataLoss(losses)
            return next(iter(tasks), None)

        self._follow(plan)

    def check(self) -> list[Difference]:
        """Return what differs between the tables and what this release would make; the application's are ignored.

        A migration that has not come to its end is told as a difference too.

        Raises:
            StorageError: The database was not reached.
        """
        from orderkit.storage.sql.migrations.comparing import Difference, differences

        with self._told(), self._site.looking() as connection:
            state = self._state(connection)
            unfinished = None if state is None else state.migrating_to
            found = differences(connection)
        return found if unfinished is None else [Difference("unfinished migration", unfinished), *found]

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
        with self._engine.connect() as connection:
            task = plan(self._found(connection))
        if task is None:
            return False
        with self._site.session() if task.concurrent else self._site.transaction() as connection:
            if plan(self._found(connection)) == task:
                self._perform(connection, task)
        return True

    def _perform(self, connection: Connection, task: Task) -> None:
        """Do a step. The database says so before and after it, which in a transaction nobody gets to see."""
        before, after = self._callbacks
        write_state(connection, task.under_way)
        if before is not None:
            before(connection, task.step)
        task.run(connection)
        if after is not None:
            after(connection, task.step)
        write_state(connection, task.done)

    def _first(self, target: str) -> Task | None:
        """Return the first step in a database that has no tables."""
        at_once = target == REVISIONS[-1].revision and self._callbacks == (None, None)
        if at_once and self._history.revisions == REVISIONS:
            return Creation(target, self._history.compatible_from)
        return next(iter(self._history.upwards(BASE, target)), None)

    # --- what is there ------------------------------------------------------------------------

    def _state(self, connection: Connection) -> SchemaState | None:
        def execute(statement: str) -> Sequence[Sequence[object]]:
            return connection.exec_driver_sql(statement).fetchall()

        return read_state(execute, self._engine.dialect.name, self._schema)

    def _found(self, connection: Connection) -> SchemaState | None:
        """Return the state of the tables, also of those that were made without a version table.

        Raises:
            SchemaForeign: There are tables under our names, and they are not ours, or not all of ours.
        """
        state = self._state(connection)
        if state is not None:
            return state
        inspector = inspect(connection)
        there = {name for name in inspector.get_table_names(schema=self._schema) if name.startswith(PREFIX)}
        if not there:
            return None
        first = revision_0001.tables().tables
        expected = {
            name: _columns(table, self._engine) for name, table in {**first, schema_table.name: schema_table}.items()
        }
        strange = {
            name
            for name in there & set(expected)
            if not expected[name] <= {column["name"] for column in inspector.get_columns(name, schema=self._schema)}
        }
        ours = there & set(first)
        if strange or (ours and ours != set(first)):
            raise SchemaForeign(tuple(sorted(strange or ours)))
        return SchemaState(revision_0001.revision, revision_0001.compatible_from) if ours else None

    @contextmanager
    def _told(self) -> Generator[None]:
        """Turn whatever a driver raises into an error of orderkit."""
        try:
            yield
        except PoolTimeout as error:
            raise StorageBusy("Every connection of the pool was in use for too long. Repeat it.") from error
        except (SQLAlchemyError, OSError) as error:
            raise self._failure(getattr(error, "orig", None) or error) from error

    def _failure(self, error: BaseException) -> OrderKitError:
        fault = self._dialect.fault(error)
        if fault.kind in {FaultKind.BUSY, FaultKind.LOCK_TIMEOUT}:
            return StorageBusy(
                "Others used a table, or migrated, for too long; steps that were finished stay, the others were not "
                f"done. Repeat it. [{fault.code}]"
            )
        return failure(fault, Phase.CONNECTING)


def _columns(table: Table, engine: Engine) -> set[str]:
    """Return the names of the columns that a table has on an engine's database."""
    on_postgresql = engine.dialect.name == "postgresql"
    return {column.name for column in table.columns if on_postgresql or not isinstance(column.type, PostgresqlOnly)}
