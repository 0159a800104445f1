"""What the exchanges add up to, by endpoint, pool and worker: integers that every exchange adds to when it ends.

The names come from the endpoint table and the configuration, never from a request, so their number is bounded by what
the operator wrote. Knows no clock, no connection, and no metric's name.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from enum import Enum

from attrs import define, field

from sidecar.metrics.histogram import Histogram
from sidecar.records.record import DONE, NO_ENDPOINT, Record, picked

CODES = ("none", *(f"{hundred}xx" for hundred in range(1, 10)))
"""What `Cell.statuses` counts: by the first digit of the status; `none` is an exchange cut without one."""

LONG_POLLS = frozenset(("event_stream", "sliding_sync", "sync"))
"""Endpoints whose answers are awaited for as long as the client asks, so that their times say little of a worker."""

_added = picked(
    *("endpoint", "pool", "worker", "status", "bytes_up", "bytes_down"),
    *("first_byte", "began", "ended", "retries", "moved", "ending"),
)


@define(eq=False)
class Cell:
    """The exchanges of one endpoint, in one pool, with one worker."""

    statuses: list[int] = field(factory=lambda: [0] * len(CODES))
    bytes_up: int = 0
    bytes_down: int = 0
    retries: int = 0
    """How often their requests were sent again."""
    moved: int = 0
    """Those whose affinity key has another worker as its first."""
    total: Histogram = field(factory=Histogram)
    """From the head of the request to the end of the exchange."""
    first_byte: Histogram = field(factory=Histogram)
    """From the head of the request to the first byte of the worker's answer, of those that had one."""

    @property
    def requests(self) -> int:
        """Exchanges that have ended."""
        return sum(self.statuses)

    def add(self, other: Cell) -> None:
        """Take in all that `other` counted."""
        self.statuses = [ours + theirs for ours, theirs in zip(self.statuses, other.statuses, strict=True)]
        self.bytes_up += other.bytes_up
        self.bytes_down += other.bytes_down
        self.retries += other.retries
        self.moved += other.moved
        for ours, theirs in ((self.total, other.total), (self.first_byte, other.first_byte)):
            ours.counts = [one + two for one, two in zip(ours.counts, theirs.counts, strict=True)]
            ours.sum += theirs.sum

    def copy(self) -> Cell:
        """The state of this moment, to be compared with a later one."""
        copy = Cell()
        copy.add(self)
        return copy


@define(eq=False)
class EndpointTally:
    """The exchanges of one endpoint."""

    begun: int = 0
    ended: int = 0
    cells: dict[str, dict[str, Cell]] = field(factory=dict)
    """By pool, then by worker; the worker is empty where none took part, or where it is not in the configuration."""


class Per(Enum):
    """What cells are added up by."""

    ENDPOINT = ("endpoint", "pool")
    WORKER = ("worker", "pool")


@define(eq=False)
class Tallies:
    """All exchanges since the start."""

    endpoints: dict[str, EndpointTally] = field(factory=dict)
    failures: dict[tuple[str, str], int] = field(factory=dict)
    """By pool and reason."""

    def begin(self, endpoint: str) -> None:
        """An exchange begins."""
        tally = self.endpoints.get(endpoint)
        if tally is None:
            tally = self.endpoints[endpoint] = EndpointTally()
        tally.begun += 1

    def settle(self, records: Iterable[Record]) -> None:
        """Exchanges have ended that have begun here, or what a client sent was no request."""
        endpoints = self.endpoints
        for record in records:
            name, pool, worker, status, up, down, first_byte, began, ended, retries, moved, ending = _added(record)
            if ending != DONE:
                self.failed(pool, ending)
                if name == NO_ENDPOINT:
                    continue
            tally = endpoints[name]
            tally.ended += 1
            try:
                cell = tally.cells[pool][worker]
            except KeyError:
                cell = tally.cells.setdefault(pool, {}).setdefault(worker, Cell())
            cell.statuses[status // 100] += 1
            cell.bytes_up += up
            cell.bytes_down += down
            cell.retries += retries
            cell.moved += moved
            cell.total.add(ended - began)
            if first_byte:
                cell.first_byte.add(first_byte)

    def failed(self, pool: str, reason: str) -> None:
        """An exchange of `pool` ended otherwise than with the whole answer of a worker."""
        place = (pool, reason)
        self.failures[place] = self.failures.get(place, 0) + 1

    def sums(self, per: Per) -> dict[tuple[str, str], Cell]:
        """Cells added up by two of their names, in the order of `per`."""
        sums: dict[tuple[str, str], Cell] = {}
        for endpoint, pool, worker, cell in self._cells():
            place = (endpoint, pool) if per is Per.ENDPOINT else (worker, pool)
            sums.setdefault(place, Cell()).add(cell)
        return sums

    def workers(self, without: Container[str] = ()) -> dict[str, Cell]:
        """What each worker has done, as a state of this moment; `without` these endpoints (`LONG_POLLS`)."""
        sums: dict[str, Cell] = {}
        for endpoint, _, worker, cell in self._cells():
            if worker and endpoint not in without:
                sums.setdefault(worker, Cell()).add(cell)
        return sums

    def keep(self, pools: Container[str], workers: Container[str]) -> None:
        """Forget the names that are not in the configuration any more.

        What other workers did still counts for their pools, so that no sum ever becomes smaller.
        """
        for tally in self.endpoints.values():
            tally.cells = {
                pool: _known(cells, workers) for pool, cells in tally.cells.items() if not pool or pool in pools
            }
        self.failures = {place: count for place, count in self.failures.items() if not place[0] or place[0] in pools}

    def _cells(self) -> Iterator[tuple[str, str, str, Cell]]:
        for endpoint, tally in self.endpoints.items():
            for pool, cells in tally.cells.items():
                for worker, cell in cells.items():
                    yield endpoint, pool, worker, cell


def _known(cells: dict[str, Cell], workers: Container[str]) -> dict[str, Cell]:
    known = {worker: cell for worker, cell in cells.items() if not worker or worker in workers}
    for worker, cell in cells.items():
        if worker not in known:
            known.setdefault("", Cell()).add(cell)
    return known
