"""HTTP: transports that make the application's own client resilient, and what idempotency means to HTTP.

`orderkit.http.httpx` and `orderkit.http.httpx2` are for the library of their name and load it; nothing else here does.
What their transports promise is the same:

- Each origin has a circuit breaker, a retry budget, a rate limit and a bulkhead of its own. What the breaker that was
  given is switched to holds for all of them, and `policies` are those in use.
- A request says itself whether it may be repeated: by its method, and by its `Idempotency-Key`. With which operation
  the policy was built makes no difference, and a hedge is left out for whatever is no read.
- A response that stands for a failure counts as one and is retried, whatever else the retry is for. In the end it is
  returned as any other. Classifiers and fallbacks meet it as the library's `HTTPStatusError`.
- It gives its connection back before the next attempt; up to 64 KiB of its body are read ahead.
- A body of a request is sent again only if it is held as bytes.
- Deadlines and attempt time-outs bound the body of the response as well, and lower the time-outs of the client. A
  thread ends with what it waits for when the time is over: with the next part of a body, or with the headers.
- The breaker judges a response by its headers. A body that breaks off is neither a failure to it nor retried.
- What a policy raises is an error of the library, too: `except httpx.TransportError` finds an open circuit.
"""

from __future__ import annotations
