"""Histograms and sums of exchanges, against the same worked out from a list of all that happened."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.metrics.histogram import DURATIONS, Histogram, total
from sidecar.metrics.tally import CODES, LONG_POLLS, Per, Tallies
from sidecar.synapse.endpoints import load_endpoints

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


class Ended(NamedTuple):
    endpoint: str
    pool: str
    worker: str
    status: int
    up: int
    down: int
    first: float
    total: float


ENDED = st.builds(
    Ended,
    st.sampled_from(["sync", "login", "media_upload"]),
    st.sampled_from(["", "sync", "main"]),
    st.sampled_from(["", "sync1", "sync2"]),
    st.sampled_from([0, 101, 200, 204, 302, 404, 502, 999]),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    SECONDS,
    SECONDS,
)


def tallied(exchanges: list[Ended]) -> Tallies:
    tallies = Tallies()
    for exchange in exchanges:
        tallies.settle(tallies.begin(exchange.endpoint), *exchange[1:])
    return tallies


@given(st.lists(ENDED), st.sampled_from(Per))
def test_sums(exchanges: list[Ended], per: Per) -> None:
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
        assert cell.bytes_up == sum(each.up for each in own)
        assert cell.bytes_down == sum(each.down for each in own)
        assert cell.total.counts == histogram(*(each.total for each in own)).counts
        assert cell.first_byte.counts == histogram(*(each.first for each in own if each.first)).counts


@given(st.lists(ENDED))
def test_workers(exchanges: list[Ended]) -> None:
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
def test_names_that_are_gone(exchanges: list[Ended]) -> None:
    """A pool that is not configured any more is forgotten; a worker's part stays in the sum of its pool."""
    tallies = tallied(exchanges)
    before = tallies.sums(Per.ENDPOINT)
    tallies.keep({"sync"}, {"sync1"})
    after = tallies.sums(Per.ENDPOINT)
    assert {place: cell.statuses for place, cell in after.items()} == {
        place: cell.statuses for place, cell in before.items() if place[1] in ("", "sync")
    }
    assert {worker for worker, _ in tallies.sums(Per.WORKER)} <= {"", "sync1"}
    for exchange in exchanges:
        tallies.settle(tallies.begin(exchange.endpoint), *exchange[1:])
    assert all(tally.begun == tally.ended for tally in tallies.endpoints.values())


def test_failures() -> None:
    """By pool and reason, and forgotten with the pool; what belongs to no pool stays."""
    tallies = Tallies()
    for pool, reason in (("sync", "worker_cut"), ("sync", "worker_cut"), ("main", "client_gone"), ("", "malformed")):
        tallies.failed(pool, reason)
    assert tallies.failures == {("sync", "worker_cut"): 2, ("main", "client_gone"): 1, ("", "malformed"): 1}
    tallies.keep({"sync"}, ())
    assert tallies.failures == {("sync", "worker_cut"): 2, ("", "malformed"): 1}


def test_what_is_rare() -> None:
    """Retries and moved keys are added to the cell of the exchange, and summed like everything else."""
    tallies = Tallies()
    for worker, retries in (("sync1", 2), ("sync2", 1)):
        cell = tallies.settle(tallies.begin("sync"), "sync", worker, 200, 1, 1, 0.1, 0.2)
        cell.retries += retries
        cell.moved += 1
    (everything,) = tallies.sums(Per.ENDPOINT).values()
    assert (everything.retries, everything.moved) == (3, 2)


def test_what_runs() -> None:
    """An exchange runs from its beginning to its end, whatever is forgotten between."""
    tallies = Tallies()
    first, second = tallies.begin("sync"), tallies.begin("sync")
    assert first is second
    tallies.keep((), ())
    tallies.settle(first, "sync", "sync1", 200, 1, 1, 0.1, 0.2)
    assert (first.begun, first.ended) == (2, 1)


def test_long_polls_are_endpoints_of_the_table() -> None:
    """A name that the table does not have would let long polls count as slow answers."""
    assert {endpoint.name for endpoint in load_endpoints(None).endpoints} >= LONG_POLLS


def test_bounds() -> None:
    """They increase, and a duration in the middle of a bucket is told within a factor."""
    assert list(DURATIONS) == sorted(set(DURATIONS))
    assert max(after / before for before, after in itertools.pairwise(DURATIONS)) <= 5
    assert statistics.median(DURATIONS) < 1
