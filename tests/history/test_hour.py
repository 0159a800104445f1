"""The last hour: sums of a minute, points, maxima, and that nothing grows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.history.hour import EACH, MEASURES, STEP, TICK, WHOLE, Hour, Increment, Subject, Sums, capped, merged
from sidecar.records.histogram import DURATIONS, Histogram
from sidecar.records.tally import CODES

KNOWN: dict[Subject, int] = {WHOLE: 0, ("worker", "sync1"): 0, ("pool", "sync"): 0}


def more(count: int = 10, *, status: int = 2, seconds: float = 0.02, quick: bool = True) -> Increment:
    """So many exchanges that took as long."""
    histogram = Histogram()
    for _ in range(count):
        histogram.add(seconds)
    statuses = tuple(count if index == status else 0 for index in range(len(CODES)))
    counts = tuple(histogram.counts)
    longest = seconds if quick else 0.0
    return Increment(statuses, counts if quick else (), counts, histogram.sum, seconds, longest)


def tick(hour: Hour, start: int, count: int = 1, known: dict[Subject, int] = KNOWN) -> int:
    """Let so many ticks end; the number of the next."""
    for number in range(start, start + count):
        hour.look((number + 1) * TICK, known)
    return start + count


def begun() -> Hour:
    hour = Hour()
    hour.look(0.0, KNOWN)
    return hour


def test_a_minute_of_an_endpoint() -> None:
    """All of it counts for the sidecar, the endpoint, the pool and the worker, and is forgotten after a minute."""
    hour = begun()
    hour.add("sync", "sync", "sync1", more(10, seconds=0.3))
    hour.add("sync", "sync", "", more(2, status=5, seconds=9.5))
    assert hour.minute(WHOLE).requests == 12
    now = tick(hour, 0)
    for subject in (WHOLE, ("endpoint", "sync"), ("pool", "sync")):
        sums = hour.minute(subject)
        assert (sums.requests, sums.errors, sums.slowest) == (12, 2, 9.5)
        assert sums.seconds == pytest.approx(22.0)
        assert hour.rate(subject) == 1.2
    assert hour.minute(("worker", "sync1")).requests == 10
    assert list(hour.names("endpoint")) == ["sync"]
    now = tick(hour, now, 11)
    assert hour.minute(WHOLE).requests == 12
    tick(hour, now)
    assert hour.minute(WHOLE).requests == 0
    assert list(hour.names("endpoint")) == []


def test_a_quantile_is_never_beyond_the_maximum() -> None:
    """The bucket of 10.25 s ends at 30 s, and its estimate of a p99 is 29.8 s."""
    sums = Sums()
    sums.add(more(100, seconds=10.25))
    assert sums.ended_within(0.99) == sums.byte_within(0.99) == 10.25
    assert capped(28.0, 0.0) == 28.0
    assert capped(None, 1.0) is None
    assert Sums().byte_within(0.5) is None


def test_long_polls_have_no_time_to_a_first_byte() -> None:
    """They count in all else."""
    hour = begun()
    hour.add("sync", "sync", "sync1", more(5, seconds=30.0, quick=False))
    tick(hour, 0, EACH)
    told = hour.told(10)["workers"]["sync1"]
    assert (told["rate"], told["p99"], told["slowest"]) == ([round(5 / STEP, 4)], [None], [None])
    assert hour.minute(("pool", "sync")).slowest == 30.0


def test_points() -> None:
    """One for three ticks, with the most that waited at any look; a worker that did nothing is left out."""
    hour = begun()
    hour.add("login", "sync", "sync1", more(30, status=5, seconds=0.02))
    hour.look(1.0, {**KNOWN, WHOLE: 7})
    hour.look(2.0, {**KNOWN, WHOLE: 3})
    now = tick(hour, 0, EACH)
    tick(hour, now, EACH)
    told = hour.told(60)
    assert told["seconds"] == 3600
    assert told["sidecar"] == {
        "rate": [2.0, 0.0],
        "errors": [2.0, 0.0],
        "p50": [0.0175, None],
        "p99": [0.02, None],
        "slowest": [0.02, None],
        "waiting": [7.0, 0.0],
    }
    assert list(told["workers"]) == ["sync1"]
    assert list(hour.told(1)["pools"]) == ["sync"]
    assert hour.curve(("worker", "sync1"), 30) == [2.0, 0.0]
    assert hour.curve(("worker", "sync9"), 30) == []


def test_who_is_gone_is_forgotten() -> None:
    """A worker that a reload removed has no line and no minute."""
    hour = begun()
    hour.add("sync", "sync", "sync1", more())
    now = tick(hour, 0, EACH)
    tick(hour, now, EACH, {WHOLE: 0})
    assert hour.told(10)["workers"] == hour.told(10)["pools"] == {}
    assert list(hour.names("worker")) == []


def test_an_hour_has_a_bound() -> None:
    """That of the setting, from the next point on."""
    span = [10 * STEP]
    hour = Hour(lambda: span[0])
    hour.look(0.0, KNOWN)
    now = tick(hour, 0, 40 * EACH)
    assert len(hour.whole(1000)["rate"]) == 10
    span[0] = 1.0
    tick(hour, now, EACH)
    assert len(hour.whole(1000)["rate"]) == 1


def test_a_look_that_comes_late() -> None:
    """One tick is longer; the next is not."""
    hour = begun()
    hour.look(100.0, KNOWN)
    hour.add("sync", "sync", "sync1", more())
    hour.look(104.0, KNOWN)
    assert hour.rate(WHOLE) == 0
    hour.look(105.0, KNOWN)
    assert hour.rate(WHOLE) == 1.0


@given(st.lists(st.integers(0, 99).map(float), max_size=300), st.integers(1, 80))
def test_merged_keeps_the_peaks(values: list[float], points: int) -> None:
    """Never more points than asked for, in order, and the greatest value is still there."""
    found = merged(values, points)
    assert len(found) <= points + 1
    assert max((value for value in found if value is not None), default=None) == max(values, default=None)
    if len(values) <= points:
        assert found == values


def test_merged_where_nothing_is_known() -> None:
    """Below zero is what is not known."""
    assert merged([-1.0, 2.0, -1.0, -1.0], 2) == [2.0, None]
    assert merged([], 5) == []


@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from(DURATIONS)), max_size=20))
def test_sums_add_up(parts: list[tuple[int, float]]) -> None:
    """In whatever portions it is counted."""
    sums = Sums()
    for count, seconds in parts:
        sums.add(more(count, seconds=seconds))
    assert sums.requests == sum(count for count, _ in parts)
    assert sums.slowest == max((seconds for _, seconds in parts), default=0.0)
    for part in (0.5, 0.99):
        found = sums.ended_within(part)
        assert found is None or found <= sums.slowest


def test_measures_are_those_of_a_point() -> None:
    """One value for each."""
    hour = begun()
    tick(hour, 0, EACH)
    assert tuple(hour.whole(1)) == MEASURES
