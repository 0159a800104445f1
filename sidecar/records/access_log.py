"""The access log of a running sidecar: writes a line for each exchange that has ended. Knows no file."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import define

from sidecar.records.lines import Lines
from sidecar.records.record import Record


@define(eq=False)
class AccessLog:
    """Makes the lines, with the time of day, and writes them."""

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
