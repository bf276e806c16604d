from __future__ import annotations

import pytest

from tests.unit.resilience.worlds import AsyncWorld, World


@pytest.fixture(params=[World, AsyncWorld], ids=["sync", "async"])
def world(request: pytest.FixtureRequest) -> World:
    """Threads, or event loops."""
    made: World = request.param()
    return made
