"""What was measured, as values: metrics, rows, ratios, the budget. JSON in and out. Measures nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from statistics import median

import cattrs
from attrs import field, frozen


@frozen
class Metric:
    """A quantity of which less is better, unless `more_is_better`."""

    key: str
    title: str
    unit: str
    digits: int
    more_is_better: bool = False


METRICS = (
    Metric("small", "CPU per small request", "µs", 1),
    Metric("system", "of it in the kernel", "µs", 1),
    Metric("rate", "small requests per second", "1/s", 0, more_is_better=True),
    Metric("paced", "CPU per small request at the fixed rate", "µs", 1),
    Metric("p50", "latency p50 at the fixed rate", "ms", 2),
    Metric("p99", "latency p99 at the fixed rate", "ms", 2),
    Metric("download", "CPU per GiB down", "s", 2),
    Metric("upload", "CPU per GiB up", "s", 2),
    Metric("poll", "memory per idle long poll", "KiB", 1),
    Metric("waited", "waiting for a processor that others held", "%", 1),
)


OBSERVED, PAIR = "with log", "a pair"
"""The sidecar with metrics and a line of JSON for each request; two processes of it, by the processor time of both."""


@frozen
class Limit:
    """The `metric` of `of` shall be at most `factor` times that of `peer`; without a peer, at most `factor`."""

    metric: str
    factor: float
    peer: str
    of: str = "sidecar"


QUIET = 5.0
"""Most per cent of `waited` at which a run says something; above, other programs disturbed it."""

BUDGET = (
    Limit("small", 1.6, "nginx"),
    Limit("small", 1.9, "nginx", OBSERVED),
    Limit("small", 0.5, "caddy"),
    Limit("small", 1.05, "sidecar", PAIR),
    Limit("paced", 1.7, "nginx"),
    Limit("p99", 1.1, "nginx"),
    Limit("download", 1.0, "haproxy"),
    Limit("upload", 1.0, "haproxy"),
    Limit("poll", 3.3, ""),
)
"""Two processes that spend at most 1.05 times as much for a request as one does answer 1.9 times as many."""


@frozen
class Row:
    """One program. `numbers` holds the value of each round; `problem` says why some or all are missing."""

    name: str
    version: str = ""
    problem: str = ""
    absent: bool = False
    numbers: Mapping[str, tuple[float, ...]] = field(factory=dict)

    def middle(self, metric: str) -> float | None:
        """The median over the rounds."""
        values = self.numbers.get(metric)
        return median(values) if values else None


@frozen
class Report:
    """A run: the machine it ran on, the sizes it ran with, a row for each program."""

    machine: Mapping[str, str]
    sizes: Mapping[str, float]
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row:
        """The row of this program; an empty one if it took no part."""
        return next((row for row in self.rows if row.name == name), Row(name))

    def ratio(self, limit: Limit) -> float | None:
        """The median over the peer's, if both were measured; without a peer the median itself."""
        ours = self.row(limit.of).middle(limit.metric)
        theirs = self.row(limit.peer).middle(limit.metric) if limit.peer else 1.0
        return ours / theirs if ours is not None and theirs else None


def to_json(report: Report) -> str:
    """The report as indented JSON."""
    return json.dumps(cattrs.unstructure(report), indent=1, ensure_ascii=False) + "\n"


def from_json(text: str) -> Report:
    """The inverse of `to_json`."""
    return cattrs.structure(json.loads(text), Report)
