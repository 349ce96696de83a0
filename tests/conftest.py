"""What all tests share: on a busy machine slow is no failure, so Hypothesis measures no time."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("nullworker", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("nullworker")
