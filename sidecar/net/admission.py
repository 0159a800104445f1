"""How many requests of one pool are served at once, and in which turn the others are let in.

Every key (a user, a room, a server; an address where there is no key) has a line of its own, and the lines are served
in turn, so that whoever sends most does not get everything. Pure: knows no clock, no sockets, no workers.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import Final, Protocol

from attrs import define, field, frozen

from sidecar.metrics.histogram import Histogram


class Verdict(Enum):
    """What happens to a request at the gate."""

    ADMITTED = "admitted"
    WAITS = "waits"
    SHED = "shed"


class Applicant(Protocol):
    """Who waits at a gate."""

    def admitted(self) -> None: ...


@frozen(slots=True, kw_only=True)
class GateLimits:
    """Counts: requests served at once, of one key at once, and waiting."""

    concurrency: int
    per_key: int
    waiting: int


ADMITTED: Final = Verdict.ADMITTED
"""Python looks a member up anew each time; this is asked with every request."""


@define(eq=False, slots=True)
class Gate:
    """The entrance to one pool.

    Invariants: at most `concurrency` are in, at most `per_key` of one key; nobody waits who could be in; the keys that
    wait are admitted in turn, and the requests of one key in the order in which they came.
    """

    limits: GateLimits
    running: int = 0
    """Let in, and not out again. Not all of them are with a worker: see `served`."""
    waiting: int = 0
    """In line at this entrance."""
    in_line: int = 0
    """Of those that are in, how many wait for a worker; kept by those who wait."""
    asking: int = 0
    """How many wait until it is known whose they are, before they come here; kept by those who wait."""
    waiting_octets: int = 0
    """Bytes of request bodies that wait here; kept by those who wait."""
    waits: Histogram = field(factory=Histogram)
    """How long they wait; kept by them as well."""
    by_key: dict[str, int] = field(factory=dict)
    """How many of each key are in."""
    _lines: dict[str, OrderedDict[Applicant, None]] = field(factory=dict)
    """Who waits, by key."""
    _turns: OrderedDict[str, None] = field(factory=OrderedDict)
    """Keys that wait and have fewer than `per_key` in, in the order of their turns."""

    @property
    def served(self) -> int:
        """Requests of the pool that a worker has."""
        return self.running - self.in_line

    @property
    def parked(self) -> int:
        """Requests of the pool that wait, wherever: for their turn, for a worker, or until their user is known."""
        return self.waiting + self.in_line + self.asking

    def enter(self, key: str, applicant: Applicant) -> Verdict:
        """Ask to be let in. Who waits is told by `admitted`, or says `leave`; who is in says `out` at the end."""
        limits = self.limits
        count = self.by_key.get(key, 0)
        if self.running < limits.concurrency and count < limits.per_key:
            self.running += 1
            self.by_key[key] = count + 1
            return ADMITTED
        if self.waiting >= limits.waiting:
            return Verdict.SHED
        self.waiting += 1
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = OrderedDict()
            if count < limits.per_key:
                self._turns[key] = None
        line[applicant] = None
        return Verdict.WAITS

    def out(self, key: str) -> None:
        """A request that was in has ended; the next one comes in."""
        self.running -= 1
        count = self.by_key[key] - 1
        if count:
            self.by_key[key] = count
        else:
            del self.by_key[key]
        if self.waiting:
            if key in self._lines and count + 1 == self.limits.per_key:
                self._turns[key] = None
            self._admit()

    def leave(self, key: str, applicant: Applicant) -> None:
        """Who waited does not want to come in any more."""
        line = self._lines.get(key)
        if line is not None and applicant in line:
            del line[applicant]
            self.waiting -= 1
            if not line:
                del self._lines[key]
                self._turns.pop(key, None)

    def use(self, limits: GateLimits) -> None:
        """Other limits from now on; who is in stays in."""
        self.limits = limits
        self._turns = OrderedDict.fromkeys(key for key in self._lines if self.by_key.get(key, 0) < limits.per_key)
        self._admit()

    def _admit(self) -> None:
        while self._turns and self.running < self.limits.concurrency:
            key, _ = self._turns.popitem(last=False)
            line = self._lines[key]
            applicant, _ = line.popitem(last=False)
            self.waiting -= 1
            self.running += 1
            count = self.by_key[key] = self.by_key.get(key, 0) + 1
            if not line:
                del self._lines[key]
            elif count < self.limits.per_key:
                self._turns[key] = None
            applicant.admitted()
