"""Histograms and sums of exchanges, against the same worked out from a list of all that happened."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from noted import noted

from sidecar.records.histogram import DURATIONS, Histogram, total
from sidecar.records.record import DONE, NO_ENDPOINT, Record
from sidecar.records.tally import CODES, LONG_POLLS, Per, Tallies
from sidecar.synapse.endpoint_rows import load_endpoints

SECONDS = st.one_of(st.floats(0, 1000), st.sampled_from(DURATIONS))


def histogram(*seconds: float) -> Histogram:
    made = Histogram()
    for each in seconds:
        made.add(each)
    return made


@given(st.lists(SECONDS))
def test_buckets_hold_what_is_not_longer(seconds: list[float]) -> None:
    """Prometheus counts in each bucket all that is at most its bound, and in the last one everything."""
    made = histogram(*seconds)
    assert made.cumulative() == [*(sum(each <= bound for each in seconds) for bound in DURATIONS), len(seconds)]
    assert made.count == len(seconds)
    assert made.sum == pytest.approx(sum(seconds))


@given(st.lists(SECONDS, min_size=1), st.floats(0, 1))
def test_quantiles_are_in_the_bucket_of_the_true_one(seconds: list[float], part: float) -> None:
    """No estimate from buckets can be nearer."""
    estimate = histogram(*seconds).quantile(part)
    assert estimate is not None
    rank = max(1, -int(-part * len(seconds) // 1))
    true = sorted(seconds)[rank - 1]
    below = max((bound for bound in DURATIONS if bound < true), default=0.0)
    above = min((bound for bound in DURATIONS if bound >= true), default=DURATIONS[-1])
    assert min(below, above) <= estimate + 1e-9
    assert estimate <= above + 1e-9


def test_quantiles_of_what_is_spread_evenly() -> None:
    """Within a bucket the estimate is a straight line, as Prometheus' histogram_quantile has it."""
    made = histogram(*(0.1 + 0.15 * number / 100 for number in range(1, 101)))
    assert made.quantile(0.5) == pytest.approx(0.175, abs=0.002)
    assert made.quantile(0.99) == pytest.approx(0.2485, abs=0.002)
    assert Histogram().quantile(0.5) is None
    assert histogram(400.0).quantile(0.5) == DURATIONS[-1]


@given(st.lists(SECONDS), st.lists(SECONDS))
def test_what_was_added_since(before: list[float], after: list[float]) -> None:
    """Two states of one histogram give that of the time between."""
    made = histogram(*before)
    then = made.copy()
    for each in after:
        made.add(each)
    assert made.since(then).counts == histogram(*after).counts
    assert made.since(then).sum == pytest.approx(sum(after), abs=1e-6)
    assert total([then, made.since(then)]).counts == made.counts


ENDED = st.builds(
    noted,
    endpoint=st.sampled_from(["sync", "login", "media_upload"]),
    pool=st.sampled_from(["", "sync", "main"]),
    worker=st.sampled_from(["", "sync1", "sync2"]),
    status=st.sampled_from([0, 101, 200, 204, 302, 404, 502, 999]),
    bytes_up=st.integers(0, 10**6),
    bytes_down=st.integers(0, 10**6),
    first_byte=SECONDS,
    began=st.just(0.0),
    ended=SECONDS,
    attempts=st.integers(0, 3),
    moved=st.booleans(),
    ending=st.sampled_from([DONE, "worker_cut", "refuse"]),
)


def settle(tallies: Tallies, *records: Record) -> Tallies:
    tallies.settle(records)
    return tallies


def tallied(exchanges: list[Record]) -> Tallies:
    return settle(Tallies(), *exchanges)


@given(st.lists(ENDED), st.sampled_from(Per))
def test_sums(exchanges: list[Record], per: Per) -> None:
    """Whatever they are added up by, nothing is lost and nothing counts twice."""
    sums = tallied(exchanges).sums(per)
    names = ("endpoint", "pool") if per is Per.ENDPOINT else ("worker", "pool")
    assert per.value == names
    places = {(getattr(each, names[0]), getattr(each, names[1])) for each in exchanges}
    assert set(sums) == places
    for place, cell in sums.items():
        own = [each for each in exchanges if (getattr(each, names[0]), getattr(each, names[1])) == place]
        classes = Counter("none" if not each.status else f"{each.status // 100}xx" for each in own)
        assert {code: count for code, count in zip(CODES, cell.statuses, strict=True) if count} == classes
        assert cell.requests == len(own)
        for name in ("bytes_up", "bytes_down", "moved"):
            assert getattr(cell, name) == sum(getattr(each, name) for each in own)
        assert cell.retries == sum(max(0, each.attempts - 1) for each in own)
        assert cell.total.counts == histogram(*(each.ended for each in own)).counts
        assert cell.first_byte.counts == histogram(*(each.first_byte for each in own if each.first_byte)).counts


@given(st.lists(ENDED))
def test_workers(exchanges: list[Record]) -> None:
    """What each worker did, long polls left out where they are not wanted."""
    tallies = tallied(exchanges)
    everything = tallies.workers()
    assert {name: cell.requests for name, cell in everything.items()} == Counter(
        each.worker for each in exchanges if each.worker
    )
    others = [each for each in exchanges if each.worker and each.endpoint not in LONG_POLLS]
    assert {name: cell.requests for name, cell in tallies.workers(LONG_POLLS).items()} == Counter(
        each.worker for each in others
    )
    for cell in everything.values():
        before = cell.copy()
        cell.add(before)
        assert cell.requests == 2 * before.requests


@given(st.lists(ENDED))
def test_names_that_are_gone(exchanges: list[Record]) -> None:
    """A pool that is not configured any more is forgotten; a worker's part stays in the sum of its pool."""
    tallies = tallied(exchanges)
    before = tallies.sums(Per.ENDPOINT)
    tallies.keep({"sync"}, {"sync1"})
    after = tallies.sums(Per.ENDPOINT)
    assert {place: cell.statuses for place, cell in after.items()} == {
        place: cell.statuses for place, cell in before.items() if place[1] in ("", "sync")
    }
    assert {worker for worker, _ in tallies.sums(Per.WORKER)} <= {"", "sync1"}
    settle(tallies, *exchanges)
    for place, cell in tallies.cells.items():
        assert cell.requests >= sum((each.endpoint, each.pool, each.worker) == place for each in exchanges)


def test_failures() -> None:
    """By pool and reason, and forgotten with the pool; what belongs to no pool stays, and is no exchange."""
    failures = [noted(ending="worker_cut", status=502), noted(ending="client_gone", pool="main"), noted()]
    tallies = settle(Tallies(), *failures, failures[0])
    tallies.settle([noted(endpoint=NO_ENDPOINT, pool="", worker="", status=400, ending="malformed")])
    assert {place: cell.requests for place, cell in tallies.cells.items()} == {
        ("sync", "sync", "sync1"): 3,
        ("sync", "main", "sync1"): 1,
    }
    assert tallies.failures == {("sync", "worker_cut"): 2, ("main", "client_gone"): 1, ("", "malformed"): 1}
    tallies.keep({"sync"}, ())
    assert tallies.failures == {("sync", "worker_cut"): 2, ("", "malformed"): 1}


def test_long_polls_are_endpoints_of_the_table() -> None:
    """A name that the table does not have would let long polls count as slow answers."""
    assert {endpoint.name for endpoint in load_endpoints(None).endpoints} >= LONG_POLLS


def test_bounds() -> None:
    """They increase, and a duration in the middle of a bucket is told within a factor."""
    assert list(DURATIONS) == sorted(set(DURATIONS))
    assert max(after / before for before, after in itertools.pairwise(DURATIONS)) <= 5
    assert statistics.median(DURATIONS) < 1
