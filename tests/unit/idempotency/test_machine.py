"""Random operations, done by processes that die at random: what always holds, holds after each step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from orderkit import Found, IdempotentOperation, Line, Money, OnUnknown, OperationRun, OrderKit
from orderkit.errors import IdempotencyInFlight, LeaseLost, StorageUnavailable
from orderkit.idempotency.operations import OutcomeUnknown, foreign_key
from orderkit.kit.assembly import assemble
from orderkit.orders.tables import ORDERS, OrderRow
from orderkit.storage.memory import MemoryBackend
from orderkit.storage.memory.backend import MemoryStorage
from orderkit.testing.clock import ManualClock
from orderkit.unit_of_work.changes import KeyReference
from tests.effort import examples

LEASE = 60
TEA = (Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR")),)

KEYS = ("a", "b", "c")
STEPS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "a": (("call", "retried"), ("commit", "order"), ("call", "held")),
    "b": (("commit", "order"), ("call", "held"), ("call", "retried")),
    "c": (("call", "held"), ("call", "retried"), ("commit", "order"), ("commit", "order-2")),
}
"""What is done under each key: foreign calls, one of them to be held if its outcome is unknown, and orders."""


class Declined(Exception):
    pass


class Interrupted(BaseException):
    """What a cancellation is to the work."""


class Mortal(MemoryBackend):
    """A view of rows that are kept elsewhere, of a process that dies before or after it has used them so often."""

    def __init__(self, rows: MemoryBackend, moment: int) -> None:
        self._rows = rows
        self._left = moment

    @property
    def dead(self) -> bool:
        return self._left <= 0

    def _live(self) -> None:
        self._left -= 1
        if self.dead:
            raise StorageUnavailable("The process is dead.")

    @contextmanager
    def connect(self, *, transaction: bool = False) -> Generator[MemoryStorage]:
        self._live()
        with self._rows.connect(transaction=transaction) as storage:
            yield storage
        self._live()


def answered(attempt: Callable[[], Any]) -> tuple[str, Any]:
    """Return what an attempt has led to: an answer, an error that is one, or nothing that would stay."""
    try:
        return "answer", attempt()
    except Declined as error:
        return "declined", str(error)
    except (StorageUnavailable, TimeoutError, ConnectionError, LeaseLost, Interrupted) as error:
        return "failed", type(error)
    except (OutcomeUnknown, IdempotencyInFlight) as error:
        return "waiting", type(error)


@attrs.define
class World:
    """The other side, and what it has seen."""

    arrivals: Counter[str] = attrs.Factory(Counter)
    effects: dict[str, int] = attrs.Factory(dict)

    def do(self, key: str, fate: str) -> int:
        if fate == "unsent":
            raise ConnectionRefusedError
        self.arrivals[key] += 1
        if fate == "interrupted before":
            raise Interrupted
        if fate == "declined" and key not in self.effects:
            raise Declined(f"declined {key}")
        number = self.effects.setdefault(key, len(self.effects))
        if fate == "lost":
            raise TimeoutError
        if fate == "interrupted after":
            raise Interrupted
        return number


FATES = ("done", "done", "done", "lost", "unsent", "declined", "interrupted before", "interrupted after")

fates = st.fixed_dictionaries({name: st.sampled_from(FATES) for name in ("retried", "held")})
moments = st.one_of(st.just(10_000), st.integers(1, 30))


class OperationMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.rows = MemoryBackend()
        self.world = World()
        self.answers: dict[str, tuple[str, Any]] = {}
        self.running = True

    def operation(self, chosen: Mapping[str, str], process: Mortal) -> IdempotentOperation[Any]:
        def call(name: str) -> Callable[[str], int]:
            def called(key: str) -> int:
                assert not process.dead
                return self.world.do(key, chosen[name])

            return called

        def work(run: OperationRun) -> Any:
            given: list[Any] = []
            for kind, name in STEPS[run.key]:
                if kind == "commit":
                    given.append(run.commit(name, lambda tx: tx.orders.place(lines=TEA).id))
                else:
                    held = OnUnknown.HOLD if name == "held" else OnUnknown.RETRY
                    given.append(run.call(name, call(name), on_unknown=held))
            return given

        return IdempotentOperation("work", work, final=(Declined,))

    def kit(self, process: Mortal) -> OrderKit:
        return OrderKit(process, assemble("memory://", {"clock": self.clock}))

    @rule(key=st.sampled_from(KEYS), chosen=fates, moment=moments)
    def run(self, key: str, chosen: Mapping[str, str], moment: int) -> None:
        """A process does an operation, or dies on the way."""
        process = Mortal(self.rows, moment)
        before = Counter(self.world.arrivals)
        operations = self.kit(process).operations
        kind, value = answered(lambda: operations.run(self.operation(chosen, process), key=key))
        if key in self.answers and kind != "failed":
            assert (kind, value) == self.answers[key]
        if key in self.answers:
            assert self.world.arrivals == before, "what has its answer is done again"
        if kind in {"answer", "declined"}:
            self.answers[key] = kind, value

    @rule(chosen=fates, moment=moments, grace=st.sampled_from([0.0, 300.0]))
    def resume(self, chosen: Mapping[str, str], moment: int, grace: float) -> None:
        """A process looks after what was left behind."""
        process = Mortal(self.rows, moment)
        answered(lambda: self.kit(process).operations.resume(self.operation(chosen, process), grace=grace))

    @rule(seconds=st.sampled_from([1, LEASE + 1, 400]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(key=st.sampled_from(KEYS))
    def settle(self, key: str) -> None:
        """Somebody looks up what is unknown at the other side, and says what came of it."""
        process = Mortal(self.rows, 10_000)
        operations, operation = self.kit(process).operations, self.operation({}, process)
        report = operations.report(operation, key=key)
        if report is None or not report.lapsed:
            return
        for step in report.unknown:
            number = self.world.effects.setdefault(self.foreign(key, step), len(self.world.effects))
            operations.settle(operation, key=key, step=step, outcome=Found(number))

    @precondition(lambda self: not self.answers.keys() >= set(KEYS))
    @rule()
    def finish(self) -> None:
        """With nothing in the way, everything comes to its end."""
        self.clock.advance(LEASE + 1)
        done = {"retried": "done", "held": "done"}
        for key in KEYS:
            self.settle(key)
            self.run(key, done, 10_000)
            assert key in self.answers

    def foreign(self, key: str, step: str) -> str:
        return foreign_key(KeyReference("default", "work", key), step)

    @invariant()
    def what_is_held_is_made_once(self) -> None:
        for key in KEYS:
            assert self.world.arrivals[self.foreign(key, "held")] <= 1

    @invariant()
    def what_is_answered_is_done(self) -> None:
        orders = {OrderRow._make(row).id for row in self.rows.rows(ORDERS, "default")}
        known: set[str] = set()
        for key, (kind, value) in self.answers.items():
            if kind != "answer":
                continue
            for (what, name), given in zip(STEPS[key], value, strict=True):
                if what == "commit":
                    known.add(given)
                else:
                    assert self.world.effects[self.foreign(key, name)] == given
        assert known <= orders
        most = sum(kind == "commit" for steps in STEPS.values() for kind, _ in steps)
        assert len(orders) <= most
        if len(self.answers) == len(KEYS) and all(kind == "answer" for kind, _ in self.answers.values()):
            assert orders == known


def test_random_histories() -> None:
    patient = settings(
        deadline=None, max_examples=examples(60), stateful_step_count=25, suppress_health_check=[HealthCheck.too_slow]
    )
    run_state_machine_as_test(OperationMachine, settings=patient)
