"""Orders kept in memory: a storage for tests and small scripts, gone with the process.

It keeps the whole contract, and nothing ever waits: where a database would make one transaction wait for
another, the later one to end is refused with `VersionConflict` or `StorageBusy` and may be repeated.
"""

from __future__ import annotations

from orderkit.storage.memory.backend import AsyncMemoryBackend, MemoryBackend, MemoryStorage

__all__ = ["AsyncMemoryBackend", "MemoryBackend", "MemoryStorage"]
