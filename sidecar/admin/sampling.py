"""Looks at the totals every second, for as long as the sidecar runs. Knows nothing of what they come to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.task import LoopingCall

from sidecar.admin.recent import Recent
from sidecar.metrics.tally import Tallies
from sidecar.net.gateway import Gateway

EVERY = 1.0
"""Seconds."""


@define(eq=False)
class Sampling(Service):
    """Keeps `recent` fresh."""

    reactor: Any
    gateway: Callable[[], Gateway]
    recent: Recent
    _loop: LoopingCall | None = field(default=None, init=False)

    def startService(self) -> None:
        super().startService()
        self._loop = LoopingCall(self.look)
        self._loop.clock = self.reactor
        self._loop.start(EVERY)

    def stopService(self) -> None:
        super().stopService()
        if self._loop is not None and self._loop.running:
            self._loop.stop()

    def look(self) -> None:
        """Note the totals of this moment."""
        gateway = self.gateway()
        counters = {name: getattr(gateway.counters, name) for name in gateway.counters.__slots__ if name[0] != "_"}
        tallies = gateway.tallies or Tallies()
        self.recent.look(self.reactor.seconds(), tallies, counters, gateway.pools)
