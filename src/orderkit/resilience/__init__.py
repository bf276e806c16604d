"""Call the outside world: retries, circuit breakers, deadlines, limits, caches, for threads and event loops alike.

```python
from orderkit.resilience import AttemptTimeout, CircuitBreaker, Deadline, Operation, Policy, Retry

policy = Policy(
    Deadline(10),
    Retry(on=(ConnectionError, TimeoutError)),
    CircuitBreaker("payments"),
    AttemptTimeout(2),
    operation=Operation.KEYED,
)
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderkit.exports import lazily

if TYPE_CHECKING:
    from orderkit.errors import Rejected
    from orderkit.resilience.backoff import Backoff, read_retry_after
    from orderkit.resilience.breaker import BreakerMode, CircuitBreaker
    from orderkit.resilience.budgets import RetryBudget
    from orderkit.resilience.bulkhead import Bulkhead
    from orderkit.resilience.cache import AsyncCache, Cache, ReadThrough
    from orderkit.resilience.circuits import CircuitState
    from orderkit.resilience.deadlines import AttemptTimeout, Deadline, no_deadline, time_left
    from orderkit.resilience.events import (
        CacheAnswered,
        CallRejected,
        CircuitChanged,
        Degraded,
        EventCounter,
        EventLog,
        FallbackUsed,
        HedgeStarted,
        Listener,
        PolicyEvent,
        RetryGivenUp,
        RetryScheduled,
        TimedOut,
    )
    from orderkit.resilience.fallback import Fallback
    from orderkit.resilience.hedging import Hedge
    from orderkit.resilience.layers import InvalidPolicy
    from orderkit.resilience.operations import Operation, nothing_sent
    from orderkit.resilience.policy import Policy
    from orderkit.resilience.ratelimit import Allowance, AsyncRateLimit, RateLimit, RateStrategy
    from orderkit.resilience.redis import RedisClients, RedisConnection
    from orderkit.resilience.registry import Registry
    from orderkit.resilience.rejections import BulkheadFull, CircuitOpen, DeadlineExceeded, RateLimited
    from orderkit.resilience.retrying import Retry
    from orderkit.resilience.sharing import RedisCircuits, SharedCircuit
    from orderkit.resilience.stores import LocalStore, RedisStore
    from orderkit.resilience.tripping import ConsecutiveFailures, FailureRate, SlowCalls
    from orderkit.resilience.verdicts import Verdict

_HOMES = {
    "Allowance": "orderkit.resilience.ratelimit",
    "AsyncCache": "orderkit.resilience.cache",
    "AsyncRateLimit": "orderkit.resilience.ratelimit",
    "AttemptTimeout": "orderkit.resilience.deadlines",
    "Backoff": "orderkit.resilience.backoff",
    "BreakerMode": "orderkit.resilience.breaker",
    "Bulkhead": "orderkit.resilience.bulkhead",
    "BulkheadFull": "orderkit.resilience.rejections",
    "Cache": "orderkit.resilience.cache",
    "CacheAnswered": "orderkit.resilience.events",
    "CallRejected": "orderkit.resilience.events",
    "CircuitBreaker": "orderkit.resilience.breaker",
    "CircuitChanged": "orderkit.resilience.events",
    "CircuitOpen": "orderkit.resilience.rejections",
    "CircuitState": "orderkit.resilience.circuits",
    "ConsecutiveFailures": "orderkit.resilience.tripping",
    "Deadline": "orderkit.resilience.deadlines",
    "DeadlineExceeded": "orderkit.resilience.rejections",
    "Degraded": "orderkit.resilience.events",
    "EventCounter": "orderkit.resilience.events",
    "EventLog": "orderkit.resilience.events",
    "FailureRate": "orderkit.resilience.tripping",
    "Fallback": "orderkit.resilience.fallback",
    "FallbackUsed": "orderkit.resilience.events",
    "Hedge": "orderkit.resilience.hedging",
    "HedgeStarted": "orderkit.resilience.events",
    "InvalidPolicy": "orderkit.resilience.layers",
    "Listener": "orderkit.resilience.events",
    "LocalStore": "orderkit.resilience.stores",
    "Operation": "orderkit.resilience.operations",
    "Policy": "orderkit.resilience.policy",
    "PolicyEvent": "orderkit.resilience.events",
    "RateLimit": "orderkit.resilience.ratelimit",
    "RateLimited": "orderkit.resilience.rejections",
    "RateStrategy": "orderkit.resilience.ratelimit",
    "ReadThrough": "orderkit.resilience.cache",
    "RedisCircuits": "orderkit.resilience.sharing",
    "RedisClients": "orderkit.resilience.redis",
    "RedisConnection": "orderkit.resilience.redis",
    "RedisStore": "orderkit.resilience.stores",
    "Registry": "orderkit.resilience.registry",
    "Rejected": "orderkit.errors",
    "Retry": "orderkit.resilience.retrying",
    "RetryBudget": "orderkit.resilience.budgets",
    "RetryGivenUp": "orderkit.resilience.events",
    "RetryScheduled": "orderkit.resilience.events",
    "SharedCircuit": "orderkit.resilience.sharing",
    "SlowCalls": "orderkit.resilience.tripping",
    "TimedOut": "orderkit.resilience.events",
    "Verdict": "orderkit.resilience.verdicts",
    "no_deadline": "orderkit.resilience.deadlines",
    "nothing_sent": "orderkit.resilience.operations",
    "read_retry_after": "orderkit.resilience.backoff",
    "time_left": "orderkit.resilience.deadlines",
}

__all__ = [
    "Allowance",
    "AsyncCache",
    "AsyncRateLimit",
    "AttemptTimeout",
    "Backoff",
    "BreakerMode",
    "Bulkhead",
    "BulkheadFull",
    "Cache",
    "CacheAnswered",
    "CallRejected",
    "CircuitBreaker",
    "CircuitChanged",
    "CircuitOpen",
    "CircuitState",
    "ConsecutiveFailures",
    "Deadline",
    "DeadlineExceeded",
    "Degraded",
    "EventCounter",
    "EventLog",
    "FailureRate",
    "Fallback",
    "FallbackUsed",
    "Hedge",
    "HedgeStarted",
    "InvalidPolicy",
    "Listener",
    "LocalStore",
    "Operation",
    "Policy",
    "PolicyEvent",
    "RateLimit",
    "RateLimited",
    "RateStrategy",
    "ReadThrough",
    "RedisCircuits",
    "RedisClients",
    "RedisConnection",
    "RedisStore",
    "Registry",
    "Rejected",
    "Retry",
    "RetryBudget",
    "RetryGivenUp",
    "RetryScheduled",
    "SharedCircuit",
    "SlowCalls",
    "TimedOut",
    "Verdict",
    "no_deadline",
    "nothing_sent",
    "read_retry_after",
    "time_left",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
