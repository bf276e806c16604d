"""What follows from the facts about a database: findings, decided without looking at anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from orderkit.kit.settings import Settings
    from orderkit.storage.sql.diagnosis import Backlog, Facts, Files, Heap, Link, Server, TableFacts


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@attrs.frozen
class Finding:
    """One thing that was found.

    Attributes:
        code: What it is about, as a stable name.
        level: How bad it is.
        message: What is.
        advice: What to do; empty where there is nothing to do.
    """

    code: str
    level: Level
    message: str
    advice: str = ""


@attrs.frozen
class Installed:
    """What is installed on this machine, by version."""

    orderkit: str
    python: str
    sqlalchemy: str


SECOND: Final = 1.0
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
MIB: Final = 1024**2

# The oldest with everything that is used: RETURNING, SKIP LOCKED, 64-bit transaction ids.
OLDEST: Final = {"PostgreSQL": (13,), "MariaDB": (10, 6), "MySQL": (8, 0), "SQLite": (3, 35)}


def diagnose(facts: Facts, installed: Installed, settings: Settings) -> tuple[Finding, ...]:
    """Return what follows from the facts, in the order in which to read it."""
    if facts.unreachable is not None:
        return (
            *_versions(installed, facts),
            Finding(
                "unreachable",
                Level.PROBLEM,
                f"The database was not reached: {facts.unreachable}",
                "Check --url, that the server runs, and that this machine and this role may connect to it.",
            ),
        )
    return tuple(_all(facts, installed, settings))


def _all(facts: Facts, installed: Installed, settings: Settings) -> Iterator[Finding]:
    yield from _versions(installed, facts)
    if facts.link is not None:
        yield from _link(facts.link)
    if facts.tables is not None:
        yield from _tables(facts.tables)
    if facts.server is not None:
        yield from _server(facts.server, settings)
    if facts.backlog is not None:
        yield from _backlog(facts.backlog)
    for part, reason in facts.unknown.items():
        advice = "Run it with a role that may, or look at the message."
        yield Finding("not_looked_at", Level.WARNING, f"The {part} could not be looked at: {reason}", advice)


def worst(findings: Sequence[Finding]) -> Level:
    """Return the worst level of some findings."""
    return max((finding.level for finding in findings), key=list(Level).index, default=Level.OK)


def _versions(installed: Installed, facts: Facts) -> Iterator[Finding]:
    parts = [f"orderkit {installed.orderkit}", f"Python {installed.python}", f"SQLAlchemy {installed.sqlalchemy}"]
    if facts.link is not None:
        parts.append(facts.link.driver)
    if facts.server is not None:
        parts.append(f"{facts.server.product} {facts.server.version}")
    yield Finding("versions", Level.OK, f"{', '.join(parts)}.")
    server = facts.server
    if server is not None and server.number < OLDEST.get(server.product, ()):
        oldest = ".".join(map(str, OLDEST[server.product]))
        message = f"{server.product} {server.version} is too old."
        yield Finding("server_too_old", Level.PROBLEM, message, f"Upgrade it to {oldest} or newer.")


# --- the way to the server --------------------------------------------------------------------


def _link(link: Link) -> Iterator[Finding]:
    told = f"Connected in {link.connect * 1000:.1f} ms; a round trip takes {link.round_trip * 1000:.2f} ms."
    if link.round_trip > 0.005:
        advice = "Every command takes one or two of them: run the application nearer to the database."
        yield Finding("round_trip_slow", Level.WARNING, told, advice)
    else:
        yield Finding("reachable", Level.OK, told)
    if link.clock_ahead is None:
        return
    off = abs(link.clock_ahead)
    told = f"The server's clock is {span(off)} {'ahead of' if link.clock_ahead > 0 else 'behind'} this machine's."
    if off < SECOND:
        yield Finding("clock_agrees", Level.OK, "The clocks of this machine and the server agree.")
        return
    advice = "Have both keep time by NTP (chrony, systemd-timesyncd): orders and keys expire by these clocks."
    yield Finding("clock_off", Level.PROBLEM if off > MINUTE else Level.WARNING, told, advice)


# --- the tables -------------------------------------------------------------------------------


def _tables(tables: TableFacts) -> Iterator[Finding]:
    if tables.absent:
        yield Finding("schema_missing", Level.PROBLEM, "The tables are not there.", "Run `orderkit db upgrade`.")
        return
    yield _revision(tables)
    indexes = [name for name in tables.missing if name.startswith("missing index")]
    others = [name for name in tables.missing if name not in indexes]
    if indexes:
        yield Finding("index_missing", Level.PROBLEM, f"{_listed(indexes)}.", _remedy(tables))
    if others:
        yield Finding("schema_differs", Level.PROBLEM, f"{_listed(others)}.", _remedy(tables))
    if tables.different:
        advice = "If it is the application's own, all is well; otherwise see `orderkit db check`."
        yield Finding("schema_differs", Level.WARNING, f"{_listed(tables.different)}.", advice)


def _remedy(tables: TableFacts) -> str:
    """Return how what is missing comes back."""
    if tables.outstanding:
        return "Run `orderkit db upgrade`."
    return "Somebody took it away: make it again, `orderkit db sql` has the statement."


def _revision(tables: TableFacts) -> Finding:
    if tables.revision is None:
        message = "No revision is recorded: the application's own migrations look after the tables."
        return Finding("schema_unmanaged", Level.OK, message)
    if tables.migrating_to is not None:
        message = f"A migration from {tables.revision} to {tables.migrating_to} is under way, or was interrupted."
        return Finding("schema_unfinished", Level.WARNING, message, "If nobody runs it, run `orderkit db upgrade`.")
    if tables.compatible_from is not None and tables.compatible_from > tables.head:
        message = f"The tables are at {tables.revision}, which this release cannot use; it knows {tables.head}."
        return Finding("schema_too_new", Level.PROBLEM, message, "Upgrade orderkit.")
    if tables.outstanding:
        message = f"The tables are at {tables.revision}; {tables.head} is the newest."
        return Finding("schema_outdated", Level.WARNING, message, "Run `orderkit db upgrade`.")
    return Finding("schema_current", Level.OK, f"The tables are at revision {tables.revision}.")


def _listed(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}".capitalize()


# --- the server -------------------------------------------------------------------------------


def _server(server: Server, settings: Settings) -> Iterator[Finding]:
    if server.read_only:
        advice = "Give the URL of the primary, or leave to write the file and its directory."
        yield Finding("read_only", Level.PROBLEM, "The database cannot be written.", advice)
    checks: dict[str, Callable[[Server], Iterator[Finding]]] = {"PostgreSQL": _postgresql, "SQLite": _sqlite}
    yield from checks.get(server.product, _mariadb)(server)
    if server.invalid_indexes:
        advice = "Drop it and make it again: REINDEX INDEX CONCURRENTLY does both."
        yield Finding("index_invalid", Level.PROBLEM, f"Not usable: {_listed(server.invalid_indexes)}.", advice)
    yield from _transactions(server)
    yield from _connections(server, settings)
    for table, (dead, live) in server.dead_rows.items():
        message = f"{table} has {dead:,} dead rows beside {live:,} live ones."
        advice = f"Run VACUUM (ANALYZE) {table}, and look for what keeps autovacuum from it: long transactions, mostly."
        yield Finding("dead_rows", Level.WARNING, message, advice)
    if server.files is not None:
        yield from _files(server.files)


def _isolation(level: str) -> Iterator[Finding]:
    if level == "read committed":
        yield Finding("isolation", Level.OK, "Transactions are read committed.")
    elif level:
        advice = "Nothing is lost, but more commands are repeated: make it read committed for this role or database."
        yield Finding("isolation_other", Level.WARNING, f"Transactions are {level} by default.", advice)


def _durability(weak: Sequence[str], fatal: Sequence[str] = ()) -> Iterator[Finding]:
    if fatal:
        message = f"A crash of the server's machine can destroy the database: {', '.join(fatal)}."
        yield Finding("not_durable", Level.PROBLEM, message, "Switch it on.")
    elif weak:
        message = f"A loss of power can take the latest commits: {', '.join(weak)}."
        yield Finding("not_durable", Level.WARNING, message, "Leave it like that only if that is meant.")
    else:
        yield Finding("durable", Level.OK, "What is committed survives a loss of power.")


def _postgresql(server: Server) -> Iterator[Finding]:
    found = server.settings
    yield from _isolation(found.get("default_transaction_isolation", ""))
    fatal = [f"{name} is off" for name in ("fsync", "full_page_writes") if found.get(name) == "off"]
    weak = [f"synchronous_commit is {found['synchronous_commit']}"] if found["synchronous_commit"] == "off" else []
    yield from _durability(weak, fatal)
    if found.get("lock_timeout") == "0":
        message = "Statements wait for locks for ever: the setting of the connection did not arrive."
        advice = "A pooler in between drops it: set lock_timeout for the role (ALTER ROLE … SET lock_timeout = '5s')."
        yield Finding("lock_timeout_none", Level.WARNING, message, advice)


def _mariadb(server: Server) -> Iterator[Finding]:
    found = server.settings
    yield from _isolation(found.get("transaction_isolation", ""))
    flush = found.get("innodb_flush_log_at_trx_commit", "1")
    weak = [] if flush == "1" else [f"innodb_flush_log_at_trx_commit is {flush}"]
    if found.get("log_bin") == "ON" and found.get("sync_binlog", "1") != "1":
        weak.append(f"sync_binlog is {found['sync_binlog']}")
    yield from _durability(weak)
    if "STRICT_" not in found.get("sql_mode", ""):
        message = "The server cuts off values that do not fit, silently, for connections that do not ask otherwise."
        advice = "orderkit's own connections ask; for those of the application add STRICT_TRANS_TABLES to sql_mode."
        yield Finding("strict_mode_off", Level.WARNING, message, advice)


def _sqlite(server: Server) -> Iterator[Finding]:
    level, mode = server.settings["synchronous"], server.settings["journal_mode"]
    fatal = ["synchronous is off"] if level == "off" else []
    yield from _durability(["synchronous is normal"] if level == "normal" else [], fatal)
    if mode != "wal":
        advice = "Something set it back, or the file is on a network drive: keep it on a disk of this machine."
        yield Finding("journal_mode", Level.WARNING, f"The journal mode is {mode}, so that readers wait.", advice)


def _transactions(server: Server) -> Iterator[Finding]:
    if not server.transactions or server.transactions[0] < 5 * MINUTE:
        return
    oldest = server.transactions[0]
    message = f"{len(server.transactions)} transactions are open for long, the oldest for {span(oldest)}."
    advice = "Find who holds it (pg_stat_activity, innodb_trx) and end it: old rows cannot be cleaned up meanwhile."
    yield Finding("transaction_long", Level.PROBLEM if oldest > HOUR else Level.WARNING, message, advice)


def _connections(server: Server, settings: Settings) -> Iterator[Finding]:
    most = settings.pool_size + settings.max_overflow
    pool = f"A process keeps {settings.pool_size} connections and opens up to {most}"
    used, limit = server.connections, server.connection_limit
    if used is None or limit is None:
        yield Finding("pool", Level.OK, f"{pool}.")
        return
    message = f"{pool}; {used} of the server's {limit} are in use."
    if used > 0.9 * limit or most > limit:
        advice = "Make pools smaller, put PgBouncer or ProxySQL in between, or allow the server more."
        yield Finding("connections_scarce", Level.WARNING, message, advice)
    else:
        yield Finding("pool", Level.OK, message)


def _files(files: Files) -> Iterator[Finding]:
    message = f"The database has {size(files.size)}, its log {size(files.log_size)}; {size(files.free)} are free."
    if files.free < 64 * MIB or files.free < files.size / 5:
        level = Level.PROBLEM if files.free < 64 * MIB else Level.WARNING
        yield Finding("disk_space", level, message, "Make room: a full disk refuses every order.")
    elif files.log_size > 256 * MIB:
        advice = "A reader that never ends keeps the log from being folded in: find and end it."
        yield Finding("log_large", Level.WARNING, message, advice)
    else:
        yield Finding("disk_space", Level.OK, message)


# --- what waits -------------------------------------------------------------------------------


def _backlog(backlog: Backlog) -> Iterator[Finding]:
    tenants = f"{', '.join(backlog.tenants)}{' and others' if len(backlog.tenants) >= 5 else ''}"
    yield _heap("outbox", backlog.outbox, "messages wait in the outbox", 15 * MINUTE, _READ_THE_OUTBOX)
    yield _heap("keys_expired", backlog.keys, "expired idempotency records are left", DAY, _SWEEP)
    if backlog.operations is not None:
        what = "operations are under way with nobody at work on them"
        yield _heap("operations_stuck", backlog.operations, what, 15 * MINUTE, _RESUME)
    yield _heap(
        "orders_overdue", backlog.orders, "pending orders are over their time", HOUR, f"{_SWEEP_EACH} {tenants}."
    )


_READ_THE_OUTBOX = "Look at what reads the outbox; where nothing does, delete what nobody will ever read."
_SWEEP = "Run `orderkit sweep --until-done`, and from then on by cron or a timer."
_SWEEP_EACH = "Run `orderkit sweep --until-done` for each tenant, and from then on by cron or a timer: they belong to"
_RESUME = (
    "Call `kit.operations.resume` with their definitions every few minutes; `report` tells what is unknown of one, and "
    "`settle` says what came of it. One that is never to go on is given up with `abandon`, and "
    "requests of the middleware are with `collect_unfinished`."
)


def _heap(code: str, heap: Heap, what: str, patience: float, advice: str) -> Finding:
    """Return the finding for rows that wait: whether the oldest has waited for too long."""
    if heap.oldest is None:
        return Finding(code, Level.OK, f"No {what}.")
    count = f"{heap.rows:,}{' or more' if heap.rows >= heap.MOST else ''}"
    message = f"{count} {what}, the oldest for {span(heap.oldest)}."
    if heap.oldest <= patience and heap.rows < heap.MOST:
        return Finding(code, Level.OK, message)
    return Finding(code, Level.WARNING, message, advice)


def span(seconds: float) -> str:
    """Return a length of time for people.

    Example:
        >>> span(7_200), span(0.25)
        ('2 h', '250 ms')
    """
    for unit, length in (("d", DAY), ("h", HOUR), ("min", MINUTE), ("s", SECOND)):
        if seconds >= 2 * length or (unit == "s" and seconds >= SECOND):
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0) * 1000:.0f} ms"


def size(amount: int) -> str:
    """Return a number of bytes for people.

    Example:
        >>> size(3 * 1024**2)
        '3.0 MiB'
    """
    if amount < MIB:
        return f"{amount / 1024:.1f} KiB"
    return f"{amount / MIB:.1f} MiB" if amount < 1024 * MIB else f"{amount / 1024 / MIB:.1f} GiB"
