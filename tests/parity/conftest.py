"""Each system is measured once, for all tests that look at it."""

from __future__ import annotations

import pytest

from .measuring import Findings, find_out
from .systems import SYSTEMS, System, find

_KNOWN: dict[str, Findings] = {}


def findings_of(system: System) -> Findings:
    """What was found about a system; skips the test, with the reason, where its program is absent."""
    if find(system.program) is None:
        pytest.skip(f"{system.program} is not installed")
    if system.name not in _KNOWN:
        _KNOWN[system.name] = find_out(system)
    return _KNOWN[system.name]


@pytest.fixture(params=SYSTEMS, ids=lambda system: system.name)
def findings(request: pytest.FixtureRequest) -> Findings:
    return findings_of(request.param)


@pytest.fixture
def all_findings() -> list[Findings]:
    return [findings_of(system) for system in SYSTEMS]
