"""For whom most of the requests are: users, rooms, servers and addresses, by keyed hash and nothing else.

Counted in a sketch of fixed size (Metwally, Agrawal, El Abbadi: "Efficient Computation of Frequent and Top-k Elements
in Data Streams", 2005, Space-Saving): whoever has a larger share than one in `room` is always in it, with a count that
is never too low. Of many requests that end together a part is looked at, which stands for the others. No identifier is
kept: the hash is that of the access log, and who asks for somebody by name has the name hashed. Reads no clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Any, Literal

from attrs import define, field, frozen

from sidecar.records.lines import Hasher
from sidecar.records.record import Record
from sidecar.synapse.identifiers import localpart

HotKind = Literal["user", "room", "origin", "address"]
KINDS: tuple[HotKind, ...] = ("user", "room", "origin", "address")
_BY_KEY: dict[str, HotKind] = {"user": "user", "room": "room", "origin": "origin"}
"""Kinds of affinity keys that are counted; a token that does not name its user is nobody whom one could name."""
SPAN = 60.0
"""Seconds of one window. Reports cover the open one and the one before."""
LOOKED_AT = 4
"""The most records of one batch that are counted."""


@frozen
class Hot:
    """One key of a sketch."""

    word: str
    """The hash."""
    most: int
    """It had not more requests."""
    least: int
    """And not fewer."""


@define(eq=False)
class Sketch:
    """At most `room` keys with a count each. The smallest makes room for a new key, which takes over its count."""

    room: int
    total: int = 0
    _counts: dict[str, int] = field(factory=dict, init=False)
    _errors: dict[str, int] = field(factory=dict, init=False)
    """How much of a count may be others'."""
    _floor: int = field(default=0, init=False)
    _candidates: list[str] = field(factory=list, init=False)
    """Keys that had this count when they were looked for."""

    def add(self, word: str, weight: int) -> None:
        """Count a key `weight` times."""
        counts = self._counts
        self.total += weight
        known = counts.get(word)
        if known is not None:
            counts[word] = known + weight
        elif len(counts) < self.room:
            counts[word] = weight
        else:
            smallest = self._smallest()
            count = counts.pop(smallest)
            self._errors.pop(smallest, None)
            counts[word], self._errors[word] = count + weight, count

    def _smallest(self) -> str:
        """A key with the smallest count. They are looked for together, because many have the same."""
        counts, candidates = self._counts, self._candidates
        while candidates:
            word = candidates.pop()
            if counts.get(word) == self._floor:
                return word
        self._floor = floor = min(counts.values())
        candidates += [word for word, count in counts.items() if count == floor]
        return candidates.pop()

    def of(self, word: str) -> Hot:
        """What is known of a key, also of one that is not here: it cannot have more than the smallest that is."""
        count = self._counts.get(word)
        if count is None:
            full = len(self._counts) >= self.room
            return Hot(word, min(self._counts.values()) if full else 0, 0)
        return Hot(word, count, count - self._errors.get(word, 0))

    def __iter__(self) -> Iterator[str]:
        return iter(self._counts)


def kind_of(text: str) -> tuple[HotKind, str]:
    """What a person means by a name, and the key that it has where requests are counted."""
    if text.startswith("@"):
        return "user", localpart(text) or text
    if text[:1] in ("!", "#"):
        return "room", text
    try:
        return "address", str(ip_address(text))
    except ValueError:
        return "origin", text


@define(eq=False)
class Hottest:
    """The keys with the most requests of the last one to two minutes."""

    hasher: Hasher
    room: int = 64
    """Keys of each kind that are counted at once; 0: nothing is counted."""
    _open: dict[HotKind, Sketch] = field(factory=dict, init=False)
    _before: dict[HotKind, Sketch] = field(factory=dict, init=False)
    _began: float | None = field(default=None, init=False)
    _length: float = field(default=0.0, init=False)
    """Seconds of the window before."""
    _turn: int = field(default=0, init=False)

    def use(self, hasher: Hasher, room: int) -> None:
        """Count by these from now on; hashes of another secret are nobody's any more."""
        if hasher is not self.hasher or room != self.room:
            self.hasher, self.room = hasher, room
            self._open, self._before, self._began = {}, {}, None

    def settle(self, records: Sequence[Record]) -> None:
        """Exchanges have ended."""
        if not self.room:
            return
        self._look(records[-1].ended)
        stride = -(-len(records) // LOOKED_AT)
        self._turn += 1
        for record in records[self._turn % stride :: stride]:
            self._count("address", record.client, stride)
            kind, key = record.kind, record.key
            counted = _BY_KEY.get(kind)
            if counted is not None and key is not None:
                self._count(counted, key, stride)

    def _count(self, kind: HotKind, key: str, weight: int) -> None:
        sketch = self._open.get(kind)
        if sketch is None:
            sketch = self._open[kind] = Sketch(self.room)
        sketch.add(self.hasher.hashed(kind, key), weight)

    def _look(self, now: float) -> None:
        """Begin a new window when it is time."""
        if self._began is None:
            self._began = now
        passed = now - self._began
        if passed >= SPAN:
            quiet = passed >= 2 * SPAN
            self._before, self._length = ({}, SPAN) if quiet else (self._open, passed)
            self._open, self._began = {}, now

    # What it comes to.

    def told(self, now: float, count: int) -> dict[str, Any]:
        """The first `count` of each kind as JSON-able values, and of how many seconds they are."""
        self._look(now)
        keys = {kind: self._told_of(kind, now)[:count] for kind in KINDS}
        return {"seconds": round(self._seconds(now), 1), "keys": keys}

    def asked(self, now: float, text: str) -> dict[str, Any]:
        """What is known of somebody who is named: `place` is 1 for the hottest, None for who is not counted."""
        self._look(now)
        kind, key = kind_of(text)
        word = self.hasher.hashed(kind, key)
        known = self._told_of(kind, now)
        place = next((place for place, each in enumerate(known, start=1) if each["hash"] == word), None)
        return {"kind": kind, "place": place, **self._values(kind, word, now)}

    def _seconds(self, now: float) -> float:
        begun = 0.0 if self._began is None else now - self._began
        return begun + (self._length if self._before else 0.0)

    def _told_of(self, kind: HotKind, now: float) -> list[dict[str, Any]]:
        words = dict.fromkeys((*self._open.get(kind, ()), *self._before.get(kind, ())))
        found = [self._values(kind, word, now) for word in words]
        return sorted(found, key=lambda each: (-each["requests"], each["hash"]))

    def _values(self, kind: HotKind, word: str, now: float) -> dict[str, Any]:
        sketches = [windows[kind] for windows in (self._open, self._before) if kind in windows]
        hots = [sketch.of(word) for sketch in sketches]
        most, least = sum(hot.most for hot in hots), sum(hot.least for hot in hots)
        total = sum(sketch.total for sketch in sketches)
        return {
            "hash": word,
            "requests": most,
            "at_least": least,
            "per_second": round(most / max(self._seconds(now), 1.0), 1),
            "share": round(most / total, 3) if total else 0.0,
        }
