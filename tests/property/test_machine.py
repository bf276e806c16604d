"""Random histories on every storage: what always holds, holds after each step."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from orderkit.testing.machine import OrderMachine

RANDOM = settings(max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))


class TestMemory(OrderMachine.TestCase):
    settings = RANDOM
