"""Whether a pooled connection still leads to its server, asked without a round trip."""

from __future__ import annotations

import select
from typing import Any

from sqlalchemy.pool import PoolProxiedConnection


def is_stale(connection: PoolProxiedConnection) -> bool:
    """Tell whether the server has closed an idle connection; one of SQLite has no server that could.

    A server that goes away says so, which makes the socket readable; as it might be for another reason,
    the connection is then asked. Under an event loop it is the loop that notices.
    """
    driver: Any = connection.driver_connection
    is_closed = getattr(driver, "is_closed", None)
    if is_closed is not None:
        return bool(is_closed())
    if getattr(driver, "closed", False) or _has_ended(driver):
        return True
    descriptor = _descriptor(driver)
    return descriptor is not None and _is_readable(descriptor) and not _answers(connection)


def _has_ended(driver: Any) -> bool:
    """Tell whether the stream of aiomysql has reached its end; its own pool looks at the same."""
    reader = getattr(driver, "_reader", None)
    return reader is not None and (reader.exception() is not None or bool(getattr(reader, "eof_received", False)))


def _descriptor(driver: Any) -> int | None:
    """Return the descriptor of the driver's socket; PyMySQL does not offer it."""
    socket = driver if hasattr(driver, "fileno") else getattr(driver, "_sock", None)
    return None if socket is None else int(socket.fileno())


def _is_readable(descriptor: int) -> bool:
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([descriptor], [], [], 0)[0])


def _answers(connection: PoolProxiedConnection) -> bool:
    try:
        connection.cursor().execute("SELECT 1")
    except Exception:  # noqa: BLE001 - whatever it is, the connection is of no use
        return False
    return True
