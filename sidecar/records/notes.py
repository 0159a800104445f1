"""Collects exchanges that have ended, and passes them on in batches: to the tallies and to the access log.

Formatting a log line takes much code, which leaves the processor's cache between two requests; so a batch costs half.
Knows no connection. Reading the tallies passes on what was collected until then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import define, field

from sidecar.records.access_log import AccessLog
from sidecar.records.record import Record
from sidecar.records.tally import Tallies


class Settles(Protocol):
    """Another receiver of exchanges that have ended."""

    def settle(self, records: Sequence[Record]) -> None: ...


TOGETHER = 256
"""The size of a batch: a larger one would delay a request noticeably, and save little."""
PATIENCE = 0.1
"""Seconds after which a smaller batch is passed on, too."""


@define(eq=False)
class Notes:
    """One for all connections of a process, for as long as it lives."""

    now: Callable[[], float]
    """The clock of the records."""
    wake: Callable[[Notes, float], None]
    """Calls `deadline_passed` after so many seconds."""
    tallies: Tallies | None = None
    log: AccessLog | None = None
    also: Settles | None = None
    records: list[Record] = field(factory=list, init=False)
    expires: float = field(default=float("inf"), init=False)
    slot: float = field(default=float("inf"), init=False)

    @property
    def wanted(self) -> bool:
        """Exchanges are counted or logged."""
        return self.tallies is not None or self.log is not None

    def log_to(self, log: AccessLog | None) -> None:
        """Write the next ones to this log; None: do not log."""
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
        """Pass on all that was collected."""
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
