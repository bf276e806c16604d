"""A PgBouncer of the test's own, in front of a database."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy import URL

from tests.conftest import absent, text_of
from tests.integration.sql.gates import until

SERVERS = 4
"""How many connections of PostgreSQL a bouncer shares among its clients."""

_CONFIGURATION = """
[databases]
* = host={host} port={port} user={user}{password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
admin_users = client
pool_mode = {mode}
default_pool_size = {servers}
max_client_conn = 100
server_login_retry = 0.2
ignore_startup_parameters = {ignored}
"""


class Bouncer:
    """PgBouncer, which can be killed and started again on the same port.

    Args:
        server: The database behind it.
        directory: Where its configuration is kept, readable for everybody.
        mode: When a client gives its connection of the server back.
        ignored: Settings of a session that are dropped instead of refused.
    """

    def __init__(self, server: URL, directory: Path, *, mode: str = "transaction", ignored: str = "") -> None:
        self.program = _program()
        self.port = _free_port()
        self.url = server.set(host="127.0.0.1", port=self.port, username="client", password=None)
        self._configuration = directory / "pgbouncer.ini"
        self._configuration.write_text(
            _CONFIGURATION.format(
                host=server.host,
                port=server.port or 5432,
                user=server.username,
                password=f" password={server.password}" if server.password else "",
                listen=self.port,
                mode=mode,
                servers=SERVERS,
                ignored=ignored,
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it lets clients in."""
        # It refuses to run as root.
        user = ["-u", _other_user()] if os.geteuid() == 0 else []
        command = [self.program, "-q", *user, str(self._configuration)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._answers)

    def kill(self) -> None:
        """End it, and with it every connection it holds."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def servers(self) -> int:
        """Return how many connections of PostgreSQL it holds."""
        console = self.url.set(drivername="postgresql", database="pgbouncer")
        with psycopg.connect(text_of(console), autocommit=True) as session:
            return len(session.execute("SHOW SERVERS").fetchall())

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(text_of(self.url.set(drivername="postgresql")), connect_timeout=3).close()
            return True
        return False


@contextmanager
def bouncing(server: URL, **options: str) -> Iterator[Bouncer]:
    """Start a bouncer in front of a database for the length of a block."""
    with tempfile.TemporaryDirectory(prefix="orderkit-pgbouncer-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        bouncer = Bouncer(server, directory, **options)
        bouncer.start()
        try:
            yield bouncer
        finally:
            bouncer.kill()


def _program() -> str:
    """Return where PgBouncer is, or leave the test because it is not."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    return found or absent("no pgbouncer on the PATH or in /usr/sbin")


def _other_user() -> str:
    users = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in users else "nobody"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
