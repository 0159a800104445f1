"""Whoever fails several times in a row is left alone for a while, each time for longer.

Reads no clock: every method is told the time. Knows nothing of what is tried.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import define, field


@define(eq=False)
class Backoff:
    """Failures in a row by name; the name that failed longest ago makes room for another one."""

    allowed: int
    """Failures in a row that have no consequence."""
    first: float
    """Seconds of the first rest; each one after it is twice as long, up to `longest`."""
    longest: float
    names: int
    """Names that are remembered."""
    _failures: OrderedDict[str, tuple[int, float]] = field(factory=OrderedDict, init=False)
    """Failures in a row, and the time at which the rest ends."""

    def __len__(self) -> int:
        return len(self._failures)

    def rests(self, name: str, now: float) -> bool:
        """Whether to leave `name` alone now. When a rest is over one more failure begins the next."""
        known = self._failures.get(name)
        return known is not None and now < known[1]

    def failing(self, name: str) -> bool:
        """Whether `name` has failed more often than is allowed, and not succeeded since."""
        return self._failures.get(name, (0, 0.0))[0] > self.allowed

    def failed(self, name: str, now: float) -> None:
        """It has failed once more. What was begun before a rest and fails in it does not make it longer."""
        count, until = self._failures.get(name, (0, 0.0))
        if now < until:
            return
        count += 1
        beyond = count - self.allowed
        if beyond > 0:
            until = now + min(self.longest, self.first * 2.0 ** min(beyond - 1, 60))
        self._failures[name] = (count, until)
        self._failures.move_to_end(name)
        if len(self._failures) > self.names:
            self._failures.popitem(last=False)

    def succeeded(self, name: str) -> None:
        """It has not failed; what was before does not count any more."""
        self._failures.pop(name, None)
