"""Makes Prometheus' families of what runs at this moment. All the work of a scrape is here, none on a request's way.

Only looks, at values that others keep. Knows neither HTTP nor a clock.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version

from attrs import define, field
from prometheus_client import Metric as Family
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from sidecar.balancers.balancer import Cut, RunningBalancer
from sidecar.balancers.server import StreamServer
from sidecar.errors import Severity
from sidecar.metrics.catalogue import COUNTERS, METRICS, PREFIX
from sidecar.metrics.status import View, taking, unready
from sidecar.records.histogram import DURATIONS, Histogram
from sidecar.records.tally import CODES, Per, Tallies, Tally
from sidecar.routing.parts import SERVED_BY
from sidecar.upstream.pool import WorkerPool

_BOUNDS = (*map(repr, DURATIONS), "+Inf")
_VERSIONS = (platform.python_version(), version("twisted"))


@define(eq=False)
class Families:
    """Families in the order of the catalogue; every one of them is there, with samples or without."""

    _families: dict[str, Family] = field(factory=lambda: {name: _family(name) for name in METRICS}, init=False)

    def add(self, name: str, value: float, *labels: str) -> None:
        """One sample of a counter or gauge."""
        family = self._families[name]
        assert isinstance(family, CounterMetricFamily | GaugeMetricFamily)
        family.add_metric(labels, value)

    def add_histogram(self, name: str, histogram: Histogram, *labels: str) -> None:
        """The samples of one histogram; none where nothing was counted."""
        family = self._families[name]
        assert isinstance(family, HistogramMetricFamily)
        counts = histogram.cumulative()
        if counts[-1]:
            family.add_metric(labels, list(zip(_BOUNDS, counts, strict=True)), histogram.sum)

    def __iter__(self) -> Iterator[Family]:
        return iter(self._families.values())


def _family(name: str) -> Family:
    metric = METRICS[name]
    kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
    family: Family = kinds[metric.kind](PREFIX + name, metric.help, labels=metric.labels)
    return family


def families(view: View) -> Families:
    """All that there is to tell."""
    found = Families()
    tallies = view.gateway.notes.told()
    if tallies is not None:
        _in_flight(found, tallies, view.in_flight())
        _tallies(found, tallies)
    for name, pool in view.gateway.pools.items():
        _worker(found, name, pool)
    _pools(found, view)
    for balancer in view.fleet.running.values():
        _balancer(found, balancer)
    counters = view.gateway.counters
    for attribute, name in COUNTERS.items():
        found.add(name, getattr(counters, attribute))
    for place, count in counters.misroutes.items():
        found.add("misroutes", count, *place)
    found.add("transferred_bytes", counters.bytes_up, "up")
    found.add("transferred_bytes", counters.bytes_down, "down")
    if view.gateway.whoami is not None:
        found.add_histogram("caller_seconds", view.gateway.whoami.waits)
    _process(found, view)
    return found


def _in_flight(found: Families, tallies: Tallies, running: Counter[str]) -> None:
    for endpoint in dict.fromkeys((*(endpoint for endpoint, _, _ in tallies.cells), *running)):
        found.add("requests_in_flight", running[endpoint], endpoint)


def _tallies(found: Families, tallies: Tallies) -> None:
    for place, cell in tallies.sums(Per.ENDPOINT).items():
        _codes(found, "requests", cell, *place)
        found.add_histogram("request_duration_seconds", cell.total, *place)
        found.add("request_bytes", cell.bytes_up, *place)
        found.add("response_bytes", cell.bytes_down, *place)
    for place, cell in tallies.sums(Per.WORKER).items():
        if place[0]:
            _codes(found, "worker_requests", cell, *place)
            found.add_histogram("first_byte_seconds", cell.first_byte, *place)
            found.add("retries", cell.retries, *place)
            found.add("affinity_moves", cell.moved, *place)
    for place, count in tallies.failures.items():
        found.add("failures", count, *place)


def _codes(found: Families, name: str, cell: Tally, *labels: str) -> None:
    for code, count in zip(CODES, cell.statuses, strict=True):
        if count:
            found.add(name, count, *labels, code)


def _worker(found: Families, name: str, pool: WorkerPool) -> None:
    found.add("worker_up", pool.health.up, name)
    found.add("worker_transitions", pool.health.transitions, name)
    found.add("worker_slow_start", pool.health.warming, name)
    found.add("worker_draining", pool.draining, name)
    for state, count in (("leased", pool.leased), ("idle", pool.idle), ("connecting", pool.connecting)):
        found.add("worker_connections", count, name, state)
    found.add("worker_queue", pool.waiting, name)
    found.add("worker_queue_bytes", pool.waiting_octets, name)
    found.add_histogram("queue_seconds", pool.waits, name)
    found.add_histogram("connect_seconds", pool.connect_times, name)
    found.add("connects", pool.connects, name)
    found.add("connect_failures", pool.failures, name)
    found.add("cuts", pool.cuts, name)


def _pools(found: Families, view: View) -> None:
    takes = taking(view.gateway)
    for name, planned in view.plan.pools.items():
        named = {worker for part in view.plan.parts[name] for worker in part.named}
        found.add("pool_workers", len(named.union(planned.workers)), name)
        found.add("pool_workers_sharing", len(planned.sharing), name)
        found.add("pool_workers_up", sum(map(takes, planned.workers)), name)
        rows = Counter(dict.fromkeys(SERVED_BY, 0))
        for part in view.plan.parts[name]:
            rows[part.now(takes).by] += part.rows if part.open else 0
        for by, count in rows.items():
            found.add("pool_endpoints", count, name, by)
    for name, gate in view.gateway.gates.items():
        found.add("pool_running", gate.served, name)
        found.add("pool_admitted", gate.running, name)
        found.add("pool_concurrency", gate.limits.concurrency, name)
        found.add("pool_queue", gate.parked, name)
        found.add_histogram("turn_seconds", gate.waits, name)


def _balancer(found: Families, balancer: RunningBalancer) -> None:
    found.add("balancer_connections", balancer.open, balancer.name)
    found.add("balancer_connections_limit", balancer.settings.connections, balancer.name)
    found.add("balancer_queue", balancer.waiting, balancer.name)
    found.add("balancer_accepted", balancer.accepted, balancer.name)
    for why in Cut:
        found.add("balancer_cuts", balancer.cuts[why], balancer.name, why.value)
    for server in balancer.servers.values():
        _stream_server(found, server, balancer.name, server.name)


def _stream_server(found: Families, server: StreamServer, *place: str) -> None:
    health = server.health
    found.add("balancer_server_up", health.up, *place)
    found.add("balancer_server_draining", server.draining or (health.up and not health.takes), *place)
    found.add("balancer_server_transitions", health.transitions, *place)
    found.add("balancer_server_checks", health.checks, *place)
    found.add("balancer_server_checks_failed", health.failures, *place)
    found.add("balancer_server_connections", server.count, *place)
    found.add("balancer_server_connects", server.connects, *place)
    found.add("balancer_server_connect_failures", server.failures, *place)
    found.add("balancer_server_bytes", server.bytes_up, *place, "up")
    found.add("balancer_server_bytes", server.bytes_down, *place, "down")


def _process(found: Families, view: View) -> None:
    found.add("ready", not unready(view))
    found.add("stopping", view.gateway.draining)
    found.add("maintenance", view.maintenance is not None)
    found.add("client_connections_limit", view.ceiling)
    found.add("build_info", 1, view.version, *_VERSIONS, view.release)
    problems = Counter(problem.severity for problem in view.problems)
    for severity in Severity:
        found.add("config_problems", problems[severity], severity.value)
    found.add("reload_successful", view.reloaded is not False)
    found.add("reload_timestamp_seconds", view.read_at)
    for outcome in ("written", "dropped", "failed"):
        found.add("log_lines", getattr(view.written, outcome), outcome)
