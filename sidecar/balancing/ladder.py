"""When a server counts as down, and as up again: the counting of checks that pass and fail. Pure.

As HAProxy counts them (src/check.c, `set_server_check_status`): a server is up or down for certain at either end of a
ladder. Each check that goes against that is a step away from the end; one that does not brings it back.
"""

from __future__ import annotations

from attrs import evolve, field, frozen


@frozen
class Ladder:
    """Where one server stands. At the start the first check decides alone."""

    rise: int
    """Checks in a row that have to pass until a server that is down is up."""
    fall: int
    """Checks in a row that have to fail until one that is up is down."""
    rung: int = field(kw_only=True)

    @rung.default
    def _at_the_start(self) -> int:
        return self.rise

    @property
    def _top(self) -> int:
        return self.rise + self.fall - 1

    @property
    def up(self) -> bool:
        """It counts as up."""
        return self.rung >= self.rise

    @property
    def settled(self) -> bool:
        """The last check said what those before it did."""
        return self.rung in (0, self._top)

    def passed(self) -> Ladder:
        """After a check that passed."""
        rung = self.rung + 1
        return evolve(self, rung=self._top if rung >= self.rise else rung)

    def failed(self) -> Ladder:
        """After a check that failed."""
        return evolve(self, rung=self.rung - 1 if self.rung > self.rise else 0)

    def with_steps(self, rise: int, fall: int) -> Ladder:
        """As certain as it can be by these numbers."""
        if (rise, fall) == (self.rise, self.fall):
            return self
        return Ladder(rise, fall, rung=rise + fall - 1 if self.up else 0)
