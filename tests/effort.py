"""How hard tests try: the everyday part looks at a quarter of the examples that the whole suite looks at."""

from __future__ import annotations

import os

EVERYDAY = "ORDERKIT_TEST_EVERYDAY"
"""Set in the environment while only the everyday part is run."""


def examples(usual: int) -> int:
    """Return how many examples a property is tried on instead of the usual number."""
    return max(5, usual // 4) if EVERYDAY in os.environ else usual
