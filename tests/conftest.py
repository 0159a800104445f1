"""Hypothesis profiles: `ci` finds the same today and tomorrow, `fast` a part of it, `deep` what nobody has found yet.

And the marker `needs`, for tests in which a program takes part.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from system_programs import find

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile("ci", max_examples=200, derandomize=True, deadline=None, suppress_health_check=_SLOW)
settings.register_profile("fast", max_examples=20, derandomize=True, deadline=None, suppress_health_check=_SLOW)
settings.register_profile("deep", max_examples=50_000, deadline=None, suppress_health_check=_SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that needs a program which is not there is skipped, and says which."""
    for marker in item.iter_markers("needs"):
        absent = [program for program in marker.args if find(program) is None]
        if absent:
            pytest.skip(f"{', '.join(absent)}: not installed")
