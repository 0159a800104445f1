"""The access log of a running sidecar: takes exchanges that have ended, and writes their lines. Knows no file."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import define

from sidecar.records.lines import Lines
from sidecar.records.record import Record


@define(eq=False)
class AccessLog:
    """The lines, where they go, and the time of day."""

    lines: Lines
    write: Callable[..., None]
    """Takes lines, one argument each; must not block."""
    now: Callable[[], float]
    """Seconds since 1970."""

    def tell(self, records: Iterable[Record], moment: float) -> None:
        """Write the lines of these exchanges; `moment` is now, by the clock of the records."""
        lines = self.lines.of(records, self.now() - moment)
        if lines:
            self.write(*lines)
