"""A proxy on loopback between a driver and its server: it counts round trips, and cuts where it is told to."""

from __future__ import annotations

import contextlib
import enum
import select
import socket
import threading
from typing import Self

import attrs
from sqlalchemy import URL

_IN_THE_CLEAR = {"postgresql+asyncpg": {"ssl": "disable"}, "postgresql+psycopg": {"sslmode": "disable"}}


class Cut(enum.Enum):
    """Where the connection is cut: before the server gets a statement, or before the client gets its answer."""

    BEFORE_STATEMENT = enum.auto()
    BEFORE_ANSWER = enum.auto()


@attrs.frozen
class _Order:
    marker: bytes
    cut: Cut


class Proxy:
    """Pass on what a driver and a server say to each other.

    Attributes:
        round_trips: How often a client has spoken and then been answered.
        cuts: How many connections were cut as ordered.
    """

    def __init__(self, server: URL) -> None:
        port = 3306 if server.get_backend_name() == "mariadb" else 5432
        self._server = (server.host or "127.0.0.1", server.port or port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._order: _Order | None = None
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.round_trips = 0
        self.cuts = 0

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def url(self, through: URL) -> URL:
        """Return a URL that leads through the proxy, in the clear."""
        host, port = self._listener.getsockname()
        return through.set(host=host, port=port).update_query_dict(_IN_THE_CLEAR.get(through.drivername, {}))

    def cut_at(self, marker: bytes, cut: Cut) -> None:
        """Cut the next connection on which a client says this."""
        self._order = _Order(marker, cut)

    def drop_all(self) -> None:
        """Cut every connection there is."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._shut(pair)

    def wait_until_idle(self) -> None:
        """Return once no connection is left, as after a server has ended them all."""
        for thread in self._threads[1:]:
            thread.join()

    def stop(self) -> None:
        """Cut every connection and accept no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_all()
        for thread in list(self._threads):
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.add((client, server))
            thread = threading.Thread(target=self._pass_on, args=(client, server), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        asked, withheld = False, False
        try:
            while True:
                ready, _, _ = select.select((client, server), (), ())
                for side in ready:
                    said = side.recv(65536)
                    if not said:
                        return
                    if side is server:
                        if withheld:
                            self.cuts += 1
                            return
                        self.round_trips += asked  # before the client knows, who may ask for it
                        asked = False
                        client.sendall(said)
                        continue
                    cut = self._ordered(said)
                    if cut is Cut.BEFORE_STATEMENT:
                        self.cuts += 1
                        return
                    withheld = cut is Cut.BEFORE_ANSWER
                    server.sendall(said)
                    asked = True
        except OSError:
            return
        finally:
            self._shut((client, server))
            client.close()
            server.close()

    def _ordered(self, said: bytes) -> Cut | None:
        with self._lock:
            order = self._order
            if order is None or order.marker not in said:
                return None
            self._order = None
            return order.cut

    def _shut(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            self._pairs.discard(pair)
        for side in pair:
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
