"""Looks at the totals every second, for as long as the sidecar runs. Knows nothing of what they come to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.task import LoopingCall

from sidecar.admin.recent import Recent
from sidecar.records.tally import Tallies
from sidecar.relay.gateway import Gateway

EVERY = 1.0
"""Seconds."""
PARTS = 10
"""In how many steps it looks: with many workers and endpoints one would be felt by requests."""


@define(eq=False)
class Sampling(Service):
    """Keeps `recent` fresh."""

    reactor: Any
    gateway: Callable[[], Gateway]
    recent: Recent
    _part: int = field(default=0, init=False)
    _loop: LoopingCall | None = field(default=None, init=False)

    def startService(self) -> None:
        super().startService()
        self._loop = LoopingCall(self._step)
        self._loop.clock = self.reactor
        self._loop.start(EVERY / PARTS)

    def stopService(self) -> None:
        super().stopService()
        if self._loop is not None and self._loop.running:
            self._loop.stop()

    def _step(self) -> None:
        """Gather one part of the totals; with the last one they are noted."""
        gateway = self.gateway()
        tallies = gateway.notes.told() or Tallies()
        self.recent.gather(tallies, gateway.pools, self._part, PARTS)
        self._part = (self._part + 1) % PARTS
        if self._part == 0:
            counters = {name: getattr(gateway.counters, name) for name in gateway.counters.__slots__ if name[0] != "_"}
            self.recent.note(self.reactor.seconds(), tallies, counters, gateway.pools)
