"""The method: contenders side by side in one run, in an order shuffled for each round.

Every contender does the same number of operations in each round, on fresh rows and over connections that
stay open. Garbage is collected before and not during. A figure is the median of the ratios of each round,
so that what slows the machine for a while slows both sides of a ratio. Where the two halves of the rounds
disagree by more than a quarter, the machine was too busy to tell, and everything is measured again.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Generic, NamedTuple, Protocol, TypeVar

import attrs

from benchmarks.report import TIMES, Floor, Result

T = TypeVar("T")

ATTEMPTS = 3
TOLERANCE = 1.25


@attrs.frozen
class Plan:
    """How much is measured.

    Attributes:
        rounds: How often everything is measured.
        scale: The part of the usual number of operations and of rows.
    """

    rounds: int = 11
    scale: float = 1.0

    def scaled(self, usual: int, *, least: int = 1) -> int:
        """Return how many operations or rows there are instead of the usual number."""
        return max(least, round(usual * self.scale))


class Sample(NamedTuple):
    """What an operation took in one round, in seconds: of the clock, and of this process's CPU time."""

    wall: float
    cpu: float


class Contender(Protocol):
    """Something that is measured."""

    def round(self, operations: int) -> Sample:
        """Do that many operations and return what one took."""
        ...


@attrs.frozen
class Timed(Generic[T]):
    """Prepare what operations need, off the clock, and then do them on the clock.

    Attributes:
        prepare: Return the input of that many operations.
        perform: Do them all.
    """

    prepare: Callable[[int], Sequence[T]]
    perform: Callable[[Sequence[T]], object]

    def round(self, operations: int) -> Sample:
        """Do that many operations and return what one took."""
        inputs = self.prepare(operations)
        gc.collect()
        gc.disable()
        try:
            wall, cpu = time.perf_counter(), time.process_time()
            self.perform(inputs)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        finally:
            gc.enable()
        return Sample(wall / operations, cpu / operations)


def one_by_one(operation: Callable[[T], object]) -> Callable[[Sequence[T]], None]:
    """Return the function that does operations one after the other."""

    def perform(inputs: Sequence[T]) -> None:
        for each in inputs:
            operation(each)

    return perform


def awaited(runner: asyncio.Runner, operation: Callable[[T], Awaitable[object]]) -> Callable[[Sequence[T]], None]:
    """Return the function that awaits operations one after the other."""

    async def perform(inputs: Sequence[T]) -> None:
        for each in inputs:
            await operation(each)

    return lambda inputs: runner.run(perform(inputs))


def in_threads(pool: ThreadPoolExecutor, operations: Sequence[Callable[[T], object]]) -> Callable[[Sequence[T]], None]:
    """Return the function that shares operations out to a thread for each given one."""

    def perform(inputs: Sequence[T]) -> None:
        shares = [inputs[first :: len(operations)] for first in range(len(operations))]
        for done in [pool.submit(one_by_one(each), share) for each, share in zip(operations, shares, strict=True)]:
            done.result()

    return perform


class Stage(NamedTuple):
    """Where contenders meet.

    Attributes:
        contenders: How each is made, by name; only those that are wanted are.
        check: Raise unless everything was done, and done right.
    """

    contenders: Mapping[str, Callable[[], Contender]]
    check: Callable[[], None]


class Ratio(NamedTuple):
    """A figure: the time of a contender relative to another one's, and what it is to be at most."""

    name: str
    contender: str
    base: str
    goal: float


class Benchmark(Protocol):
    """Whatever gives figures."""

    @property
    def names(self) -> tuple[str, ...]:
        """The figures it can give."""
        ...

    def run(self, plan: Plan, wanted: Iterable[str]) -> tuple[list[Result], list[Floor]]:
        """Measure the wanted figures, and what stands beside them."""
        ...


@attrs.frozen
class Race:
    """Contenders measured against each other.

    Attributes:
        stage: Set up what is measured, for the length of a block.
        ratios: What is wanted of it.
        operations: How many each contender does in a round.
        floors: Contenders that nothing can be faster than, shown beside the base of the first ratio.
    """

    stage: Callable[[Plan], AbstractContextManager[Stage]]
    ratios: tuple[Ratio, ...]
    operations: int = 100
    floors: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The figures it can give."""
        return tuple(ratio.name for ratio in self.ratios)

    def run(self, plan: Plan, wanted: Iterable[str]) -> tuple[list[Result], list[Floor]]:
        """Measure the wanted ratios, again while the machine is too busy to tell."""
        ratios = [ratio for ratio in self.ratios if ratio.name in set(wanted)]
        floors = self.floors if self.ratios[0] in ratios else ()
        names = dict.fromkeys([*(side for ratio in ratios for side in (ratio.base, ratio.contender)), *floors])
        with self.stage(plan) as stage:
            contenders = {name: stage.contenders[name]() for name in names}
            samples = self._measure(contenders, plan, ratios)
            stage.check()
        base = self.ratios[0].base
        return [_result(ratio, samples) for ratio in ratios], [_floor(name, base, samples) for name in floors]

    def _measure(self, contenders: Mapping[str, Contender], plan: Plan, ratios: Sequence[Ratio]) -> Samples:
        operations = plan.scaled(self.operations)
        for contender in contenders.values():
            contender.round(operations)
        attempts: list[tuple[float, int, Samples]] = []
        for _ in range(ATTEMPTS):
            samples = _rounds(contenders, plan.rounds, operations)
            attempts.append((_disagreement(samples, ratios), len(attempts), samples))
            if attempts[-1][0] <= TOLERANCE:
                break
        return min(attempts)[2]


@attrs.frozen
class Figure:
    """A figure of its own, relative to nothing.

    Attributes:
        measure: Return the figure, and in how many rounds it was found.
        base: What it tells.
    """

    name: str
    measure: Callable[[Plan], tuple[float, int]]
    unit: str
    goal: float
    base: str

    @property
    def names(self) -> tuple[str, ...]:
        """Its own name."""
        return (self.name,)

    def run(self, plan: Plan, _wanted: Iterable[str]) -> tuple[list[Result], list[Floor]]:
        """Measure it."""
        value, rounds = self.measure(plan)
        return [Result(self.name, value, self.unit, self.goal, self.base, rounds)], []


Samples = Mapping[str, Sequence[Sample]]


def _rounds(contenders: Mapping[str, Contender], rounds: int, operations: int) -> Samples:
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    names = list(contenders)
    for _ in range(rounds):
        random.shuffle(names)
        for name in names:
            samples[name].append(contenders[name].round(operations))
    return samples


def _disagreement(samples: Samples, ratios: Iterable[Ratio]) -> float:
    """Return the factor between the two halves of the rounds, for the ratio where it is largest."""
    worst = 1.0
    for ratio in ratios:
        each = _each_round(ratio, samples)
        middle = len(each) // 2
        if middle:
            halves = statistics.median(each[:middle]), statistics.median(each[middle:])
            worst = max(worst, max(halves) / min(halves))
    return worst


def _each_round(ratio: Ratio, samples: Samples) -> list[float]:
    pairs = zip(samples[ratio.contender], samples[ratio.base], strict=True)
    return [contender.wall / base.wall for contender, base in pairs]


def _result(ratio: Ratio, samples: Samples) -> Result:
    own, base = samples[ratio.contender], samples[ratio.base]
    return Result(
        ratio.name,
        statistics.median(_each_round(ratio, samples)),
        TIMES,
        ratio.goal,
        ratio.base,
        len(own),
        quartile=_lower_quartile(own) / _lower_quartile(base),
        seconds=statistics.median(sample.wall for sample in own),
        base_seconds=statistics.median(sample.wall for sample in base),
        cpu_seconds=statistics.median(sample.cpu for sample in own),
        base_cpu_seconds=statistics.median(sample.cpu for sample in base),
        disagreement=_disagreement(samples, [ratio]),
    )


def _lower_quartile(samples: Sequence[Sample]) -> float:
    return sorted(sample.wall for sample in samples)[len(samples) // 4]


def _floor(name: str, base: str, samples: Samples) -> Floor:
    return Floor(
        name,
        base,
        statistics.median(_each_round(Ratio(name, name, base, 1), samples)),
        statistics.median(sample.wall for sample in samples[name]),
    )
