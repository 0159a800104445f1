"""Deadlines for thousands of connections at the cost of one attribute each.

Moving a deadline later only writes a number; the owner is looked at when its slot comes round and put off again. So
a keep-alive connection that answers ten thousand requests a second never touches a timer. Knows no connections.
"""

from __future__ import annotations

from collections.abc import Callable
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
    slot: float
    """When the slot begins at whose end it is looked at; `NEVER`: in none."""

    def deadline_passed(self) -> None: ...


class Deadlines:
    """A wheel of slots; each holds the owners to look at when its time has come."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.now = clock.seconds
        self.recent = self.now()
        """When a deadline was last set: the time, cheaply, for what need not be exact."""
        self._slots: dict[float, set[HasDeadline]] = {}
        """By when they begin."""
        self._next = _slot_of(self.now())
        """The first that has not been looked at."""
        self._call: IDelayedCall | None = None

    def set(self, owner: HasDeadline, seconds: float) -> None:
        """Let `owner.deadline_passed()` be called `seconds` from now unless it is set again before."""
        self.recent = now = self.now()
        owner.expires = expires = now + seconds
        if expires < owner.slot:
            self._place(owner, expires)

    def clear(self, owner: HasDeadline) -> None:
        """`owner` has no deadline any more, and nothing here refers to it."""
        owner.expires = NEVER
        owners = self._slots.get(owner.slot)
        if owners is not None:
            owners.discard(owner)
        owner.slot = NEVER

    def soon(self, seconds: float, call: Callable[[], None]) -> None:
        """Call it once, `seconds` from now: at the cost of a timer; if that is over, in the next turn."""
        # Reactors raise for a time that has passed.
        self._clock.callLater(max(0.0, seconds), call)

    def _place(self, owner: HasDeadline, expires: float) -> None:
        if owner.slot != NEVER:
            self._slots[owner.slot].discard(owner)
        slot = max(_slot_of(expires), self._next)
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
        current = _slot_of(now)
        self._next = max(self._next, current)
        self._call = self._clock.callLater(current + GRANULARITY - now, self._turn)

    def _turn(self) -> None:
        """Look at every slot whose time has come, be it that the reactor was held up for long."""
        self._call = None
        now = self.now()
        self._next = current = _slot_of(now)
        due = [slot for slot in self._slots if slot < current]
        for slot in sorted(due):
            for owner in self._slots.pop(slot):
                owner.slot = NEVER
                if owner.expires <= now:
                    owner.expires = NEVER
                    _tell(owner)
                elif owner.expires != NEVER:
                    self._place(owner, owner.expires)
        if self._slots and self._call is None:
            self._look_later()


def _slot_of(moment: float) -> float:
    """When the slot begins in which a moment is."""
    return int(moment / GRANULARITY) * GRANULARITY


def _tell(owner: HasDeadline) -> None:
    """One owner that fails must not take the deadlines of all others with it."""
    try:
        owner.deadline_passed()
    except Exception:
        _log.failure("a deadline could not be handled")
