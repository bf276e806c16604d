"""HTTP: transports that make the application's own client resilient, and what idempotency means to HTTP.

`orderkit.http.httpx` and `orderkit.http.httpx2` are for the library of their name and load it; nothing else here does.
"""

from __future__ import annotations
