"""Deadlines for thousands of connections at the cost of one attribute each.

Moving a deadline later only writes a number; the owner is looked at when its slot comes round and put off again. So
a keep-alive connection that answers ten thousand requests a second never touches a timer. Knows no connections.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from sidecar.observe.telemetry import logger

GRANULARITY = 0.25
"""Seconds between two looks; a deadline passes at most this much late, never early."""

NEVER = float("inf")

_log = logger("sidecar.deadlines")


class HasDeadline(Protocol):
    """Something with one deadline at a time."""

    expires: float
    slot: int

    def deadline_passed(self) -> None: ...


class Deadlines:
    """A wheel of slots; each holds the owners to look at when its time has come."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.now = clock.seconds
        self.recent = self.now()
        """When a deadline was last set: the time, cheaply, for what need not be exact."""
        self._slots: dict[int, set[HasDeadline]] = {}
        self._next = int(self.now() / GRANULARITY) + 1
        self._call: IDelayedCall | None = None

    def set(self, owner: HasDeadline, seconds: float) -> None:
        """Let `owner.deadline_passed()` be called `seconds` from now unless it is set again before."""
        self.recent = now = self.now()
        owner.expires = expires = now + seconds
        slot = int(expires / GRANULARITY) + 1
        if slot < owner.slot or not owner.slot:
            self._place(owner, slot)

    def clear(self, owner: HasDeadline) -> None:
        """`owner` has no deadline any more, and nothing here refers to it."""
        owner.expires = NEVER
        if owner.slot:
            owners = self._slots.get(owner.slot)
            if owners is not None:
                owners.discard(owner)
            owner.slot = 0

    def _place(self, owner: HasDeadline, slot: int) -> None:
        if owner.slot:
            self._slots[owner.slot].discard(owner)
        slot = max(slot, self._next)
        owners = self._slots.get(slot)
        if owners is None:
            owners = self._slots[slot] = set()
        owners.add(owner)
        owner.slot = slot
        if self._call is None:
            self._look_later()

    def _look_later(self) -> None:
        """Look when the slot that has begun is over; later, its deadlines would be late twice."""
        now = self.now()
        current = int(now / GRANULARITY)
        self._next = max(self._next, current)
        self._call = self._clock.callLater((current + 1) * GRANULARITY - now, self._turn)

    def _turn(self) -> None:
        """Look at every slot whose time has come, be it that the reactor was held up for long."""
        self._call = None
        now = self.now()
        current = int(now / GRANULARITY)
        due = [slot for slot in self._slots if slot <= current]
        self._next = current + 1
        for slot in sorted(due):
            for owner in self._slots.pop(slot):
                owner.slot = 0
                if owner.expires <= now:
                    owner.expires = NEVER
                    _tell(owner)
                elif owner.expires != NEVER:
                    self._place(owner, int(owner.expires / GRANULARITY) + 1)
        if self._slots and self._call is None:
            self._look_later()


def _tell(owner: HasDeadline) -> None:
    """One owner that fails must not take the deadlines of all others with it."""
    try:
        owner.deadline_passed()
    except Exception:
        _log.failure("a deadline could not be handled")
