"""What was measured, as values: rounds of variants in cases, their medians and spreads. JSON in and out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from statistics import median

import cattrs
from attrs import field, frozen

from benchmarks.results import Metric

METRICS = (
    Metric("synapse", "Synapse", "CPU ms", 0),
    Metric("postgres", "PostgreSQL", "CPU ms", 0),
    Metric("redis", "Redis", "CPU ms", 1),
    Metric("proxy", "proxy", "CPU ms", 1),
    Metric("queries", "queries", "", 0),
    Metric("misses", "cache misses", "", 0),
    Metric("hops", "requests among processes", "", 1),
    Metric("send p50", "send p50", "ms", 0),
    Metric("send p95", "send p95", "ms", 0),
    Metric("arrival p50", "arrival p50", "ms", 0),
    Metric("arrival p95", "arrival p95", "ms", 0),
)
"""All but the times are for one message, with everything that goes on beside it."""

PEER, OURS = "nginx", "sidecar"
GOALS = {"synapse": 0.95, "send p50": 0.85, "arrival p50": 1.0}
"""Most that the sidecar with its three lines may take, in terms of nginx."""


@frozen
class Row:
    """One variant in one case: the value of each round by metric; `problem` says why there are none."""

    variant: str
    numbers: Mapping[str, tuple[float, ...]] = field(factory=dict)
    problem: str = ""

    def middle(self, metric: str) -> float | None:
        """The median over the rounds."""
        values = self.numbers.get(metric)
        return median(values) if values else None

    def with_round(self, numbers: Mapping[str, float]) -> Row:
        """With one round more."""
        keys = {**self.numbers, **numbers}
        return Row(
            self.variant,
            {key: (*self.numbers.get(key, ()), *((numbers[key],) if key in numbers else ())) for key in keys},
        )


@frozen
class Case:
    """The same homeserver, people and load for every variant."""

    deployment: str
    people: str
    load: str
    rate: float
    rows: tuple[Row, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.deployment} workers, {self.people}, {self.load} at {self.rate:g} messages a second"

    def row(self, variant: str) -> Row:
        """The row of this variant; an empty one if it took no part."""
        return next((row for row in self.rows if row.variant == variant), Row(variant))

    def ratio(self, metric: str, variant: str = OURS, peer: str = PEER) -> float | None:
        """A variant's median over the peer's, if both were measured."""
        ours, theirs = self.row(variant).middle(metric), self.row(peer).middle(metric)
        return ours / theirs if ours is not None and theirs else None


@frozen
class Report:
    """A run: the machine, the seconds of each round, the cases."""

    machine: Mapping[str, str]
    seconds: float
    cases: tuple[Case, ...]


def to_json(report: Report) -> str:
    """The report as indented JSON."""
    return json.dumps(cattrs.unstructure(report), indent=1, ensure_ascii=False) + "\n"


def from_json(text: str) -> Report:
    """The inverse of `to_json`."""
    return cattrs.structure(json.loads(text), Report)
