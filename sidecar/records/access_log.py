"""The access log of a running sidecar: which exchanges it tells of, with what priority. Knows no file, no exchange."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define

from sidecar.records.choice import Choice
from sidecar.records.lines import Lines
from sidecar.records.record import is_fault


@define(eq=False)
class AccessLog:
    """Asked of every exchange that has ended, and then given the line of those that are told of."""

    choice: Choice
    lines: Lines
    write: Callable[[str], None]
    """Takes one line; must not block."""
    now: Callable[[], float]
    """Seconds since 1970."""
    levels: bool = False
    """Lines begin with their priority as systemd's journal reads it (sd-daemon(3)): warning for a fault, else info."""

    def share(self, endpoint: str, status: int, ending: str) -> float:
        """0 where such an exchange is not told of; else of how large a part of them it is one."""
        return self.choice.share(endpoint, is_fault(status, ending))

    def tell(self, share: float, status: int, ending: str, told: tuple[Any, ...]) -> None:
        """Write the line of one exchange; `told` is what `Record` holds."""
        line = self.lines.line(self.now(), share, *told)
        if self.levels:
            line = ("<4>" if is_fault(status, ending) else "<6>") + line
        self.write(line)
