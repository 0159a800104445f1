"""Exchanges that have ended, gathered and then told of together: to the tallies and to the access log.

A line of a log is written by much code. Between two requests the processor has forgotten it each time, so that doing it
for many at once costs half. Knows no connection; whoever reads the tallies gets what has happened until then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import define, field

from sidecar.records.access_log import AccessLog
from sidecar.records.record import Record
from sidecar.records.tally import Tallies


class Settles(Protocol):
    """Somebody else who is told of exchanges that have ended."""

    def settle(self, records: Sequence[Record]) -> None: ...


TOGETHER = 256
"""So many are told of at once: more would hold up a request noticeably, and save little."""
PATIENCE = 0.1
"""Seconds after which they are told of even if they are fewer."""


@define(eq=False)
class Notes:
    """One for all connections of a process, for as long as it lives."""

    now: Callable[[], float]
    """The clock of the records."""
    wake: Callable[[Notes, float], None]
    """Lets `deadline_passed` be called after so many seconds."""
    tallies: Tallies | None = None
    log: AccessLog | None = None
    also: Settles | None = None
    records: list[Record] = field(factory=list, init=False)
    expires: float = field(default=float("inf"), init=False)
    slot: float = field(default=float("inf"), init=False)

    @property
    def wanted(self) -> bool:
        """Somebody is told of exchanges."""
        return self.tallies is not None or self.log is not None

    def log_to(self, log: AccessLog | None) -> None:
        """Write the next ones to this log; None: to none."""
        self.log = log

    def take(self, record: Record) -> None:
        """Note an exchange."""
        records = self.records
        records.append(record)
        count = len(records)
        if count >= TOGETHER:
            self.tell()
        elif count == 1:
            self.wake(self, PATIENCE)

    def tell(self) -> None:
        """Tell of all that is noted."""
        records = self.records
        if not records:
            return
        self.records = []
        if self.tallies is not None:
            self.tallies.settle(records)
        if self.also is not None:
            self.also.settle(records)
        if self.log is not None:
            self.log.tell(records, self.now())

    deadline_passed = tell

    def told(self) -> Tallies | None:
        """The tallies as they are now."""
        self.tell()
        return self.tallies
