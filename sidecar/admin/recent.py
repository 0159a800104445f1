"""What happened in the last minute, from totals that are looked at every second.

The data path adds to integers since the start; rates, quantiles and «errors lately» are differences of two looks. Knows
no clock, and nothing of who wants to know.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator, Mapping
from itertools import islice, pairwise, product
from typing import Any

from attrs import define, field, frozen

from sidecar.exchange.failures import Failure
from sidecar.history.hour import WHOLE, Hour, Increment, Subject, capped
from sidecar.records.histogram import quantile
from sidecar.records.record import ENDED_BY
from sidecar.records.tally import CODES, Tallies, Tally

SPAN = 60.0
"""Seconds that count as lately."""
RATE_SPAN = 10.0
"""Seconds of which a rate is the mean: one that changes every second cannot be read."""
SPARKS = 30
"""How many of the last samples a worker's curve has."""
_SLACK = 0.5
"""Seconds by which a sample may be late and still count."""


TOLD = {failure.ending: failure.sentence for failure in Failure} | {
    "malformed": "what the client sent is no request, or none that is taken",
}
REFUSALS = {
    "malformed": TOLD["malformed"],
    "refuse": "closed by `access` or a route",
    **{
        failure.ending: failure.sentence
        for failure in (Failure.CLIENT_CUT, Failure.CLIENT_SLOW_HEAD, Failure.HEAD_TOO_LARGE, Failure.BODY_TOO_LARGE)
    },
}
"""Endings that the request itself is the reason for, in words."""
"""Endings that are failures, in words. Others are what the configuration wants: `respond`, `redirect`, `refuse`."""


@frozen
class Sum:
    """What one worker has done since the start."""

    requests: int = 0
    errors: int = 0
    """Answers 5xx."""
    quick: tuple[int, ...] = ()
    """Times to the first byte, without those of long polls, by bucket."""

    def plus(self, now: Sum, before: Sum) -> Sum:
        """This, and what came between two states of a part of it."""
        return Sum(
            self.requests + now.requests - before.requests,
            self.errors + now.errors - before.errors,
            _plus(self.quick, now.quick, before.quick),
        )


def _plus(sums: tuple[int, ...], now: tuple[int, ...], before: tuple[int, ...]) -> tuple[int, ...]:
    if now == before:
        return sums
    size = len(now)
    sums, before = sums or (0,) * size, before or (0,) * size
    return tuple(old + new - known for old, new, known in zip(sums, now, before, strict=True))


NOTHING = Sum()


@frozen
class Look:
    """The totals of one moment."""

    time: float
    workers: dict[str, Sum]
    counters: Mapping[str, int]
    failures: Mapping[tuple[str, str], int]


@frozen(eq=False)
class _Seen:
    """A cell at the last sample."""

    cell: Tally
    sum: Sum
    statuses: tuple[int, ...]
    times: tuple[int, ...]
    seconds: float
    """The sum of its durations, which every exchange makes larger."""


_UNSEEN = _Seen(Tally(), NOTHING, (), (), 0.0)


@define(eq=False)
class Recent:
    """The samples of the last minute."""

    long_polls: Container[str] = ()
    """Endpoints that answer when something happens, so that their time says nothing."""
    hour: Hour = field(factory=Hour)
    """Gets everything that was counted."""
    _looks: deque[Look] = field(factory=deque, init=False)
    _cells: dict[tuple[str, str, str], _Seen] = field(factory=dict, init=False)
    _sums: dict[str, Sum] = field(factory=dict, init=False)
    _misroutes: dict[tuple[str, str], tuple[int, float]] = field(factory=dict, init=False)
    """Of each endpoint and worker how many there were, and when the last was seen."""

    def look(self, now: float, tallies: Tallies, counters: Mapping[str, Any], workers: Container[str]) -> None:
        """Note the totals of this moment; `workers` are those of the configuration."""
        self.gather(tallies, workers)
        self.note(now, tallies, counters, workers)

    def gather(self, tallies: Tallies, workers: Container[str], part: int = 0, parts: int = 1) -> None:
        """Add up what has changed, of every endpoint or of one part of them, so that no request waits for all."""
        if any(name not in workers for name in self._sums):
            self._begin_anew(tallies)
        for place, cell in islice(tallies.cells.items(), part, None, parts):
            self._add(place, cell, known=place[2] in workers)

    def note(self, now: float, tallies: Tallies, counters: Mapping[str, Any], workers: Container[str]) -> None:
        """The end of a sample, when all parts have been gathered."""
        self._forget(workers)
        for place, count in counters.get("misroutes", {}).items():
            if self._misroutes.get(place, (0, now))[0] != count:
                self._misroutes[place] = (count, now)
        looks = self._looks
        numbers = {name: count for name, count in counters.items() if isinstance(count, int)}
        looks.append(Look(now, self._sums.copy(), numbers, tallies.failures.copy()))
        while looks[0].time < now - SPAN - _SLACK:
            looks.popleft()

    def _add(self, place: tuple[str, str, str], cell: Tally, *, known: bool) -> None:
        seen = self._cells.get(place, _UNSEEN)
        before = seen if seen.cell is cell else _UNSEEN
        if before.seconds == cell.total.sum:
            # No exchange has ended since.
            return
        now = self._see(place, cell)
        if known:
            self._sums[place[2]] = self._sums.get(place[2], NOTHING).plus(now.sum, before.sum)
        self.hour.add(*place, _increment(now, before))

    def _see(self, place: tuple[str, str, str], cell: Tally) -> _Seen:
        quick = () if place[0] in self.long_polls else tuple(cell.first_byte.counts)
        total = Sum(cell.requests, cell.statuses[5], quick)
        seen = _Seen(cell, total, tuple(cell.statuses), tuple(cell.total.counts), cell.total.sum)
        self._cells[place] = seen
        return seen

    def _begin_anew(self, tallies: Tallies) -> None:
        """A worker is gone: what it did is counted for nobody from now on (`Tallies.keep`), and was not done now."""
        for place, cell in tallies.cells.items():
            if not place[2]:
                self._see(place, cell)

    def minute(self, subject: Subject) -> dict[str, Any]:
        """Of a pool or an endpoint: what has ended in the last minute, and how long it took."""
        sums = self.hour.minute(subject)
        return {
            "requests_per_second": self.hour.rate(subject),
            "requests": sums.requests,
            "errors": sums.errors,
            "seconds": _rounded(sums.seconds),
            "p50": _rounded(sums.ended_within(0.5)),
            "p99": _rounded(sums.ended_within(0.99)),
            "slowest": _rounded(sums.slowest or None),
        }

    def endpoints(self) -> dict[str, Any]:
        """Those that had requests in the last minute, the busiest first."""
        found = {name: self.minute(("endpoint", name)) for name in self.hour.names("endpoint")}
        return dict(sorted(found.items(), key=lambda item: -item[1]["requests"]))

    def _forget(self, workers: Container[str]) -> None:
        gone = [name for name in self._sums if name not in workers]
        if gone:
            self._sums = {name: sum_ for name, sum_ in self._sums.items() if name not in gone}
            self._cells = {place: cell for place, cell in self._cells.items() if place[2] not in gone}
            for name, look in product(gone, self._looks):
                look.workers.pop(name, None)

    # What it comes to.

    def _pair(self, span: float) -> tuple[Look, Look] | None:
        """The newest sample, and the oldest that is not older than `span`."""
        if len(self._looks) < 2:
            return None
        last = self._looks[-1]
        first = next(look for look in self._looks if look.time >= last.time - span - _SLACK)
        return (first, last) if first is not last else (self._looks[-2], last)

    def worker(self, name: str) -> dict[str, Any]:
        """Requests a second, errors and quantiles of one worker; None where nothing is known."""
        minute, moment = self._pair(SPAN), self._pair(RATE_SPAN)
        if minute is None or moment is None:
            return {"requests_per_second": None, "errors": 0, **dict.fromkeys(("p50", "p99", "slowest")), "curve": []}
        first, last = (look.workers.get(name, NOTHING) for look in minute)
        quick = [now - then for now, then in zip(last.quick, first.quick or (0,) * len(last.quick), strict=True)]
        slowest = self.hour.minute(("worker", name)).slowest_byte
        return {
            "requests_per_second": self._rate(moment, name),
            "errors": last.errors - first.errors,
            "p50": _rounded(capped(quantile(quick, 0.5), slowest)),
            "p99": _rounded(capped(quantile(quick, 0.99), slowest)),
            "slowest": _rounded(slowest or None),
            "curve": self._curve(name),
            "hour": self.hour.curve(("worker", name), SPARKS),
        }

    def _rate(self, pair: tuple[Look, Look], name: str) -> float:
        first, last = pair
        count = last.workers.get(name, NOTHING).requests - first.workers.get(name, NOTHING).requests
        return round(count / (last.time - first.time), 1)

    def _curve(self, name: str) -> list[float]:
        looks = list(self._looks)[-SPARKS - 1 :]
        return [self._rate(pair, name) for pair in pairwise(looks)]

    def misrouted(self, endpoint: str, worker: str) -> float | None:
        """Seconds since the last misroute of this kind; None where none was seen."""
        seen = self._misroutes.get((endpoint, worker))
        return round(self._looks[-1].time - seen[1], 1) if seen is not None else None

    def whole(self) -> dict[str, Any]:
        """Of the sidecar: rates of the last seconds, and what went wrong in the last minute."""
        minute, moment = self._pair(SPAN), self._pair(RATE_SPAN)
        if minute is None or moment is None:
            return {"seconds": 0.0, "per_second": {}, "more": {}, "failures": [], "refusals": [], "statuses": {}}
        (old, new), (first, last) = minute, moment
        seconds = last.time - first.time
        return {
            "seconds": round(new.time - old.time, 1),
            "per_second": {
                name: round((last.counters[name] - first.counters.get(name, 0)) / seconds, 1) for name in last.counters
            },
            "more": {name: new.counters[name] - old.counters.get(name, 0) for name in new.counters},
            "failures": [
                {"pool": pool, "reason": reason, "told": TOLD[reason], "count": count}
                for pool, reason, count in _more(new.failures, old.failures)
                if reason in TOLD and ENDED_BY.get(reason) != "client"
            ],
            "refusals": [
                {"pool": pool, "reason": reason, "told": REFUSALS[reason], "count": count}
                for pool, reason, count in _more(new.failures, old.failures)
                if reason in REFUSALS
            ],
            "statuses": {
                code: count for code, count in zip(CODES, self.hour.minute(WHOLE).statuses, strict=False) if count
            },
        }


def _increment(now: _Seen, before: _Seen) -> Increment:
    """What a cell has counted since; its longest times are taken, so that the next sample gets those after it."""
    byte, total = now.cell.first_byte.take_peak(), now.cell.total.take_peak()
    quick = now.sum.quick
    return Increment(
        statuses=_minus(now.statuses, before.statuses),
        quick=_minus(quick, before.sum.quick),
        times=_minus(now.times, before.times),
        seconds=now.seconds - before.seconds,
        slowest=total,
        slowest_byte=byte if quick else 0.0,
    )


def _minus(now: tuple[int, ...], before: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(int.__sub__, now, before)) if before else now


def _more(now: Mapping[tuple[str, str], int], then: Mapping[tuple[str, str], int]) -> Iterator[tuple[str, str, int]]:
    for (pool, reason), count in now.items():
        more = count - then.get((pool, reason), 0)
        if more > 0:
            yield pool, reason, more


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else float(f"{seconds:.3g}")
