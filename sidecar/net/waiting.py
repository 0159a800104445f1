"""What a request does while it waits: it is counted where it waits, with the bytes of its body, within bounds for all.

Knows the places where one can wait, and nothing of why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.net.admission import Gate
from sidecar.net.course import Course

if TYPE_CHECKING:
    from sidecar.net.pool import WorkerPool
    from sidecar.net.question import Question


class Waiting(Course):
    """The part of a course in which a request waits, at the entrance of a pool or in the line of a worker."""

    __slots__ = ()

    def join(self, place: WorkerPool | Gate | Question, *, bounded: bool = True) -> bool:
        """Count the request where it waits; False, and nothing is counted, where too much waits already (`bounded`)."""
        exchange = self.exchange
        assert exchange is not None
        line, limits = self.gateway.line, self.gateway.limits
        too_much = place.waiting_octets >= limits.waiting_bytes or line.octets >= limits.waiting_bytes_total
        if bounded and (line.count >= limits.waiting_total or (too_much and exchange.length)):
            return False
        if isinstance(place, Gate):
            self.waiting_at = place
        self.parked = True
        self.waiting_since = self.gateway.deadlines.now()
        line.count += 1
        self.gateway.counters.parked += 1
        self._count_in_pool(place, 1)
        self.hold_octets(exchange.waiting_bytes)
        return True

    def hold_octets(self, octets: int) -> bool:
        """So many more octets of body wait with the request; False where the client should not be read any more."""
        place = self.waiting_for or self.waiting_at
        assert place is not None
        line, limits = self.gateway.line, self.gateway.limits
        self.held += octets
        place.waiting_octets += octets
        line.octets += octets
        return (
            self.held <= limits.pipelined
            and place.waiting_octets < limits.waiting_bytes
            and line.octets < limits.waiting_bytes_total
        )

    def part(self) -> None:
        """The request waits no more, whatever becomes of it."""
        place = self.waiting_for or self.waiting_at
        assert place is not None
        self.waiting_for = self.waiting_at = None
        if not self.parked:
            return
        self.parked = False
        waited = self.gateway.deadlines.now() - self.waiting_since
        self.queue += waited
        place.waits.add(waited)
        line = self.gateway.line
        line.count -= 1
        self.gateway.counters.parked -= 1
        self._count_in_pool(place, -1)
        place.waiting_octets -= self.held
        line.octets -= self.held
        self.held = 0

    def _count_in_pool(self, place: WorkerPool | Gate | Question, change: int) -> None:
        """Tell the entrance of the request's pool who waits elsewhere; who waits at it, it counts by itself."""
        decision = self.decision
        assert decision is not None
        gate = None if isinstance(place, Gate) else self.gateway.gates.get(decision.pool)
        if gate is None:
            return
        if self.gate is None:
            gate.asking += change
        else:
            gate.in_line += change
