"""Counters of exchanges, by endpoint, pool and worker; each exchange is added when it ends.

The names come from the endpoint table and the configuration, never from a request, so their number is bounded. Knows no
clock, no connection, and no metric's name.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from enum import Enum

from attrs import define, field

from sidecar.records.histogram import Histogram
from sidecar.records.record import DONE, NO_ENDPOINT, Record

CODES = ("none", *(f"{hundred}xx" for hundred in range(1, 10)))
"""What `Tally.statuses` counts: by the first digit of the status; `none` is an exchange cut without one."""

LONG_POLLS = frozenset(("event_stream", "sliding_sync", "sync"))
"""Endpoints whose answers take as long as the client asks, so their times say little about a worker."""


@define(eq=False)
class Tally:
    """The exchanges of one endpoint, in one pool, with one worker."""

    statuses: list[int] = field(factory=lambda: [0] * len(CODES))
    bytes_up: int = 0
    bytes_down: int = 0
    retries: int = 0
    """How often their requests were sent again."""
    moved: int = 0
    """Requests that did not go to the first worker of their affinity key."""
    total: Histogram = field(factory=Histogram)
    """From the head of the request to the end of the exchange."""
    first_byte: Histogram = field(factory=Histogram)
    """From the head of the request to the first byte of the worker's answer, of those that had one."""

    @property
    def requests(self) -> int:
        """Exchanges that have ended."""
        return sum(self.statuses)

    def add(self, other: Tally) -> None:
        """Add the counts of `other`."""
        self.statuses = [ours + theirs for ours, theirs in zip(self.statuses, other.statuses, strict=True)]
        self.bytes_up += other.bytes_up
        self.bytes_down += other.bytes_down
        self.retries += other.retries
        self.moved += other.moved
        self.total.take(other.total)
        self.first_byte.take(other.first_byte)

    def copy(self) -> Tally:
        """The state of this moment, to be compared with a later one."""
        copy = Tally()
        copy.add(self)
        return copy


class Per(Enum):
    """By what cells are summed."""

    ENDPOINT = ("endpoint", "pool")
    WORKER = ("worker", "pool")


@define(eq=False)
class Tallies:
    """All exchanges that have ended since the start."""

    cells: dict[tuple[str, str, str], Tally] = field(factory=dict)
    """By endpoint, pool and worker; the worker is empty if none was used, or if it is not configured any more."""
    failures: dict[tuple[str, str], int] = field(factory=dict)
    """By pool and reason."""

    def settle(self, records: Iterable[Record]) -> None:
        """Add exchanges that have ended, or what was no request."""
        cells = self.cells
        for record in records:
            place = (record.endpoint, record.pool, record.worker)
            ending = record.ending
            if ending is not DONE:
                self.failed(record.pool, ending)
                if record.endpoint == NO_ENDPOINT:
                    continue
            cell = cells.get(place)
            if cell is None:
                cell = cells[place] = Tally()
            cell.statuses[record.status // 100] += 1
            cell.bytes_up += record.bytes_up
            cell.bytes_down += record.bytes_down
            if record.attempts > 1 or record.moved:
                cell.retries += max(0, record.attempts - 1)
                cell.moved += record.moved
            cell.total.add(record.ended - record.began)
            if record.first_byte:
                cell.first_byte.add(record.first_byte)

    def failed(self, pool: str, reason: str) -> None:
        """Count an exchange of `pool` that ended without a complete answer of a worker."""
        place = (pool, reason)
        self.failures[place] = self.failures.get(place, 0) + 1

    def sums(self, per: Per) -> dict[tuple[str, str], Tally]:
        """Cells summed by two of their names, in the order of `per`."""
        sums: dict[tuple[str, str], Tally] = {}
        for (endpoint, pool, worker), cell in self.cells.items():
            place = (endpoint, pool) if per is Per.ENDPOINT else (worker, pool)
            sums.setdefault(place, Tally()).add(cell)
        return sums

    def workers(self, without: Container[str] = ()) -> dict[str, Tally]:
        """The sum of each worker at this moment; `without` these endpoints (`LONG_POLLS`)."""
        sums: dict[str, Tally] = {}
        for (endpoint, _, worker), cell in self.cells.items():
            if worker and endpoint not in without:
                sums.setdefault(worker, Tally()).add(cell)
        return sums

    def keep(self, pools: Container[str], workers: Container[str]) -> None:
        """Forget names that are not in the configuration any more.

        What they did still counts for their pools, so that no sum becomes smaller.
        """
        kept: dict[tuple[str, str, str], Tally] = {}
        lost: dict[tuple[str, str, str], Tally] = {}
        for (endpoint, pool, worker), cell in self.cells.items():
            if pool and pool not in pools:
                continue
            if worker and worker not in workers:
                lost.setdefault((endpoint, pool, ""), Tally()).add(cell)
            else:
                kept[endpoint, pool, worker] = cell
        for place, cell in lost.items():
            kept.setdefault(place, Tally()).add(cell)
        self.cells = kept
        self.failures = {place: count for place, count in self.failures.items() if not place[0] or place[0] in pools}
