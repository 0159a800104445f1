"""What happened to the sidecar and its workers, within a bound: the list that is read at three in the morning.

What happens again and again is one event with a count, so that a worker that flaps, or a queue that is full for an
hour, does not push out everything else. Reads no clock of its own and knows neither workers nor requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, Literal

from attrs import define, field

EventKind = Literal[
    "start",
    "stop",
    "down",
    "up",
    "flaps",
    "drain",
    "undrain",
    "adjusted",
    "maintenance",
    "reload",
    "refused",
    "version",
    "shed",
    "misroutes",
    "remember",
]
"""`refused` is a reload that was."""

GATHER = 60.0
"""Seconds: what is counted (`shed`, `misroutes`) belongs to the event before if that is not older."""
FLAPS = 4
"""A worker that went down so often within `FLAP_SPAN` flaps."""
FLAP_SPAN = 300.0
"""Seconds."""
LONGEST = 400
"""Characters of a text; a reload can have a sentence for every line of a file."""


@define(eq=False)
class Event:
    """Something that happened once, or again and again from `at` to `until` (seconds of a clock that is never set)."""

    kind: EventKind
    about: str
    """The worker, the endpoint, or empty."""
    text: str
    by: str
    """Who did it, where somebody did."""
    at: float
    until: float
    count: int

    def again(self, now: float, count: int, text: str) -> None:
        """It has happened once more."""
        self.until, self.text = now, text
        self.count += count


@define(eq=False)
class Events:
    """The newest `most` events."""

    now: Callable[[], float]
    most: int = 200
    _events: list[Event] = field(factory=list, init=False)

    def use(self, most: int) -> None:
        """Keep so many from now on."""
        self.most = most
        self._forget()

    def note(self, kind: EventKind, about: str, text: str, *, by: str = "", count: int = 1) -> None:
        """Something has happened; `count` times where it is something that is counted."""
        now = self.now()
        text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
        if kind in ("down", "up"):
            if self._flaps(kind, about, text, now):
                return
        elif kind in ("shed", "misroutes"):
            known = self._latest(kind, about, now - GATHER)
            if known is not None:
                known.again(now, count, text)
                return
        self._events.append(Event(kind, about, text, by, now, now, count))
        self._forget()

    def _forget(self) -> None:
        del self._events[: -self.most]

    def _latest(self, kind: EventKind, about: str, since: float) -> Event | None:
        for event in reversed(self._events):
            if event.kind == kind and event.about == about:
                return event if event.until >= since else None
        return None

    def _flaps(self, kind: EventKind, about: str, text: str, now: float) -> bool:
        """Whether this is one more turn of a worker that flaps, which is one event from its first fall on."""
        state = f"down ({text})" if kind == "down" and text else kind
        known = self._latest("flaps", about, now - FLAP_SPAN)
        if known is not None:
            known.again(now, int(kind == "down"), f"went down again and again; now {state}")
            return True
        falls = [each for each in self._events if (each.kind, each.about) == ("down", about)]
        falls = [each for each in falls if each.at > now - FLAP_SPAN]
        if kind != "down" or len(falls) < FLAPS - 1:
            return False
        first = falls[0].at
        turns = [each for each in self._events if each.about == about and each.at >= first]
        gone = {id(each) for each in turns if each.kind in ("down", "up")}
        told = f"went down again and again; now {state}"
        self._events = [each for each in self._events if id(each) not in gone]
        self._events.append(Event("flaps", about, told, "", first, now, len(falls) + 1))
        return True

    def told(self, since: float) -> list[dict[str, Any]]:
        """All of them as JSON-able values, the newest first.

        `since`: when the clock of the events was at 0, in seconds since 1970.
        """
        now = self.now()
        newest = sorted(self._events, key=lambda event: event.until, reverse=True)
        return [
            {
                "time": _utc(since + event.at),
                "ago": round(now - event.until, 1),
                "seconds": round(event.until - event.at, 1),
                "kind": event.kind,
                "about": event.about,
                "text": event.text,
                "by": event.by,
                "count": event.count,
            }
            for event in newest
        ]


def _utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@define(eq=False)
class Growth:
    """Makes events of totals that grew: they are read every second, so that no request has to report anything."""

    events: Events
    _shed: int = field(default=0, init=False)
    _misroutes: dict[tuple[str, str], int] = field(factory=dict, init=False)

    def look(self, shed: int, misroutes: Mapping[tuple[str, str], int]) -> None:
        """The totals of this moment: requests turned away, and those that a worker did not know."""
        if shed > self._shed:
            told = "a request was turned away, because too many waited"
            self.events.note("shed", "", told, count=shed - self._shed)
        self._shed = shed
        for (endpoint, worker), count in misroutes.items():
            more = count - self._misroutes.get((endpoint, worker), 0)
            if more:
                self.events.note("misroutes", worker, f"does not know {endpoint}; main was asked instead", count=more)
        self._misroutes = dict(misroutes)
