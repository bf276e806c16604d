"""The checks every storage must pass, to be run on your own adapter.

They need the extra `orderkit[testing]`. Subclass the suite in a test module, and give it two fixtures, of any
scope: the backend, its schema created, and a function that reads all rows of a tenant from any table.
Every check works under a fresh random tenant, so one database serves them all and nothing is cleaned up.

Example:
    ```python
    import pytest

    from orderkit.storage.memory import MemoryBackend
    from orderkit.testing.conformance import StorageConformance


    class TestMemory(StorageConformance):
        @pytest.fixture(scope="module")
        def backend(self):
            backend = MemoryBackend()
            backend.create_schema()
            yield backend
            backend.close()

        @pytest.fixture(scope="module")
        def rows(self, backend):
            return backend.rows
    ```

An asynchronous backend is driven from an event loop in a thread of its own, and passes the same checks and a
few more:

Example:
    ```python
    import pytest

    from orderkit.storage.memory import AsyncMemoryBackend, MemoryBackend
    from orderkit.testing.conformance import AsyncStorageConformance, Blocking


    class TestAsyncMemory(AsyncStorageConformance):
        @pytest.fixture(scope="module")
        def memory(self):
            return MemoryBackend()

        @pytest.fixture(scope="module")
        def backend(self, memory):
            with Blocking(AsyncMemoryBackend(memory)) as backend:
                backend.create_schema()
                yield backend

        @pytest.fixture(scope="module")
        def rows(self, memory):
            return memory.rows
    ```

A storage that keeps leased operations as well, as `orderkit.idempotency.ports.KeepsOperations` says, also passes
`OperationConformance` or `AsyncOperationConformance`, which need no more than the backend.

Beyond the words of the contracts, the suite holds a storage to this: text is compared and sorted by code
point, metadata is the same JSON but not always the same text, and walking backwards from nowhere starts at
the end of the list.
"""

from __future__ import annotations

import pytest

# Before they are imported: the plain asserts of the checks shall explain themselves as those of a test module do.
pytest.register_assert_rewrite(
    *(
        f"{__name__}.{module}"
        for module in (
            "advancing",
            "base",
            "batches",
            "commits",
            "contention",
            "histories",
            "keys",
            "leases",
            "operations",
            "searching",
            "storages",
            "transactions",
        )
    )
)

from orderkit.testing.conformance.base import ReadRows  # noqa: E402 - see above
from orderkit.testing.conformance.blocking import Blocking  # noqa: E402 - see above
from orderkit.testing.conformance.leases import (  # noqa: E402 - see above
    AsyncOperationConformance,
    OperationConformance,
)
from orderkit.testing.conformance.storages import (  # noqa: E402 - see above
    AsyncStorageConformance,
    StorageConformance,
)

__all__ = [
    "AsyncOperationConformance",
    "AsyncStorageConformance",
    "Blocking",
    "OperationConformance",
    "ReadRows",
    "StorageConformance",
]
