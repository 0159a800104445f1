"""What a request holds while it waits: it is counted where it waits, with the bytes of its body, within bounds for all.

Knows the places where one can wait only as something that counts, and nothing of why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sidecar.records.histogram import Histogram
from sidecar.relay.gateway import Gateway


class Place(Protocol):
    """Where requests wait: the entrance of a pool, the line of a worker, a question."""

    @property
    def waits(self) -> Histogram:
        """How long they waited."""

    @property
    def waiting_octets(self) -> int:
        """Bytes of their bodies."""

    def weigh(self, octets: int) -> None:
        """So many more bytes wait here, or fewer where it is negative."""


class Ticket:
    """One request that waits in one place."""

    __slots__ = ("_gateway", "_in_line", "_told", "counted", "held", "place", "since")

    def __init__(self, place: Place, gateway: Gateway, *, in_line: bool = True) -> None:
        """`in_line`: others are served before it, so it counts as waiting; otherwise only its bytes count."""
        self.place = place
        self._in_line = in_line
        self._gateway = gateway
        self._told: Callable[[int], None] | None = None
        self.counted = False
        """It has not been served at once."""
        self.held = 0
        """Bytes of its body."""
        self.since = 0.0
        """When it was counted."""

    def count(self, octets: int, *, has_body: bool, bounded: bool = True) -> bool:
        """Count it, with what there is of its body; False, and nothing is counted, where too much waits (`bounded`)."""
        gateway = self._gateway
        lines, limits = gateway.line, gateway.limits
        if bounded:
            too_much = self.place.waiting_octets >= limits.waiting_bytes or lines.octets >= limits.waiting_bytes_total
            if lines.count >= limits.waiting_total or (too_much and has_body):
                return False
        self.counted = True
        self.since = gateway.deadlines.now()
        if self._in_line:
            lines.join()
            gateway.counters.parked += 1
        self.hold(octets)
        return True

    def tell(self, count: Callable[[int], None]) -> None:
        """Let `count` be told of one more that waits, and later of one fewer."""
        self._told = count
        count(1)

    def hold(self, octets: int) -> bool:
        """So many more bytes of body wait; False where the client should not be read any more."""
        lines, limits = self._gateway.line, self._gateway.limits
        self.held += octets
        self.place.weigh(octets)
        lines.weigh(octets)
        return (
            self.held <= limits.pipelined
            and self.place.waiting_octets < limits.waiting_bytes
            and lines.octets < limits.waiting_bytes_total
        )

    def give_back(self) -> float:
        """It waits no more, whatever becomes of it; how many seconds it did."""
        if not self.counted:
            return 0.0
        self.counted = False
        gateway = self._gateway
        waited = gateway.deadlines.now() - self.since
        self.place.waits.add(waited)
        if self._in_line:
            gateway.line.part()
            gateway.counters.parked -= 1
        self.place.weigh(-self.held)
        gateway.line.weigh(-self.held)
        if self._told is not None:
            self._told(-1)
        self.held = 0
        return waited
