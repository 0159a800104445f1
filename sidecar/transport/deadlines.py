"""Deadlines for thousands of connections, at the cost of one attribute each.

Moving a deadline later only writes a number. When the slot of an owner has passed, it is moved to a later one. So a
keep-alive connection with ten thousand requests a second never touches a timer. Knows no connections.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from sidecar.observe.telemetry import logger

GRANULARITY = 0.25
"""Seconds between two checks; a deadline passes at most this much late, never early."""

NEVER = float("inf")

_log = logger("sidecar.deadlines")


class HasDeadline(Protocol):
    """Something with one deadline at a time."""

    expires: float
    slot: float
    """The start of its slot, after which it is checked; `NEVER`: it has none."""

    def deadline_passed(self) -> None: ...


class Deadlines:
    """A wheel of slots; each holds the owners to check when it has passed."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.now = clock.seconds
        self.recent = self.now()
        """When a deadline was last set: a cheap clock for what need not be exact."""
        self._slots: dict[float, set[HasDeadline]] = {}
        """By their start."""
        self._next = _slot_of(self.now())
        """The first that has not been checked."""
        self._call: IDelayedCall | None = None

    def set(self, owner: HasDeadline, seconds: float) -> None:
        """Call `owner.deadline_passed()` in `seconds`, unless it is set again before."""
        self.recent = now = self.now()
        owner.expires = expires = now + seconds
        if expires < owner.slot:
            self._place(owner, expires)

    def clear(self, owner: HasDeadline) -> None:
        """Remove the deadline of `owner`, and every reference to it."""
        owner.expires = NEVER
        owners = self._slots.get(owner.slot)
        if owners is not None:
            owners.discard(owner)
        owner.slot = NEVER

    def soon(self, seconds: float, call: Callable[[], None]) -> None:
        """Call it once, in `seconds`, with a timer; in the next turn if that has passed."""
        # Reactors raise an exception for a time in the past.
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
        """Check when the current slot has passed; later would delay its deadlines twice."""
        now = self.now()
        current = _slot_of(now)
        self._next = max(self._next, current)
        self._call = self._clock.callLater(current + GRANULARITY - now, self._turn)

    def _turn(self) -> None:
        """Check every slot that has passed; several, if the reactor was held up."""
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
    """The start of the slot of this moment."""
    return int(moment / GRANULARITY) * GRANULARITY


def _tell(owner: HasDeadline) -> None:
    """One owner that fails must not stop the deadlines of others."""
    try:
        owner.deadline_passed()
    except Exception:
        _log.failure("a deadline could not be handled")
