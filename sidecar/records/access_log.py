"""The access log of a running sidecar: which exchanges it tells of, with what priority. Knows no file, no exchange."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import define

from sidecar.records.choice import Choice
from sidecar.records.lines import Lines
from sidecar.records.record import Record, is_fault, picked

_judged = picked("endpoint", "status", "ending")
_WARNING, _INFO = "<4>", "<6>"


@define(eq=False)
class AccessLog:
    """Takes exchanges that have ended, and writes the lines of those that are told of."""

    choice: Choice
    lines: Lines
    write: Callable[..., None]
    """Takes lines, one argument each; must not block."""
    now: Callable[[], float]
    """Seconds since 1970."""
    levels: bool = False
    """Lines begin with their priority as systemd's journal reads it (sd-daemon(3)): warning for a fault, else info."""

    def tell(self, records: Iterable[Record], moment: float) -> None:
        """Write the lines of these exchanges; `moment` is now, by the clock of the records."""
        since = self.now() - moment
        share_of, line_of, levels = self.choice.share, self.lines.line, self.levels
        told = []
        for record in records:
            endpoint, status, ending = _judged(record)
            fault = is_fault(status, ending)
            share = share_of(endpoint, fault)
            if share:
                line = line_of(since, share, record)
                if levels:
                    line = (_WARNING if fault else _INFO) + line
                told.append(line)
        self.write(*told)
