"""What both front doors are assembled from: options, the derived secret, and the choice of a backend."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, TypedDict, Unpack

import attrs

from orderkit.clock import Clock, IdSource, SystemClock, UuidV7
from orderkit.domain.numbers import OrderNumbers, RandomNumbers
from orderkit.errors import InvalidKey
from orderkit.idempotency.heartbeats import ThreadHeart
from orderkit.kit.runners import Surroundings
from orderkit.orders.cursors import Cursors
from orderkit.orders.scripts import OrderPolicy
from orderkit.unit_of_work.unit import Context

if TYPE_CHECKING:
    from orderkit.kit.caching import CachedOrders, OrderCache
    from orderkit.kit.settings import Settings

MEMORY_URL = "memory://"

_name_pattern = re.compile(r"[^\x00-\x1F\x7F\uD800-\uDFFF]+")

_MAX_NAME = 255

# Labels are found by tenant, name and value: more would not fit into an index row of PostgreSQL.
_MAX_TENANT = 100


class KitChoices(TypedDict, total=False):
    """What an application may choose when it makes a kit.

    Attributes:
        numbers: How order numbers are assigned; at random where absent.
        clock: Where the time comes from.
        ids: Where ids come from.
        cache: Keeps orders that were looked up; none where absent.
    """

    numbers: OrderNumbers
    clock: Clock
    ids: IdSource
    cache: OrderCache


class KitOptions(KitChoices, total=False):
    """The same, and settings.

    Attributes:
        settings: Pools, time-outs, limits and the cursor secret; the defaults where absent.
    """

    settings: Settings


class Binding(TypedDict, total=False):
    """On whose behalf a kit works: what is given replaces what was bound before.

    Attributes:
        actor: Who does it.
        correlation_id: The request or process it belongs to.
        causation_id: The message or event that led to it.
    """

    actor: str | None
    correlation_id: str | None
    causation_id: str | None


@attrs.frozen
class Assembly:
    """Everything a kit is made of besides its backend.

    Attributes:
        surroundings: On whose behalf, the clock, the source of ids.
        policy: What the application decided once for all of its orders.
        cursors: Signs and reads page cursors.
        create_tables: Create missing tables when they are first missed.
        schema: The schema of the tables; None for the database's own choice.
        busy_timeout: Seconds a writer of a SQLite file waits for others.
        group_commit: Whether commits that come at the same time share one.
        cache: Keeps orders that were looked up, if the application has one.
        heart: Renews the leases of operations that are at work in threads.
    """

    surroundings: Surroundings
    policy: OrderPolicy
    cursors: Cursors
    create_tables: bool
    schema: str | None
    busy_timeout: float
    group_commit: bool
    cache: OrderCache | None = None
    heart: ThreadHeart = attrs.Factory(ThreadHeart)

    @property
    def cached(self) -> CachedOrders | None:
        """The cached orders of the tenant, if the application has a cache."""
        return None if self.cache is None else self.cache.of(self.surroundings.context.tenant)

    def for_tenant(self, tenant: str) -> Assembly:
        """Return the same, bound to a tenant.

        Raises:
            InvalidKey: The tenant is malformed.
        """
        return self._within(attrs.evolve(self.surroundings.context, tenant=tenant))

    def bound(self, **binding: Unpack[Binding]) -> Assembly:
        """Return the same, with an actor, a correlation or a causation id.

        Raises:
            InvalidKey: One of them is malformed.
        """
        return self._within(attrs.evolve(self.surroundings.context, **binding))

    def _within(self, context: Context) -> Assembly:
        if not _is_name(context.tenant, _MAX_TENANT):
            raise InvalidKey(f"A tenant has 1 to {_MAX_TENANT} characters on one line; nothing was read or changed.")
        for value in (context.actor, context.correlation_id, context.causation_id):
            if value is not None and not _is_name(value, _MAX_NAME):
                raise InvalidKey(
                    f"An actor and a correlation or causation id have 1 to {_MAX_NAME} characters on one line; "
                    "nothing was read or changed."
                )
        # Plain text from here on: a subclass, such as a template's markup, is one for the encoder to refuse.
        plain = {name: value and str(value) for name, value in attrs.asdict(context).items()}
        return attrs.evolve(self, surroundings=attrs.evolve(self.surroundings, context=Context(**plain)))


def _is_name(value: object, longest: int) -> bool:
    """Tell whether a value can be kept as a name: one line of Unicode text without lone surrogates."""
    return isinstance(value, str) and len(value) <= longest and _name_pattern.fullmatch(value) is not None


def assemble(url: str, options: KitOptions) -> Assembly:
    """Return the assembly for a database.

    Args:
        url: The database's URL: what the cursor secret is derived from where none is set, so that every
            process of an application reads the cursors of every other. Empty or in memory: at random.
        options: What the application chose.
    """
    from orderkit.kit.settings import Settings

    settings = options.get("settings") or Settings.model_construct()
    derived = url if url not in {"", MEMORY_URL} else secrets.token_hex()
    secret = derived if settings.cursor_secret is None else settings.cursor_secret.get_secret_value()
    policy = OrderPolicy(
        options.get("numbers") or RandomNumbers(), settings.max_lines, timedelta(seconds=settings.idempotency_retention)
    )
    surroundings = Surroundings(Context(), options.get("clock") or SystemClock(), options.get("ids") or UuidV7())
    create = settings.create_tables
    if create is None:
        create = url.startswith("sqlite")
    cursors = Cursors(hashlib.sha256(b"orderkit cursors\0" + secret.encode()).digest())
    return Assembly(
        surroundings,
        policy,
        cursors,
        create,
        settings.table_schema,
        settings.lock_timeout,
        settings.group_commit,
        options.get("cache"),
    )
