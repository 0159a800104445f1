"""Our families in the registry of a program that tells metrics of its own, as Synapse does.

That registry is read in threads, too, while everything that is measured belongs to the reactor's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from threading import get_ident
from typing import Any

from attrs import define, field
from prometheus_client import REGISTRY, CollectorRegistry, Metric
from prometheus_client.registry import Collector
from twisted.application.service import Service

from sidecar.metrics.collector import families
from sidecar.metrics.status import View
from sidecar.observe.telemetry import logger

PATIENCE = 5.0
"""Seconds that a thread waits for the reactor; one that stands still is told by the absence of our families."""

_log = logger("sidecar")


@define(eq=False)
class SharedMetrics(Service, Collector):
    """Registered from its start to its stop."""

    reactor: Any
    look: Callable[[], View]
    registry: CollectorRegistry = REGISTRY
    patience: float = PATIENCE
    _thread: int = field(factory=get_ident, init=False)
    _registered: bool = field(default=False, init=False)

    def startService(self) -> None:
        """To be called in the reactor's thread. Where the names are taken, there is one sentence in the log."""
        super().startService()
        try:
            self.registry.register(self)
            self._registered = True
        except ValueError as error:
            _log.warn("the metrics of the sidecar are not exported: {error}", error=str(error))

    def stopService(self) -> None:
        super().stopService()
        if self._registered:
            self._registered = False
            self.registry.unregister(self)

    def collect(self) -> Iterable[Metric]:
        """All families, made in the reactor's thread; none where that does not come to it."""
        if get_ident() == self._thread:
            return self._families()
        made: SimpleQueue[list[Metric]] = SimpleQueue()
        self.reactor.callFromThread(lambda: made.put(self._families()))
        try:
            return made.get(timeout=self.patience)
        except Empty:
            return []

    def _families(self) -> list[Metric]:
        return list(families(self.look()))
