"""Whoever fails several times in a row is left alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.synapse.backoff import Backoff


def backoff(names: int = 3) -> Backoff:
    return Backoff(allowed=2, first=1.0, longest=8.0, names=names)


def test_a_few_failures_have_no_consequence() -> None:
    """And a success wipes them out."""
    known = backoff()
    for _ in range(5):
        known.failed("a", 0.0)
        known.failed("a", 0.0)
        assert not known.rests("a", 0.0)
        assert not known.failing("a")
        known.succeeded("a")
    assert len(known) == 0


def test_each_rest_is_twice_as_long_as_the_last() -> None:
    """Up to the longest; one failure after a rest begins the next one, and failures within it count for nothing."""
    known = backoff()
    now, rests = 0.0, []
    for _ in range(2):
        known.failed("a", now)
    for _ in range(6):
        known.failed("a", now)
        known.failed("a", now)
        assert known.rests("a", now)
        assert known.failing("a")
        length = next(tenth for tenth in range(1, 1000) if not known.rests("a", now + tenth / 10)) / 10
        rests.append(length)
        now += length
        assert known.failing("a")
    assert rests == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    known.succeeded("a")
    assert not known.failing("a")


def test_names_are_kept_apart() -> None:
    """One name's failures are not another's."""
    known = backoff()
    for _ in range(3):
        known.failed("a", 0.0)
    assert known.rests("a", 0.5)
    assert not known.rests("b", 0.5)


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=100))
def test_names_are_bounded(events: list[tuple[int, bool]]) -> None:
    """However many there are, only the last ones are remembered."""
    known = backoff(names=4)
    for time, (name, fails) in enumerate(events):
        known.failed(str(name), float(time)) if fails else known.succeeded(str(name))
        assert len(known) <= 4
    for _ in range(100):
        known.failed("last", 1e6)
    assert known.rests("last", 1e6 + 0.5)
