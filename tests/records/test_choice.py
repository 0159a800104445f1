"""Which exchanges are told of."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from sidecar.records.choice import LogChoice


def test_everything_by_default() -> None:
    """Without settings each exchange has its line."""
    choice = LogChoice()
    assert [choice.share(endpoint, fault) for endpoint in ("sync", "login") for fault in (True, False)] == [1.0] * 4


@given(st.integers(1, 1000).map(lambda number: Fraction(number, 1000)), st.integers(1, 3000))
def test_the_part_is_exact(part: Fraction, count: int) -> None:
    """Of so many exchanges exactly that part is told of, the first among them, however rare the endpoint is."""
    choice = LogChoice(sample=float(part))
    shares = [choice.share("sync", False) for _ in range(count)]
    assert abs(sum(map(bool, shares)) - part * count) <= 1
    assert set(shares) <= {0.0, float(part)}
    assert shares[0]
    assert choice.share("login", False)


def test_faults_are_not_sampled() -> None:
    """What went wrong is always told of, and stands for itself only."""
    choice = LogChoice(sample=0.001)
    assert [choice.share("sync", True) for _ in range(5)] == [1.0] * 5
    assert LogChoice(sample=0.0).share("sync", False) == 0.0


def test_endpoints() -> None:
    """By name or glob, the first that matches; `all` knows no sampling, `faults` only those, `none` nothing."""
    choice = LogChoice(
        0.0, {"login": "all", "federation_send": "faults", "federation_*": "none", "*_filter": "sampled"}
    )
    told = {
        (endpoint, fault): choice.share(endpoint, fault)
        for endpoint in ("login", "federation_send", "federation_event", "get_filter", "sync")
        for fault in (False, True)
    }
    assert {place for place, share in told.items() if share} == {
        ("login", False),
        ("login", True),
        ("federation_send", True),
        ("get_filter", True),
        ("sync", True),
    }
