"""Processes are killed while they take orders: nothing that was acknowledged is lost, nothing is there by half."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from tests.integration.kit.places import Place, assert_whole
from tests.torture.forking import EACH
from tests.torture.placing import place as place_again
from tests.torture.placing import wish

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROCESSES = 3
PATIENCE = 60.0

Record = Callable[[str, object], None]


@attrs.define
class Diaries:
    """What all processes noted: the keys they asked under, and what they were told."""

    asked: set[str] = attrs.Factory(set)
    placed: dict[str, str] = attrs.Factory(dict)
    confirmed: dict[str, str] = attrs.Factory(dict)

    @classmethod
    def read(cls, folder: Path) -> Diaries:
        diaries = cls()
        for path in folder.glob("*.diary"):
            for line in path.read_text().splitlines():
                diaries.take(*line.split())
        return diaries

    def take(self, kind: str, key: str, order: str = "") -> None:
        if kind == "asked":
            self.asked.add(key)
        elif kind == "placed":
            self.placed[key] = order
        elif kind == "confirmed":
            self.confirmed[key] = order


@attrs.frozen
class Taker:
    """A process that takes orders, and its diary."""

    process: subprocess.Popen[bytes]
    diary: Path

    def await_orders(self, at_least: int) -> None:
        """Return once it has acknowledged some orders."""
        deadline = time.monotonic() + PATIENCE
        while not self.diary.exists() or self.diary.read_text().count("placed") < at_least:
            assert self.process.poll() is None, "it died by itself"
            assert time.monotonic() < deadline, "it takes no orders"
            time.sleep(0.005)


def start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", f"tests.torture.{module}", *arguments], cwd=ROOT, env=with_paths())


def with_paths() -> dict[str, str]:
    """Return the environment of a process that finds the package and its tests."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))}


@contextmanager
def takers(place: Place, tenant: str, folder: Path, way: str = "one by one") -> Generator[Callable[[str], Taker]]:
    """Start processes that are all gone at the end."""
    started: list[Taker] = []

    def begin(name: str) -> Taker:
        diary = folder / f"{name}.diary"
        started.append(Taker(start("placing", place.address, tenant, str(diary), name, way), diary))
        return started[-1]

    try:
        yield begin
    finally:
        for taker in started:
            taker.process.kill()
            taker.process.wait()


SHORT = [("sqlite", "one by one"), ("psycopg", "groups"), ("pymysql", "batches")]
LONG = [
    *((shell, way) for shell in ("sqlite", "psycopg", "pymysql") for way in ("one by one", "batches", "groups")),
    ("asyncpg", "one by one"),
    ("asyncpg", "groups"),
]
PROFILES = [*((*run, 2) for run in SHORT), *(pytest.param(*run, 25, marks=pytest.mark.torture) for run in LONG)]


@pytest.mark.parametrize(("place", "way", "rounds"), PROFILES, indirect=["place"])
def test_killed_processes_lose_and_double_nothing(
    place: Place,
    tenant: str,
    tmp_path: Path,
    way: str,
    rounds: int,
    record_property: Record,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prepare(place)
    for each in range(rounds):
        with takers(place, tenant, tmp_path, way) as begin:
            running = [begin(f"taker-{each}-{number}") for number in range(PROCESSES)]
            for taker in running:
                taker.await_orders(1)
            for taker in running:  # one after the other: those who are left go on, whatever the dead have held
                time.sleep(random.uniform(0, 0.08))
                taker.process.kill()
    figures = {"killed": rounds * PROCESSES} | settle(place, tenant, Diaries.read(tmp_path))
    record_property("figures", figures)
    with capsys.disabled():
        if rounds > 2:
            print(f"\n{place.shell}, {way}: {figures}")  # noqa: T201 - the long profile tells what it has done


def prepare(place: Place) -> None:
    with place.kit() as kit:
        kit.create_schema()


def settle(place: Place, tenant: str, diaries: Diaries) -> dict[str, int]:
    """Insist that the database holds what the diaries say, and that repeating everything doubles nothing."""
    kept = assert_whole(place, tenant)
    orders = {row["id"]: row for row in place.rows("orders", tenant)}
    keys = {
        row["key"]: row["order_id"] for row in place.rows("idempotency_keys", tenant) if row["scope"] != "confirm_order"
    }
    assert {key: keys.get(key) for key in diaries.placed} == diaries.placed
    assert set(keys.values()) == orders.keys()
    assert len(keys) == len(orders)
    assert keys.keys() <= diaries.asked
    assert all(orders[order]["version"] == 2 for order in diaries.confirmed.values())
    with place.kit() as owner:
        kit = owner.for_tenant(tenant)
        repeated = {key: place_again(kit, key) for key in sorted(diaries.asked)}
        assert {key: repeated[key] for key in keys} == keys
        assert len(set(repeated.values())) == len(diaries.asked)
        for key in random.sample(sorted(repeated), min(20, len(repeated))):
            order = repeated[key]
            assert [line.units for line in kit.orders.get(order).lines] == [line.units for line in wish(key)["lines"]]
            assert len(kit.orders.personal(order)) == 2
    assert assert_whole(place, tenant)["orders"] == len(diaries.asked)
    if place.is_sqlite:
        assert place.query("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    return {
        "asked": len(diaries.asked),
        "acknowledged": len(diaries.placed),
        "kept": kept["orders"],
        "kept without an answer": kept["orders"] - len(diaries.placed),
        "confirmed": len(diaries.confirmed),
    }


@pytest.mark.parametrize("count", [20, pytest.param(1000, marks=pytest.mark.torture)])
@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_four_processes_write_one_new_file(
    place: Place, tenant: str, tmp_path: Path, count: int, record_property: Record
) -> None:
    """Nobody has made the tables; nobody is told that the file is busy; nobody's order is lost."""
    started = time.monotonic()
    diaries = [tmp_path / f"writer-{number}.diary" for number in range(4)]
    writers = [
        start("placing", place.address, tenant, str(path), path.stem, "one by one", str(count)) for path in diaries
    ]
    assert [writer.wait() for writer in writers] == [0] * 4
    record_property("seconds", time.monotonic() - started)
    read = Diaries.read(tmp_path)
    assert read.placed.keys() == read.asked
    assert settle(place, tenant, read)["kept"] == len(read.asked) == 4 * (count + count // 10)


@pytest.mark.parametrize("place", ["sqlite", "psycopg"], indirect=True)
def test_a_kit_survives_a_fork(place: Place, tenant: str) -> None:
    prepare(place)
    assert start("forking", place.address, tenant).wait() == 0
    keys = [row["key"] for row in place.rows("idempotency_keys", tenant)]
    assert len(keys) == len(set(keys)) == EACH * 13
    assert_whole(place, tenant)
