"""The limit of open files bounds the client connections (F-15)."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import pytest

from sidecar.entrance.descriptors import KEPT, RESERVE, connection_ceiling, descriptors_left


@pytest.fixture
def limits() -> Iterator[None]:
    """Gives the process its soft limit back."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("limits")
def test_the_soft_limit_is_raised_as_far_as_needed() -> None:
    """A ceiling that the hard limit allows is had by raising the soft one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = (min(hard, 100_000) - RESERVE) // 2 if hard > 0 else 1000
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    assert connection_ceiling(wanted) == wanted
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == 2 * wanted + RESERVE


@pytest.mark.usefixtures("limits")
def test_a_limit_that_is_enough_stays() -> None:
    """Nothing is changed without need."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert connection_ceiling(1) == 1
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def test_beyond_the_hard_limit_the_ceiling_is_lower() -> None:
    """Two descriptors for each client and a reserve must fit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        assert connection_ceiling(10**9) == 10**9
    else:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            assert connection_ceiling(hard) == (hard - RESERVE) // 2
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("limits")
def test_how_many_are_left() -> None:
    """Some are kept for ourselves; without a limit there are plenty, and without any there are none."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1000, hard))
    assert descriptors_left(0) == 1000 - KEPT
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    assert descriptors_left(0) == 0


def test_no_limit_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is counted where nothing is limited."""
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert descriptors_left(0) > 1_000_000
