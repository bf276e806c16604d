"""The way to Redis, for threads and event loops alike: short waits, and none at all while it is known to be gone.

It needs `orderkit[redis]`. Nothing that depends on Redis stops without it: a layer goes on by itself, and says so.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeAlias, cast
from urllib.parse import unquote_plus, urlsplit, urlunsplit

import attrs

from orderkit.errors import ConfigurationError
from orderkit.forking import Guarded, keep_for_good
from orderkit.resilience import conditions
from orderkit.resilience.events import Degraded, Listener, PolicyEvent, tell
from orderkit.resilience.layers import checked, counted
from orderkit.resilience.runtimes import Runtime, ThreadRuntime

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

Word: TypeAlias = str | bytes | int | float
"""A word of a command."""


class RedisClient(Protocol):
    """A client as of redis-py, synchronous or of asyncio: of the latter, what this returns is awaited."""

    def execute_command(self, *words: Word) -> object:
        """Send a command and return the reply."""
        ...


class Unreachable(Exception):
    """Redis was not reached, or did not do what it was asked; a layer then goes on by itself.

    Attributes:
        cause: The class of what was raised.
    """

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class Audience(Protocol):
    """Whom a layer tells what happens, such as an invocation."""

    @property
    def policy(self) -> str:
        """In whose name."""
        ...

    def tell(self, event: PolicyEvent) -> None:
        """Tell an event."""
        ...


@attrs.frozen
class Listeners:
    """The audience of what is used without a policy.

    Args:
        policy: In whose name it is told.
        listeners: Who is told.
    """

    policy: str
    listeners: Sequence[Listener] = ()

    def tell(self, event: PolicyEvent) -> None:
        """Tell an event."""
        tell(self.listeners, event)


def tell_degraded(audience: Audience, layer: str, error: Unreachable) -> None:
    """Tell that a layer goes on by itself."""
    audience.tell(Degraded(policy=audience.policy, layer=layer, error=error.cause))


class Script:
    """A program in Lua that Redis runs as one step.

    Args:
        text: What it says.

    Attributes:
        text: What it says.
        digest: The name by which Redis knows it.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode()).hexdigest()  # noqa: S324 - a name, not a secret


@attrs.frozen
class RedisClients:
    """Clients of the application, which makes and closes them; their own time-outs and retries hold.

    Args:
        client: What threads use; none where there are only event loops.
        asynchronous: Return what the running event loop uses; called once for each.
    """

    client: RedisClient | None = None
    asynchronous: Callable[[], RedisClient] | None = None

    def open(self) -> RedisClient:
        """Return what threads use."""
        if self.client is None:
            raise ConfigurationError("No client of Redis was given for threads: `RedisClients(client=...)`.")
        return self.client

    def open_here(self) -> RedisClient:
        """Return what the running event loop uses."""
        if self.asynchronous is None:
            raise ConfigurationError("No client of Redis was given for event loops: `RedisClients(asynchronous=...)`.")
        return self.asynchronous()

    def __str__(self) -> str:
        return "clients of the application"


@attrs.frozen
class _Address:
    """Where Redis is, and how long to wait for it."""

    url: str = attrs.field(repr=False)
    timeout: float
    connections: int

    def open(self) -> RedisClient:
        """Make the client of all threads."""
        import redis

        pool = redis.ConnectionPool.from_url(self.url, **self._options())
        return cast("RedisClient", redis.Redis.from_pool(pool))

    def open_here(self) -> RedisClient:
        """Make the client of the running event loop."""
        from redis.asyncio import ConnectionPool, Redis

        pool = ConnectionPool.from_url(self.url, **self._options())
        return cast("RedisClient", Redis.from_pool(pool))

    def _options(self) -> dict[str, Any]:
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return {
            "max_connections": self.connections,
            "socket_timeout": self.timeout,
            "socket_connect_timeout": self.timeout,
            # By default redis-py tries again for seconds, in which a layer could long have gone on by itself.
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }

    def __str__(self) -> str:
        return masked(self.url)


class _Places(Protocol):
    def acquire(self) -> object: ...

    def release(self) -> None: ...


class _Usage(NamedTuple):
    """A client, and the places for the commands that it may have under way."""

    client: RedisClient
    places: _Places


class RedisConnection(Guarded):
    """Reach one Redis from threads and from any number of event loops.

    After a failure it is left alone for `rest` seconds, in which nobody waits for it; then one call tries for all.

    Args:
        source: Its URL, such as `redis://127.0.0.1:6379/0`, `rediss://` with TLS or `unix://`; or clients.
        timeout: Seconds to wait for a connection, and for a reply.
        rest: Seconds for which it is left alone after a failure.
        connections: How many connections there are at most for all threads together, and for each event loop; further
            calls wait for one.

    Raises:
        ConfigurationError: The URL is none of Redis, or its library is not installed.
    """

    def __init__(
        self, source: str | RedisClients, *, timeout: float = 0.2, rest: float = 1.0, connections: int = 32
    ) -> None:
        self._rest = checked(rest, "The rest that Redis is given")
        checked(timeout, "The time-out of Redis")
        self._connections = counted(connections, "The connections to Redis")
        self._source = source if isinstance(source, RedisClients) else _Address(source, timeout, connections)
        self._failures, self._severe = _failures()
        self._gone = False
        self._again_at = 0.0
        self._cause = ""
        if isinstance(self._source, _Address):
            _check(self._source.url)
        self._begin()
        super().__init__()

    def _begin(self) -> None:
        self._for_threads: _Usage | None = None
        self._here: dict[AbstractEventLoop, _Usage] = {}

    def renew(self) -> None:
        """Have connections of its own in a child after a fork, and leave those of the parent alone."""
        super().renew()
        keep_for_good((self._for_threads, self._here))
        self._begin()

    # --- asking ---------------------------------------------------------------------------------

    async def run(self, runtime: Runtime, *words: Word) -> object:
        """Send a command and return the reply.

        Raises:
            Unreachable: There was none.
        """
        client, places = self._usage_of_threads() if isinstance(runtime, ThreadRuntime) else self._usage_here()
        await runtime.finish(places.acquire())
        try:
            # Asked here, since Redis may have gone while this call waited for its place.
            self._admit()
            reply = await runtime.finish(client.execute_command(*words))
        except self._failures as error:
            raise self._failed(error) from error
        finally:
            places.release()
        if self._gone:
            self._gone = False
        return reply

    async def evaluate(self, runtime: Runtime, script: Script, keys: Sequence[str], *words: Word) -> object:
        """Run a program and return what it returns.

        Raises:
            Unreachable: It was not run, or is unknown to have been.
        """
        rest = (len(keys), *keys, *words)
        try:
            return await self.run(runtime, "EVALSHA", script.digest, *rest)
        except Unreachable as error:
            if error.cause != "NoScriptError":
                raise
        return await self.run(runtime, "EVAL", script.text, *rest)

    def _admit(self) -> None:
        if not self._gone:
            return
        with self._lock:
            now = conditions.present.monotonic()
            if now < self._again_at:
                raise Unreachable(self._cause)
            # This call finds out for all others, which do not wait meanwhile.
            self._again_at = now + self._rest

    def _failed(self, error: Exception) -> Unreachable:
        cause = type(error).__name__
        # What Redis answers with an error of its own, it is there for.
        if isinstance(error, self._severe):
            with self._lock:
                self._again_at = conditions.present.monotonic() + self._rest
                self._gone, self._cause = True, cause
        return Unreachable(cause)

    # --- clients --------------------------------------------------------------------------------

    def _usage_of_threads(self) -> _Usage:
        if self._for_threads is None:
            with self._lock:
                places = threading.Semaphore(self._connections)
                self._for_threads = self._for_threads or _Usage(self._source.open(), places)
        return self._for_threads

    def _usage_here(self) -> _Usage:
        import asyncio

        loop = asyncio.get_running_loop()
        usage = self._here.get(loop)
        if usage is None:
            with self._lock:
                # A client holds its loop, so that a weak reference to the loop would keep both for ever.
                self._here = {other: its for other, its in self._here.items() if not other.is_closed()}
                usage = _Usage(self._source.open_here(), asyncio.Semaphore(self._connections))
                self._here[loop] = usage
        return usage

    def close(self) -> None:
        """Close the connections of threads; the next call opens them again."""
        with self._lock:
            usage, self._for_threads = self._for_threads, None
        if usage is not None and isinstance(self._source, _Address):
            cast("_Closable", usage.client).close()

    async def aclose(self) -> None:
        """Close the connections of the running event loop; the next call opens them again."""
        import asyncio

        with self._lock:
            usage = self._here.pop(asyncio.get_running_loop(), None)
        if usage is not None and isinstance(self._source, _Address):
            await cast("_Closable", usage.client).aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"RedisConnection({str(self._source)!r})"


class _Closable(Protocol):
    def close(self) -> None: ...

    async def aclose(self) -> None: ...


_Errors: TypeAlias = tuple[type[Exception], ...]


def _failures() -> tuple[_Errors, _Errors]:
    """Return what clients raise, and what of it means that Redis is not there."""
    try:
        from redis import exceptions
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        raise ConfigurationError(
            "Redis needs a library that is not installed: pip install 'orderkit[redis]'."
        ) from None
    return (exceptions.RedisError, OSError), (exceptions.ConnectionError, exceptions.TimeoutError, OSError)


def _check(url: str) -> None:
    if not _is_understood(url):
        # Not quoted: where a password is in what cannot be read, nobody knows. Nor is what redis-py has said of it.
        raise ConfigurationError(
            "The URL given is none of Redis; nothing was opened. It looks like redis://127.0.0.1:6379/0, rediss://… "
            "or unix://…, and special characters in a password are percent-encoded."
        )


def _is_understood(url: str) -> bool:
    from redis.connection import parse_url

    try:
        parse_url(url)  # type: ignore[no-untyped-call]  # redis-py
    except (ValueError, AttributeError, TypeError):
        return False
    return True


def masked(url: str) -> str:
    """Return a URL without its passwords, of which nothing is left where it cannot be told what they are.

    Example:
        >>> masked("redis://shop:secret@127.0.0.1:6379/0?ssl_password=secret")
        'redis://shop:***@127.0.0.1:6379/0?ssl_password=***'
    """
    try:
        scheme, place, path, query, fragment = urlsplit(url)
    except ValueError:
        return "***"
    if not scheme or "@" in path + query or fragment:
        return "***"
    user, at, host = place.rpartition("@")
    name, colon, _ = user.partition(":")
    shown = f"{name}:***" if colon else name
    hidden = "&".join(map(_masked_field, query.split("&")))
    return urlunsplit((scheme, f"{shown}{at}{host}", path, hidden, ""))


def _masked_field(field: str) -> str:
    name, equals, _ = field.partition("=")
    return f"{name}{equals}***" if "password" in unquote_plus(name).casefold() else field
