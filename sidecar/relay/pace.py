"""How fast the body of a request has to come: no pause may be too long, nor all of it too slow.

Pure: reads no clock.
"""

from __future__ import annotations


class BodyPace:
    """The rate of a body, or of what came of it since the worker was last in the way."""

    __slots__ = ("_began", "_seen")

    def __init__(self, began: float) -> None:
        self._began = began
        self._seen = 0

    def patience(self, octets: int, now: float, pause: float, rate: float) -> float:
        """So many more octets have come: within how many seconds more are due.

        `pause`: the longest in seconds; `rate`: the least in bytes per second, 0 for none.
        """
        self._seen += octets
        latest = self._began + pause + self._seen / rate if rate else now + pause
        return max(0.0, min(pause, latest - now))
