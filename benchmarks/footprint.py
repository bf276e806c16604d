"""What orderkit costs where nothing is stored: the time of an import, and memory."""

from __future__ import annotations

import gc
import multiprocessing
import subprocess
import sys
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial

import attrs
import psutil

from benchmarks.databases import Wrong, text_of
from benchmarks.listing import filled
from benchmarks.measure import Figure, Plan, Race, Ratio, Sample, Stage
from orderkit import OrderKit

STREAMED = 100_000

KIT = "from orderkit import OrderKit, Line, Money"
PYDANTIC = "import pydantic; pydantic.BaseModel"

_TIMED = """
import time
wall, cpu = time.perf_counter(), time.process_time()
{statement}
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


@attrs.frozen
class FreshInterpreter:
    """A statement that a new interpreter runs, timed from within."""

    statement: str

    def round(self, operations: int) -> Sample:
        """Run it in that many interpreters and return the least it took."""
        command = [sys.executable, "-c", _TIMED.format(statement=self.statement)]
        samples = []
        for _ in range(operations):
            printed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
            samples.append(Sample(*map(float, printed.split())))
        return min(samples)


@contextmanager
def imports(_plan: Plan) -> Generator[Stage, None, None]:
    """Set up importing."""
    yield Stage({name: partial(FreshInterpreter, name) for name in (KIT, PYDANTIC)}, lambda: None)


def stream_growth(plan: Plan) -> tuple[float, int]:
    """Return by how many MiB a process grows while it walks all orders, measured once."""
    orders = plan.scaled(STREAMED)
    with filled(orders) as url, ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        walked, growth = processes.submit(_walk, text_of(url, "postgresql+psycopg")).result()
    if walked != orders:
        raise Wrong(f"{walked} of {orders} orders were walked")
    return growth, 1


def _walk(url: str) -> tuple[int, float]:
    """Walk all orders of a database; return how many there are and the growth in MiB."""
    process, walked = psutil.Process(), 0
    with OrderKit.from_url(url) as kit:
        kit.orders.search(limit=1)
        gc.collect()
        before = most = process.memory_info().rss
        for walked, _ in enumerate(kit.orders.stream(), 1):
            if walked % 100 == 0:
                most = max(most, process.memory_info().rss)
    return walked, (most - before) / 2**20


BENCHMARKS = (
    Race(imports, (Ratio("import", KIT, PYDANTIC, 2.0),), operations=1),
    Figure("memory.stream-100k", stream_growth, unit="MiB", goal=16, base="growth while 100,000 orders are walked"),
)
