"""Looks at the totals every second, for as long as the sidecar runs. Knows nothing of what they come to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall

from sidecar.admin.own import OwnUse
from sidecar.admin.recent import Recent
from sidecar.history.events import Events, Growth
from sidecar.history.hour import WHOLE, Subject
from sidecar.records.tally import Tallies
from sidecar.relay.gateway import Gateway

EVERY = 1.0
"""Seconds."""
AT_ONCE = 200
"""So many totals are looked at in one step, and with more of them there are more steps: all in one would be felt by
requests. One step while there are few, because a process that sleeps pays more for waking up than for the step."""


@define(eq=False)
class Sampling(Service):
    """Keeps `recent` fresh."""

    reactor: Any
    gateway: Callable[[], Gateway]
    recent: Recent
    events: Events
    own: OwnUse
    _growth: Growth = field(init=False)
    _next: IDelayedCall | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._growth = Growth(self.events)

    def startService(self) -> None:
        super().startService()
        self._step(0, 1)

    def stopService(self) -> None:
        super().stopService()
        if self._next is not None and self._next.active():
            self._next.cancel()

    def _step(self, part: int, parts: int) -> None:
        """Gather one part of the totals; with the last one they are noted."""
        gateway = self.gateway()
        tallies = gateway.notes.told() or Tallies()
        self.recent.gather(tallies, gateway.pools, part, parts)
        part += 1
        if part == parts:
            counters = {name: getattr(gateway.counters, name) for name in gateway.counters.__slots__ if name[0] != "_"}
            self.recent.note(self.reactor.seconds(), tallies, counters, gateway.pools)
            self.recent.hour.look(self.reactor.seconds(), _waiting(gateway))
            self.own.look(self.reactor.seconds())
            self._growth.look(gateway.counters.shed, gateway.counters.misroutes)
            part, parts = 0, 1 + len(tallies.cells) // AT_ONCE
        self._next = self.reactor.callLater(EVERY / parts, self._step, part, parts)


def _waiting(gateway: Gateway) -> dict[Subject, int]:
    """How many requests wait at this moment, of everything that there is."""
    found: dict[Subject, int] = {WHOLE: gateway.counters.parked}
    found |= {("worker", name): pool.waiting for name, pool in gateway.pools.items()}
    return found | {("pool", name): gate.parked for name, gate in gateway.gates.items()}
