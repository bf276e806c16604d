"""What type checkers see of policies. Checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import assert_type

from orderkit.resilience import (
    CircuitBreaker,
    CircuitOpen,
    Deadline,
    Fallback,
    Operation,
    Policy,
    Registry,
    Retry,
    Verdict,
    read_retry_after,
    time_left,
)
from orderkit.testing.faults import Answer, Delay, Faults, LoseResult
from orderkit.testing.resilience import Observed, assert_policy, resilience

policy = Policy(
    Deadline(10), Retry(on=(ConnectionError, TimeoutError)), CircuitBreaker("psp"), operation=Operation.SAFE
)


@policy
def charge(order: str, *, cents: int = 0) -> bool:
    return bool(order) and cents > 0


@policy
async def charge_asynchronously(order: str, *, cents: int = 0) -> bool:
    return bool(order) and cents > 0


def plain(order: str, *, cents: int = 0) -> bool:
    return bool(order) and cents > 0


async def plain_asynchronously(order: str) -> bytes:
    return order.encode()


class Client:
    @policy
    def get(self, path: str) -> bytes:
        return path.encode()

    @policy
    async def get_asynchronously(self, path: str) -> bytes:
        return path.encode()


def synchronous() -> None:
    assert_type(charge("o-1", cents=5), bool)
    assert_type(policy.call(plain, "o-1", cents=5), bool)
    assert_type(policy.call(round, 2.6), int)
    assert_type(policy.call(lambda: "text"), str)
    assert_type(Client().get("/"), bytes)
    as_before: Callable[[str], bool] = charge
    assert_type(as_before("o-1"), bool)
    with policy as nothing:
        assert_type(nothing, None)


async def asynchronous() -> None:
    assert_type(await charge_asynchronously("o-1", cents=5), bool)
    assert_type(await policy.call(plain_asynchronously, "o-1"), bytes)
    assert_type(await Client().get_asynchronously("/"), bytes)
    to_await: Callable[[str], Awaitable[bool]] = charge_asynchronously
    assert_type(await to_await("o-1"), bool)
    async with policy as nothing:
        assert_type(nothing, None)


def others() -> None:
    assert_type(time_left(), float | None)
    assert_type(read_retry_after("120"), float | None)
    assert_type(Registry(CircuitBreaker).get("host"), CircuitBreaker)
    assert_type(Registry(lambda name: Policy(CircuitBreaker(name))).get("host"), Policy)
    assert_type(policy.declared(Operation.KEYED).for_target("eu"), Policy)
    Fallback(lambda error: str(error.args), on=CircuitOpen)
    Retry(on=lambda error: bool(error.args))
    CircuitBreaker("psp", classify=lambda error: Verdict.IGNORED if error.args else Verdict.FAILURE)


def testing() -> None:
    faults = Faults(ConnectionError, Delay(3), LoseResult(), Answer(3), policy="psp")
    with resilience(faults, attempts_cap=2, seed=7) as observed:
        assert_type(observed, Observed)
        assert_type(observed.waits, list[float])
    assert_policy(policy, operation=Operation.SAFE, retry={"attempts": 3}, fallback=None, order=["deadline"])


def mistakes_are_seen() -> None:
    """Each ignored error below is one: the checkers report an ignore that nothing needs."""
    charge()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # an order is required
    charge("o-1", cents="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # no number
    charge("o-1", euros=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # no such argument
    policy.call(plain)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # an order is required
    policy.call(plain, 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # no text
    Policy("retry")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # no layer
    Policy(operation="safe")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # none of `Operation`
    Retry(on=KeyboardInterrupt)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # no failure of a call
    Retry(ConnectionError)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # by keyword only
    Deadline("10")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # no number
    Registry(str)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]  # neither breakers nor policies
