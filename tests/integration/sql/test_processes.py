"""Several processes, and children after a fork: nobody uses what is another's."""

from __future__ import annotations

import os
import sqlite3 as sqlite_driver
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from orderkit.errors import StorageBusy, StorageFailed
from orderkit.storage.sql import SqlBackend, open_backend
from orderkit.storage.sql.locks import WriteLock, write_lock
from orderkit.testing.conformance.base import commit, fresh_tenant, order_row, placing, read

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def in_child(work: Callable[[], object]) -> None:
    """Run work in a child after a fork, and insist that it neither fails nor hangs."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - nothing of the child may reach pytest
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


WRITER = """
    import sys
    from orderkit.storage.sql import open_backend
    from orderkit.testing.conformance.base import commit, order_row, placing

    url, tenant, name, orders = sys.argv[1:]
    backend = open_backend(url, busy_timeout=60)
    backend.create_schema()
    for number in range(int(orders)):
        commit(backend, placing(order_row(tenant, f"order_{name}_{number}")))
        with backend.connect(transaction=True) as storage:
            storage.next_number(tenant)
"""


def test_four_processes_write_one_file_that_none_of_them_found(tmp_path: Path) -> None:
    url, tenant = f"sqlite:///{tmp_path / 'shop.db'}", fresh_tenant()
    command = [sys.executable, "-c", textwrap.dedent(WRITER), url, tenant]
    writers = [subprocess.Popen([*command, str(name), "40"]) for name in range(4)]
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    backend = open_backend(url)
    for name in range(4):
        for number in range(40):
            assert read(backend, order_row(tenant, f"order_{name}_{number}")) is not None
    with backend.connect(transaction=True) as storage:
        assert storage.next_number(tenant) == 161
    backend.close()


def test_a_child_uses_connections_of_its_own(backend: SqlBackend) -> None:
    tenant = fresh_tenant()
    of_parent, of_child = order_row(tenant, "order_parent"), order_row(tenant, "order_child")
    commit(backend, placing(of_parent))
    with backend.connect() as storage:
        executor = storage._executor

    def work() -> None:
        with backend.connect() as storage:
            assert storage._executor is not executor
        assert read(backend, of_parent) is not None
        commit(backend, placing(of_child))

    in_child(work)
    assert read(backend, of_child) is not None
    commit(backend, placing(order_row(tenant, "order_after")))


def test_a_child_of_a_process_in_mid_transaction_leaves_it_alone(backend: SqlBackend) -> None:
    tenant = fresh_tenant()
    order = order_row(tenant)

    def work() -> None:
        with pytest.raises(StorageFailed):
            storage.read(tenant, order.id)
        assert read(backend, order) is None

    with backend.connect(transaction=True) as storage:
        storage.commit(placing(order))
        in_child(work)
        assert storage.read(tenant, order.id).order is not None
    assert read(backend, order) is not None


def test_a_child_that_leaves_the_block_of_its_parent_ends_nothing(backend: SqlBackend) -> None:
    tenant = fresh_tenant()
    order = order_row(tenant)
    child = -1
    try:
        with backend.connect(transaction=True) as storage:
            storage.commit(placing(order))
            child = os.fork()
            if child:
                _, status = os.waitpid(child, 0)
    except BaseException as error:
        if child == 0:
            os._exit(0 if isinstance(error, StorageFailed) else 1)
        raise
    if child == 0:
        os._exit(2)
    assert os.waitstatus_to_exitcode(status) == 0
    assert read(backend, order) is not None


def test_a_child_can_write_although_a_thread_of_its_parent_held_the_lock(sqlite: str) -> None:
    backend = open_backend(sqlite, busy_timeout=30)
    tenant = fresh_tenant()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with backend.connect(transaction=True):
            held.set()
            release.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    lock = backend._write_lock
    assert lock is not None

    def work() -> None:
        # The child waits for the file, which its parent still holds, and not for a thread it does not have.
        assert lock._threads.acquire(timeout=0)
        lock._threads.release()
        assert not lock.acquire(0.05)

    in_child(work)
    release.set()
    holder.join()
    in_child(lambda: commit(backend, placing(order_row(tenant))))
    assert read(backend, order_row(tenant)) is not None
    backend.close()


def test_a_lock_is_one_for_every_way_to_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "shop.db")
    lock = write_lock(str(tmp_path / "shop.db"))
    assert write_lock(str(tmp_path / "link.db")) is lock


def test_a_lock_is_waited_for_and_then_given_up(tmp_path: Path) -> None:
    lock = WriteLock(tmp_path / "shop.db")
    assert lock.acquire(0)

    def fail_to_take_it() -> None:
        assert not lock.acquire(0.01)
        assert not lock.acquire(0)

    fail_to_take_it()
    in_child(fail_to_take_it)
    threading.Thread(target=lock.release).start()
    assert lock.acquire(10)
    lock.release()
    in_child(lambda: lock.acquire(0) or sys.exit(1))


def test_a_folder_that_takes_no_lock_file_is_left_to_the_database(tmp_path: Path) -> None:
    lock = WriteLock(tmp_path / "absent" / "shop.db")
    assert lock.acquire(0)
    lock.release()
    assert lock.acquire(0)
    lock.release()


def test_a_writer_waits_for_a_foreign_writer_and_then_says_so(sqlite: str) -> None:
    backend = open_backend(sqlite, busy_timeout=0.05)
    foreign = sqlite_driver.connect(sqlite.removeprefix("sqlite:///"), isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    order = order_row(fresh_tenant())
    with pytest.raises(StorageBusy):
        commit(backend, placing(order))
    foreign.execute("ROLLBACK")
    foreign.close()
    commit(backend, placing(order))
    backend.close()
