"""How many requests of one pool run at once, and in which order the others get their turn.

A client chooses its token or signature, and nobody has checked them yet; it cannot choose its address. So addresses
take turns, and within one address its keys do (a user, a room, a server; the address itself if there is no key). A
client that sends more does not get more turns, whatever names it uses. Pure: knows no clock, no sockets, no workers.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import Final, Protocol

from attrs import Factory, define, field, frozen

from sidecar.records.histogram import Histogram


class Admission(Enum):
    """What happens to a request at the gate."""

    ADMITTED = "admitted"
    WAITS = "waits"
    SHED = "shed"


class Applicant(Protocol):
    """Who waits at a gate."""

    def admitted(self) -> None: ...


@frozen(slots=True, kw_only=True)
class GateLimits:
    """Counts: requests served at once, of one key and of one place at once, and waiting, of all and of one place."""

    concurrency: int
    per_key: int
    waiting: int
    per_place: int = field(default=Factory(lambda self: self.concurrency, takes_self=True))
    waiting_per_place: int = field(default=Factory(lambda self: self.waiting, takes_self=True))


ADMITTED: Final = Admission.ADMITTED
"""Faster than the attribute of the enumeration, and every request needs it."""

Who = tuple[str, str]
"""Where a request comes from, its place, and its key."""

CLAIMED = frozenset(("user", "token", "origin"))
"""Kinds of keys that a request claims with credentials that only Synapse checks, later."""


def who(place: str, kind: str, key: str) -> Who:
    """What a request is counted under. `place`: the neighbourhood of its address; empty for a proxy with many clients.

    A claimed key is counted separately for each place, so that nobody can use up the share of another user.
    """
    if not place:
        return key, key
    if kind == "source":
        return place, place
    return (place, f"{place} {key}") if kind in CLAIMED else (place, key)


@define(eq=False, slots=True)
class Gate:
    """The gate of one pool.

    Invariants: at most `concurrency` run, at most `per_key` of one key, at most `per_place` of one place; no request
    waits that could run; waiting places take turns, so do the keys of one place, and the requests of one key and place
    go on in the order in which they came.
    """

    limits: GateLimits
    running: int = 0
    """Admitted and not ended. Not all of them have a worker: see `served`."""
    waiting: int = 0
    """In the queue of this gate."""
    in_line: int = 0
    """How many of the running requests wait for a worker."""
    asking: int = 0
    """How many wait until their user is known, before they come to the gate."""
    waiting_octets: int = 0
    """Bytes of request bodies that wait here."""
    waits: Histogram = field(factory=Histogram)
    """How long they waited."""
    by_key: dict[str, int] = field(factory=dict)
    """How many requests of each key run."""
    by_place: dict[str, int] = field(factory=dict)
    """How many requests of each place run."""
    _lines: dict[Who, OrderedDict[Applicant, None]] = field(factory=dict)
    """Who waits."""
    _waiting_from: dict[str, int] = field(factory=dict)
    """How many wait, by place."""
    _ready: dict[str, OrderedDict[str, None]] = field(factory=dict)
    """By place, its waiting keys, in the order of their turns. A key at its limit becomes stalled."""
    _stalled: dict[str, dict[str, None]] = field(factory=dict)
    """By key at its limit, the places where it waits."""
    _turns: OrderedDict[str, None] = field(factory=OrderedDict)
    """Places with ready keys and fewer than `per_place` running requests, in the order of their turns."""

    @property
    def served(self) -> int:
        """Requests of the pool that have a worker."""
        return self.running - self.in_line

    @property
    def parked(self) -> int:
        """Requests of the pool that wait: for their turn, for a worker, or until their user is known."""
        return self.waiting + self.in_line + self.asking

    def enter(self, who: Who, applicant: Applicant) -> Admission:
        """Ask to be admitted: now, later by a call of `admitted`, or not at all. Call `out` at the end, or `leave`
        before."""
        place, key = who
        limits = self.limits
        count = self.by_key.get(key, 0)
        near = self.by_place.get(place, 0)
        if self.running < limits.concurrency and count < limits.per_key and near < limits.per_place:
            self.running += 1
            self.by_key[key] = count + 1
            self.by_place[place] = near + 1
            return ADMITTED
        from_here = self._waiting_from.get(place, 0)
        if self.waiting >= limits.waiting or from_here >= limits.waiting_per_place:
            return Admission.SHED
        self.waiting += 1
        self._waiting_from[place] = from_here + 1
        line = self._lines.get(who)
        if line is None:
            line = self._lines[who] = OrderedDict()
            self._line_up(who)
        line[applicant] = None
        return Admission.WAITS

    def out(self, who: Who) -> None:
        """A running request has ended; the next one gets its turn."""
        place, key = who
        self.running -= 1
        # `_less`, inlined, because every request passes here.
        count = self.by_key[key] - 1
        if count:
            self.by_key[key] = count
        else:
            del self.by_key[key]
        near = self.by_place[place] - 1
        if near:
            self.by_place[place] = near
        else:
            del self.by_place[place]
        if self.waiting:
            if count < self.limits.per_key:
                for each in self._stalled.pop(key, ()):
                    self._line_up((each, key))
            if near < self.limits.per_place and place in self._ready:
                self._turns.setdefault(place, None)
            self._admit()

    def leave(self, who: Who, applicant: Applicant) -> None:
        """A waiting request has given up."""
        line = self._lines.get(who)
        if line is not None and applicant in line:
            del line[applicant]
            self._waits_no_more(who)

    def weigh(self, octets: int) -> None:
        """Count bytes of waiting request bodies; a negative number takes them off."""
        self.waiting_octets += octets

    def count_in_line(self, change: int) -> None:
        """Count running requests that wait for a worker; a negative number takes them off."""
        self.in_line += change

    def count_asking(self, change: int) -> None:
        """Count requests that wait until their user is known; a negative number takes them off."""
        self.asking += change

    def use(self, limits: GateLimits) -> None:
        """Apply other limits from now on; running requests go on."""
        self.limits = limits
        self._ready.clear()
        self._stalled.clear()
        self._turns.clear()
        for each in self._lines:
            self._line_up(each)
        self._admit()

    def _line_up(self, who: Who) -> None:
        """Requests of this key wait at this place."""
        place, key = who
        if self.by_key.get(key, 0) >= self.limits.per_key:
            self._stalled.setdefault(key, {})[place] = None
            return
        self._ready.setdefault(place, OrderedDict())[key] = None
        if self.by_place.get(place, 0) < self.limits.per_place:
            self._turns.setdefault(place, None)

    def _waits_no_more(self, who: Who) -> None:
        """Take one waiting request off the counters; the last one of its line also gives up the turn of that line."""
        place, key = who
        self.waiting -= 1
        _less(self._waiting_from, place)
        if self._lines[who]:
            return
        del self._lines[who]
        stalled = self._stalled.get(key)
        if stalled is not None:
            stalled.pop(place, None)
            if not stalled:
                del self._stalled[key]
        ready = self._ready.get(place)
        if ready is not None:
            ready.pop(key, None)
            if not ready:
                del self._ready[place]
                self._turns.pop(place, None)

    def _admit(self) -> None:
        limits = self.limits
        while self._turns and self.running < limits.concurrency:
            place = next(iter(self._turns))
            ready = self._ready[place]
            key = next(iter(ready))
            count = self.by_key.get(key, 0)
            if count >= limits.per_key:
                del ready[key]
                self._stalled.setdefault(key, {})[place] = None
                if not ready:
                    del self._ready[place], self._turns[place]
                continue
            applicant, _ = self._lines[place, key].popitem(last=False)
            self.running += 1
            self.by_key[key] = count + 1
            near = self.by_place[place] = self.by_place.get(place, 0) + 1
            ready.move_to_end(key)
            self._turns.move_to_end(place)
            if near >= limits.per_place:
                del self._turns[place]
            self._waits_no_more((place, key))
            applicant.admitted()


def _less(counts: dict[str, int], name: str) -> int:
    """Subtract one, and forget a name whose count is zero."""
    count = counts[name] - 1
    if count:
        counts[name] = count
    else:
        del counts[name]
    return count
