"""So many lines a minute of what clients can cause as often as they like; how many are left out is told with the next.

Knows no log and no clock.
"""

from __future__ import annotations

from attrs import define, field

MINUTE = 60.0


@define(eq=False)
class Ration:
    """Decides for one line after the other."""

    most: int = 10
    """In a minute."""
    _began: float = field(default=float("-inf"), init=False)
    _told: int = field(default=0, init=False)
    _omitted: int = field(default=0, init=False)

    def use(self, most: int) -> None:
        """Allow so many from now on."""
        self.most = most

    def take(self, now: float) -> int | None:
        """How many lines were left out since the last one, if this one may be written; None if it may not."""
        if now - self._began >= MINUTE:
            self._began, self._told = now, 0
        if self._told >= self.most:
            self._omitted += 1
            return None
        self._told += 1
        omitted, self._omitted = self._omitted, 0
        return omitted
