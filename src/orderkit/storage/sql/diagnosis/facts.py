"""What can be known of a database that keeps orders: plain data, from which somebody else draws conclusions."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen
class Link:
    """The way to the server.

    Attributes:
        driver: The driver and its version.
        connect: Seconds until the first connection stood.
        round_trip: Seconds of a statement that does nothing, the median of several.
        clock_ahead: Seconds by which the server's clock is ahead of this machine's; None where they are the same.
    """

    driver: str
    connect: float
    round_trip: float
    clock_ahead: float | None


@attrs.frozen
class TableFacts:
    """The tables, compared with what this release would have.

    Attributes:
        revision: The revision they are at; None if nobody says so.
        head: The newest revision this release knows.
        migrating_to: Where a migration leads that is under way or was interrupted.
        compatible_from: The newest revision known to the oldest release that can use them.
        outstanding: The revisions an upgrade would go through.
        missing: What should be there and is not, one thing each.
        different: What is there and should not be, or should be otherwise.
        absent: No table is there at all.
    """

    revision: str | None
    head: str
    migrating_to: str | None
    compatible_from: str | None
    outstanding: tuple[str, ...]
    missing: tuple[str, ...]
    different: tuple[str, ...]
    absent: bool


@attrs.frozen
class Files:
    """The files of a SQLite database.

    Attributes:
        size: Bytes of the database.
        log_size: Bytes of its write-ahead log.
        free: Bytes free on the disk they are on.
    """

    size: int
    log_size: int
    free: int


@attrs.frozen
class Server:
    """The server, or the library that is one.

    Attributes:
        product: `PostgreSQL`, `MariaDB`, `MySQL` or `SQLite`.
        version: Its version, as it tells it.
        number: The same, to be compared.
        settings: What was set, by the server's own names, in small letters.
        read_only: Nothing can be written: a replica, or a file without leave to write.
        connections: How many there are; None where nobody counts.
        connection_limit: How many there may be.
        transactions: The ages in seconds of transactions open for long, the oldest first.
        invalid_indexes: Indexes that are there and are not used.
        dead_rows: For each table with many: rows that are gone and still take room, and rows that live.
        files: The files of the database, where it is a file.
    """

    product: str
    version: str
    number: tuple[int, ...]
    settings: Mapping[str, str]
    read_only: bool = False
    connections: int | None = None
    connection_limit: int | None = None
    transactions: tuple[float, ...] = ()
    invalid_indexes: tuple[str, ...] = ()
    dead_rows: Mapping[str, tuple[int, int]] = attrs.Factory(dict)
    files: Files | None = None


@attrs.frozen
class Heap:
    """Rows that wait for somebody.

    Attributes:
        rows: How many, up to `MOST` of them.
        oldest: Seconds since the oldest of them should have been dealt with; None if there is none.
    """

    rows: int
    oldest: float | None

    MOST = 1_000_000


@attrs.frozen
class Backlog:
    """What waits for background work, of every tenant.

    Attributes:
        outbox: Messages nobody has taken yet, by their age.
        keys: Idempotency records that have expired.
        orders: Pending orders whose time is over.
        tenants: Some of the tenants they belong to.
        operations: Leased operations that nobody is at work on; None where the tables have none yet.
    """

    outbox: Heap
    keys: Heap
    orders: Heap
    tenants: tuple[str, ...] = ()
    operations: Heap | None = None


@attrs.frozen
class Facts:
    """Everything that was found out; a part is None where looking failed, and `unknown` says why.

    Attributes:
        unreachable: Why the database was not reached; None if it was.
        unknown: The parts that could not be looked at, each with the reason.
    """

    link: Link | None = None
    tables: TableFacts | None = None
    server: Server | None = None
    backlog: Backlog | None = None
    unreachable: str | None = None
    unknown: Mapping[str, str] = attrs.Factory(dict)
