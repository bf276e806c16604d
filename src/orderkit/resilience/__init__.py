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

from orderkit.errors import BulkheadFull, CircuitOpen, DeadlineExceeded, RateLimited, Rejected
from orderkit.resilience.backoff import Backoff, read_retry_after
from orderkit.resilience.breaker import BreakerMode, CircuitBreaker, CircuitState, Verdict
from orderkit.resilience.budgets import RetryBudget
from orderkit.resilience.bulkhead import Bulkhead
from orderkit.resilience.cache import AsyncCache, Cache, ReadThrough
from orderkit.resilience.deadlines import AttemptTimeout, Deadline, time_left
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
from orderkit.resilience.retrying import Retry
from orderkit.resilience.sharing import RedisCircuits, SharedCircuit
from orderkit.resilience.stores import LocalStore, RedisStore
from orderkit.resilience.tripping import ConsecutiveFailures, FailureRate, SlowCalls

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
    "nothing_sent",
    "read_retry_after",
    "time_left",
]
