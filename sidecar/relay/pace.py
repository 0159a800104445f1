"""How fast the body of a request has to come: pauses and the average rate are limited.

Pure: reads no clock.
"""

from __future__ import annotations


class BodyPace:
    """The rate of a body, measured since the worker last held it up."""

    __slots__ = ("_began", "_seen")

    def __init__(self, began: float) -> None:
        self._began = began
        self._seen = 0

    def patience(self, octets: int, now: float, pause: float, rate: float) -> float:
        """After more bytes have come: in how many seconds the next ones are due.

        `pause`: the longest in seconds; `rate`: the lowest in bytes per second, 0 for no limit.
        """
        self._seen += octets
        latest = self._began + pause + self._seen / rate if rate else now + pause
        return max(0.0, min(pause, latest - now))
