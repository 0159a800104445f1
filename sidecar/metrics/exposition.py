"""What Prometheus is answered: our families, and those that prometheus-client knows of any Python process."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import define, field
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Metric,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.registry import Collector

from sidecar.metrics.collector import families
from sidecar.metrics.status import View

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format, which every version of it reads."""


class _Ours(Collector):
    def __init__(self, look: Callable[[], View]) -> None:
        self._look = look

    def collect(self) -> Iterable[Metric]:
        return families(self._look())


@define(eq=False)
class Exposition:
    """Answers one scrape after the other."""

    look: Callable[[], View]
    _registry: CollectorRegistry = field(init=False)

    def __attrs_post_init__(self) -> None:
        # Described only by being collected, which needs a sidecar that runs.
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Ours(self.look))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def text(self) -> bytes:
        """All metrics, in Prometheus' text format."""
        return generate_latest(self._registry)
