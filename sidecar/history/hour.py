"""The last hour in points, and the last minute in full: of the sidecar, of each worker, pool and endpoint.

Fed with what was counted since the look before, so that no request has to tell anything more; a point is made of
several looks. Bounded by the names of the configuration and by how long is remembered. Reads no clock.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from attrs import define, field, frozen

from sidecar.records.histogram import quantile

TICK = 5.0
"""Seconds of which everything is added up before it counts."""
MINUTE = 12
"""Ticks that are kept in full."""
LATELY = 2
"""Ticks of which a rate is the mean."""
EACH = 3
"""Ticks to a point."""
STEP = TICK * EACH
"""Seconds from one point to the next."""
MEASURES = ("rate", "errors", "p50", "p99", "slowest", "waiting")
"""Of each point: requests and answers 5xx a second, seconds to the first byte, and the most that waited at once."""
_SERVER_ERROR = 5
_UNKNOWN = -1.0

Axis = Literal["whole", "worker", "pool", "endpoint"]
Subject = tuple[Axis, str]
WHOLE: Subject = ("whole", "")


@frozen
class Increment:
    """What was counted at one place since the sample before."""

    statuses: tuple[int, ...]
    """By the first digit, as `records.tally.CODES`."""
    quick: tuple[int, ...]
    """Times to the first byte by bucket; empty where they say nothing, as of long polls."""
    times: tuple[int, ...]
    """Times of whole exchanges by bucket."""
    seconds: float
    """What these add up to."""
    slowest: float
    """The longest exchange."""
    slowest_byte: float
    """The longest time to a first byte; 0 where `quick` is empty."""


@define(eq=False)
class Sums:
    """Increments, added up."""

    statuses: tuple[int, ...] = ()
    quick: tuple[int, ...] = ()
    times: tuple[int, ...] = ()
    seconds: float = 0.0
    slowest: float = 0.0
    slowest_byte: float = 0.0
    waiting: int = 0
    """The most that waited at once."""

    def add(self, more: Increment | Sums) -> None:
        """Add them."""
        self.statuses = _plus(self.statuses, more.statuses)
        self.quick = _plus(self.quick, more.quick)
        self.times = _plus(self.times, more.times)
        self.seconds += more.seconds
        self.slowest = max(self.slowest, more.slowest)
        self.slowest_byte = max(self.slowest_byte, more.slowest_byte)

    def wait(self, count: int) -> None:
        """So many wait at this moment."""
        self.waiting = max(self.waiting, count)

    @property
    def requests(self) -> int:
        """How many have ended."""
        return sum(self.statuses)

    @property
    def errors(self) -> int:
        """Answers 5xx."""
        return self.statuses[_SERVER_ERROR] if self.statuses else 0

    def byte_within(self, part: float) -> float | None:
        """Seconds to the first byte that `part` of all did not exceed; never more than the slowest of them took."""
        return capped(quantile(self.quick, part), self.slowest_byte)

    def ended_within(self, part: float) -> float | None:
        """The same for whole exchanges."""
        return capped(quantile(self.times, part), self.slowest)


def _plus(some: tuple[int, ...], more: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(int.__add__, some, more)) if some and more else some or more


def capped(found: float | None, most: float) -> float | None:
    """A quantile is estimated within a bucket, whose end may be far beyond the longest that there was."""
    return found if found is None or not most else min(found, most)


@define(eq=False)
class Curve:
    """The points of one subject, oldest first."""

    _values: dict[str, array[float]] = field(factory=lambda: {name: array("f") for name in MEASURES}, init=False)

    def push(self, point: Iterable[float | None], most: int) -> None:
        """One more point, in the order of `MEASURES`; not more than `most` are kept."""
        for values, value in zip(self._values.values(), point, strict=True):
            values.append(_UNKNOWN if value is None else value)
            del values[:-most]

    def told(self, points: int) -> dict[str, list[float | None]]:
        """As values for JSON, at most `points`; None where nothing is known."""
        return {name: merged(values, points) for name, values in self._values.items()}

    @property
    def flat(self) -> bool:
        """Nothing has ended in all that time, and nothing has waited."""
        return not any(self._values["rate"]) and not any(self._values["waiting"])


def merged(values: Sequence[float], points: int) -> list[float | None]:
    """Each the greatest of its stretch: a peak must not vanish where there is little room."""
    size = max(1, -(-len(values) // max(1, points)))
    # Counted from the newest, so that the curve moves by whole stretches only.
    first = len(values) % size
    starts = [0] * bool(first) + list(range(first, len(values), size))
    greatest = [max(values[start : start + size if start or not first else first]) for start in starts]
    return [None if value < 0 else round(value, 4) for value in greatest]


@define(eq=False)
class Hour:
    """The last `span` seconds."""

    span: Callable[[], float] = lambda: 3600.0
    """A setting, which a reload may change."""
    _open: dict[Subject, Sums] = field(factory=dict, init=False)
    _minute: dict[Subject, deque[Sums | None]] = field(factory=dict, init=False)
    """The newest last; None is a tick without anything."""
    _lines: dict[Subject, Curve] = field(factory=dict, init=False)
    _began: float | None = field(default=None, init=False)
    _ticks: int = field(default=0, init=False)

    def add(self, endpoint: str, pool: str, worker: str, more: Increment) -> None:
        """Count what was counted at this place."""
        subjects: tuple[Subject, ...] = (WHOLE, ("endpoint", endpoint), ("pool", pool), ("worker", worker))
        for subject in subjects:
            if subject[1] or subject is WHOLE:
                self._opened(subject).add(more)

    def _opened(self, subject: Subject) -> Sums:
        found = self._open.get(subject)
        if found is None:
            found = self._open[subject] = Sums()
        return found

    def look(self, now: float, waiting: Mapping[Subject, int]) -> None:
        """How many wait at this moment, of all workers and pools that there are. When it is time, a tick ends."""
        for subject, count in waiting.items():
            if count:
                self._opened(subject).wait(count)
        if self._began is None:
            self._began = now
        elif now - self._began >= TICK:
            self._end_tick(waiting)
            # A late sample makes one tick longer, not all of them later.
            self._began = now if now - self._began >= 2 * TICK else self._began + TICK

    def _end_tick(self, known: Mapping[Subject, int]) -> None:
        ended, self._open = self._open, {}
        for subject in {*ended, *self._minute, *known}:
            if subject[0] != "endpoint" and subject not in known:
                self._minute.pop(subject, None)
                self._lines.pop(subject, None)
                continue
            ticks = self._minute.setdefault(subject, deque(maxlen=MINUTE))
            ticks.append(ended.get(subject))
            if subject[0] == "endpoint" and not any(ticks):
                del self._minute[subject]
        self._ticks += 1
        if self._ticks % EACH == 0:
            most = max(1, int(self.span() / STEP))
            for subject in known:
                self._lines.setdefault(subject, Curve()).push(_point(self._sums(subject, EACH)), most)

    def _sums(self, subject: Subject, ticks: int) -> Sums:
        """Of the last ticks together."""
        sums = Sums()
        for each in list(self._minute.get(subject, ()))[-ticks:]:
            if each is not None:
                sums.add(each)
                sums.wait(each.waiting)
        return sums

    # What it comes to.

    def minute(self, subject: Subject) -> Sums:
        """The last minute, as far as it was seen, and what is not counted yet."""
        sums = self._sums(subject, MINUTE)
        open_ = self._open.get(subject)
        if open_ is not None:
            sums.add(open_)
        return sums

    def rate(self, subject: Subject) -> float:
        """Requests a second, lately."""
        return round(self._sums(subject, LATELY).requests / (LATELY * TICK), 1)

    def names(self, axis: Axis) -> Iterator[str]:
        """Of which subjects there is anything."""
        return (name for kind, name in {**self._minute, **self._open} if kind == axis)

    def whole(self, points: int) -> dict[str, list[float | None]]:
        """The line of the sidecar, in at most so many points, the newest last."""
        return (self._lines.get(WHOLE) or Curve()).told(points)

    def told(self, points: int) -> dict[str, Any]:
        """All lines as JSON-able values, but for those of pools and workers that had nothing to do.

        `seconds` is the span of all points together.
        """
        return {
            "seconds": self.span(),
            "sidecar": self.whole(points),
            "workers": self._told_of("worker", points),
            "pools": self._told_of("pool", points),
        }

    def _told_of(self, axis: Axis, points: int) -> dict[str, dict[str, list[float | None]]]:
        return {name: line.told(points) for (kind, name), line in self._lines.items() if kind == axis and not line.flat}

    def curve(self, subject: Subject, points: int) -> list[float | None]:
        """Requests a second of one subject."""
        line = self._lines.get(subject)
        return [] if line is None else line.told(points)["rate"]


def _point(sums: Sums) -> tuple[float | None, ...]:
    return (
        sums.requests / STEP,
        sums.errors / STEP,
        sums.byte_within(0.5),
        sums.byte_within(0.99),
        sums.slowest_byte or None,
        float(sums.waiting),
    )
