"""What a request holds while it waits. Counts it and the bytes of its body, within the limits for all.

Does not know why a request waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sidecar.records.histogram import Histogram
from sidecar.relay.gateway import Gateway


class Place(Protocol):
    """Where requests wait: the gate of a pool, the queue of a worker, a question."""

    @property
    def waits(self) -> Histogram:
        """How long they waited."""

    @property
    def waiting_octets(self) -> int:
        """Bytes of their bodies."""

    def weigh(self, octets: int) -> None:
        """Count waiting bytes; a negative number takes them off."""


class Ticket:
    """One request that waits in one place."""

    __slots__ = ("_gateway", "_in_line", "_told", "counted", "held", "place", "since")

    def __init__(self, place: Place, gateway: Gateway, *, in_line: bool = True) -> None:
        """`in_line`: it counts as a waiting request; otherwise only its bytes count."""
        self.place = place
        self._in_line = in_line
        self._gateway = gateway
        self._told: Callable[[int], None] | None = None
        self.counted = False
        """`count` was called and `give_back` was not."""
        self.held = 0
        """Bytes of its body."""
        self.since = 0.0
        """When it was counted."""

    def count(self, octets: int, *, has_body: bool, bounded: bool = True) -> bool:
        """Count it, with the body bytes that are here; False, without counting, if too much waits already
        (`bounded`)."""
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
        """Call `count` with 1 now, and with -1 when the wait is over."""
        self._told = count
        count(1)

    def hold(self, octets: int) -> bool:
        """Count more bytes of the body; False if reading from the client should stop."""
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
        """The wait is over, whatever the reason; how many seconds it took."""
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
