"""What happened in the last minute, from totals of other moments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from noted import noted

from sidecar.admin.recent import Recent
from sidecar.history.hour import WHOLE, Subject
from sidecar.records.tally import Tallies

WORKERS = {"a", "b"}


class Minute:
    """Totals that a test adds to, looked at every second."""

    def __init__(self) -> None:
        self.recent = Recent({"sync"})
        self.tallies = Tallies()
        self.counters: dict[str, object] = {"requests": 0, "misroutes": {}}
        self.now = 1000.0
        self.workers = set(WORKERS)

    def settle(self, worker: str, status: int = 200, endpoint: str = "x", first: float = 0.004) -> None:
        more = {"status": status, "first_byte": first, "began": 0.0, "ended": first}
        self.tallies.settle([noted(endpoint=endpoint, pool="pool", worker=worker, **more)])
        self.counters["requests"] += 1  # type: ignore[operator]

    def look(self, seconds: float = 1.0) -> None:
        self.now += seconds
        self.recent.look(self.now, self.tallies, dict(self.counters), self.workers)
        known: dict[Subject, int] = {("worker", name): 0 for name in self.workers}
        self.recent.hour.look(self.now, {WHOLE: 0, ("pool", "pool"): 0, **known})


def test_before_there_are_two_looks() -> None:
    """Nothing is known, and that is said."""
    minute = Minute()
    assert minute.recent.worker("a")["requests_per_second"] is None
    assert minute.recent.whole()["per_second"] == {}
    minute.look()
    assert minute.recent.worker("a") == {
        "requests_per_second": None,
        "errors": 0,
        "p50": None,
        "p99": None,
        "slowest": None,
        "curve": [],
    }


def test_rates_errors_and_quantiles() -> None:
    """Rates are of ten seconds, errors and quantiles of a minute, and what was before does not count."""
    minute = Minute()
    for _ in range(7):
        minute.settle("a", 500, first=20.0)
    minute.look()
    for second in range(60):
        for _ in range(3 if second >= 50 else 1):
            minute.settle("a", first=0.004)
        minute.settle("b", 502 if second == 5 else 200, first=0.2)
        minute.look()
    told = minute.recent.worker("a")
    assert told["requests_per_second"] == 3.0
    assert told["errors"] == 0
    assert 0.0025 < told["p50"] < 0.005
    assert told["p99"] <= 0.005
    assert told["curve"] == [1.0] * 20 + [3.0] * 10
    assert minute.recent.worker("b")["errors"] == 1
    assert minute.recent.whole()["per_second"]["requests"] == 4.0
    assert minute.recent.whole()["more"]["requests"] == 140
    assert minute.recent.whole()["seconds"] == 60.0
    for _ in range(60):
        minute.look()
    assert minute.recent.worker("b") == {
        "requests_per_second": 0.0,
        "errors": 0,
        "p50": None,
        "p99": None,
        "slowest": None,
        "curve": [0.0] * 30,
        "hour": [1.0] * 4 + [0.0] * 4,
    }


def test_long_polls_say_nothing_of_time() -> None:
    """They count as requests and as errors, and their duration does not count."""
    minute = Minute()
    minute.look()
    minute.settle("a", endpoint="sync", first=30.0)
    minute.settle("a", 500, endpoint="sync", first=30.0)
    minute.look()
    told = minute.recent.worker("a")
    assert (told["requests_per_second"], told["errors"], told["p99"]) == (2.0, 1, None)
    minute.settle("a", first=0.1)
    minute.look()
    assert minute.recent.worker("a")["p99"] <= 0.1


def test_a_worker_goes_and_comes_back() -> None:
    """A reload that removes a worker forgets it; one of the same name begins at nothing."""
    minute = Minute()
    minute.settle("a")
    minute.look()
    minute.workers = {"b"}
    minute.tallies.keep({"pool"}, minute.workers)
    minute.settle("b")
    minute.look()
    assert minute.recent.worker("a")["requests_per_second"] == 0.0
    minute.workers = set(WORKERS)
    minute.settle("a")
    minute.look(11.0)
    minute.settle("a")
    minute.look()
    assert minute.recent.worker("a")["requests_per_second"] == 1.0


def test_misroutes() -> None:
    """When the last of each kind was seen."""
    minute = Minute()
    minute.look()
    assert minute.recent.misrouted("x", "a") is None
    minute.counters["misroutes"] = {("x", "a"): 1}
    minute.look()
    minute.counters["misroutes"] = {("x", "a"): 1, ("x", "b"): 1}
    minute.look(5.0)
    assert minute.recent.misrouted("x", "a") == 5.0
    assert minute.recent.misrouted("x", "b") == 0.0
    minute.counters["misroutes"] = {("x", "a"): 2, ("x", "b"): 1}
    minute.look(5.0)
    assert minute.recent.misrouted("x", "a") == 0.0


def test_failures() -> None:
    """Only those of the last minute, by pool and reason, in words; none that a client ended or a route wanted."""
    minute = Minute()
    minute.tallies.failed("sync", "worker_cut")
    minute.look()
    assert minute.recent.whole()["failures"] == []
    for pool, reason in (("sync", "worker_cut"), ("sync", "client_gone"), ("", "malformed"), ("x", "respond")):
        minute.tallies.failed(pool, reason)
    minute.look()
    failures = minute.recent.whole()["failures"]
    assert [(each["pool"], each["reason"], each["count"]) for each in failures] == [
        ("sync", "worker_cut", 1),
        ("", "malformed", 1),
    ]
    assert [each["told"] for each in failures] == [
        "the process that serves this request closed the connection without an answer",
        "what the client sent is no request, or none that is taken",
    ]


STEPS = st.lists(
    st.tuples(st.sampled_from(["a", "b", ""]), st.sampled_from(["x", "sync", "y"]), st.sampled_from([200, 404, 500, 0]))
    | st.just(None),
    max_size=60,
)


@given(STEPS)
def test_it_adds_up(steps: list[tuple[str, str, int] | None]) -> None:
    """Whatever happens between two looks, the sums are those of the tallies."""
    minute = Minute()
    minute.look()
    before = {name: minute.recent.worker(name) for name in WORKERS}
    assert before["a"]["errors"] == 0
    for step in steps:
        if step is None:
            minute.look(0.1)
        else:
            minute.settle(step[0], step[2], step[1])
    minute.look()
    for name in WORKERS:
        cell = minute.tallies.workers().get(name)
        assert minute.recent.worker(name)["errors"] == (cell.statuses[5] if cell else 0)
        rate = minute.recent.worker(name)["requests_per_second"]
        seconds = minute.now - 1001.0
        assert rate == pytest.approx((cell.requests if cell else 0) / seconds, abs=0.06)


def test_the_slowest_is_known_and_no_quantile_is_beyond_it() -> None:
    """A p99 of 28 s for a slowest answer of 10.25 s is a bucket; after a minute both are forgotten."""
    minute = Minute()
    minute.look()
    for _ in range(200):
        minute.settle("a", first=10.25)
    minute.look()
    told = minute.recent.worker("a")
    assert (told["p99"], told["slowest"]) == (10.2, 10.2)
    endpoint = minute.recent.endpoints()["x"]
    assert (endpoint["requests"], endpoint["p99"], endpoint["slowest"]) == (200, 10.2, 10.2)
    assert endpoint["seconds"] == 2050.0
    assert minute.recent.whole()["statuses"] == {"2xx": 200}
    for _ in range(70):
        minute.look()
    assert minute.recent.worker("a")["slowest"] is None
    assert minute.recent.endpoints() == {}


def test_endpoints_and_pools() -> None:
    """The busiest first, and errors with them."""
    minute = Minute()
    minute.look()
    for _ in range(3):
        minute.settle("a", endpoint="login", status=500)
    for _ in range(7):
        minute.settle("b", endpoint="sync", first=30.0)
    for _ in range(5):
        minute.look()
    assert [(name, each["requests"]) for name, each in minute.recent.endpoints().items()] == [("sync", 7), ("login", 3)]
    pool = minute.recent.minute(("pool", "pool"))
    assert (pool["requests"], pool["errors"], pool["requests_per_second"]) == (10, 3, 1.0)


def test_what_a_removed_worker_did_is_not_done_again() -> None:
    """A reload moves its counts to nobody (`Tallies.keep`); that is no traffic."""
    minute = Minute()
    minute.look()
    for _ in range(1000):
        minute.settle("b")
    minute.look()
    for _ in range(70):
        minute.look()
    minute.workers = {"a"}
    minute.tallies.keep({"pool"}, {"a"})
    for _ in range(20):
        minute.look()
    assert minute.recent.hour.minute(WHOLE).requests == 0
    minute.settle("")
    minute.look()
    assert minute.recent.hour.minute(WHOLE).requests == 1


def test_refusals() -> None:
    """By reason, what the request itself is the reason for; failures are something else."""
    minute = Minute()
    minute.look()
    for reason in ("malformed", "refuse", "body_too_large", "worker_cut"):
        minute.tallies.failed("", reason)
    minute.look()
    told = [(each["reason"], each["count"]) for each in minute.recent.whole()["refusals"]]
    assert told == [("malformed", 1), ("refuse", 1), ("body_too_large", 1)]
